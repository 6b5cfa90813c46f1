import { GpuError } from "../errors.ts";
import type { Gpu } from "../gpu.ts";
import type { Cost } from "../kernel/kernel.ts";
import { type Lifetime, planMemory } from "../memory/plan.ts";
import { sizeClass } from "../memory/pool.ts";
import { type CopyCommand, type KernelRun, type ParamSlots, type ProgramCommand, slotBytes } from "./recorder.ts";
import type { Storage, Tensor } from "../tensor.ts";

/** A dispatch whose buffers are not all known yet. */
interface Draft extends KernelRun {
  readonly name: string;
  readonly cost: Cost | undefined;
}

/**
 * What {@linkcode Gpu.capture} hears of while its body records: the commands in order, and when
 * each buffer of the body's own is wanted. Such buffers are stand-ins until all is known; then as
 * few real ones as will do take their places.
 */
export class Capture {
  readonly gpu: Gpu;
  readonly #drafts: (Draft | CopyCommand)[] = [];
  readonly #open = new Map<Storage, { bytes: number; from: number }>();
  readonly #closed: { standIn: GPUBuffer; life: Lifetime }[] = [];

  constructor(gpu: Gpu) {
    this.gpu = gpu;
  }

  /** The storage of a new tensor of the body's. */
  store(bytes: number): Storage {
    const size = sizeClass(bytes);
    this.gpu.pool.check(size);
    const storage: Storage = { buffer: { size } as GPUBuffer, owners: 0, capture: this };
    this.#open.set(storage, { bytes: size, from: this.#drafts.length });
    return storage;
  }

  /** Hears that the last tensor that looked at a storage is gone. */
  give(storage: Storage): void {
    const opened = this.#open.get(storage);
    if (!opened) return; // of a body that threw
    this.#open.delete(storage);
    this.#closed.push({ standIn: storage.buffer, life: { ...opened, to: this.#drafts.length } });
  }

  dispatch(draft: Draft): void {
    this.#drafts.push(draft);
  }

  copy(command: CopyCommand): void {
    this.#drafts.push(command);
  }

  /** Takes real buffers and makes the program of them. */
  finish<T>(result: T, owned: readonly Tensor[]): Program<T> {
    const { gpu } = this;
    const { pool, recorder } = gpu;
    const real = new Map<GPUBuffer, GPUBuffer>();
    const plan = planMemory(this.#closed.map(({ life }) => life));
    const slots = plan.slotBytes.map((bytes) => pool.acquire(bytes));
    this.#closed.forEach(({ standIn }, index) => real.set(standIn, slots[plan.slotOf[index]]));
    for (const [storage, { bytes }] of this.#open) { // what outlives the body keeps its memory to itself
      const standIn = storage.buffer;
      storage.buffer = pool.acquire(bytes);
      storage.capture = undefined;
      real.set(standIn, storage.buffer);
    }
    const used = new Set<GPUBuffer>();
    const resolve = (buffer: GPUBuffer) => {
      const resolved = real.get(buffer) ?? buffer;
      used.add(resolved);
      return resolved;
    };
    const params: Uint8Array[] = [];
    const commands = this.#drafts.map((draft): ProgramCommand => {
      if ("source" in draft) return { ...draft, source: resolve(draft.source), target: resolve(draft.target) };
      const { kernel, grid, name, cost } = draft;
      const entries = draft.entries.map((entry) => ({ ...entry, buffer: resolve(entry.buffer) }));
      const slot = params.push(draft.params) - 1;
      const run = { kernel, entries, params: draft.params, grid };
      return { pipeline: kernel.pipeline, group: recorder.group(kernel, entries), slot, grid, name, cost, run };
    });
    for (const held of slots) used.delete(held);
    return new Program(gpu, { result, owned, commands, params, slots, named: [...used] });
  }
}

/** The parts of a {@linkcode Program}. */
interface ProgramParts<T> {
  readonly result: T;
  readonly owned: readonly Tensor[];
  readonly commands: readonly ProgramCommand[];
  readonly params: readonly Uint8Array[];
  /** Buffers of the body's temporaries. */
  readonly slots: readonly GPUBuffer[];
  /** All other buffers that commands name. */
  readonly named: readonly GPUBuffer[];
}

/**
 * Work that was recorded once, by {@linkcode Gpu.capture}, to be run many times: pipelines, bind
 * groups, grids and parameters are at hand, so that a run costs the host a fifth of recording the
 * same.
 *
 * It reads its inputs, the tensors that existed before, as they are at each {@linkcode run}: write
 * or copy into them between runs. Its temporaries lie in memory of its own, by a plan made once; no
 * other tensor gets it while the program lives, and {@linkcode Gpu.memory} counts it. All buffers
 * that it names live as long as it does, whoever else disposes of their tensors.
 */
export class Program<T> implements Disposable {
  /**
   * What the body returned. Its tensors are overwritten by each run and disposed of with the
   * program.
   */
  readonly result: T;
  readonly #gpu: Gpu;
  readonly #parts: ProgramParts<T>;
  readonly #params: GPUBuffer;
  readonly #paramSlots: ParamSlots;
  #disposed = false;

  /** Made by {@linkcode Gpu.capture}. */
  constructor(gpu: Gpu, parts: ProgramParts<T>) {
    this.result = parts.result;
    this.#gpu = gpu;
    this.#parts = parts;
    const all = new Uint8Array(slotBytes * Math.max(parts.params.length, 1));
    parts.params.forEach((params, slot) => all.set(params, slot * slotBytes));
    this.#params = gpu.guarded(`create a buffer of ${all.length} bytes for a program's parameters`, () => {
      const buffer = gpu.device.createBuffer({
        size: all.length,
        usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
      });
      gpu.device.queue.writeBuffer(buffer, 0, all);
      return buffer;
    }, { requestedBytes: all.length });
    this.#paramSlots = gpu.recorder.paramSlots(this.#params);
    for (const buffer of parts.named) gpu.pool.pin(buffer);
  }

  /** Number of kernel runs in a run. */
  get dispatches(): number {
    return this.#parts.params.length;
  }

  /** Bytes that the temporaries take while the program lives. */
  get temporaryBytes(): number {
    return this.#parts.slots.reduce((sum, { size }) => sum + size, 0);
  }

  /**
   * Records all of it, once. Nothing waits.
   *
   * @throws {GpuError} after disposal, and inside of {@linkcode Gpu.capture}; {@linkcode
   *   DeviceLostError} when the device is gone
   */
  run(): void {
    if (this.#disposed) throw new GpuError("Cannot run a program after it was disposed");
    this.#gpu.recorder.replay(this.#parts.commands, this.#paramSlots);
  }

  /** Frees its memory. What it was run for before still takes place. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    const { owned, slots, named } = this.#parts;
    const { pool } = this.#gpu;
    this.#gpu.flushPending(); // submits what still names the parameters
    this.#params.destroy();
    for (const tensor of owned) tensor[Symbol.dispose]();
    for (const buffer of slots) pool.release(buffer);
    for (const buffer of named) pool.unpin(buffer);
  }
}
