import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { elements, Tensor } from "../../engine/tensor.ts";
import type { Activation } from "../wgsl/activation.ts";
import { reduction } from "../wgsl/reduction.ts";
import { bindableBlocks, bindRange, type RowBlock } from "../wgsl/launch.ts";
import { vectorType } from "../wgsl/text.ts";
import { policyOf } from "../policy.ts";
import { checkEpsilon } from "./epsilon.ts";
import { affineKernel, statisticsKernel } from "./group_norm_kernels.ts";

/** Options of {@linkcode groupNorm}. */
export interface GroupNormOptions {
  /** Number of groups; must divide C. */
  readonly groups: number;
  /** [C], f32 or f16 */
  readonly weight: Tensor;
  /** [C], f32 or f16 */
  readonly bias: Tensor;
  /** Added to the variance: a finite number of at least 0. */
  readonly epsilon: number;
  /** Activation applied to the result. Default: none. */
  readonly activation?: Activation;
}

/**
 * Group normalization (arXiv 1803.08494): y = (x − mean) / √(variance + ε) · weight + bias, then
 * the activation. Mean and variance (divided by n, not n − 1) are those of the channels of one
 * group in one sample, computed in f32.
 *
 * Tensors larger than the device's largest binding are processed in parts: whole groups, or
 * channels where one group is too large.
 *
 * @param x [B, C, …], f32 or f16
 * @returns a new tensor of x's shape and dtype
 * @throws {ShapeError} when the groups do not divide C, or weight and bias do not hold C elements
 * @throws {GpuError} when epsilon is negative or not finite
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
  check(x, options);
  return Tensor.filled(x.gpu, x.shape, x.dtype, (y) => {
    if (y.size > 0) normalize(x, y, options);
  });
}

function check(x: Tensor, { groups, weight, bias, epsilon }: GroupNormOptions): void {
  const channels: number | undefined = x.shape[1];
  const refuse = (why: string) => {
    throw new ShapeError(`Cannot normalize [${x.shape.join(", ")}] in ${groups} groups as ${why}`, [x.shape]);
  };
  if (channels === undefined) refuse("its second axis must hold channels");
  if (!(Number.isInteger(groups) && groups > 0 && channels % groups === 0)) {
    refuse(`the groups must divide the channels: ${channels} / ${groups}`);
  }
  if (weight.size !== channels || bias.size !== channels) {
    refuse(`weight and bias must hold ${channels} elements: ${weight.size}, ${bias.size}`);
  }
  checkEpsilon(x, epsilon);
}

/** Runs both dispatches for each block of x that the device can bind. */
function normalize(x: Tensor, y: Tensor, options: GroupNormOptions): void {
  const plan = planOf(x, options.groups);
  using moments = Tensor.empty(x.gpu, [plan.ranges, plan.blocksPerRange, plan.chunks, 4]);
  for (const [index, block] of plan.blocks.entries()) computeMoments(plan, x, { block, index, moments });
  for (const block of plan.blocks) writeResults(plan, { x, y, moments, block }, options);
}

/**
 * How the elements of x are divided. Terms: group_norm_kernels.ts. Lengths count accesses of
 * `vectorWidth` elements.
 */
interface Plan {
  readonly vectorWidth: 1 | 4;
  readonly ranges: number;
  /** Planes of a range. */
  readonly planes: number;
  readonly planeLength: number;
  readonly blocks: readonly RowBlock[];
  readonly blocksPerRange: number;
  /** Chunks of a range within a block. */
  readonly chunks: number;
  /** Planes of a piece. */
  readonly planesPerPiece: number;
  /** Pieces of a plane. */
  readonly parts: number;
}

