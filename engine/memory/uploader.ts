import type { Gpu } from "../gpu.ts";
import { roundUp } from "./pool.ts";
import { checkWrite, type Tensor } from "../tensor.ts";

/** A staging buffer: the host writes it, the device copies from it. */
interface Stage {
  readonly buffer: GPUBuffer;
  /** Resolves when the host may write. */
  mapped: Promise<unknown>;
}

/**
 * Uploads many bytes into tensors through staging memory of a fixed size. `Tensor.write` leaves
 * staging to WebGPU, which allocates new memory for each call.
 *
 * The stages form a ring: the host fills one while the device copies from the others.
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
   * @param options.stages Number of stages. Default: 4.
   */
  constructor(gpu: Gpu, options: { stageBytes?: number; stages?: number } = {}) {
    const { stageBytes = 1 << 22, stages = 4 } = options;
    this.#gpu = gpu;
    this.#stageBytes = stageBytes;
    this.#stages = Array.from({ length: stages }, () => {
      const usage = GPUBufferUsage.MAP_WRITE | GPUBufferUsage.COPY_SRC;
      const buffer = gpu.context.guarded(
        `create a buffer of ${stageBytes} bytes for uploads`,
        () => gpu.context.device.createBuffer({ size: stageBytes, usage }),
        { requestedBytes: stageBytes },
      );
      return { buffer, mapped: mapping(buffer) };
    });
  }

  /**
   * Writes bytes into a tensor from `byteOffset`. They are submitted when a stage is full, or at
   * {@linkcode finish}. Record work that reads them through {@linkcode afterwards}.
   *
   * @throws {ShapeError} when the bytes exceed the tensor, or are not whole 4-byte words (only the
   *   tensor's last word may be partial)
   */
  async write(tensor: Tensor, bytes: Uint8Array, byteOffset = 0): Promise<void> {
    checkWrite(tensor, bytes, byteOffset);
    for (let from = 0; from < bytes.byteLength;) {
      if (this.#used === this.#stageBytes) this.#send();
      const range = this.#range ??= await this.#open();
      const count = Math.min(bytes.byteLength - from, this.#stageBytes - this.#used);
      const words = roundUp(count, 4);
      range.set(bytes.subarray(from, from + count), this.#used);
      // buffers are padded to whole words
      if (words > count) range.fill(0, this.#used + count, this.#used + words);
      this.#copies ??= this.#gpu.context.device.createCommandEncoder();
      this.#copies.copyBufferToBuffer(this.#stages[0].buffer, this.#used, tensor.buffer, byteOffset + from, words);
      this.#used += words;
      from += count;
    }
  }

  /** Calls `action`, which records work, once everything written so far is submitted. */
  afterwards(action: () => void): void {
    if (this.#used === 0) action();
    else this.#waiting.push(action);
  }

  /**
   * Submits the rest and waits until all of it is uploaded.
   *
   * @throws {GpuError} when an upload failed
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
      await this.#gpu.context.check(); // throws the cause, if WebGPU reported one
      throw error;
    }
    return new Uint8Array(buffer.getMappedRange());
  }

  #send(): void {
    if (this.#used === 0) return;
    const stage = this.#stages.shift()!;
    const copies = this.#copies!;
    stage.buffer.unmap();
    this.#gpu.flush(); // recorded work may still read what is overwritten now
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
 * Maps a buffer for writing. Resolves with the error instead of rejecting, so that a rejection is
 * never unhandled.
 */
function mapping(buffer: GPUBuffer): Promise<unknown> {
  return buffer.mapAsync(GPUMapMode.WRITE).then(() => undefined, (error) => error);
}
