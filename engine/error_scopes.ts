import type { GuardOptions } from "./context.ts";
import { type DeviceLostError, GpuError, OutOfMemoryError } from "./errors.ts";

/**
 * The errors of one device. WebGPU reports them asynchronously: they are collected here and thrown
 * by the next {@linkcode check}.
 */
export class ErrorScopes {
  readonly #device: GPUDevice;
  readonly #deviceName: string;
  #failure: Error | undefined;
  #lost: DeviceLostError | undefined;
  #pending: Promise<void>[] = [];

  constructor(device: GPUDevice, deviceName: string) {
    this.#device = device;
    this.#deviceName = deviceName;
  }

  /** Whether the device is lost or disposed. */
  get isLost(): boolean {
    return this.#lost !== undefined;
  }

  /** Notes that the device is lost. The first reason is kept. */
  lose(error: DeviceLostError): void {
    this.#lost ??= error;
  }

  /** Notes an error for the next {@linkcode check}. The first is kept. */
  report(error: Error): void {
    this.#failure ??= error;
  }

  /** See {@linkcode DeviceContext.guarded}. */
  guarded<T>(action: string, call: () => T, { requestedBytes = 0, wrap, failed }: GuardOptions = {}): T {
    this.throwIfLost();
    const device = this.#device;
    device.pushErrorScope("out-of-memory");
    device.pushErrorScope("validation");
    device.pushErrorScope("internal");
    try {
      return call();
    } finally {
      for (let scopes = 0; scopes < 3; scopes++) {
        this.#pending.push(
          device.popErrorScope().then((error) => {
            if (!error) return;
            failed?.();
            const message = `Could not ${action} on ${this.#deviceName}: ${error.message}`;
            // By name: another WebGPU implementation's class is not the global one.
            const outOfMemory = error.constructor.name === "GPUOutOfMemoryError";
            this.report(
              outOfMemory ? new OutOfMemoryError(message, requestedBytes) : wrap?.(message) ?? new GpuError(message),
            );
          }, () => {}), // rejects when the device is lost, which `device.lost` reports
        );
      }
      if (this.#pending.length > 1024) this.#pending = [Promise.all(this.#pending).then(() => {})];
    }
  }

  /** Waits for all scopes so far. Throws the first error that was reported since the last check. */
  async check(): Promise<void> {
    const pending = this.#pending;
    this.#pending = [];
    await Promise.all(pending);
    this.throwIfLost();
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure) throw failure;
  }

  /** @throws {DeviceLostError} when the device is lost */
  throwIfLost(): void {
    if (this.#lost) throw this.#lost;
  }
}
