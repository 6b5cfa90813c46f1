import type { Gpu } from "../../engine/gpu.ts";
import { policyOf } from "../policy.ts";

/** Constants of kernels that use {@linkcode reductionWgsl}: how a workgroup reduces. */
export interface Reduction {
  /** Invocations per workgroup. */
  readonly LANES: number;
  /** Whether a workgroup is one subgroup, which needs neither workgroup memory nor barriers. */
  readonly SUBGROUP: boolean;
}

/**
 * How rows are reduced on a device: by one subgroup where its size is known, else through workgroup
 * memory. See {@linkcode PassPolicy.reduction}.
 */
export function reduction(gpu: Gpu): Reduction {
  return policyOf(gpu).passes.reduction;
}

/**
 * WGSL `total(v: vector) -> f32`: the sum of the elements of an access. The kernel declares the
 * type `vector`, of `width` elements (1 or 4).
 */
export const totalWgsl = (width: number): string =>
  `fn total(v: vector) -> f32 { return ${width === 4 ? "v.x + v.y + v.z + v.w" : "v"}; }\n`;

/** Types of {@linkcode Reduction}, for declarations. */
export const reductionConstantTypes = { LANES: "u32", SUBGROUP: "bool" } as const;

/**
 * WGSL `sum_over_lanes(value, lane)` and `max_over_lanes(value, lane)`: the sum and the maximum of
 * all lanes' values, returned to every lane. The order of additions is fixed. All lanes of the
 * workgroup must call them (uniform control flow). The kernel declares {@linkcode
 * reductionConstantTypes} and the extension "subgroups", has workgroups of LANES, and is run with
 * the values of {@linkcode reduction}.
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
