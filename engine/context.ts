/**
 * The seam between the parts of the engine: what memory, recording and compilation need from the
 * device. Interfaces only, so that no part imports `Gpu`.
 *
 * @module
 */
import type { DeviceDescription } from "./device_info.ts";

/** Options of {@linkcode DeviceContext.guarded}. */
export interface GuardOptions {
  /** Size of the allocation that the call makes, for {@linkcode OutOfMemoryError}. */
  readonly requestedBytes?: number;
  /** Makes the error from WebGPU's message. Default: a {@linkcode GpuError}. */
  readonly wrap?: (message: string) => Error;
  /** Called when the call has failed, before the error is reported: to drop what the call made. */
  readonly failed?: () => void;
}

/** A device as the parts of the engine see it. */
export interface DeviceContext extends DeviceDescription {
  readonly device: GPUDevice;
  /** Layout of bind group 1 of every kernel: one uniform buffer with a dynamic offset. */
  readonly paramsLayout: GPUBindGroupLayout;
  /**
   * Makes a WebGPU call inside error scopes. WebGPU reports errors later: the next wait throws
   * them, with a message that names `action`.
   *
   * @throws {DeviceLostError} when the device is lost
   */
  guarded<T>(action: string, call: () => T, options?: GuardOptions): T;
  /** Waits for all error scopes so far and throws the first error that they reported. */
  check(): Promise<void>;
  /** @throws {DeviceLostError} when the device is lost */
  throwIfLost(): void;
  /** Reads the first `bytes` bytes of a buffer, after all work recorded so far. */
  read(buffer: GPUBuffer, bytes: number): Promise<ArrayBuffer>;
  /** Submits the recorded work, unless the device is lost. */
  flushPending(): void;
  /**
   * Prepares for the destruction of buffers: submits the commands that use them and drops the
   * cached bind groups.
   */
  invalidateBindGroups(): void;
}

/** A buffer and the number of tensors that share it. */
export interface Storage {
  buffer: GPUBuffer;
  owners: number;
  /**
   * Set while `buffer` is a placeholder of a program that is being captured: is told when the last
   * tensor is disposed of.
   */
  capture?: { release(storage: Storage): void };
}
