import type { DeviceContext } from "../context.ts";
import { OutOfMemoryError } from "../errors.ts";

/**
 * GPU buffers, reused by size class.
 *
 * A denoising step asks for the same sizes in the same order as the one before. Each size class
 * hands out the oldest of its free buffers, so that the step gets the same buffers again, and the
 * bind groups cached for them hit. (The one given back last would be another from step to step: for
 * the pocket model's UNet sixteen steps went by before all hit.) Classes are an eighth of a power
 * of two apart: at most 12.5 % of a buffer is slack. Weights ask for their exact size: they live
 * long and are never reused.
 */
export class Pool {
  /** Bytes of the buffers that tensors hold now. */
  live = 0;
  /** The highest `live` so far. */
  peak = 0;
  /** Bytes of all buffers that exist, the free ones included. */
  reserved = 0;
  /** The highest `reserved` so far. */
  peakReserved = 0;

  readonly #context: Pick<DeviceContext, "device" | "info" | "guarded" | "invalidateBindGroups">;
  readonly #free = new Map<number, GPUBuffer[]>();
  /** Buffers that the device could not create, which WebGPU tells later: never handed out again. */
  readonly #failed = new WeakSet<GPUBuffer>();
  /** In which order buffers were created. */
  readonly #ages = new WeakMap<GPUBuffer, number>();
  #created = 0;
  /**
   * Buffers that programs name, with how many do; and those of them that were given back meanwhile.
   */
  readonly #pins = new Map<GPUBuffer, number>();
  readonly #owed = new Set<GPUBuffer>();
  #freeBytes = 0;

  /** How many free bytes are kept for reuse before the largest free buffers are destroyed. */
  readonly retainBytes: number;

  /** @param retainBytes free bytes kept for reuse, at most. Default: 1 GiB. */
  constructor(
    context: Pick<DeviceContext, "device" | "info" | "guarded" | "invalidateBindGroups">,
    retainBytes = 1 << 30,
  ) {
    this.#context = context;
    this.retainBytes = retainBytes;
  }

  /** A buffer of at least `bytes`. `exact` asks for no slack and no reuse afterwards. */
  acquire(bytes: number, exact = false): GPUBuffer {
    const size = exact ? roundUp(Math.max(bytes, 16), 16) : sizeClass(bytes);
    let buffer = this.#free.get(size)?.shift();
    if (buffer) this.#freeBytes -= size;
    else buffer = this.#create(size);
    this.live += size;
    this.peak = Math.max(this.peak, this.live);
    return buffer;
  }

  /** @throws {OutOfMemoryError} when the device can have no buffer of that size */
  check(size: number): void {
    const { maxBufferSize } = this.#context.info.limits;
    if (size <= maxBufferSize) return;
    throw new OutOfMemoryError(
      `Cannot create a buffer of ${size} bytes as this device's largest is ${maxBufferSize}`,
      size,
    );
  }

  /**
   * Gives a buffer back. Commands already recorded may still read it: they run before anything
   * recorded later writes it.
   */
  release(buffer: GPUBuffer): void {
    if (this.#pins.has(buffer)) {
      this.#owed.add(buffer);
      return;
    }
    const size = buffer.size;
    this.live -= size;
    if (size !== sizeClass(size) || this.#failed.has(buffer)) return this.#destroy([buffer]);
    let waiting = this.#free.get(size);
    if (!waiting) this.#free.set(size, waiting = []);
    const older = waiting.findLastIndex((other) => this.#ages.get(other)! < this.#ages.get(buffer)!);
    waiting.splice(older + 1, 0, buffer);
    this.#freeBytes += size;
    if (this.#freeBytes > this.retainBytes) this.trim(this.retainBytes / 2);
  }

  /**
   * Keeps a buffer as it is, live and nobody else's, even when it is given back, until it is
   * unpinned as often.
   */
  pin(buffer: GPUBuffer): void {
    this.#pins.set(buffer, (this.#pins.get(buffer) ?? 0) + 1);
  }

  /** Takes a pin away; with the last, a buffer that was given back meanwhile is. */
  unpin(buffer: GPUBuffer): void {
    const left = this.#pins.get(buffer)! - 1;
    if (left > 0) {
      this.#pins.set(buffer, left);
      return;
    }
    this.#pins.delete(buffer);
    if (this.#owed.delete(buffer)) this.release(buffer);
  }

  /** Destroys free buffers, largest first, until at most `keepBytes` of them are left. */
  trim(keepBytes = 0): void {
    const doomed: GPUBuffer[] = [];
    for (const size of [...this.#free.keys()].sort((a, b) => b - a)) {
      const waiting = this.#free.get(size)!;
      while (waiting.length > 0 && this.#freeBytes > keepBytes) {
        doomed.push(waiting.shift()!);
        this.#freeBytes -= size;
      }
      if (waiting.length === 0) this.#free.delete(size);
    }
    this.#destroy(doomed);
  }

  #destroy(buffers: GPUBuffer[]): void {
    if (buffers.length === 0) return;
    this.#context.invalidateBindGroups(); // submits what still names them, drops their bind groups
    for (const buffer of buffers) {
      this.reserved -= buffer.size;
      buffer.destroy();
    }
  }

  #fail(buffer: GPUBuffer): void {
    this.#failed.add(buffer);
    const waiting = this.#free.get(buffer.size) ?? [];
    const at = waiting.indexOf(buffer);
    if (at < 0) return;
    waiting.splice(at, 1);
    this.#freeBytes -= buffer.size;
    this.#destroy([buffer]);
  }

  #create(size: number): GPUBuffer {
    const { device } = this.#context;
    this.check(size);
    // Big newcomers push out what lies idle: a VAE decode after a UNet loop would otherwise hold
    // both working sets.
    if (size > this.retainBytes / 16 && this.#freeBytes > this.retainBytes / 4) this.trim(this.retainBytes / 4);
    const buffer: GPUBuffer = this.#context.guarded(
      `create a buffer of ${size} bytes`,
      () =>
        device.createBuffer({
          size,
          usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
        }),
      { requestedBytes: size, failed: () => this.#fail(buffer) },
    );
    this.#ages.set(buffer, this.#created++);
    this.reserved += size;
    this.peakReserved = Math.max(this.peakReserved, this.reserved);
    return buffer;
  }
}

/**
 * The smallest class that holds `bytes`: multiples of an eighth of the power of two below, and of
 * 256.
 */
export function sizeClass(bytes: number): number {
  const step = Math.max(256, 2 ** (Math.floor(Math.log2(Math.max(bytes, 1))) - 3));
  return roundUp(Math.max(bytes, 1), step);
}

/** `value` rounded up to a multiple of `step`. */
export function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}
