import { DeviceLostError, GpuError, KernelError, NoAdapterError, OutOfMemoryError } from "./errors.ts";
import {
  type DeviceClass,
  type DeviceDescription,
  extensionFeatures,
  type GpuInfo,
  type GpuOptions,
  type SubgroupMatrix,
  type WgslExtension,
} from "./device_info.ts";
import type { Binding, CompiledKernel, Cost, Kernel, NumberedLayout } from "./kernel/kernel.ts";
import { Pool, roundUp } from "./memory/pool.ts";
import { Capture, type Program } from "./record/program.ts";
import { type KernelProfile, Recorder, type RehearsedRun } from "./record/recorder.ts";
import { Tensor } from "./tensor.ts";

export type { DeviceClass, DeviceTuning, GpuInfo, GpuOptions, SubgroupMatrix, WgslExtension } from "./device_info.ts";

/**
 * WebGPU implementations in use. Dawn, as `npm:webgpu` brings it, crashes once its object is
 * collected while a promise of its devices is pending.
 */
const implementations = new Set<GPU>();

const wantedFeatures = ["subgroups", "timestamp-query", "shader-f16", "wgpu-shader-f64", "wgpu-shader-int64"];

const subgroupMatrixExtensions = ["subgroups", "f16", "chromium_experimental_subgroup_matrix"] as const;

/**
 * The device: adapter, queue, memory, compiled kernels and recorded work. It owns all of them;
 * disposing of it frees everything.
 *
 * ```ts
 * using gpu = await Gpu.request();
 * console.log(gpu.info.name, gpu.memory.live);
 * ```
 */
export class Gpu implements Disposable {
  readonly device: GPUDevice;
  readonly info: GpuInfo;
  /** What it was opened with. */
  readonly options: GpuOptions;
  /** Buffers by size class. For the engine and kernels; users make {@linkcode Tensor}s. */
  readonly pool: Pool;
  /** Recorded work. For the engine and kernels. */
  readonly recorder: Recorder;
  /** For the engine and for kernels; not part of the stable API. */
  readonly context: { memo<T>(make: (device: DeviceDescription) => T): T };
  readonly #compiled = new Map<Kernel<string, string, string>, Map<string, CompiledKernel>>();
  readonly #layouts = new Map<string, NumberedLayout>();
  readonly #paramsLayout: GPUBindGroupLayout;
  #scope: Set<Tensor> | undefined;
  #failure: Error | undefined;
  #lost: DeviceLostError | undefined;
  #checks: Promise<void>[] = [];
  #profiling = false;
  #disposed = false;

