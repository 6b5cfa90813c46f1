import { declareKernel, input, output, spread, storage } from "../../engine/kernel/kernel.ts";
import { activationValues, activationWgsl } from "../wgsl/activation.ts";
import { type Reduction, reductionConstantTypes, reductionWgsl, totalWgsl } from "../wgsl/reduction.ts";

/*
 * The kernels of group normalization, in two dispatches. Terms:
 *
 * - plane: one channel of one sample
 * - range: the planes of one group in one sample, which lie side by side. They share a mean and a
 *   variance
 * - block: some ranges, or some planes of one, that the device can bind. Each has its dispatches
 * - chunk: the part of a range that a workgroup of the first dispatch reads
 * - piece: what a workgroup of the second dispatch writes: some planes of a range, or a part of one
 *
 * The first dispatch reduces each chunk to its moments: (count, mean, M2 = sum of squared
 * deviations from the mean). The second merges the moments of a range's chunks, then normalizes,
 * scales, shifts and activates. So x is read twice.
 *
 * To avoid cancellation, moments are never computed as differences of large sums. An invocation
 * computes mean and M2 of 16 elements in registers, and merges them into its running moments by
 * Chan, Golub and LeVeque (1979): for d = mean_b − mean_a,
 *
 *     mean = mean_a + d · n_b / n,    M2 = M2_a + M2_b + d² · n_a n_b / n.
 *
 * The moments of all invocations of a workgroup are merged at once: mean = Σ nᵢ meanᵢ / n,
 * M2 = Σ (M2ᵢ + nᵢ (meanᵢ − mean)²). Measurements: docs/tuning.md.
 */

/** WGSL of Moments, and of both ways to merge them. */
const momentsWgsl = (constants: Pick<Reduction, "SUBGROUP">) =>
  reductionWgsl(constants) + /* wgsl */ `
struct Moments { count: f32, mean: f32, m2: f32 }
fn merge(a: Moments, b: Moments) -> Moments {
  let count = a.count + b.count;
  let share = b.count / max(count, 1.0);
  let d = b.mean - a.mean;
  return Moments(count, fma(d, share, a.mean), a.m2 + fma(d * d, a.count * share, b.m2));
}
fn merge_lanes(a: Moments, count: f32, lane: u32) -> Moments {
  let mean = sum_over_lanes(a.count * a.mean, lane) / count;
  let d = a.mean - mean;
  return Moments(count, mean, sum_over_lanes(fma(d * d, a.count, a.m2), lane));
}
`;

/** The moments of each chunk, as vec4(count, mean, M2, 0). */
export const statisticsKernel = declareKernel({
  name: "group_norm_statistics",
  bindings: { x: input("X_WIDTH"), moments: storage("write", "array<vec4f>") },
  // Lengths and x_start count accesses of X_WIDTH elements.
  params: {
    ranges: "u32",
    length: "u32", // of a range, or of the part of it that is in the bound window
    chunk_length: "u32",
    chunks: "u32", // per range
    x_start: "u32",
    moments_start: "u32",
    moments_stride: "u32", // between ranges
  },
  constants: { X_WIDTH: "u32", vector: "type", ...reductionConstantTypes },
  extensions: ["subgroups"],
  wgsl: (constants) =>
    momentsWgsl(constants) + totalWgsl(constants.X_WIDTH) + /* wgsl */ `
fn moments_of_four(a: vector, b: vector, c: vector, d: vector) -> Moments {
  let count = 4.0 * f32(X_WIDTH);
  let mean = total((a + b) + (c + d)) / count;
  let m = vector(mean);
  return Moments(count, mean, total(fma(a - m, a - m, (b - m) * (b - m)) + fma(c - m, c - m, (d - m) * (d - m))));
}
fn moments_of_one(a: vector) -> Moments {
  let mean = total(a) / f32(X_WIDTH);
  let d = a - vector(mean);
  return Moments(f32(X_WIDTH), mean, total(d * d));
}
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let workgroup = group.x + group.y * groups.x;
  let range = workgroup / params.chunks;
  if (range >= params.ranges) { return; }
  let chunk = workgroup % params.chunks;
  let first = min(chunk * params.chunk_length, params.length);
  let last = min(first + params.chunk_length, params.length);
  let start = params.x_start + range * params.length;
  var mine = Moments();
  var i = start + first + lane;
  let end = start + last;
  for (; i + 3u * LANES < end; i += 4u * LANES) {
    mine = merge(mine, moments_of_four(x_at(i), x_at(i + LANES), x_at(i + 2u * LANES), x_at(i + 3u * LANES)));
  }
  for (; i < end; i += LANES) { mine = merge(mine, moments_of_one(x_at(i))); }
  let all = merge_lanes(mine, f32((last - first) * X_WIDTH), lane);
  if (lane == 0u) {
    moments[params.moments_start + range * params.moments_stride + chunk] = vec4f(all.count, all.mean, all.m2, 0.0);
  }
}`,
  grid: ({ ranges, chunks }) => spread(ranges * chunks),
  cost: ({ ranges, length }, { X_WIDTH }) => ({
    flops: 4 * ranges * length * X_WIDTH,
    bytes: 4 * ranges * length * X_WIDTH,
  }),
});

