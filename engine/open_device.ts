/**
 * Opening a device: adapter, features, limits, and what is derived from them.
 *
 * @module
 */
import {
  type DeviceClass,
  extensionFeatures,
  type GpuInfo,
  type GpuOptions,
  type SubgroupMatrix,
  type WgslExtension,
} from "./device_info.ts";
import { GpuError, NoAdapterError, UnsupportedFeatureError } from "./errors.ts";

/**
 * WebGPU implementations in use, to keep them alive. Dawn from `npm:webgpu` crashes when its object
 * is garbage-collected while a promise of one of its devices is pending.
 */
const implementations = new Set<GPU>();

const wantedFeatures = ["subgroups", "timestamp-query", "shader-f16", "wgpu-shader-f64", "wgpu-shader-int64"];

const subgroupMatrixExtensions = ["subgroups", "f16", "chromium_experimental_subgroup_matrix"] as const;

/**
 * Opens a device with the adapter's best limits and those useful features that it grants.
 *
 * @throws {GpuError} when the option arithmetic is neither f32 nor f16
 * @throws {NoAdapterError} when there is no WebGPU or no adapter, or only a software one that
 *   `allowFallback` excludes
 * @throws {UnsupportedFeatureError} when f16 arithmetic is asked for and the device has none
 */
export async function openDevice(options: GpuOptions): Promise<{ device: GPUDevice; info: GpuInfo }> {
  const { arithmetic = "f32" } = options;
  if (arithmetic !== "f32" && arithmetic !== "f16") {
    throw new GpuError(
      `Cannot open a GPU with the arithmetic ${JSON.stringify(arithmetic)}: it must be "f32" or "f16"`,
    );
  }
  const gpu = options.gpu ?? (globalThis.navigator as { readonly gpu?: GPU } | undefined)?.gpu;
  if (!gpu) {
    throw new NoAdapterError(
      "Cannot open a GPU: this runtime has no WebGPU (navigator.gpu). Use Deno 2.9 or later, or a browser with WebGPU",
    );
  }
  implementations.add(gpu);
  const opened = await openAdapter(gpu, options);
  const { adapter, device } = opened;
  const enables = await enabledExtensions(opened);
  if (arithmetic === "f16" && !enables.has("f16")) {
    device.destroy();
    throw new UnsupportedFeatureError(
      `Cannot compute in f16 on ${nameOf(adapter.info)} as the device lacks the feature shader-f16: use ` +
        'arithmetic: "f32", the default',
      "shader-f16",
    );
  }
  return { device, info: await infoOf(opened, enables, arithmetic) };
}

/** An adapter, the device that it opened, and what the device was granted. */
interface OpenedAdapter {
  readonly adapter: GPUAdapter;
  readonly device: GPUDevice;
  readonly features: readonly string[];
  readonly limits: GpuInfo["limits"];
}

/** The adapter of a WebGPU implementation. @throws {NoAdapterError} when there is none */
async function findAdapter(gpu: GPU, options: GpuOptions): Promise<GPUAdapter> {
  const adapter = await gpu.requestAdapter({ powerPreference: options.powerPreference ?? "high-performance" });
  if (!adapter && options.gpu) {
    throw new NoAdapterError(
      "Cannot open a GPU: the given WebGPU implementation found no adapter. Dawn (npm:webgpu) wants newer drivers than " +
        "Deno does, and passes over an old Mesa (lavapipe): update Mesa, or leave the option gpu out to use Deno's own WebGPU",
    );
  }
  if (!adapter) {
    throw new NoAdapterError(
      "Cannot open a GPU: no adapter was found. Install a Vulkan driver, or without a GPU, Mesa's software driver: " +
        "apt-get install mesa-vulkan-drivers (Debian, Ubuntu), dnf install mesa-vulkan-drivers (Fedora), pacman -S vulkan-swrast (Arch)",
    );
  }
  return adapter;
}

/**
 * Opens the device of an adapter with those wanted features that it grants. Deno grants native
 * features that its adapter does not list, so the features must be tried. An adapter opens one
 * device only.
 */
