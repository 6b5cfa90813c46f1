import { declareKernel, output, spread } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";
import type { AttentionSizes } from "./sizes.ts";
import { concat } from "../shape/concat.ts";
import { gemm } from "../gemm/gemm.ts";
import { reduction, reductionConstantTypes, reductionWgsl, totalWgsl } from "../wgsl/reduction.ts";
import { slice } from "../shape/slice.ts";
import { transpose } from "../shape/transpose.ts";
import { vectorType } from "../wgsl/text.ts";

/**
 * Softmax over rows of scores, in place, since the scores are the largest allocation. The first
 * pass computes the maximum and the sum of each row (online softmax), the second normalizes.
 *
 * `first` is the query index of row 0; with CAUSAL, row r sees keys 0 … first + r.
 */
const softmaxKernel = declareKernel({
  name: "attention_softmax",
  bindings: { x: output("X_WIDTH") },
  params: { all_rows: "u32", rows: "u32", first: "u32", s: "u32", stride: "u32" },
  constants: { X_WIDTH: "u32", vector: "type", CAUSAL: "bool", ...reductionConstantTypes },
  extensions: ["subgroups"],
  wgsl: (constants) =>
    reductionWgsl(constants) + totalWgsl(constants.X_WIDTH) + /* wgsl */ `
fn largest(v: vector) -> f32 { return ${constants.X_WIDTH === 4 ? "max(max(v.x, v.y), max(v.z, v.w))" : "v"}; }
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= params.all_rows) { return; }
  let start = row * (params.stride / X_WIDTH);
  var seen = params.s;
  if (CAUSAL) { seen = min(seen, params.first + row % params.rows + 1u); } // X_WIDTH is 1 then
  let end = start + seen / X_WIDTH;
  var top = -3e38;
  var sum = 0.0;
  for (var i = start + lane; i < end; i += LANES) {
    let v = x_at(i);
    let higher = max(top, largest(v));
    sum = fma(sum, exp(top - higher), total(exp(v - higher)));
    top = higher;
  }
  let row_top = max_over_lanes(top, lane);
  let share = 1.0 / sum_over_lanes(sum * exp(top - row_top), lane);
  for (var i = start + lane; i < end; i += LANES) { x_put(i, exp(x_at(i) - row_top) * share); }
  for (var i = end + lane; i < start + params.stride / X_WIDTH; i += LANES) { x_put(i, vector()); }
}`,
  grid: ({ all_rows }) => spread(all_rows),
  cost: ({ all_rows, s }) => ({ flops: 8 * all_rows * s, bytes: 8 * all_rows * s }),
});

/** Options of {@linkcode stagedAttention}. */
export interface StagedOptions {
  /** Bytes of scores in memory at a time. Default: 64 MiB. */
  readonly scoreBytes?: number;
  /** See the options of {@linkcode attention}. Default: false. */
  readonly allowF16Operands?: boolean;
}

/**
 * The right operands of both products, for a number of keys padded to a multiple of 8 (`stride`),
 * so that both use vec8 accesses. The padding repeats the first keys; softmax gives it weight 0.
 */
function paddedOperands(k: Tensor, v: Tensor): { paddedKeys: Tensor; columns: Tensor; stride: number } {
  const [, s, width] = k.dims(3);
  const canPad = s >= 8 && (width % 2 === 0 || [k, v].every(({ dtype }) => dtype === "f32")); // f16: in pairs
  const paddingKeys = canPad ? -s & 7 : 0;
  const padded = (x: Tensor) => paddingKeys === 0 ? x : concat([x, slice(x, 1, 0, paddingKeys)], 1);
  // V is transposed to [B, H·D, S], so that both products read B as [N, K] and share one kernel
  // variant. It is f32, because f16 would require S to be a multiple of 4.
  return { paddedKeys: padded(k), columns: transpose(padded(v), { dtype: "f32" }), stride: s + paddingKeys };
}

/**
 * {@linkcode attention} into `y` in three steps, for any head width: the scores Q·Kᵀ, their softmax
 * in place, then the product with V. Queries are processed in blocks, so that at most `scoreBytes`
 * of scores are in memory at a time. Measurements: docs/tuning.md.
 */
export function stagedAttention(
  { q, k, v, y }: { q: Tensor; k: Tensor; v: Tensor; y: Tensor },
  { t, s, heads, batch, dim, causal, scale }: AttentionSizes,
  { scoreBytes = 64 * 2 ** 20, allowF16Operands }: StagedOptions = {},
): void {
  const { gpu } = q;
  gpu.scope(() => {
    const { paddedKeys, columns, stride } = paddedOperands(k, v);
    const limit = Math.min(scoreBytes, gpu.info.limits.maxStorageBufferBindingSize) / 4;
    const rowsAtOnce = Math.min(t, Math.max(1, Math.floor(limit / (heads * stride))));
    const batchesAtOnce = Math.min(batch, Math.max(1, Math.floor(limit / (heads * stride * t))));
    const width = heads * dim;
    for (let sample = 0; sample < batch; sample += batchesAtOnce) {
      const outer = Math.min(batchesAtOnce, batch - sample);
      const keys = { rowStride: width, outerStride: stride * width, innerStride: dim, offset: sample * stride * width };
      for (let first = 0; first < t; first += rowsAtOnce) {
        const rows = Math.min(rowsAtOnce, t - first);
        const queries = {
          rowStride: width,
          outerStride: t * width,
          innerStride: dim,
          offset: (sample * t + first) * width,
        };
        using scores = Tensor.empty(gpu, [outer, heads, rows, stride]);
        const weights = {
          tensor: scores,
          rowStride: stride,
          outerStride: heads * rows * stride,
          innerStride: rows * stride,
        };
        const sizes = { outer, inner: heads, m: rows };
        gemm(gpu, { tensor: q, ...queries }, { tensor: paddedKeys, ...keys }, weights, {
          ...sizes,
          n: stride,
          k: dim,
          transposeB: true,
          scale,
          allowF16Operands,
        });
        const rowsOfAll = { all_rows: outer * heads * rows, rows, first, s, stride };
        const vectorWidth = s % 4 === 0 && !causal ? 4 : 1;
        softmaxKernel.run(gpu, { x: scores }, rowsOfAll, {
          X_WIDTH: vectorWidth,
          vector: vectorType(vectorWidth),
          CAUSAL: causal,
          ...reduction(gpu),
        });
        const values = { tensor: columns, rowStride: stride, outerStride: width * stride, innerStride: dim * stride };
        gemm(gpu, weights, { ...values, offset: sample * width * stride }, { tensor: y, ...queries }, {
          ...sizes,
          n: dim,
          k: stride,
          transposeB: true,
          allowF16Operands,
        });
      }
    }
  });
}
