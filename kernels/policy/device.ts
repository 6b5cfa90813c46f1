import type { GpuInfo } from "../../engine/gpu.ts";
import type { AdapterTuning } from "../tuning.ts";

/** What all choices depend on. */
export interface PolicyDevice {
  readonly info: GpuInfo;
  /** The tuning in use; empty where the device has none. */
  readonly tuned: AdapterTuning;
}

/** Whether the device computes on the CPU, as lavapipe and SwiftShader do. */
export function isSoftware({ info }: PolicyDevice): boolean {
  return info.deviceClass === "software";
}

/**
 * Whether products and convolutions share operands by subgroup broadcasts instead of workgroup
 * memory: on software devices, where workgroup memory is as slow as any other.
 */
export function usesSubgroupTiles(device: PolicyDevice): boolean {
  return isSoftware(device) && device.info.subgroupSize > 0;
}

/**
 * Whether a product to m × n elements, or a convolution to m channels × n pixels, with k products
 * each, runs long enough to pay for compiling longer code.
 */
export const isLarge = (m: number, n: number, k: number): boolean => m * n * k >= 2 ** 29;
