import type { DeviceContext } from "../context.ts";
import { OutOfMemoryError } from "../errors.ts";

/**
 * Bytes of the largest access of a kernel: eight elements of f32. A binding holds one at least,
 * also that of a tensor without elements.
 */
export const largestAccess = 32;

/**
 * GPU buffers, reused by size class.
 *
 * A denoising step requests the same sizes in the same order as the step before. Each size class
 * hands out the oldest of its free buffers, so that the step gets the same buffers again and hits
 * the cached bind groups; the buffer released last would differ from step to step. Size classes are
 * an eighth of a power of two apart, so at most 12.5 % of a buffer is slack. Weights request their
 * exact size: they live long and are not reused.
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
  /** Buffers whose creation failed, which WebGPU reports later. They are never handed out again. */
  readonly #failed = new WeakSet<GPUBuffer>();
  /** Creation order of the buffers. */
  readonly #ages = new WeakMap<GPUBuffer, number>();
  #created = 0;
  /** How many programs use each buffer. */
  readonly #pins = new Map<GPUBuffer, number>();
  /** Pinned buffers that were released: they return to the pool with their last pin. */
  readonly #releasedWhilePinned = new Set<GPUBuffer>();
  #freeBytes = 0;

  /** Free bytes kept for reuse. Beyond it, the largest free buffers are destroyed. */
  readonly retainBytes: number;

  /** @param retainBytes free bytes kept for reuse, at most. Default: 1 GiB. */
  constructor(
    context: Pick<DeviceContext, "device" | "info" | "guarded" | "invalidateBindGroups">,
    retainBytes = 1 << 30,
  ) {
    this.#context = context;
    this.retainBytes = retainBytes;
  }

  /** A buffer of at least `bytes`. `exact` asks for a buffer without slack, which is not reused. */
  acquire(bytes: number, exact = false): GPUBuffer {
    const size = exact ? roundUp(Math.max(bytes, largestAccess), 16) : sizeClass(bytes);
    let buffer = this.#free.get(size)?.shift();
    if (buffer) this.#freeBytes -= size;
    else buffer = this.#create(size);
    this.live += size;
    this.peak = Math.max(this.peak, this.live);
    return buffer;
  }

  /** @throws {OutOfMemoryError} when the device does not support buffers of that size */
  check(size: number): void {
    const { maxBufferSize } = this.#context.info.limits;
    if (size <= maxBufferSize) return;
    throw new OutOfMemoryError(
      `Cannot create a buffer of ${size} bytes: this device's largest is ${maxBufferSize}`,
      size,
    );
  }

  /**
   * Returns a buffer to the pool. Commands already recorded may still read it: they run before
   * anything recorded later writes it.
   */
  release(buffer: GPUBuffer): void {
    if (this.#pins.has(buffer)) {
      this.#releasedWhilePinned.add(buffer);
      return;
    }
    const size = buffer.size;
    this.live -= size;
    if (size !== sizeClass(size) || this.#failed.has(buffer)) return this.#destroy([buffer]);
    let free = this.#free.get(size);
    if (!free) this.#free.set(size, free = []);
    const older = free.findLastIndex((other) => this.#ages.get(other)! < this.#ages.get(buffer)!);
    free.splice(older + 1, 0, buffer);
    this.#freeBytes += size;
    if (this.#freeBytes > this.retainBytes) this.trim(this.retainBytes / 2);
  }

  /**
   * Adds a pin. A pinned buffer stays live and is not handed out, even when it is released.
   */
  pin(buffer: GPUBuffer): void {
    this.#pins.set(buffer, (this.#pins.get(buffer) ?? 0) + 1);
  }

  /**
   * Removes one pin. When the last pin goes, a buffer released in the meantime returns to the pool.
   */
  unpin(buffer: GPUBuffer): void {
    const pins = this.#pins.get(buffer)! - 1;
    if (pins > 0) {
      this.#pins.set(buffer, pins);
      return;
    }
    this.#pins.delete(buffer);
    if (this.#releasedWhilePinned.delete(buffer)) this.release(buffer);
  }

  /** Destroys free buffers, largest first, until at most `keepBytes` of them are left. */
  trim(keepBytes = 0): void {
    const evicted: GPUBuffer[] = [];
    for (const size of [...this.#free.keys()].sort((a, b) => b - a)) {
      const free = this.#free.get(size)!;
      while (free.length > 0 && this.#freeBytes > keepBytes) {
        evicted.push(free.shift()!);
        this.#freeBytes -= size;
      }
      if (free.length === 0) this.#free.delete(size);
    }
    this.#destroy(evicted);
  }

  #destroy(buffers: GPUBuffer[]): void {
    if (buffers.length === 0) return;
    this.#context.invalidateBindGroups();
    for (const buffer of buffers) {
      this.reserved -= buffer.size;
      buffer.destroy();
    }
  }

  #fail(buffer: GPUBuffer): void {
    this.#failed.add(buffer);
    const free = this.#free.get(buffer.size) ?? [];
    const at = free.indexOf(buffer);
    if (at < 0) return;
    free.splice(at, 1);
    this.#freeBytes -= buffer.size;
    this.#destroy([buffer]);
  }

  #create(size: number): GPUBuffer {
    const { device } = this.#context;
    this.check(size);
    // A large new buffer evicts free ones. Otherwise a VAE decode after a UNet loop would hold both
    // working sets.
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
 * The smallest size class that holds `bytes`. Classes are multiples of 256 and of an eighth of the
 * next lower power of two.
 */
export function sizeClass(bytes: number): number {
  const step = Math.max(256, 2 ** (Math.floor(Math.log2(Math.max(bytes, 1))) - 3));
  return roundUp(Math.max(bytes, 1), step);
}

/** `value` rounded up to a multiple of `step`. */
export function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}
