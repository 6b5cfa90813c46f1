import type { DeviceContext } from "../context.ts";
import { GpuError } from "../errors.ts";
import type { Pool } from "../memory/pool.ts";
import type { Recorder } from "./recorder.ts";
import { type ParamSlots, type ProgramCommand, slotBytes } from "./sink.ts";

/** What a program needs from the device. */
export interface ProgramContext extends DeviceContext {
  readonly pool: Pool;
  readonly recorder: Recorder;
}

/** The parts of a {@linkcode Program}. */
export interface ProgramParts<T> {
  readonly result: T;
  /** The tensors in `result` that the body made. */
  readonly owned: Iterable<Disposable>;
  readonly commands: readonly ProgramCommand[];
  readonly params: readonly Uint8Array[];
  /** Memory of the body's temporaries. */
  readonly slots: readonly GPUBuffer[];
  /** All other buffers that the commands use. */
  readonly pinned: readonly GPUBuffer[];
}

/**
 * Work that {@linkcode Gpu.capture} recorded once, to be run many times. Pipelines, bind groups,
 * grids and parameters are resolved, so a run costs the host about a fifth of recording the work.
 *
 * A program reads its inputs, the tensors that existed before the capture, as they are at each
 * {@linkcode run}: write or copy into them between runs. Its temporaries have memory of their own,
 * planned once, which {@linkcode Gpu.memory} counts as live. All buffers that it uses live as long
 * as the program, even if their tensors are disposed of.
 */
export class Program<T> implements Disposable {
  /**
   * What the body returned. Each run overwrites its tensors; they are disposed of with the program.
   */
  readonly result: T;
  readonly #context: ProgramContext;
  readonly #parts: ProgramParts<T>;
  readonly #params: GPUBuffer;
  readonly #paramSlots: ParamSlots;
  #disposed = false;

  /** Made by {@linkcode Gpu.capture}. */
  constructor(context: ProgramContext, parts: ProgramParts<T>) {
    this.result = parts.result;
    this.#context = context;
    this.#parts = parts;
    const all = new Uint8Array(slotBytes * Math.max(parts.params.length, 1));
    parts.params.forEach((params, slot) => all.set(params, slot * slotBytes));
    this.#params = context.guarded(`create a buffer of ${all.length} bytes for a program's parameters`, () => {
      const buffer = context.device.createBuffer({
        size: all.length,
        usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
      });
      context.device.queue.writeBuffer(buffer, 0, all);
      return buffer;
    }, { requestedBytes: all.length });
    this.#paramSlots = context.recorder.groups.paramSlots(this.#params);
    for (const buffer of parts.pinned) context.pool.pin(buffer);
  }

  /** Number of dispatches in a run. */
  get dispatches(): number {
    return this.#parts.params.length;
  }

  /** Bytes of the temporaries, held while the program lives. */
  get temporaryBytes(): number {
    return this.#parts.slots.reduce((sum, { size }) => sum + size, 0);
  }

  /**
   * Records all commands once. Does not wait.
   *
   * @throws {GpuError} after disposal, and while another program is captured; {@linkcode
   *   DeviceLostError} when the device is lost
   */
  run(): void {
    if (this.#disposed) throw new GpuError("Cannot run a program after it was disposed");
    this.#context.recorder.replay(this.#parts.commands, this.#paramSlots);
  }

  /** Frees the memory. Runs recorded before are still executed. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    const { owned, slots, pinned } = this.#parts;
    const { pool } = this.#context;
    this.#context.flushPending(); // submits the commands that use the parameters
    this.#params.destroy();
    for (const tensor of owned) tensor[Symbol.dispose]();
    for (const buffer of slots) pool.release(buffer);
    for (const buffer of pinned) pool.unpin(buffer);
  }
}
