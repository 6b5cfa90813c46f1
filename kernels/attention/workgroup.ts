import { declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import { attentionCost, type AttentionSizes, type AttentionTensors, gpuOf } from "./sizes.ts";
import type { WorkgroupAttentionOptions, WorkgroupAttentionShape } from "./workgroup_shape.ts";
import { attentionConstantTypes, workgroupAttentionWgsl } from "./workgroup_wgsl.ts";

/**
 * Attention in one pass through workgroup memory, for GPUs and for devices without subgroups
 * (FlashAttention, arXiv 2205.14135).
 *
 * A workgroup of `threadsX` × `threadsY` threads owns `rows` · threadsY queries, and iterates over
 * blocks of 4 · `keys` · threadsX keys. Thread (x, y) owns queries y, y + threadsY, … and, of each:
 *
 * 1. the scores of `keys` vec4 of keys: x, x + threadsX, … Queries and keys pass through workgroup
 *    memory in chunks of `depth` vec4 of the head. With one chunk, queries are loaded once.
 * 2. their softmax in registers. The running maximum is reduced over the threads of a row in every
 *    block; the sum of the weights is a partial sum per thread, reduced once, at the end.
 * 3. the vec4 x, x + threadsX, … of the result. Weights and values pass through workgroup memory.
 *
 * Chunks bound the workgroup memory, whatever the width of the head is, so that enough workgroups
 * fit on a compute unit. All operands are read once per block and as they are stored. Keys, then
 * values occupy one array. As in tile_workgroup.ts, an index in workgroup memory is a constant or a
 * coordinate of the thread, except when blocks are stored.
 *
 * Rows in workgroup memory are padded and ordered against bank conflicts. For the same reason no
 * more than 8 threads lie side by side: with 10 threads along the keys, the first half of the
 * workgroup has x = 0…4, the second 5…9. Ten vec4 in a row would meet in two of eight places.
 *
 * With the constant WHOLE, keys fill all blocks, and no load or score is masked.
 *
 * With the constant HALF, operands of both products are rounded to f16, and sums over at most
 * {@linkcode blockDepth} elements are f16. Those are added up in f32; so are scores, softmax and
 * results. With elements q, k, v, weights w = softmax(scale · q·k), n ≤ 16 elements per f16 sum and
 * S keys, to first order:
 *
 *     |score error|  ≤ δ = (n + 2) · 2⁻¹¹ · scale · Σ|q||k|, so each weight errs by a factor e^±2δ
 *     |result error| ≤ (e^2δ − 1 + (n + 2) · 2⁻¹¹) · Σ w|v| + S · 2⁻²⁴ · max(1, |v|)
 *
 * The last term is the rounding of weights, relative to a row's largest, and of products below
 * 2⁻¹⁴. A device that flushes subnormal f16 has 2⁻¹⁴ in place of 2⁻²⁴. Elements and sums must
 * stay below 65,504.
 */

const attentionKernel = declareKernel({
  name: "attention_workgroup",
  bindings: { q: input(4), k: input(4), v: input(4), y: output(4) },
  params: { t: "u32", s: "u32", heads: "u32", batch: "u32", scale: "f32" },
  constants: attentionConstantTypes,
  extensions: ({ HALF }) => HALF ? ["f16"] : [],
  wgsl: workgroupAttentionWgsl,
  grid: ({ t, heads, batch }, { THREADS_Y, ROWS }) => [Math.ceil(t / (THREADS_Y * ROWS)), heads, batch],
  cost: ({ t, s, heads, batch }, { HEAD_VEC4 }) => attentionCost({ t, s, heads, batch, dim: 4 * HEAD_VEC4 }),
});

/**
 * {@linkcode attention} into `y`, for head widths that are multiples of 4. `half` requires a device
 * with f16 arithmetic.
 */
export function workgroupAttention(
  tensors: AttentionTensors,
  { t, s, heads, batch, dim, causal, scale }: AttentionSizes,
  { threadsX, threadsY, rows, keys, depth }: WorkgroupAttentionShape,
  { half = false }: WorkgroupAttentionOptions = {},
): void {
  attentionKernel.run(gpuOf(tensors), tensors, { t, s, heads, batch, scale: scale * Math.LOG2E }, {
    THREADS_X: threadsX,
    THREADS_Y: threadsY,
    ROWS: rows,
    KEYS: keys,
    DEPTH: depth,
    HEAD_VEC4: dim / 4,
    CAUSAL: causal,
    HALF: half,
    WHOLE: !causal && s % (4 * keys * threadsX) === 0,
  });
}
