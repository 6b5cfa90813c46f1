import type { Gpu } from "../engine/gpu.ts";

/**
 * WGSL `sum_over_lanes(value: f32, lane: u32) -> f32` and `max_over_lanes`: what all LANES threads of a workgroup put in, the same for each
 * of them. A tree in workgroup memory, so that it works on devices without subgroups, in an order that never changes.
 */
export const workgroupSumWgsl = /* wgsl */ `
var<workgroup> shared_values: array<f32, LANES>;
fn sum_over_lanes(value: f32, lane: u32) -> f32 {
  shared_values[lane] = value;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { shared_values[lane] += shared_values[lane + half]; }
  }
  workgroupBarrier();
  let sum = shared_values[0];
  workgroupBarrier();
  return sum;
}
fn max_over_lanes(value: f32, lane: u32) -> f32 {
  shared_values[lane] = value;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { shared_values[lane] = max(shared_values[lane], shared_values[lane + half]); }
  }
  workgroupBarrier();
  let top = shared_values[0];
  workgroupBarrier();
  return top;
}
`;

/** Threads that share one row: one subgroup on software devices, where barriers between subgroups cost more than the row; else enough to hide latency. */
export function rowLanes(gpu: Gpu, length: number): number {
  if (gpu.info.deviceClass === "software") return 8;
  return length >= 1024 ? 256 : 64;
}
