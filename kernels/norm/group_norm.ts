import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { declareKernel, input, output, spread, storage } from "../../engine/kernel/kernel.ts";
import { elements, Tensor } from "../../engine/tensor.ts";
import { activationConstant, activationWgsl } from "../wgsl/activation.ts";
import { type Reduction, reduction, reductionConstantTypes, reductionWgsl } from "../wgsl/reduction.ts";
import { bindableBlocks, bindRange, type RowBlock } from "../wgsl/launch.ts";
import { policyOf } from "../policy.ts";

/*
 * Two dispatches. The first cuts every range, the channels of one group in one picture, into chunks
 * and reduces each to (count, mean, M2 = sum of squared deviations from the mean). The second
 * merges a range's chunks, then normalises, scales, shifts and activates.
 *
 * Moments are never differences of large sums. A lane takes 16 numbers at a time, whose mean and M2
 * are formed in registers, and merges them into what it has by Chan, Golub and LeVeque (1979): for
 * d = mean_b − mean_a,
 *
 *     mean = mean_a + d · n_b / n,    M2 = M2_a + M2_b + d² · n_a n_b / n.
 *
 * Lanes, and chunks, are merged all at once: mean = Σ nᵢ meanᵢ / n, M2 = Σ (M2ᵢ + nᵢ (meanᵢ −
 * mean)²). So x is read once for its moments and once to be normalised.
 *
 * Lavapipe, [2, 320, 64, 64] and [2, 1280, 8, 8] with SiLU: a mean and then a variance pass,
 * reduced through workgroup memory, a workgroup for each channel 17.1 and 4.3 ms; this 7.8 and 1.2
 * ms.
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
  // Lengths are counted in what one access moves: one number or four.
  params: {
    ranges: "u32",
    length: "u32",
    chunk_length: "u32",
    chunks: "u32",
    x_start: "u32",
    moments_start: "u32",
    moments_stride: "u32",
  },
  constants: { X_WIDTH: "u32", number: "type", ...reductionConstantTypes },
  extensions: ["subgroups"],
  wgsl: (constants) =>
    momentsWgsl(constants) + /* wgsl */ `
fn total(v: number) -> f32 { return ${constants.X_WIDTH === 4 ? "v.x + v.y + v.z + v.w" : "v"}; }
fn moments_of_four(a: number, b: number, c: number, d: number) -> Moments {
  let count = 4.0 * f32(X_WIDTH);
  let mean = total((a + b) + (c + d)) / count;
  let m = number(mean);
  return Moments(count, mean, total(fma(a - m, a - m, (b - m) * (b - m)) + fma(c - m, c - m, (d - m) * (d - m))));
}
fn moments_of_one(a: number) -> Moments {
  let mean = total(a) / f32(X_WIDTH);
  let d = a - number(mean);
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

/** A workgroup takes PLANES whole channels, or a part of one. */
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
    planes: "u32", // of a range in this run
    plane_length: "u32",
    pieces: "u32", // workgroups a range
    planes_per_piece: "u32",
    parts: "u32", // workgroups a plane
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
  constants: { X_WIDTH: "u32", number: "type", ACTIVATION: activationConstant, ...reductionConstantTypes },
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
  let mean = number(all.mean);
  let per_deviation = inverseSqrt(all.m2 / count + params.epsilon);

  let first_channel = range % params.groups * params.channels_per_group + params.first_plane;
  let first = piece / params.parts * params.planes_per_piece;
  let part_start = piece % params.parts * params.part_length;
  let part_end = min(part_start + params.part_length, params.plane_length);
  for (var plane = first; plane < min(first + params.planes_per_piece, params.planes); plane++) {
    let scale = number(per_deviation * weight_at(first_channel + plane));
    let shift = number(bias_at(first_channel + plane));
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
  /** Must divide the channels. */
  readonly groups: number;
  /** [C], f32 or f16 */
  readonly weight: Tensor;
  /** [C], f32 or f16 */
  readonly bias: Tensor;
  /** Added to the variance. */
  readonly epsilon: number;
  /** SiLU follows most group norms of the UNet and the VAE. Default: none. */
  readonly activation?: "silu";
}

/**
 * Group normalisation (1803.08494): y = (x − mean) / √(variance + ε) · weight + bias, mean and
 * variance (over n, not n − 1) of the channels of one group in one picture; then the activation.
 *
 * Tensors beyond the device's largest binding are worked on in windows: of whole ranges, or of
 * channels where one range is too large.
 *
 * @param x [B, C, …], f32 or f16
 * @returns as x; f16 wants the product of the axes behind C in fours. Moments are f32
 * @throws {ShapeError} when the groups do not divide the channels, or weight and bias are not [C]
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
    throw new ShapeError(`Cannot normalise [${x.shape.join(", ")}] in ${groups} groups as ${why}`, [x.shape]);
  };
  if (channels === undefined) refuse("its second axis must hold channels");
  if (channels % groups !== 0) refuse(`the groups must divide the channels: ${channels} / ${groups}`);
  if (weight.size !== channels || bias.size !== channels) {
    refuse(`weight and bias must hold ${channels} numbers: ${weight.size}, ${bias.size}`);
  }
  const y = Tensor.empty(gpu, x.shape, x.dtype);
  if (y.size === 0) return y;

  const lanes = elements(rest) % 4 === 0 ? 4 : 1;
  const number = lanes === 4 ? "vec4f" : "f32";
  const ranges = batch * groups, planes = channels / groups, planeLength = elements(rest) / lanes;
  const planeBytes = planeLength * lanes * 4;
  const blocks = [...bindableBlocks(gpu, {
    rows: ranges,
    columns: planes,
    rowBytes: planes * planeBytes,
    columnBytes: planeBytes,
  })];
  const blocksPerRange = blocks.filter(({ row }) => row === 0).length;
  const shared = share(gpu, ranges, planes, planeLength);
  const chunks = Math.ceil(shared.chunks / blocksPerRange);
  const moments = Tensor.empty(gpu, [ranges, blocksPerRange, chunks, 4]);

  const bind = (tensor: Tensor, { row, rows, column, columns }: RowBlock) => {
    const first = (row * planes + column) * planeLength * lanes;
    const { window, start } = bindRange(tensor, first, rows * columns * planeLength * lanes);
    return { window, start: start / lanes };
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
      { X_WIDTH: lanes, number, ...reduction(gpu) },
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
        pieces: Math.ceil(block.columns / shared.planesPerPiece) * shared.parts,
        planes_per_piece: shared.planesPerPiece,
        parts: shared.parts,
        part_length: Math.ceil(planeLength / shared.parts),
        x_start: source.start,
        y_start: target.start,
        first_range: block.row,
        first_plane: block.column,
        groups,
        channels_per_group: planes,
        chunks: blocksPerRange * chunks,
        epsilon,
      },
      { X_WIDTH: lanes, number, ACTIVATION: activation ?? "none", ...reduction(gpu) },
    );
  }
  moments[Symbol.dispose]();
  return y;
}

/**
 * How the work is shared out: chunks of a range for its statistics; for the second pass, channels a
 * workgroup takes, or parts of a channel. On GPUs thousands of workgroups with 8 accesses a lane at
 * least; on software devices, where a workgroup costs 0.25 µs and two cores wait, some dozens.
 */
function share(
  gpu: Gpu,
  ranges: number,
  planes: number,
  planeLength: number,
): { chunks: number; planesPerPiece: number; parts: number } {
  const { workgroups, leastAccesses } = policyOf(gpu).groupNorm;
  const accesses = Math.max(leastAccesses, Math.ceil(ranges * planes * planeLength / workgroups));
  return {
    chunks: Math.min(128, Math.ceil(planes * planeLength / (2 * accesses))),
    planesPerPiece: Math.max(1, Math.floor(accesses / planeLength)),
    parts: Math.ceil(planeLength / accesses),
  };
}