async function openAdapter(gpu: GPU, options: GpuOptions): Promise<OpenedAdapter> {
  const adapter = await findAdapter(gpu, options);
  if (adapter.info.isFallbackAdapter && options.allowFallback === false) {
    throw new NoAdapterError(
      `Cannot open a GPU: the only adapter is a software one, ${nameOf(adapter.info)}. Set allowFallback to use it`,
    );
  }
  const limits = {
    maxStorageBufferBindingSize: adapter.limits.maxStorageBufferBindingSize,
    maxBufferSize: adapter.limits.maxBufferSize,
    maxComputeWorkgroupStorageSize: adapter.limits.maxComputeWorkgroupStorageSize,
    maxComputeInvocationsPerWorkgroup: adapter.limits.maxComputeInvocationsPerWorkgroup,
    maxComputeWorkgroupSizeX: adapter.limits.maxComputeWorkgroupSizeX,
    maxStorageBuffersPerShaderStage: adapter.limits.maxStorageBuffersPerShaderStage,
  };
  const open = (from: GPUAdapter, features: readonly string[]) =>
    from.requestDevice({ requiredFeatures: features as GPUFeatureName[], requiredLimits: limits });
  const wanted = featuresFor(adapter, options);
  const device = await open(adapter, wanted).catch(() => undefined);
  if (device) return { adapter, device, features: wanted, limits };
  const granted: string[] = [];
  for (const feature of wanted) {
    const trial = await open(await findAdapter(gpu, options), [feature]).catch(() => undefined);
    if (trial) granted.push(feature);
    trial?.destroy();
  }
  const other = await findAdapter(gpu, options);
  return { adapter: other, device: await open(other, granted), features: granted, limits };
}

/** The features to ask an adapter for. */
function featuresFor(adapter: GPUAdapter, { subgroupMatrices, withoutFeatures }: GpuOptions): string[] {
  const matrixFeature = extensionFeatures.chromium_experimental_subgroup_matrix;
  const hasMatrices = subgroupMatrices && adapter.features.has(matrixFeature as GPUFeatureName);
  return [...wantedFeatures, ...(hasMatrices ? [matrixFeature] : [])]
    .filter((feature) => !withoutFeatures?.includes(feature));
}

/** The WGSL extensions whose `enable` directive the device's compiler accepts. */
async function enabledExtensions({ device, features }: OpenedAdapter): Promise<Set<WgslExtension>> {
  const enables = new Set<WgslExtension>();
  for (const [extension, feature] of Object.entries(extensionFeatures) as [WgslExtension, string][]) {
    if (features.includes(feature) && await compiles(device, { prelude: `enable ${extension};` })) {
      enables.add(extension);
    }
  }
  return enables;
}

/** What is known of an open device. */
async function infoOf(
  { adapter, device, features, limits }: OpenedAdapter,
  enables: ReadonlySet<WgslExtension>,
  arithmetic: GpuInfo["arithmetic"],
): Promise<GpuInfo> {
  const { subgroupMinSize, subgroupMaxSize, isFallbackAdapter } = adapter.info;
  const name = nameOf(adapter.info), deviceClass = classify(adapter.info);
  return {
    name,
    deviceClass,
    isFallbackAdapter,
    features: new Set(features),
    limits,
    subgroupSize: features.includes("subgroups") && subgroupMinSize === subgroupMaxSize ? subgroupMinSize : 0,
    enables,
    subgroupMatrix: subgroupMatrixExtensions.every((extension) => enables.has(extension))
      ? subgroupMatrixOf(adapter.info)
      : undefined,
    arithmetic,
    f64: features.includes("wgpu-shader-f64"),
    compilesLate: /llvmpipe|lavapipe/i.test(name),
    longWords: deviceClass === "software" && features.includes("wgpu-shader-int64"),
    copiesParams: deviceClass === "software" && await compiles(device, privateControlFlow),
    processors: deviceClass === "software" ? navigator.hardwareConcurrency : 1,
  };
}

/** A barrier in control flow that depends on a private variable: see GpuInfo.copiesParams. */
const privateControlFlow = {
  prelude: "var<private> count: u32;",
  body: "count = 1u; for (var i = 0u; i < count; i++) { workgroupBarrier(); }",
};

/** Whether a device's compiler accepts a shader of a prelude and the statements of `main`. */
async function compiles(
  device: GPUDevice,
  { prelude, body = "" }: { readonly prelude: string; readonly body?: string },
): Promise<boolean> {
  device.pushErrorScope("validation");
  device.createShaderModule({ code: `${prelude} @compute @workgroup_size(1) fn main() { ${body} }` });
  return await device.popErrorScope() === null;
}

/** Dawn's additions to `GPUAdapterInfo`. */
export interface SubgroupMatrixInfo {
  readonly subgroupMaxSize?: number;
  readonly subgroupMatrixConfigs?: Iterable<
    Record<"componentType" | "resultComponentType", string> & Record<"M" | "N" | "K", number>
  >;
}

/**
 * Chooses the subgroup matrix sizes: 16 × 16 × 16, the size of most tensor cores, or else the
 * largest. Sizes must be 8, 16 or 32, so that rows start at multiples of 16 bytes, which Vulkan
 * requires.
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
  // Deno reports PCI vendor ids (decimal) where browsers report names.
  if (/nvidia|geforce|^4318\b/.test(text)) return "nvidia";
  if (/apple/.test(text)) return "apple";
  if (/\bamd\b|radeon|^4098\b/.test(text)) return "amd";
  if (/intel|^32902\b/.test(text)) return "intel";
  return info.isFallbackAdapter ? "software" : "other";
}
