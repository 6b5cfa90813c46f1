import type { SubgroupMatrix } from "../../engine/gpu.ts";
import { declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import type { MatrixAttentionShape } from "./matrix_shape.ts";
import { type MatrixAttentionConstants, matrixAttentionConstantTypes, matrixAttentionWgsl } from "./matrix_wgsl.ts";
import { attentionCost, type AttentionSizes, type AttentionTensors, gpuOf } from "./sizes.ts";

/**
 * Attention in one pass on subgroup matrices (FlashAttention, arXiv 2205.14135): both products
 * multiply f16 and add up in f32; the softmax is f32.
 *
 * A subgroup owns `rows` matrices of queries, and iterates over blocks of `keys` keys:
 *
 * 1. Scores Q·Kᵀ, stored in workgroup memory, because the elements of a matrix are not accessible.
 * 2. Their softmax. `parts` threads share a query and keep its running maximum and their part of
 *    its sum in registers. Weights go back to workgroup memory in f16. The sum is that of the
 *    rounded weights, so that a common factor of their rounding cancels.
 * 3. Results += P·V, in matrices that stay in registers.
 *
 * Results cannot be rescaled in place when a maximum grows: they take a turn through workgroup
 * memory, in the array of the scores. So they are rescaled only when a score exceeds its query's
 * maximum by more than a few powers of 2; such weights are no problem in f16. All maxima are
 * updated then. After the first block, a query causes at most one rescaling per `slack` powers of 2
 * by which its maximum grows.
 *
 * Right operands (keys, and values transposed) are read by columns, as in tile_matrix.ts.
 *
 * Error bound in addition to that of f32, with q, k, v rounded to f16 as in `matrix` tiles: weights
 * are rounded to f16, a relative error of 2⁻¹¹ each. Weights below 2⁻²⁵ of the largest are
 * subnormal and may be taken for 0.
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
