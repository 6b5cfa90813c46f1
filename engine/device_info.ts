/**
 * What can be asked of a device, and what is known of one.
 *
 * @module
 */

/** The feature that each WGSL extension comes with. */
export const extensionFeatures = {
  "subgroups": "subgroups",
  "f16": "shader-f16",
  "chromium_experimental_subgroup_matrix": "chromium-experimental-subgroup-matrix",
} as const;

/** What {@linkcode Gpu.request} can be asked. */
export interface GpuOptions {
  /** A WebGPU implementation, such as Dawn's from `npm:webgpu`. Default: `navigator.gpu`. */
  gpu?: GPU;
  /** Default: "high-performance". */
  powerPreference?: GPUPowerPreference;
  /** Whether a software device (lavapipe, SwiftShader) will do. Default: true. */
  allowFallback?: boolean;
  /**
   * Features to leave unused although the device has them, to test the siblings of kernels that
   * want them. Default: none.
   */
  withoutFeatures?: readonly string[];
  /**
   * Whether products whose callers allow it (the UNet's and the VAE's, not the text encoder's and
   * the edit's) may run on subgroup matrices (tensor cores), which round their operands to f16: see
   * {@linkcode SubgroupMatrix}. Where the device has none, and so in Deno's own WebGPU,
   * `info.subgroupMatrix` is undefined and products run as they do without. Default: false.
   *
   * ```ts
   * const { create } = await import("npm:webgpu@0.6.2"); // Dawn
   * using gpu = await Gpu.request({ gpu: create(["enable-dawn-features=allow_unsafe_apis"]), subgroupMatrices: true });
   * console.log(gpu.info.subgroupMatrix ?? "none here");
   * ```
   */
  subgroupMatrices?: boolean;
  /**
   * Tuned choices for this device. The engine only carries them: `kernels/policy.ts` defines what
   * they mean. Default: none.
   */
  tuning?: DeviceTuning;
}

/** Tuned choices for a device: a plain, immutable record whose content the engine does not read. */
export type DeviceTuning = { readonly [part: string]: unknown };

/** WGSL's extensions that kernels use. */
export type WgslExtension = keyof typeof extensionFeatures;

/**
 * The sizes of a device's subgroup matrices, an experimental feature of Dawn: a subgroup computes C
 * (m × n, f32) += A (m × k, f16) · B (k × n, f16) as one operation.
 */
export interface SubgroupMatrix {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /**
   * Lanes of a subgroup, at most. Workgroups that use subgroup matrices must be multiples of it.
   */
  readonly lanes: number;
}

/** Families of devices that tile tables and defaults distinguish. */
export type DeviceClass = "software" | "nvidia" | "amd" | "intel" | "apple" | "other";

/** What is known of the device in use. */
export interface GpuInfo {
  /** The adapter's own description, or vendor and architecture where it gives none. */
  readonly name: string;
  readonly deviceClass: DeviceClass;
  readonly isFallbackAdapter: boolean;
  /** Features in use. */
  readonly features: ReadonlySet<string>;
  /** Limits in use: the adapter's best. */
  readonly limits: {
    readonly maxStorageBufferBindingSize: number;
    readonly maxBufferSize: number;
    readonly maxComputeWorkgroupStorageSize: number;
    readonly maxComputeInvocationsPerWorkgroup: number;
    readonly maxStorageBuffersPerShaderStage: number;
  };
  /** Lanes of a subgroup where subgroups are usable and always of one size; otherwise 0. */
  readonly subgroupSize: number;
  /**
   * WGSL extensions in use that kernels must name in an `enable` line: browsers and Dawn want one
   * for subgroups, naga refuses it.
   */
  readonly enables: ReadonlySet<WgslExtension>;
  /**
   * The subgroup matrices in use: where {@linkcode GpuOptions.subgroupMatrices} asked for them and
   * the device has such of f16 with results in f32.
   */
  readonly subgroupMatrix?: SubgroupMatrix;
  /** Whether kernels may use f64 (Deno on Vulkan drivers that have it). */
  readonly f64: boolean;
  /**
   * Whether the driver compiles a kernel when it first runs, and not when its pipeline is created:
   * Mesa's llvmpipe.
   */
  readonly compilesLate: boolean;
  /**
   * Whether memory is best accessed in words of 64 bits: on software devices that have them (Deno's
   * lavapipe).
   */
  readonly longWords: boolean;
}

/** What a device is, and what it was opened with: enough to choose kernels and their sizes. */
export interface DeviceDescription {
  readonly info: GpuInfo;
  readonly options: GpuOptions;
}
