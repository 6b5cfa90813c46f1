/**
 * What can go wrong on the GPU side. Each error says the action, the requirement and the value, and
 * carries the numbers.
 */

/** Shapes that do not fit an operation. `shapes` holds them in the order of the message. */
export class ShapeError extends RangeError {
  override readonly name = "ShapeError";
  readonly shapes: readonly (readonly number[])[];
  constructor(message: string, shapes: readonly (readonly number[])[] = []) {
    super(message);
    this.shapes = shapes;
  }
}

/** A tensor's element type that an operation cannot take. */
export class DTypeError extends TypeError {
  override readonly name = "DTypeError";
}

/** WebGPU reported an error: validation, an internal failure, or anything that nobody caught. */
export class GpuError extends Error {
  override readonly name: string = "GpuError";
}

/** No WebGPU implementation or no adapter: the message says what to install. */
export class NoAdapterError extends GpuError {
  override readonly name = "NoAdapterError";
}

/** The device ran out of memory. `requestedBytes` is the allocation that failed. */
export class OutOfMemoryError extends GpuError {
  override readonly name = "OutOfMemoryError";
  readonly requestedBytes: number;
  constructor(message: string, requestedBytes: number) {
    super(message);
    this.requestedBytes = requestedBytes;
  }
}

/** The device is gone: unplugged, reset, destroyed or disposed. `reason` is WebGPU's own word. */
export class DeviceLostError extends GpuError {
  override readonly name = "DeviceLostError";
  readonly reason: string;
  constructor(message: string, reason: string) {
    super(message);
    this.reason = reason;
  }
}

/** A kernel that did not compile. `source` is the whole WGSL, generated prelude included. */
export class KernelError extends GpuError {
  override readonly name = "KernelError";
  readonly source: string;
  constructor(message: string, source: string) {
    super(message);
    this.source = source;
  }
}
