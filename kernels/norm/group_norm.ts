import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { declareKernel, input, output, spread, storage } from "../../engine/kernel/kernel.ts";
import { elements, Tensor } from "../../engine/tensor.ts";
import { type Activation, activationValues, activationWgsl } from "../wgsl/activation.ts";
import { type Reduction, reduction, reductionConstantTypes, reductionWgsl } from "../wgsl/reduction.ts";
import { bindableBlocks, bindRange, type RowBlock } from "../wgsl/launch.ts";
import { policyOf } from "../policy.ts";

/*
 * Two dispatches. A range is the channels of one group in one sample. The first dispatch splits
 * every range into chunks and reduces each to (count, mean, M2 = sum of squared deviations from the
 * mean). The second merges the chunks of a range, then normalizes, scales, shifts and activates.
 *
 * To avoid cancellation, moments are never computed as differences of large sums. An invocation
 * computes mean and M2 of 16 elements in registers, and merges them into its running moments by
 * Chan, Golub and LeVeque (1979): for d = mean_b − mean_a,
 *
 *     mean = mean_a + d · n_b / n,    M2 = M2_a + M2_b + d² · n_a n_b / n.
 *
 * The moments of all invocations of a workgroup are merged at once: mean = Σ nᵢ meanᵢ / n,
 * M2 = Σ (M2ᵢ + nᵢ (meanᵢ − mean)²). x is therefore read only twice: once for the moments, once to
 * normalize. Measurements: docs/tuning.md.
 */
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

