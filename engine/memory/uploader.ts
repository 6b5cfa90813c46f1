import { ShapeError } from "../errors.ts";
import type { Gpu } from "../gpu.ts";
import { roundUp } from "./pool.ts";
import type { Tensor } from "../tensor.ts";

/** A buffer that the host writes and the device copies from. */
interface Stage {
  readonly buffer: GPUBuffer;
  /** Settled when the host may write. */
  mapped: Promise<unknown>;
}

/**
 * Fills tensors with many bytes through staging memory of a fixed size. `Tensor.write` leaves
 * staging to WebGPU, which takes new memory for each call: loading 1.7 GB of weights on lavapipe
 * grew the process by 400 to 600 MiB beyond them that way.
 *
 * Stages take turns: while the device copies out of some, the host fills another, and hardly ever
 * waits for one to be free.
 */
export class Uploader implements Disposable {
  readonly #gpu: Gpu;
  readonly #stageBytes: number;
  readonly #stages: Stage[];
  #range: Uint8Array<ArrayBuffer> | undefined;
  #used = 0;
  #copies: GPUCommandEncoder | undefined;
  #waiting: (() => void)[] = [];

  /**
   * @param options.stageBytes A multiple of 4. Default: 4 MiB.
   * @param options.stages How many there are. Default: 4.
   */
  constructor(gpu: Gpu, options: { stageBytes?: number; stages?: number } = {}) {
    const { stageBytes = 1 << 22, stages = 4 } = options;
    this.#gpu = gpu;
    this.#stageBytes = stageBytes;
    this.#stages = Array.from({ length: stages }, () => {
      const usage = GPUBufferUsage.MAP_WRITE | GPUBufferUsage.COPY_SRC;
      const buffer = gpu.context.guarded(
        `create a buffer of ${stageBytes} bytes to write through`,
        () => gpu.context.device.createBuffer({ size: stageBytes, usage }),
        { requestedBytes: stageBytes },
      );
      return { buffer, mapped: mapping(buffer) };
    });
  }

  /**
   * Writes bytes into a tensor from `byteOffset` on. They are on their way when a stage is full, or
   * at {@linkcode finish}; work that is to read them waits by {@linkcode afterwards}.
   *
   * @throws {ShapeError} when the bytes leave the tensor, or are not whole words of 4 (only the
   *   tensor's last may be shorter)
   */
  async write(tensor: Tensor, bytes: Uint8Array, byteOffset = 0): Promise<void> {
    const end = byteOffset + bytes.byteLength;
    if (byteOffset % 4 !== 0 || end > tensor.bytes || (bytes.byteLength % 4 !== 0 && end !== tensor.bytes)) {
      throw new ShapeError(
        `Cannot write ${bytes.byteLength} bytes at ${byteOffset} of a tensor [${
          tensor.shape.join(", ")
        }] of ${tensor.bytes} bytes: whole words of 4 are written, inside the tensor`,
        [tensor.shape],
      );
    }
    for (let from = 0; from < bytes.byteLength;) {
      if (this.#used === this.#stageBytes) this.#send();
      const range = this.#range ??= await this.#open();
      const count = Math.min(bytes.byteLength - from, this.#stageBytes - this.#used);
      const words = roundUp(count, 4);
      range.set(bytes.subarray(from, from + count), this.#used);
      if (words > count) range.fill(0, this.#used + count, this.#used + words); // a tensor's buffer ends on a word
      this.#copies ??= this.#gpu.context.device.createCommandEncoder();
      this.#copies.copyBufferToBuffer(this.#stages[0].buffer, this.#used, tensor.buffer, byteOffset + from, words);
      this.#used += words;
      from += count;
    }
  }

  /** Has `action` record its work once all that has been written so far is on its way. */
  afterwards(action: () => void): void {
    if (this.#used === 0) action();
    else this.#waiting.push(action);
  }

  /**
   * Sends what is left, and waits until all of it is there. @throws {GpuError} when any of it
   * failed
   */
  async finish(): Promise<void> {
    this.#send();
    await this.#gpu.finished();
  }

  [Symbol.dispose](): void {
    for (const { buffer } of this.#stages) buffer.destroy();
  }

  async #open(): Promise<Uint8Array<ArrayBuffer>> {
    const [{ buffer, mapped }] = this.#stages;
    const error = await mapped;
    if (error !== undefined) {
      await this.#gpu.context.check(); // the real reason, where WebGPU told one
      throw error;
    }
    return new Uint8Array(buffer.getMappedRange());
  }

  #send(): void {
    if (this.#used === 0) return;
    const stage = this.#stages.shift()!;
    const copies = this.#copies!;
    stage.buffer.unmap();
    this.#gpu.flush(); // what was recorded may still read the memory that is written now
    this.#gpu.context.guarded(
      `upload ${this.#used} bytes`,
      () => this.#gpu.context.device.queue.submit([copies.finish()]),
    );
    stage.mapped = mapping(stage.buffer);
    this.#stages.push(stage);
    this.#range = this.#copies = undefined;
    this.#used = 0;
    for (const action of this.#waiting.splice(0)) action();
  }
}

/**
 * Maps for writing; resolves with the error, where there is one, so that nobody has to listen yet.
 */
function mapping(buffer: GPUBuffer): Promise<unknown> {
  return buffer.mapAsync(GPUMapMode.WRITE).then(() => undefined, (error) => error);
}