  private constructor(device: GPUDevice, info: GpuInfo, options: GpuOptions) {
    this.device = device;
    this.info = info;
    this.options = options;
    const memos = new Map<unknown, unknown>();
    this.context = {
      memo: <T>(make: (device: DeviceDescription) => T): T => {
        if (!memos.has(make)) memos.set(make, make(this));
        return memos.get(make) as T;
      },
    };
    this.pool = new Pool(this);
    this.#paramsLayout = device.createBindGroupLayout({
      entries: [{
        binding: 0,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: "uniform", hasDynamicOffset: true },
      }],
    });
    this.recorder = new Recorder(this, this.#paramsLayout);
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      this.#fail(new GpuError((event as GPUUncapturedErrorEvent).error.message));
    });
    device.lost.then(({ reason, message }) => {
      if (!this.#disposed) this.#lost = new DeviceLostError(`The GPU device was lost (${reason}): ${message}`, reason);
    });
  }

  /**
   * Opens a device with the best limits of the adapter and whichever useful features it has.
   *
   * @throws {NoAdapterError} when there is no WebGPU or no adapter; the message says what to
   *   install
   */
  static async request(options: GpuOptions = {}): Promise<Gpu> {
    const gpu = options.gpu ?? (globalThis.navigator as Navigator | undefined)?.gpu;
    if (!gpu) {
      throw new NoAdapterError(
        "Cannot open a GPU as this runtime has no WebGPU (navigator.gpu): use Deno 2.9 or later, or a browser with WebGPU",
      );
    }
    implementations.add(gpu);
    const findAdapter = async () => {
      const adapter = await gpu.requestAdapter({ powerPreference: options.powerPreference ?? "high-performance" });
      if (!adapter) {
        throw new NoAdapterError(
          "Cannot open a GPU as no adapter was found: install a Vulkan driver. Without a GPU, Mesa's software driver does: " +
            "apt-get install mesa-vulkan-drivers (Debian, Ubuntu), dnf install mesa-vulkan-drivers (Fedora), pacman -S vulkan-swrast (Arch)",
        );
      }
      return adapter;
    };
    let adapter = await findAdapter();
    const { isFallbackAdapter } = adapter.info;
    if (isFallbackAdapter && options.allowFallback === false) {
      throw new NoAdapterError(`Cannot open a GPU as the only adapter is a software one: ${nameOf(adapter.info)}`);
    }
    const limits = {
      maxStorageBufferBindingSize: adapter.limits.maxStorageBufferBindingSize,
      maxBufferSize: adapter.limits.maxBufferSize,
      maxComputeWorkgroupStorageSize: adapter.limits.maxComputeWorkgroupStorageSize,
      maxComputeInvocationsPerWorkgroup: adapter.limits.maxComputeInvocationsPerWorkgroup,
      maxComputeWorkgroupSizeX: adapter.limits.maxComputeWorkgroupSizeX,
      maxStorageBuffersPerShaderStage: adapter.limits.maxStorageBuffersPerShaderStage,
    };
    // Deno grants native features that its adapter does not list, so asking is the only way to
    // know. An adapter is good for one device.
    const open = (from: GPUAdapter, features: readonly string[]) =>
      from.requestDevice({ requiredFeatures: features as GPUFeatureName[], requiredLimits: limits });
    const matrixFeature = extensionFeatures.chromium_experimental_subgroup_matrix;
    const wanted = options.subgroupMatrices && adapter.features.has(matrixFeature as GPUFeatureName)
      ? [...wantedFeatures, matrixFeature]
      : wantedFeatures;
    let features = wanted.filter((feature) => !options.withoutFeatures?.includes(feature));
    let device = await open(adapter, features).catch(() => undefined);
    if (!device) {
      const granted: string[] = [];
      for (const feature of features) {
        const trial = await open(await findAdapter(), [feature]).catch(() => undefined);
        if (trial) granted.push(feature);
        trial?.destroy();
      }
      features = granted;
      adapter = await findAdapter();
      device = await open(adapter, features);
    }
    const enables = new Set<WgslExtension>();
    for (const [extension, feature] of Object.entries(extensionFeatures) as [WgslExtension, string][]) {
      if (features.includes(feature) && await compiles(device, `enable ${extension};`)) enables.add(extension);
    }
    const { subgroupMinSize, subgroupMaxSize } = adapter.info;
    const deviceClass = classify(adapter.info);
    const info: GpuInfo = {
      name: nameOf(adapter.info),
      deviceClass,
      isFallbackAdapter,
      features: new Set(features),
      limits,
      subgroupSize: features.includes("subgroups") && subgroupMinSize === subgroupMaxSize ? subgroupMinSize : 0,
      enables,
      subgroupMatrix: subgroupMatrixExtensions.every((extension) => enables.has(extension))
        ? subgroupMatrixOf(adapter.info)
        : undefined,
      f64: features.includes("wgpu-shader-f64"),
      compilesLate: /llvmpipe|lavapipe/i.test(nameOf(adapter.info)),
      longWords: deviceClass === "software" && features.includes("wgpu-shader-int64"),
    };
    return new Gpu(device, info, options);
  }

  /**
   * Bytes on the device: in tensors now, at most so far, and in all buffers including those kept
   * for reuse (now and at most).
   */
  get memory(): { live: number; peak: number; reserved: number; peakReserved: number } {
    const { live, peak, reserved, peakReserved } = this.pool;
    return { live, peak, reserved, peakReserved };
  }

  /**
   * Runs `body` and disposes of every tensor that it made, except those that it returns (alone, or
   * in arrays and plain objects): these pass to the enclosing scope, or to the caller where there
   * is none. `body` must not be async: recording never waits.
   */
  scope<T>(body: () => T): T {
    const outer = this.#scope;
    const inner = this.#scope = new Set<Tensor>();
    try {
      const result = body();
      if (result instanceof Promise) {
        throw new GpuError("Cannot keep a scope open across a wait: its body must not be async");
      }
      for (const tensor of tensorsIn(result)) {
        if (inner.delete(tensor)) outer?.add(tensor);
      }
      return result;
    } finally {
      this.#scope = outer;
      for (const tensor of inner) tensor[Symbol.dispose]();
    }
  }

  /**
   * Records `body` once, to be run many times: what it would have recorded becomes a program, and
   * nothing is done until that is run. `body` may use tensors that exist, which the program then
   * reads as they are at each run, and must not write or read numbers itself.
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
   * @throws {GpuError} when `body` is async, writes or reads a tensor's numbers, or captures
   *   another program
   */
  capture<T>(body: () => T): Program<T> {
    this.throwIfLost();
    this.#refuseWhileCapturing("capture a program");
    const capture = this.recorder.capture = new Capture(this);
    const outer = this.#scope;
    this.#scope = undefined; // what the body returns is the program's, not the enclosing scope's
    try {
      const { result, owned } = this.scope(() => {
        const result = body();
        if (result instanceof Promise) throw new GpuError("Cannot capture across a wait: the body must not be async");
        return { result, owned: [...tensorsIn(result)].filter((tensor) => this.#scope!.has(tensor)) };
      });
      this.recorder.capture = undefined;
      return capture.finish(result, owned);
    } finally {
      this.recorder.capture = undefined;
      this.#scope = outer;
    }
  }

  /** Hands recorded work to the device without waiting for it. */
  flush(): void {
    this.recorder.submit();
  }

  /**
   * Waits until all recorded work is done.
   *
   * @throws {GpuError} when any of it failed, {@linkcode DeviceLostError} when the device is gone
   */
  async finished(): Promise<void> {
    this.flush();
    await this.device.queue.onSubmittedWorkDone();
    await this.check();
  }

  /**
   * Times every kernel run of `body`, one pass each.
   *
   * @throws {GpuError} when the device has no timestamps
   */
  async profile(body: () => void | Promise<void>): Promise<KernelProfile[]> {
    if (!this.info.features.has("timestamp-query")) {
      throw new GpuError(`Cannot profile on ${this.info.name} as it has no feature "timestamp-query"`);
    }
    this.recorder.beginProfile();
    this.#profiling = true;
    try {
      await body();
    } catch (error) {
      await this.recorder.endProfile().catch(() => {}); // times of half a body say nothing
      throw error;
    } finally {
      this.#profiling = false;
    }
    return await this.recorder.endProfile();
  }

  /**
   * Whether kernel runs must tell what they cost: while they are timed or tallied, or captured,
   * since a program may be later.
   */
  get profiling(): boolean {
    return this.#profiling || this.recorder.tallying || this.recorder.capture !== undefined;
  }

  /**
   * How many kernel runs `body` records and what they cost by their declarations. Takes no
   * timestamps, and waits for nothing.
   */
  tally(body: () => void): Cost & { readonly runs: number } {
    return this.recorder.tally(body);
  }

  /**
   * Notes the kernel runs that `body` asks for, and does none of them: kernels compile, tensors get
   * memory, no number is computed. What is read back meanwhile means nothing.
   *
   * @param onRun told of each at once
   */
  async rehearse(
    body: () => void | Promise<void>,
    onRun: (run: RehearsedRun) => void = () => {},
  ): Promise<RehearsedRun[]> {
    this.flush();
    return await this.recorder.rehearse(body, onRun);
  }

  /** The kernels compiled so far, a variant each. */
  get compiledKernels(): CompiledKernel[] {
    return [...this.#compiled.values()].flatMap((variants) => [...variants.values()]);
  }

  /** Starts counting the peaks of {@linkcode memory} from what is there now. */
  resetPeak(): void {
    this.pool.peak = this.pool.live;
    this.pool.peakReserved = this.pool.reserved;
  }

  /** Gives the memory kept for reuse back to the system. */
  trim(): void {
    this.pool.trim();
  }

  /** Frees everything on the device. Work that was not waited for is lost. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#lost = new DeviceLostError("The GPU device was disposed", "destroyed");
    this.recorder.dispose();
    this.device.destroy();
  }

  // The rest serves the engine's other files.

  /**
   * Writes bytes into a buffer, after everything recorded so far (a queue write would overtake it)
   * and before what comes.
   */
  write(buffer: GPUBuffer, bytes: Uint8Array<ArrayBuffer>, byteOffset: number): void {
    this.throwIfLost();
    this.#refuseWhileCapturing("write a tensor");
    this.flush();
    const whole = bytes.byteLength & ~3;
    if (whole > 0) this.device.queue.writeBuffer(buffer, byteOffset, bytes, 0, whole);
    if (whole < bytes.byteLength) { // WebGPU writes in fours
      const rest = new Uint8Array(4);
      rest.set(bytes.subarray(whole));
      this.device.queue.writeBuffer(buffer, byteOffset + whole, rest);
    }
  }

  /** Reads the first `bytes` bytes of a buffer, after everything recorded so far. */
  async read(buffer: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
    this.throwIfLost();
    this.#refuseWhileCapturing("read a tensor");
    const size = roundUp(Math.max(bytes, 4), 4);
    const staging = this.guarded(
      `create a buffer of ${size} bytes to read through`,
      () => this.device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST }),
      { requestedBytes: size },
    );
    try {
      this.recorder.copy(buffer, 0, staging, 0, size);
      this.flush();
      await staging.mapAsync(GPUMapMode.READ).catch(async (cause) => {
        await this.check(); // the real reason, where WebGPU told one
        throw new GpuError(`Cannot read ${bytes} bytes back from the device: ${cause.message}`, { cause });
      });
      await this.check();
      return staging.getMappedRange().slice(0);
    } finally {
      staging.destroy();
    }
  }

  /**
   * Runs a WebGPU call whose errors, told later, the next wait throws under a message that says
   * what was tried. `failed` hears of them first: to forget what the call made.
   */
  guarded<T>(
    action: string,
    call: () => T,
    { requestedBytes = 0, wrap, failed }: {
      requestedBytes?: number;
      wrap?: (message: string) => Error;
      failed?: () => void;
    } = {},
  ): T {
    this.throwIfLost();
    const { device } = this;
    device.pushErrorScope("out-of-memory");
    device.pushErrorScope("validation");
    device.pushErrorScope("internal");
    try {
      return call();
    } finally {
      for (let scopes = 0; scopes < 3; scopes++) {
        this.#checks.push(
          device.popErrorScope().then((error) => {
            if (!error) return;
            failed?.();
            const message = `Could not ${action} on ${this.info.name}: ${error.message}`;
            const outOfMemory = error.constructor.name === "GPUOutOfMemoryError"; // another implementation's class is not the global one
            this.#fail(
              outOfMemory ? new OutOfMemoryError(message, requestedBytes) : wrap?.(message) ?? new GpuError(message),
            );
          }, () => {}), // a lost device rejects: `lost` tells
        );
      }
      if (this.#checks.length > 1024) this.#checks = [Promise.all(this.#checks).then(() => {})];
    }
  }

  /** Throws the first error that WebGPU has told of since the last check. */
  async check(): Promise<void> {
    const checks = this.#checks;
    this.#checks = [];
    await Promise.all(checks);
    this.throwIfLost();
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure) throw failure;
  }

  /** Notes a tensor as made in the current scope. */
  adopt(tensor: Tensor): void {
    this.throwIfLost();
    this.#scope?.add(tensor);
  }

  /** Notes a tensor as disposed. */
  abandon(tensor: Tensor): void {
    this.#scope?.delete(tensor);
  }

  /** Submits recorded work before something that it names is destroyed. */
  flushPending(): void {
    if (!this.#lost) this.flush();
  }

  /** Prepares buffers for destruction: submits what names them, forgets their bind groups. */
  invalidateBindGroups(): void {
    this.flushPending();
    this.recorder.dropGroups();
  }

  /** @throws {DeviceLostError} when the device is gone */
  throwIfLost(): void {
    if (this.#lost) throw this.#lost;
  }

  /** The compiled form of a kernel's variant; compiled now if this is its first use. */
  compiled(
    kernel: Kernel<string, string, string>,
    variant: string,
    source: () => string,
    bindings: readonly (readonly [string, Binding])[],
  ): CompiledKernel {
    let variants = this.#compiled.get(kernel);
    if (!variants) this.#compiled.set(kernel, variants = new Map());
    let compiled = variants.get(variant);
    if (!compiled) {
      // A broken kernel is compiled again when it is run again, so that each time the error says
      // what is wrong with it.
      const failed = () => variants.delete(variant);
      const written = {
        name: kernel.declaration.name,
        variant: variant.trimEnd(),
        code: source(),
        accesses: bindings.map(([, { access }]) => access),
      };
      variants.set(variant, compiled = this.#compile(written, failed));
    }
    return compiled;
  }

  /** A kernel that another device compiled, or this one, compiled again here. */
  recompiled({ name, variant, code, accesses }: CompiledKernel): CompiledKernel {
    return this.#compile({ name, variant, code, accesses }, () => {});
  }

  #nextKernelId = 0;

  #compile(
    written: Pick<CompiledKernel, "name" | "variant" | "code" | "accesses">,
    failed: () => void,
  ): CompiledKernel {
    const { device } = this;
    const { name, code, accesses } = written;
    const started = performance.now();
    const layout = this.#layout(accesses);
    const pipeline = this.guarded(
      `compile the kernel ${name}`,
      () =>
        device.createComputePipeline({
          label: name,
          layout: device.createPipelineLayout({ bindGroupLayouts: [layout.layout, this.#paramsLayout] }),
          compute: { module: device.createShaderModule({ label: name, code }), entryPoint: "main" },
        }),
      { wrap: (message) => new KernelError(message, code), failed },
    );
    return { ...written, pipeline, layout, id: this.#nextKernelId++, createMs: performance.now() - started };
  }

  #layout(accesses: readonly ("read" | "write")[]): NumberedLayout {
    const key = accesses.join();
    let layout = this.#layouts.get(key);
    if (!layout) {
      const made = this.device.createBindGroupLayout({
        entries: accesses.map((access, binding) => ({
          binding,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type: access === "read" ? "read-only-storage" : "storage" },
        })),
      });
      this.#layouts.set(key, layout = { layout: made, id: this.#layouts.size });
    }
    return layout;
  }

  #fail(error: Error): void {
    this.#failure ??= error;
  }

  #refuseWhileCapturing(action: string): void {
    if (this.recorder.capture) {
      throw new GpuError(`Cannot ${action} while a program is captured: do it before, or between its runs`);
    }
  }
}

/** The tensors in a value: itself, or those in arrays and plain objects, at any depth. */
function* tensorsIn(value: unknown): Generator<Tensor> {
  if (value instanceof Tensor) yield value;
  else if (Array.isArray(value)) { for (const item of value) yield* tensorsIn(item); }
  else if (value !== null && typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype) {
    for (const item of Object.values(value)) yield* tensorsIn(item);
  }
}

async function compiles(device: GPUDevice, line: string): Promise<boolean> {
  device.pushErrorScope("validation");
  device.createShaderModule({ code: `${line} @compute @workgroup_size(1) fn main() {}` });
  return await device.popErrorScope() === null;
}

/** What Dawn's adapters add to their information. */
export interface SubgroupMatrixInfo {
  readonly subgroupMaxSize?: number;
  readonly subgroupMatrixConfigs?: Iterable<
    Record<"componentType" | "resultComponentType", string> & Record<"M" | "N" | "K", number>
  >;
}

/**
 * The subgroup matrices to use: 16 × 16 × 16, the size of most tensor cores, or else the largest.
 * Sizes are 8, 16 or 32, so that rows start at multiples of 16 bytes, as Vulkan wants them.
 */
export function subgroupMatrixOf(
  { subgroupMatrixConfigs = [], subgroupMaxSize = 0 }: SubgroupMatrixInfo,
): SubgroupMatrix | undefined {
  const usable = [...subgroupMatrixConfigs].filter(({ componentType, resultComponentType, M, N, K }) =>
    componentType === "f16" && resultComponentType === "f32" && [M, N, K].every((size) => [8, 16, 32].includes(size))
  );
  const rank = ({ M, N, K }: typeof usable[number]) => M === 16 && N === 16 && K === 16 ? Infinity : M * N * K;
  const [best] = usable.sort((a, b) => rank(b) - rank(a) || 0);
  return best && subgroupMaxSize > 0 ? { m: best.M, n: best.N, k: best.K, lanes: subgroupMaxSize } : undefined;
}

function nameOf(info: GPUAdapterInfo): string {
  return info.description || [info.vendor, info.architecture, info.device].filter(Boolean).join(" ") ||
    "unnamed adapter";
}

function classify(info: GPUAdapterInfo): DeviceClass {
  const text = `${info.vendor} ${info.architecture} ${info.description}`.toLowerCase();
  if (/llvmpipe|lavapipe|swiftshader|basic render/.test(text)) return "software";
  // Deno gives PCI vendor numbers (decimal) where browsers give names.
  if (/nvidia|geforce|^4318\b/.test(text)) return "nvidia";
  if (/apple/.test(text)) return "apple";
  if (/\bamd\b|radeon|^4098\b/.test(text)) return "amd";
  if (/intel|^32902\b/.test(text)) return "intel";
  return info.isFallbackAdapter ? "software" : "other";
}
