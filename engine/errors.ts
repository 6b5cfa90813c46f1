/**
 * Errors of the engine. Messages name the action, the requirement and the value found.
 *
 * @module
 */

/** Shapes that do not fit an operation. */
export class ShapeError extends RangeError {
  /** "ShapeError" */
  override readonly name = "ShapeError";
  /** The shapes, in the order of the message. */
  readonly shapes: readonly (readonly number[])[];

  /** Makes the error. */
  constructor(message: string, shapes: readonly (readonly number[])[] = []) {
    super(message);
    this.shapes = shapes;
  }
}

/** A dtype that an operation does not support. */
export class DTypeError extends TypeError {
  /** "DTypeError" */
  override readonly name = "DTypeError";
}

/** An error that WebGPU reported, or a misuse of the engine. */
export class GpuError extends Error {
  /** The class's name. */
  override readonly name: string = "GpuError";
}

/** There is no WebGPU implementation or no adapter. The message says what to install. */
export class NoAdapterError extends GpuError {
  /** "NoAdapterError" */
  override readonly name = "NoAdapterError";
}

/** The device lacks a feature that an option asks for. */
export class UnsupportedFeatureError extends GpuError {
  /** "UnsupportedFeatureError" */
  override readonly name = "UnsupportedFeatureError";
  /** WebGPU's name of the feature. */
  readonly feature: string;

  /** Makes the error. */
  constructor(message: string, feature: string) {
    super(message);
    this.feature = feature;
  }
}

/** The device is out of memory. */
export class OutOfMemoryError extends GpuError {
  /** "OutOfMemoryError" */
  override readonly name = "OutOfMemoryError";
  /** Size of the allocation that failed. */
  readonly requestedBytes: number;

  /** Makes the error. */
  constructor(message: string, requestedBytes: number) {
    super(message);
    this.requestedBytes = requestedBytes;
  }
}

/** The device is lost: unplugged, reset, destroyed or disposed. */
export class DeviceLostError extends GpuError {
  /** "DeviceLostError" */
  override readonly name = "DeviceLostError";
  /** WebGPU's `GPUDeviceLostReason`. */
  readonly reason: string;

  /** Makes the error. */
  constructor(message: string, reason: string) {
    super(message);
    this.reason = reason;
  }
}

/** A kernel that does not compile. */
export class KernelError extends GpuError {
  /** "KernelError" */
  override readonly name = "KernelError";
  /** The complete WGSL, with the generated prelude. */
  readonly source: string;

  /** Makes the error. */
  constructor(message: string, source: string) {
    super(message);
    this.source = source;
  }
}
