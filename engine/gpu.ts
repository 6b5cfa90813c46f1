import type { GpuInfo, GpuOptions } from "./device_info.ts";
import { GpuError } from "./errors.ts";
import { GpuContext } from "./gpu_context.ts";
import { byteText, inspectAs } from "./inspect.ts";
import { nullDevice, typicalInfo } from "./null_device.ts";
import { openDevice } from "./open_device.ts";
import type { KernelProfile } from "./record/profiler.ts";
import type { Program } from "./record/program.ts";
import type { Tally } from "./record/tally_sink.ts";

export type { DeviceClass, DeviceTuning, GpuInfo, GpuOptions, SubgroupMatrix, WgslExtension } from "./device_info.ts";

/**
 * A GPU device. Owns its memory, its compiled kernels and its recorded work; disposing of it frees
 * them all.
 *
 * ```ts
 * using gpu = await Gpu.request();
 * console.log(gpu.info.name, gpu.memory.live);
 * ```
 */
export class Gpu implements Disposable {
  /**
   * For the engine and for kernels; not part of the stable API.
   * @internal
   */
  readonly context: GpuContext;

  private constructor(context: GpuContext) {
    this.context = context;
  }

  /**
   * Opens a device with the adapter's best limits and those useful features that it grants.
   *
   * @throws {NoAdapterError} when there is no WebGPU or no adapter, and when the only one is a
   *   software one that `allowFallback` excludes; the message says what to install
   * @throws {UnsupportedFeatureError} when f16 arithmetic is asked for and the device has none
   */
  static async request(options: GpuOptions = {}): Promise<Gpu> {
    const { device, info } = await openDevice(options);
    return new Gpu(new GpuContext(device, info, options));
  }

  /**
   * A device of the given description that has no memory and computes nothing: {@linkcode memory}
   * tells what work would take on the device described. Elements that are read back are zero.
   *
   * ```ts
   * using real = await Gpu.request();
   * using gpu = Gpu.null(real.info);
   * using x = Tensor.empty(gpu, [16_384, 16_384]);
   * console.log(gpu.memory.peak); // 1073741824
   * ```
   *
   * @param info Default: a GPU with the limits that are usual.
   */
  static null(info: GpuInfo = typicalInfo, options: GpuOptions = {}): Gpu {
    return new Gpu(new GpuContext(nullDevice(), info, options, { isNull: true }));
  }

  /** What is known of the device. */
  get info(): GpuInfo {
    return this.context.info;
  }

  /** The options that the device was opened with. */
  get options(): GpuOptions {
    return this.context.options;
  }

  /**
   * Bytes on the device: held by tensors (`live`, and its highest value `peak`), and in all buffers
   * including those kept for reuse (`reserved`, and its highest value `peakReserved`).
   */
  get memory(): { live: number; peak: number; reserved: number; peakReserved: number } {
    const { live, peak, reserved, peakReserved } = this.context.pool;
    return { live, peak, reserved, peakReserved };
  }

  /**
   * Runs `body` and disposes of every tensor that it made, except those that it returns, alone or
   * in arrays and plain objects. These pass to the enclosing scope; without one, to the caller.
   *
   * @throws {GpuError} when `body` is async
   */
  scope<T>(body: () => T): T {
    return this.context.scopes.run(body);
  }

  /**
   * Records `body` as a program to be run many times. Nothing is executed until the program is run.
   * `body` may use existing tensors, which the program reads as they are at each run. It must not
   * write or read tensor elements from the host.
   *
   * ```ts
   * using gpu = await Gpu.request();
   * using x = Tensor.from(gpu, new Float32Array([1, 2]), [2]);
   * using twice = gpu.capture(() => linearCombination([{ tensor: x, coefficient: 2 }]));
   * twice.run();
   * console.log(await twice.result.data()); // 2, 4
   * x.write(new Uint8Array(new Float32Array([5, 6]).buffer));
   * twice.run();
   * console.log(await twice.result.data()); // 10, 12
   * ```
   *
   * @returns the program, with what `body` returned as its `result`
   * @throws {GpuError} when `body` is async, writes or reads a tensor's elements, or captures
   *   another program
   */
  capture<T>(body: () => T): Program<T> {
    return this.context.capture(body);
  }

  /** Hands recorded work to the device without waiting for it. */
  flush(): void {
    this.context.recorder.submit();
  }

  /**
   * Waits until all recorded work is done.
   *
   * @throws {GpuError} when any of it failed, {@linkcode DeviceLostError} when the device is lost
   */
  async finished(): Promise<void> {
    this.flush();
    await this.context.device.queue.onSubmittedWorkDone();
    await this.context.check();
  }

  /**
   * Calls `listener` before each kernel is compiled, with the kernel's name. A first picture
   * compiles many kernels, which can take seconds. Disposing of the result ends the calls.
   */
  onCompile(listener: (kernel: string) => void): Disposable {
    const { listeners } = this.context.pipelines;
    listeners.add(listener);
    return { [Symbol.dispose]: () => void listeners.delete(listener) };
  }

  /**
   * Times every dispatch of `body`, each in a compute pass of its own.
   *
   * @returns a row per kernel, slowest first
   * @throws {GpuError} when the device has no timestamps
   */
  async profile(body: () => void | Promise<void>): Promise<KernelProfile[]> {
    if (!this.info.features.has("timestamp-query")) {
      throw new GpuError(
        `Cannot profile on ${this.info.name} as it has no feature "timestamp-query": time finished() instead`,
      );
    }
    return await this.context.recorder.profile(body);
  }

  /**
   * Counts the dispatches that `body` records and adds up their declared costs. Takes no
   * timestamps and does not wait.
   */
  tally(body: () => void): Tally {
    return this.context.recorder.tally(body);
  }

  /** Restarts the peaks of {@linkcode memory} at the present values. */
  resetPeak(): void {
    const { pool } = this.context;
    pool.peak = pool.live;
    pool.peakReserved = pool.reserved;
  }

  /** Returns the memory kept for reuse to the system. */
  trim(): void {
    this.context.pool.trim();
  }

  /** Frees everything on the device. Work that was not waited for is lost. */
  [Symbol.dispose](): void {
    this.context[Symbol.dispose]();
  }
}

inspectAs(Gpu.prototype, (gpu) => {
  if (!(gpu instanceof Gpu)) return "Gpu";
  const { live, peak } = gpu.memory;
  return `Gpu ${JSON.stringify(gpu.info.name)}, ${byteText(live)} in tensors (at most ${byteText(peak)})`;
});
