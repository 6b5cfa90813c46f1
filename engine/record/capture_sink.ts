import type { Storage } from "../context.ts";
import { GpuError } from "../errors.ts";
import { type Lifetime, planMemory } from "../memory/plan.ts";
import { sizeClass } from "../memory/pool.ts";
import { Program, type ProgramContext } from "./program.ts";
import { type CopyRecord, type DispatchRecord, packedParams, type ProgramCommand, type Sink } from "./sink.ts";

/**
 * Collects the commands of {@linkcode Gpu.capture} and the lifetimes of the buffers that its body
 * makes. These buffers are placeholders until the capture ends; then as few real buffers as the
 * lifetimes allow replace them.
 */
export class CaptureSink implements Sink, Disposable {
  readonly needsCost = true; // a program may be profiled later
  readonly #context: ProgramContext;
  readonly #records: (DispatchRecord | CopyRecord)[] = [];
  readonly #params: Uint8Array[] = [];
  readonly #live = new Map<Storage, { bytes: number; from: number }>();
  readonly #released: { placeholder: GPUBuffer; lifetime: Lifetime }[] = [];
  readonly #placeholders = new Set<GPUBuffer>();
  /** Buffers of before the capture: the body may dispose of their tensors. */
  readonly #pinned = new Set<GPUBuffer>();

  constructor(context: ProgramContext) {
    this.#context = context;
  }

  /** The storage of a new tensor. */
  allocate(bytes: number): Storage {
    const size = sizeClass(bytes);
    this.#context.pool.check(size);
    const storage: Storage = { buffer: { size } as GPUBuffer, owners: 0, capture: this };
    this.#live.set(storage, { bytes: size, from: this.#records.length });
    this.#placeholders.add(storage.buffer);
    return storage;
  }

  /** Notes that the last tensor of a storage was disposed of. */
  release(storage: Storage): void {
    const live = this.#live.get(storage);
    if (!live) return; // its capture failed
    this.#live.delete(storage);
    this.#released.push({ placeholder: storage.buffer, lifetime: { ...live, to: this.#records.length } });
  }

  dispatch(record: DispatchRecord): void {
    for (const { buffer } of record.entries) this.#pin(buffer);
    this.#records.push(record);
    this.#params.push(packedParams(record));
  }

  copy(record: CopyRecord): void {
    this.#pin(record.source);
    this.#pin(record.target);
    this.#records.push(record);
  }

  replay(): void {
    throw new GpuError("Cannot run a program while another is captured: run it before or after the capture");
  }

  /** Acquires the real buffers and makes the program. */
  finish<T>(result: T, owned: Iterable<Disposable>): Program<T> {
    const { pool, recorder } = this.#context;
    const real = new Map<GPUBuffer, GPUBuffer>();
    const plan = planMemory(this.#released.map(({ lifetime }) => lifetime));
    const slots = plan.slotBytes.map((bytes) => pool.acquire(bytes));
    this.#released.forEach(({ placeholder }, index) => real.set(placeholder, slots[plan.slotOf[index]]));
    for (const [storage, { bytes }] of this.#live) { // outlives the body: gets memory of its own
      const placeholder = storage.buffer;
      storage.buffer = pool.acquire(bytes);
      storage.capture = undefined;
      real.set(placeholder, storage.buffer);
    }
    const pinned = new Set<GPUBuffer>();
    const resolve = (buffer: GPUBuffer) => {
      const resolved = real.get(buffer) ?? buffer;
      pinned.add(resolved);
      return resolved;
    };
    let slot = 0;
    const commands = this.#records.map((draft): ProgramCommand => {
      if ("source" in draft) return { ...draft, source: resolve(draft.source), target: resolve(draft.target) };
      const record = { ...draft, entries: draft.entries.map((entry) => ({ ...entry, buffer: resolve(entry.buffer) })) };
      return { record, group: recorder.groups.get(record.kernel, record.entries), slot: slot++ };
    });
    for (const buffer of slots) pinned.delete(buffer);
    return new Program(this.#context, { result, owned, commands, params: this.#params, slots, pinned: [...pinned] });
  }

  /** Unpins the buffers of before the capture; a program pins its own. */
  [Symbol.dispose](): void {
    for (const buffer of this.#pinned) this.#context.pool.unpin(buffer);
    this.#pinned.clear();
  }

  #pin(buffer: GPUBuffer): void {
    if (this.#placeholders.has(buffer) || this.#pinned.has(buffer)) return;
    this.#pinned.add(buffer);
    this.#context.pool.pin(buffer);
  }
}