const statisticsKernel = declareKernel({
  name: "group_norm_statistics",
  bindings: { x: input("X_WIDTH"), moments: storage("write", "array<vec4f>") },
  // Lengths and x_start count accesses of X_WIDTH elements.
  params: {
    ranges: "u32",
    length: "u32",
    chunk_length: "u32",
    chunks: "u32",
    x_start: "u32",
    moments_start: "u32",
    moments_stride: "u32",
  },
  constants: { X_WIDTH: "u32", vector: "type", ...reductionConstantTypes },
  extensions: ["subgroups"],
  wgsl: (constants) =>
    momentsWgsl(constants) + /* wgsl */ `
fn total(v: vector) -> f32 { return ${constants.X_WIDTH === 4 ? "v.x + v.y + v.z + v.w" : "v"}; }
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

/** A workgroup processes `planes_per_piece` whole channels, or a part of one. */
const affineKernel = declareKernel({
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
    planes: "u32", // channels of a range in this dispatch
    plane_length: "u32",
    pieces: "u32", // workgroups per range
    planes_per_piece: "u32",
    parts: "u32", // workgroups per plane
    part_length: "u32",
    x_start: "u32",
    y_start: "u32",
    first_range: "u32",
    first_plane: "u32",
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
    let part = moments[range * params.chunks + i];
    mine = merge(mine, Moments(part.x, part.y, part.z));
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

/** Options of {@linkcode groupNorm}. */
export interface GroupNormOptions {
  /** Number of groups; must divide C. */
  readonly groups: number;
  /** [C], f32 or f16 */
  readonly weight: Tensor;
  /** [C], f32 or f16 */
  readonly bias: Tensor;
  /** Added to the variance. */
  readonly epsilon: number;
  /** Activation applied to the result. Default: none. */
  readonly activation?: Activation;
}

/**
 * Group normalization (arXiv 1803.08494): y = (x − mean) / √(variance + ε) · weight + bias, then
 * the activation. Mean and variance (divided by n, not n − 1) are those of the channels of one
 * group in one sample, computed in f32.
 *
 * Tensors larger than the device's binding limit are processed in windows: of whole groups, or of
 * channels where one group is too large.
 *
 * @param x [B, C, …], f32 or f16
 * @returns a new tensor of x's shape and dtype
 * @throws {ShapeError} when the groups do not divide C, or weight and bias do not hold C elements
 * @throws {DTypeError} when x is f16 and the product of the axes after C is not a multiple of 4
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using x = Tensor.from(gpu, new Float32Array([1, 3, 5, 7]), [1, 2, 1, 2]);
 * using weight = Tensor.from(gpu, new Float32Array([1, 1]), [2]);
 * using bias = Tensor.from(gpu, new Float32Array([0, 0]), [2]);
 * using y = groupNorm(x, { groups: 2, weight, bias, epsilon: 1e-6 }); // −1, 1, −1, 1
 * ```
 */
export function groupNorm(x: Tensor, options: GroupNormOptions): Tensor {
  const { gpu } = x;
  const { groups, weight, bias, epsilon, activation } = options;
  const [batch, channels, ...rest] = x.shape;
  const refuse = (why: string) => {
    throw new ShapeError(`Cannot normalize [${x.shape.join(", ")}] in ${groups} groups as ${why}`, [x.shape]);
  };
  if (channels === undefined) refuse("its second axis must hold channels");
  if (channels % groups !== 0) refuse(`the groups must divide the channels: ${channels} / ${groups}`);
  if (weight.size !== channels || bias.size !== channels) {
    refuse(`weight and bias must hold ${channels} elements: ${weight.size}, ${bias.size}`);
  }
  const y = Tensor.empty(gpu, x.shape, x.dtype);
  if (y.size === 0) return y;

  const vectorWidth = elements(rest) % 4 === 0 ? 4 : 1;
  const vector = vectorWidth === 4 ? "vec4f" : "f32";
  const ranges = batch * groups, planes = channels / groups, planeLength = elements(rest) / vectorWidth;
  const planeBytes = planeLength * vectorWidth * 4;
  const blocks = [...bindableBlocks(gpu, {
    rows: ranges,
    columns: planes,
    rowBytes: planes * planeBytes,
    columnBytes: planeBytes,
  })];
  const blocksPerRange = blocks.filter(({ row }) => row === 0).length;
  const split = splitWork(gpu, ranges, planes, planeLength);
  const chunks = Math.ceil(split.chunks / blocksPerRange);
  const moments = Tensor.empty(gpu, [ranges, blocksPerRange, chunks, 4]);

  const bind = (tensor: Tensor, { row, rows, column, columns }: RowBlock) => {
    const first = (row * planes + column) * planeLength * vectorWidth;
    const { window, start } = bindRange(tensor, first, rows * columns * planeLength * vectorWidth);
    return { window, start: start / vectorWidth };
  };
  blocks.forEach((block, index) => {
    const source = bind(x, block);
    const length = block.columns * planeLength;
    statisticsKernel.run(
      gpu,
      { x: source.window, moments },
      {
        ranges: block.rows,
        length,
        chunk_length: Math.ceil(length / chunks),
        chunks,
        x_start: source.start,
        moments_start: block.row * blocksPerRange * chunks + index % blocksPerRange * chunks,
        moments_stride: chunks,
      },
      { X_WIDTH: vectorWidth, vector, ...reduction(gpu) },
    );
  });
  for (const block of blocks) {
    const source = bind(x, block), target = bind(y, block);
    affineKernel.run(
      gpu,
      { x: source.window, moments, weight, bias, y: target.window },
      {
        ranges: block.rows,
        planes: block.columns,
        plane_length: planeLength,
        pieces: Math.ceil(block.columns / split.planesPerPiece) * split.parts,
        planes_per_piece: split.planesPerPiece,
        parts: split.parts,
        part_length: Math.ceil(planeLength / split.parts),
        x_start: source.start,
        y_start: target.start,
        first_range: block.row,
        first_plane: block.column,
        groups,
        channels_per_group: planes,
        chunks: blocksPerRange * chunks,
        epsilon,
      },
      { X_WIDTH: vectorWidth, vector, ACTIVATION: activation ?? "none", ...reduction(gpu) },
    );
  }
  moments[Symbol.dispose]();
  return y;
}

/**
 * Splits the work into workgroups: chunks per range for the statistics; channels per workgroup, or
 * parts of a channel, for the second dispatch. The policy asks for many workgroups on GPUs, and for
 * few on software devices, where each workgroup has a high fixed cost.
 */
function splitWork(
  gpu: Gpu,
  ranges: number,
  planes: number,
  planeLength: number,
): { chunks: number; planesPerPiece: number; parts: number } {
  const { workgroups, leastAccesses } = policyOf(gpu).passes.groupNorm;
  const accesses = Math.max(leastAccesses, Math.ceil(ranges * planes * planeLength / workgroups));
  return {
    chunks: Math.min(128, Math.ceil(planes * planeLength / (2 * accesses))),
    planesPerPiece: Math.max(1, Math.floor(accesses / planeLength)),
    parts: Math.ceil(planeLength / accesses),
  };
}