/** y = activation((x − mean) / √(variance + ε) · weight + bias), piece by piece. */
export const affineKernel = declareKernel({
  name: "group_norm_affine",
  bindings: {
    x: input("X_WIDTH"),
    moments: storage("read", "array<vec4f>"),
    weight: input(1),
    bias: input(1),
    y: output("X_WIDTH"),
  },
  params: {
    ranges: "u32",
    planes: "u32", // of a range in this dispatch
    plane_length: "u32",
    pieces: "u32", // per range
    planes_per_piece: "u32",
    parts: "u32", // pieces per plane; more than 1 only where a piece has one plane
    part_length: "u32",
    x_start: "u32",
    y_start: "u32",
    first_range: "u32", // of this dispatch
    first_plane: "u32", // of this dispatch, within its range
    groups: "u32",
    channels_per_group: "u32",
    chunks: "u32",
    epsilon: "f32",
  },
  constants: { X_WIDTH: "u32", vector: "type", ACTIVATION: activationValues, ...reductionConstantTypes },
  extensions: ["subgroups"],
  wgsl: (constants) =>
    activationWgsl(constants) + momentsWgsl(constants) + /* wgsl */ `
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let workgroup = group.x + group.y * groups.x;
  let local_range = workgroup / params.pieces;
  if (local_range >= params.ranges) { return; }
  let piece = workgroup % params.pieces;
  let range = params.first_range + local_range;

  var mine = Moments();
  for (var i = lane; i < params.chunks; i += LANES) {
    let chunk = moments[range * params.chunks + i];
    mine = merge(mine, Moments(chunk.x, chunk.y, chunk.z));
  }
  let count = f32(params.channels_per_group * params.plane_length * X_WIDTH);
  let all = merge_lanes(mine, count, lane);
  let mean = vector(all.mean);
  let per_deviation = inverseSqrt(all.m2 / count + params.epsilon);

  let first_channel = range % params.groups * params.channels_per_group + params.first_plane;
  let first = piece / params.parts * params.planes_per_piece;
  let part_start = piece % params.parts * params.part_length;
  let part_end = min(part_start + params.part_length, params.plane_length);
  for (var plane = first; plane < min(first + params.planes_per_piece, params.planes); plane++) {
    let scale = vector(per_deviation * weight_at(first_channel + plane));
    let shift = vector(bias_at(first_channel + plane));
    let start = (local_range * params.planes + plane) * params.plane_length;
    for (var i = start + part_start + lane; i < start + part_end; i += LANES) {
      let value = fma(x_at(params.x_start + i) - mean, scale, shift);
      y_put(params.y_start + i, activate(vec4f(value))${constants.X_WIDTH === 1 ? ".x" : ""});
    }
  }
}`,
  grid: ({ ranges, pieces }) => spread(ranges * pieces),
  cost: ({ ranges, planes, plane_length }, { X_WIDTH }) => ({
    flops: 4 * ranges * planes * plane_length * X_WIDTH,
    bytes: 8 * ranges * planes * plane_length * X_WIDTH,
  }),
});
