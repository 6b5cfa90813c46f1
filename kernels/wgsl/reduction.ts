import type { Gpu } from "../../engine/gpu.ts";
import { policyOf } from "../policy.ts";

/**
 * Lanes that reduce together, and by what means: constants of the kernels that use {@linkcode
 * reductionWgsl}.
 */
export interface Reduction {
  /** A workgroup's lanes. */
  readonly LANES: number;
  /** Whether a workgroup is one subgroup, so that no memory and no barrier is needed. */
  readonly SUBGROUP: boolean;
}

/**
 * How rows are reduced on this device: by one subgroup where its size is known (8 lanes on
 * lavapipe, where a barrier between subgroups costs more than a row; 32 on NVIDIA), else by 64
 * lanes through workgroup memory.
 */
export function reduction(gpu: Gpu): Reduction {
  return policyOf(gpu).reduction;
}

/** Names of the constants in {@linkcode Reduction}. */
export const reductionConstantTypes = { LANES: "u32", SUBGROUP: "bool" } as const;

/**
 * WGSL `sum_over_lanes(value, lane)` and `max_over_lanes(value, lane)`: what all lanes of a
 * workgroup put in, the same for each of them, added in an order that never changes. All lanes must
 * come here.
 */
export function reductionWgsl({ SUBGROUP }: Pick<Reduction, "SUBGROUP">): string {
  if (SUBGROUP) {
    return /* wgsl */ `
fn sum_over_lanes(value: f32, lane: u32) -> f32 { return subgroupAdd(value); }
fn max_over_lanes(value: f32, lane: u32) -> f32 { return subgroupMax(value); }
`;
  }
  const tree = (name: string, merge: string) => /* wgsl */ `
fn ${name}(value: f32, lane: u32) -> f32 {
  lane_values[lane] = value;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { lane_values[lane] = ${merge}; }
  }
  let result = workgroupUniformLoad(&lane_values[0]);
  return result;
}
`;
  return "var<workgroup> lane_values: array<f32, LANES>;" +
    tree("sum_over_lanes", "lane_values[lane] + lane_values[lane + half]") +
    tree("max_over_lanes", "max(lane_values[lane], lane_values[lane + half])");
}
