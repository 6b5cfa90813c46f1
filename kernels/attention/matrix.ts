import type { SubgroupMatrix } from "../../engine/gpu.ts";
import { declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import type { MatrixAttentionShape } from "./matrix_shape.ts";
import { type MatrixAttentionConstants, matrixAttentionConstantTypes, matrixAttentionWgsl } from "./matrix_wgsl.ts";
import { attentionCost, type AttentionSizes, type AttentionTensors, gpuOf } from "./sizes.ts";

/**
 * Attention in one pass on subgroup matrices (FlashAttention, arXiv 2205.14135). Both products
 * multiply f16 and add in f32; the softmax is f32.
 *
 * A subgroup owns `rows` matrices of queries. Its results stay in registers, as matrices, while it
 * iterates over blocks of `keys` keys:
 *
 * 1. Scores S = Q·Kᵀ. They are stored in workgroup memory, because WGSL cannot access the elements
 *    of a matrix.
 * 2. Weights P = softmax(S), relative to the running maximum of each query. `parts` threads share a
 *    query and keep its maximum, and each its part of the sum of weights, in registers. Weights
 *    return to workgroup memory in f16. The sum is that of the rounded weights, so that a common
 *    factor of their rounding cancels.
 * 3. Results += P·V.
 *
 * When the maximum of a query grows, its earlier results must be multiplied by exp(old maximum −
 * new maximum). This passes them through workgroup memory, in the array of the scores. So it is
 * done only when a score exceeds the maximum of its query by more than `slack` powers of 2. Until
 * then weights may exceed 1, which f16 represents as well. When it is done, all maxima are updated.
 * After the first block, a query thus causes at most one rescaling per `slack` powers of 2 by which
 * its maximum grows.
 *
 * Right operands (keys, and values transposed) are stored by columns, as in tile_matrix.ts.
 *
 * Error bound in addition to that of f32, with q, k, v rounded to f16 as in `matrix` tiles (see
 * {@linkcode TileShape}): weights are rounded to f16, a relative error of 2⁻¹¹ each. Weights below
 * 2⁻²⁵ of the largest are subnormal in f16, and a device may replace them by 0.
 */

const attentionKernel = declareKernel({
  name: "attention_matrix",
  bindings: { q: input(4), k: input(4), v: input(4), y: output(4) },
  params: { t: "u32", s: "u32", heads: "u32", batch: "u32", scale: "f32" },
  constants: matrixAttentionConstantTypes,
  extensions: ["subgroups", "f16", "chromium_experimental_subgroup_matrix"],
  wgsl: matrixAttentionWgsl,
  grid: ({ t, heads, batch }, { SUBGROUPS, ROWS, MATRIX_M }) => [
    Math.ceil(t / (SUBGROUPS * ROWS * MATRIX_M)),
    heads,
    batch,
  ],
  cost: ({ t, s, heads, batch }, { HEAD_VEC4 }) => attentionCost({ t, s, heads, batch, dim: 4 * HEAD_VEC4 }),
});

/** The constants for a shape. */
export function matrixAttentionConstants(
  { s, dim, causal }: Pick<AttentionSizes, "s" | "dim" | "causal">,
  { subgroups, rows, keys }: MatrixAttentionShape,
  { m, n, k, lanes }: SubgroupMatrix,
): MatrixAttentionConstants {
  return {
    SUBGROUPS: subgroups,
    ROWS: rows,
    KEYS: keys,
    HEAD_VEC4: dim / 4,
    CAUSAL: causal,
    WHOLE: !causal && s % keys === 0,
    MATRIX_M: m,
    MATRIX_N: n,
    MATRIX_K: k,
    MATRIX_LANES: lanes,
  };
}

/** {@linkcode attention} into `y`, for shapes that the device supports: see matrix_shape.ts. */
export function matrixAttention(
  tensors: AttentionTensors,
  sizes: AttentionSizes,
  shape: MatrixAttentionShape,
): void {
  const gpu = gpuOf(tensors), { t, s, heads, batch, scale } = sizes;
  const constants = matrixAttentionConstants(sizes, shape, gpu.info.subgroupMatrix!);
  attentionKernel.run(gpu, tensors, { t, s, heads, batch, scale: scale * Math.LOG2E }, constants);
}
