/**
 * The options of a device, and what is known of one.
 *
 * @module
 */

/** The WebGPU feature behind each WGSL extension. */
export const extensionFeatures: Readonly<Record<WgslExtension, string>> = {
  "subgroups": "subgroups",
  "f16": "shader-f16",
  "chromium_experimental_subgroup_matrix": "chromium-experimental-subgroup-matrix",
};

/** Options of {@linkcode Gpu.request}. */
export interface GpuOptions {
  /** A WebGPU implementation, such as Dawn's from `npm:webgpu`. Default: `navigator.gpu`. */
  gpu?: GPU;
  /** Which adapter WebGPU should prefer. Default: "high-performance". */
  powerPreference?: GPUPowerPreference;
  /** Whether to accept a software device (lavapipe, SwiftShader). Default: true. */
  allowFallback?: boolean;
  /** Features to leave unused although the device has them, for tests. Default: none. */
  withoutFeatures?: readonly string[];
  /**
   * Whether matrix products may use subgroup matrices (tensor cores), which round their operands to
   * f16. Only products whose callers tolerate that use them: those of the UNet and the VAE, not of
   * the text encoder and the edit. It is a permission: without device support, as in Deno's own
   * WebGPU, products are computed as without the option, and `info.subgroupMatrix` is undefined.
   * (`arithmetic: "f16"` is a demand, and refused there.) Programs that need subgroup matrices
   * check `info.subgroupMatrix`. Default: false.
   *
   * ```ts
   * const { create } = await import("npm:webgpu@0.6.2"); // Dawn
   * const dawn = create(["enable-dawn-features=allow_unsafe_apis"]);
   * using gpu = await Gpu.request({ gpu: dawn, subgroupMatrices: true });
   * console.log(gpu.info.subgroupMatrix ?? "not supported");
   * ```
   */
  subgroupMatrices?: boolean;
  /**
   * The arithmetic of matrix products, convolutions and attention whose callers tolerate f16
   * operands: those of the UNet and the VAE, not of the text encoder and the edit. "f16" multiplies
   * packed f16, adds up at most 16 products in f16 and the rest in f32, and requires the feature
   * `shader-f16`. Norms, softmax, samplers and the solver stay f32. Default: "f32".
   */
  arithmetic?: "f32" | "f16";
  /**
   * Tuned choices for this device. The engine only carries them: `kernels/policy.ts` defines what
   * they mean. Default: none.
   */
  tuning?: DeviceTuning;
}

/** Tuned choices for a device: a plain, immutable record whose content the engine does not read. */
export type DeviceTuning = { readonly [part: string]: unknown };

/** The WGSL extensions that kernels use. */
export type WgslExtension = "subgroups" | "f16" | "chromium_experimental_subgroup_matrix";

/**
 * The sizes of a device's subgroup matrices, an experimental feature of Dawn: a subgroup computes C
 * (m × n, f32) += A (m × k, f16) · B (k × n, f16) as one operation.
 */
export interface SubgroupMatrix {
  /** Rows of A and C. */
  readonly m: number;
  /** Columns of B and C. */
  readonly n: number;
  /** Columns of A, rows of B. */
  readonly k: number;
  /** The largest subgroup size. Workgroups that use subgroup matrices must be multiples of it. */
  readonly lanes: number;
}

/** Device families that tuned tables and defaults distinguish. */
export type DeviceClass = "software" | "nvidia" | "amd" | "intel" | "apple" | "other";

/** What is known of a device. */
export interface GpuInfo {
  /** The adapter's description, or else its vendor and architecture. */
  readonly name: string;
  /** The family of the device. */
  readonly deviceClass: DeviceClass;
  /** Whether WebGPU calls the adapter a fallback, which is a software device. */
  readonly isFallbackAdapter: boolean;
  /** WebGPU features in use. */
  readonly features: ReadonlySet<string>;
  /** WebGPU limits in use: the adapter's best. */
  readonly limits: {
    readonly maxStorageBufferBindingSize: number;
    readonly maxBufferSize: number;
    readonly maxComputeWorkgroupStorageSize: number;
    readonly maxComputeInvocationsPerWorkgroup: number;
    readonly maxStorageBuffersPerShaderStage: number;
  };
  /** The subgroup size, if subgroups are usable and of one size; otherwise 0. */
  readonly subgroupSize: number;
  /**
   * WGSL extensions that kernels must name in an `enable` directive. Browsers and Dawn require one
   * for subgroups; naga rejects it.
   */
  readonly enables: ReadonlySet<WgslExtension>;
  /**
   * The subgroup matrices in use: set if {@linkcode GpuOptions.subgroupMatrices} asked for them and
   * the device multiplies f16 into f32.
   */
  readonly subgroupMatrix?: SubgroupMatrix;
  /** See {@linkcode GpuOptions.arithmetic}. */
  readonly arithmetic: "f32" | "f16";
  /** Whether kernels may use f64 (Deno on Vulkan drivers that support it). */
  readonly f64: boolean;
  /**
   * Whether the driver compiles a kernel when it first runs instead of when its pipeline is created
   * (Mesa's llvmpipe).
   */
  readonly compilesLate: boolean;
  /**
   * Whether 64-bit words are the fastest access to memory: software devices that support them
   * (Deno's lavapipe).
   */
  readonly longWords: boolean;
  /**
   * Whether kernels copy their params into a private variable first: on software devices whose WGSL
   * compiler allows it (Deno's). Browsers and Dawn reject barriers and subgroup operations in
   * control flow that depends on a private variable.
   */
  readonly copiesParams: boolean;
  /** Processors that a software device computes on; 1 for other devices. */
  readonly processors: number;
}

/** A device and the options that it was opened with: enough to choose kernels and tile sizes. */
export interface DeviceDescription {
  readonly info: GpuInfo;
  readonly options: GpuOptions;
}