function planOf(x: Tensor, groups: number): Plan {
  const [batch, channels, ...rest] = x.shape;
  const vectorWidth = elements(rest) % 4 === 0 ? 4 : 1;
  const ranges = batch * groups, planes = channels / groups, planeLength = elements(rest) / vectorWidth;
  const planeBytes = planeLength * vectorWidth * 4;
  const blocks = [...bindableBlocks(x.gpu, {
    rows: ranges,
    columns: planes,
    rowBytes: planes * planeBytes,
    columnBytes: planeBytes,
  })];
  const blocksPerRange = blocks.filter(({ row }) => row === 0).length;
  const { chunks, ...pieces } = splitWork(x.gpu, { ranges, planes, planeLength });
  const sizes = { vectorWidth, ranges, planes, planeLength } as const;
  return { ...sizes, blocks, blocksPerRange, chunks: Math.ceil(chunks / blocksPerRange), ...pieces };
}

/** The window of a block in x or y, and the accesses in it before the block's first. */
function bindBlock({ vectorWidth, planes, planeLength }: Plan, tensor: Tensor, block: RowBlock) {
  const { row, rows, column, columns } = block;
  const first = (row * planes + column) * planeLength * vectorWidth;
  const { window, start } = bindRange(tensor, first, rows * columns * planeLength * vectorWidth);
  return { window, start: start / vectorWidth };
}

/** The first dispatch: the moments of each chunk of block number `index`. */
function computeMoments(
  plan: Plan,
  x: Tensor,
  { block, index, moments }: { readonly block: RowBlock; readonly index: number; readonly moments: Tensor },
): void {
  const { vectorWidth, planeLength, blocksPerRange, chunks } = plan;
  const source = bindBlock(plan, x, block), length = block.columns * planeLength;
  statisticsKernel.run(
    x.gpu,
    { x: source.window, moments },
    {
      ranges: block.rows,
      length,
      chunk_length: Math.ceil(length / chunks),
      chunks,
      x_start: source.start,
      moments_start: (block.row * blocksPerRange + index % blocksPerRange) * chunks,
      moments_stride: chunks,
    },
    { X_WIDTH: vectorWidth, vector: vectorType(vectorWidth), ...reduction(x.gpu) },
  );
}

/** The second dispatch: normalizes a block by the moments of its ranges. */
function writeResults(
  plan: Plan,
  { x, y, moments, block }: {
    readonly x: Tensor;
    readonly y: Tensor;
    readonly moments: Tensor;
    readonly block: RowBlock;
  },
  { groups, weight, bias, epsilon, activation }: GroupNormOptions,
): void {
  const { vectorWidth, planes, planeLength, blocksPerRange, chunks, planesPerPiece, parts } = plan;
  const source = bindBlock(plan, x, block), target = bindBlock(plan, y, block);
  affineKernel.run(
    x.gpu,
    { x: source.window, moments, weight, bias, y: target.window },
    {
      ranges: block.rows,
      planes: block.columns,
      plane_length: planeLength,
      pieces: Math.ceil(block.columns / planesPerPiece) * parts,
      planes_per_piece: planesPerPiece,
      parts,
      part_length: Math.ceil(planeLength / parts),
      x_start: source.start,
      y_start: target.start,
      first_range: block.row,
      first_plane: block.column,
      groups,
      channels_per_group: planes,
      chunks: blocksPerRange * chunks,
      epsilon,
    },
    { X_WIDTH: vectorWidth, vector: vectorType(vectorWidth), ACTIVATION: activation ?? "none", ...reduction(x.gpu) },
  );
}

/**
 * Splits the work into workgroups: chunks per range for the first dispatch; planes per piece, or
 * pieces per plane (`parts`), for the second. The policy asks for many workgroups on GPUs, and for
 * few on software devices, where each workgroup has a high fixed cost.
 */
function splitWork(
  gpu: Gpu,
  { ranges, planes, planeLength }: { readonly ranges: number; readonly planes: number; readonly planeLength: number },
): { chunks: number; planesPerPiece: number; parts: number } {
  const { workgroups, leastAccesses } = policyOf(gpu).passes.groupNorm;
  const accesses = Math.max(leastAccesses, Math.ceil(ranges * planes * planeLength / workgroups));
  return {
    chunks: Math.min(128, Math.ceil(planes * planeLength / (2 * accesses))),
    planesPerPiece: Math.max(1, Math.floor(accesses / planeLength)),
    parts: Math.ceil(planeLength / accesses),
  };
}
