import type { DeviceContext, GuardOptions, Storage } from "./context.ts";
import type { DeviceDescription, GpuInfo, GpuOptions } from "./device_info.ts";
import { ErrorScopes } from "./error_scopes.ts";
import { DeviceLostError, GpuError } from "./errors.ts";
import { PipelineCache } from "./kernel/pipeline_cache.ts";
import { Pool, roundUp } from "./memory/pool.ts";
import { CaptureSink } from "./record/capture_sink.ts";
import type { Program } from "./record/program.ts";
import { Recorder } from "./record/recorder.ts";
import type { RehearsedRun } from "./record/rehearse_sink.ts";
import { Scopes } from "./scopes.ts";

/**
 * A device with its memory, its compiled kernels and its recorded work. For the engine and for
 * kernels; not part of the stable API. Users hold a `Gpu`.
 */
export class GpuContext implements DeviceContext, Disposable {
  readonly device: GPUDevice;
  readonly options: GpuOptions;
  /** Whether the device has no memory and computes nothing. */
  readonly isNull: boolean;
  readonly paramsLayout: GPUBindGroupLayout;
  /** Buffers, by size class. */
  readonly pool: Pool;
  /** Recorded work. */
  readonly recorder: Recorder;
  /** Compiled kernels. */
  readonly pipelines: PipelineCache;
  /** Open tensor scopes. */
  readonly scopes: Scopes = new Scopes();
  readonly #errors: ErrorScopes;
  #info: GpuInfo;
  #memos = new Map<unknown, unknown>();
  #capture: CaptureSink | undefined;

  constructor(device: GPUDevice, info: GpuInfo, options: GpuOptions, { isNull = false } = {}) {
    this.device = device;
    this.isNull = isNull;
    this.#info = info;
    this.options = options;
    this.paramsLayout = device.createBindGroupLayout({
      entries: [{
        binding: 0,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: "uniform", hasDynamicOffset: true },
      }],
    });
    this.#errors = new ErrorScopes(device, info.name);
    this.pool = new Pool(this);
    this.pipelines = new PipelineCache(this);
    this.recorder = new Recorder(this);
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      this.#errors.report(new GpuError((event as GPUUncapturedErrorEvent).error.message));
    });
    device.lost.then(({ reason, message }) =>
      this.#errors.lose(new DeviceLostError(`The GPU device was lost (${reason}): ${message}`, reason))
    );
  }

  get info(): GpuInfo {
    return this.#info;
  }

  /**
   * Runs `body` as on a device with another description: kernels choose tiles and split tensors as
   * they would there, and larger bindings are rejected. For tests of other devices' choices.
   *
   * @param changes replaces these facts; the device must be able to run what follows from them
   */
  describedAs<T>(changes: Partial<GpuInfo>, body: () => T): T {
    const info = this.#info, memos = this.#memos;
    this.#info = { ...info, ...changes };
    this.#memos = new Map();
    try {
      return body();
    } finally {
      this.#info = info;
      this.#memos = memos;
    }
  }

  /** The value that `make` returns for this device. Calls it once per device. */
  memo<T>(make: (device: DeviceDescription) => T): T {
    if (!this.#memos.has(make)) this.#memos.set(make, make(this));
    return this.#memos.get(make) as T;
  }

  guarded<T>(action: string, call: () => T, options?: GuardOptions): T {
    return this.#errors.guarded(action, call, options);
  }

  check(): Promise<void> {
    return this.#errors.check();
  }

  throwIfLost(): void {
    this.#errors.throwIfLost();
  }

  flushPending(): void {
    if (!this.#errors.isLost) this.recorder.submit();
  }

  invalidateBindGroups(): void {
    this.flushPending();
    this.recorder.groups.clear();
  }

  /** The storage of a new tensor. `exact` asks for a buffer without slack, which is not reused. */
  allocate(bytes: number, exact = false): Storage {
    this.throwIfLost();
    return this.#capture?.allocate(bytes) ?? { buffer: this.pool.acquire(bytes, exact), owners: 0 };
  }

  /** Frees a storage whose last tensor was disposed of. */
  free(storage: Storage): void {
    if (storage.capture) storage.capture.release(storage);
    else this.pool.release(storage.buffer);
  }

  /**
   * Writes bytes into a buffer: after the work recorded so far, which is submitted first because a
   * queue write would overtake it, and before the work recorded later.
   */
  write(buffer: GPUBuffer, bytes: Uint8Array<ArrayBuffer>, byteOffset: number): void {
    this.throwIfLost();
    this.#refuseWhileCapturing("write a tensor");
    this.recorder.submit();
    const whole = bytes.byteLength & ~3;
    if (whole > 0) this.device.queue.writeBuffer(buffer, byteOffset, bytes, 0, whole);
    if (whole < bytes.byteLength) { // WebGPU writes multiples of 4 bytes
      const rest = new Uint8Array(4);
      rest.set(bytes.subarray(whole));
      this.device.queue.writeBuffer(buffer, byteOffset + whole, rest);
    }
  }

  async read(buffer: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
    this.throwIfLost();
    this.#refuseWhileCapturing("read a tensor");
    const size = roundUp(Math.max(bytes, 4), 4);
    const staging = this.guarded(
      `create a buffer of ${size} bytes for reading back`,
      () => this.device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST }),
      { requestedBytes: size },
    );
    try {
      this.recorder.copy({ source: buffer, sourceOffset: 0, target: staging, targetOffset: 0, bytes: size });
      this.recorder.submit();
      await staging.mapAsync(GPUMapMode.READ).catch(async (cause) => {
        await this.check(); // throws the cause, if WebGPU reported one
        throw new GpuError(`Cannot read ${bytes} bytes back from the device: ${cause.message}`, { cause });
      });
      await this.check();
      return staging.getMappedRange().slice(0, bytes);
    } finally {
      staging.destroy();
    }
  }

  /** See {@linkcode Gpu.capture}. */
  capture<T>(body: () => T): Program<T> {
    this.throwIfLost();
    this.#refuseWhileCapturing("capture a program");
    // What the body returns belongs to the program, not to the enclosing scope.
    return this.scopes.detached(() => {
      using sink = new CaptureSink(this);
      const { result, owned } = this.scopes.run(() => {
        const result = this.#record(sink, body);
        return { result, owned: [...this.scopes.owned(result)] };
      });
      return sink.finish(result, owned);
    });
  }

  /**
   * Notes the dispatches that `body` records, and executes none: kernels compile and tensors get
   * memory, but no element is computed. What is read back during a rehearsal is undefined.
   *
   * @param onRun called for each dispatch, at once
   */
  rehearse(body: () => void | Promise<void>, onRun?: (run: RehearsedRun) => void): Promise<RehearsedRun[]> {
    return this.recorder.rehearse(body, onRun);
  }

  /** Frees everything on the device. Work that was not waited for is lost. */
  [Symbol.dispose](): void {
    this.#errors.lose(new DeviceLostError("The GPU device was disposed", "destroyed"));
    this.recorder[Symbol.dispose]();
    this.device.destroy();
  }

  #record<T>(sink: CaptureSink, body: () => T): T {
    this.#capture = sink;
    try {
      using _ = this.recorder.use(sink);
      const result = body();
      if (result instanceof Promise) throw new GpuError("Cannot capture across a wait: the body must not be async");
      return result;
    } finally {
      this.#capture = undefined;
    }
  }

  #refuseWhileCapturing(action: string): void {
    if (this.#capture) {
      throw new GpuError(`Cannot ${action} while a program is captured: do it before the capture or between runs`);
    }
  }
}
