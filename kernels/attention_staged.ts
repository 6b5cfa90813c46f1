import { declareKernel, output, spread } from "../engine/kernel.ts";
import { Tensor } from "../engine/tensor.ts";
import type { AttentionSizes } from "./attention_sizes.ts";
import { gemm } from "./matmul.ts";

/**
 * Softmax of rows of scores, in place: scores are the largest thing in memory, and the first row of a block is not query 0, which matters
 * where CAUSAL hides the keys after a query.
 */
const softmaxKernel = declareKernel({
  name: "attention_softmax",
  bindings: { x: output("LANES") },
  params: { all_rows: "u32", rows: "u32", first: "u32", s: "u32" },
  constants: ["LANES", "CAUSAL"],
  wgsl: ({ LANES, CAUSAL }) => /* wgsl */ `
const threads = 64u;
var<workgroup> parts: array<f32, threads>;
fn highest(v: ${LANES === 4 ? "vec4f" : "f32"}) -> f32 { return ${
    LANES === 4 ? "max(max(v.x, v.y), max(v.z, v.w))" : "v"
  }; }
fn total(v: ${LANES === 4 ? "vec4f" : "f32"}) -> f32 { return ${LANES === 4 ? "dot(v, vec4f(1.0))" : "v"}; }
@compute @workgroup_size(threads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= params.all_rows) { return; }
  let start = row * (params.s / LANES);
  let end = start + ${CAUSAL ? "min(params.s, params.first + row % params.rows + 1u)" : "params.s"} / LANES;
  var top = -3e38;
  for (var i = start + thread; i < end; i += threads) { top = max(top, highest(x_at(i))); }
  parts[thread] = top;
  workgroupBarrier();
  for (var i = 0u; i < threads; i++) { top = max(top, parts[i]); }
  var sum = 0.0;
  for (var i = start + thread; i < end; i += threads) {
    let weight = exp(x_at(i) - top);
    x_put(i, weight);
    sum += total(weight);
  }
  workgroupBarrier(); // all have read the maxima
  parts[thread] = sum;
  workgroupBarrier();
  sum = 0.0;
  for (var i = 0u; i < threads; i++) { sum += parts[i]; }
  let share = 1.0 / sum;
  for (var i = start + thread; i < end; i += threads) { x_put(i, x_at(i) * share); }${
    CAUSAL ? "\n  for (var i = end + thread; i < start + params.s; i += threads) { x_put(i, 0.0); }" : ""
  }
}`,
  grid: ({ all_rows }) => spread(all_rows),
  cost: ({ all_rows, s }) => ({ flops: 4 * all_rows * s, bytes: 8 * all_rows * s }),
});

/**
 * {@linkcode attention} into `y` in three steps, for any width of head: scores by the matmul core, softmax in place, then their product with the
 * values. Queries come in blocks, so that at most `scoreBytes` of scores are in memory at a time.
 */
export function stagedAttention(
  { q, k, v, y }: { q: Tensor; k: Tensor; v: Tensor; y: Tensor },
  { t, s, heads, batch, dim, causal, scale }: AttentionSizes,
  scoreBytes: number = 64 * 2 ** 20,
): void {
  const { gpu } = q;
  const limit = Math.min(scoreBytes, gpu.info.limits.maxStorageBufferBindingSize) / 4;
  const rowsAtOnce = Math.min(t, Math.max(1, Math.floor(limit / (heads * s))));
  const batchesAtOnce = Math.min(batch, Math.max(1, Math.floor(limit / (heads * s * t))));
  const width = heads * dim;
  for (let sample = 0; sample < batch; sample += batchesAtOnce) {
    const outer = Math.min(batchesAtOnce, batch - sample);
    const keys = { rowStride: width, outerStride: s * width, innerStride: dim, offset: sample * s * width };
    for (let first = 0; first < t; first += rowsAtOnce) {
      const rows = Math.min(rowsAtOnce, t - first);
      const queries = {
        rowStride: width,
        outerStride: t * width,
        innerStride: dim,
        offset: (sample * t + first) * width,
      };
      using scores = Tensor.empty(gpu, [outer, heads, rows, s]);
      const weights = { tensor: scores, rowStride: s, outerStride: heads * rows * s, innerStride: rows * s };
      const sizes = { outer, inner: heads, m: rows };
      gemm(gpu, { tensor: q, ...queries }, { tensor: k, ...keys }, weights, {
        ...sizes,
        n: s,
        k: dim,
        transposeB: true,
        scale,
      });
      const LANES = s % 4 === 0 && !causal ? 4 : 1;
      softmaxKernel.run(gpu, { x: scores }, { all_rows: outer * heads * rows, rows, first, s }, {
        LANES,
        CAUSAL: causal,
      });
      gemm(gpu, weights, { tensor: v, ...keys }, { tensor: y, ...queries }, { ...sizes, n: dim, k: s });
    }
  }
}
