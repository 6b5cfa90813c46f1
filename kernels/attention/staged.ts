import { declareKernel, output, spread } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";
import type { AttentionSizes } from "./sizes.ts";
import { concat } from "../shape/concat.ts";
import { gemm } from "../gemm/matmul.ts";
import { reduction, reductionConstantTypes, reductionWgsl } from "../wgsl/reduction.ts";
import { slice } from "../shape/slice.ts";
import { transpose } from "../shape/transpose.ts";

/**
 * Softmax of rows of scores, in two passes as in softmax.ts, but in place, since scores are the
 * largest thing in memory, and with the first row of a block being any query, which matters where
 * CAUSAL hides the keys after it.
 */
const softmaxKernel = declareKernel({
  name: "attention_softmax",
  bindings: { x: output("X_WIDTH") },
  params: { all_rows: "u32", rows: "u32", first: "u32", s: "u32", stride: "u32" },
  constants: { X_WIDTH: "u32", number: "type", CAUSAL: "bool", ...reductionConstantTypes },
  extensions: ["subgroups"],
  wgsl: (constants) =>
    reductionWgsl(constants) + (constants.X_WIDTH === 4
      ? /* wgsl */ `
fn largest(v: number) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
fn total(v: number) -> f32 { return v.x + v.y + v.z + v.w; }`
      : /* wgsl */ `
fn largest(v: number) -> f32 { return v; }
fn total(v: number) -> f32 { return v; }`) +
    /* wgsl */ `
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
  for (var i = end + lane; i < start + params.stride / X_WIDTH; i += LANES) { x_put(i, number()); }
}`,
  grid: ({ all_rows }) => spread(all_rows),
  cost: ({ all_rows, s }) => ({ flops: 8 * all_rows * s, bytes: 8 * all_rows * s }),
});

/**
 * {@linkcode attention} into `y` in three steps, for any width of head: scores by the matmul core,
 * softmax in place, then their product with the values. Queries come in blocks, so that at most
 * `scoreBytes` of scores are in memory at a time.
 *
 * On lavapipe (two cores of an AMD EPYC) one head 512 wide, T = S = 1024: 39 GFLOPS, nearly all of
 * it products; 8 heads of 160, T = S = 256: 38, where going once over the keys reaches 24. Softmax
 * with a row to 64 threads and barriers took 24 ms for 2048 rows of 77, with a row to a subgroup
 * 1.3.
 */
export function stagedAttention(
  { q, k, v, y }: { q: Tensor; k: Tensor; v: Tensor; y: Tensor },
  { t, s, heads, batch, dim, causal, scale }: AttentionSizes,
  scoreBytes: number = 64 * 2 ** 20,
): void {
  const { gpu } = q;
  gpu.scope(() => {
    // Keys are filled up to eights, so that all products are computed as vec8; the fillers are
    // keys again, and get no weight.
    const fillers = s < 8 ? 0 : -s & 7;
    const filled = (x: Tensor) => fillers === 0 ? x : concat([x, slice(x, 1, 0, fillers)], 1);
    const stride = s + fillers;
    const allKeys = filled(k);
    // In f32, since f16 would want S in fours.
    // [B, H·D, S]: both products read their second operand along rows, and are one kernel
    const columns = transpose(filled(v), { dtype: "f32" });
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
        gemm(gpu, { tensor: q, ...queries }, { tensor: allKeys, ...keys }, weights, {
          ...sizes,
          n: stride,
          k: dim,
          transposeB: true,
          scale,
        });
        const rowsOfAll = { all_rows: outer * heads * rows, rows, first, s, stride };
        const isVec4 = s % 4 === 0 && !causal;
        softmaxKernel.run(gpu, { x: scores }, rowsOfAll, {
          X_WIDTH: isVec4 ? 4 : 1,
          number: isVec4 ? "vec4f" : "f32",
          CAUSAL: causal,
          ...reduction(gpu),
        });
        const values = { tensor: columns, rowStride: stride, outerStride: width * stride, innerStride: dim * stride };
        gemm(gpu, weights, { ...values, offset: sample * width * stride }, { tensor: y, ...queries }, {
          ...sizes,
          n: dim,
          k: stride,
          transposeB: true,
        });
      }
    }
  });
}
