import { declareKernel, input, output, spread } from "../engine/kernel.ts";
import { Tensor } from "../engine/tensor.ts";
import { rowLanes, workgroupSumWgsl } from "./workgroup_sum.ts";

/** One workgroup a row: top, sum of exponentials, quotient. */
const softmaxKernel = declareKernel({
  name: "softmax",
  bindings: { x: input(1), y: output(1) },
  params: { rows: "u32", length: "u32", scale: "f32", causal_rows: "u32", causal_start: "u32" },
  constants: ["LANES"],
  wgsl: workgroupSumWgsl + /* wgsl */ `
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= params.rows) { return; }
  let start = row * params.length;
  var seen = params.length;
  if (params.causal_rows > 0u) { seen = min(seen, params.causal_start + row % params.causal_rows + 1u); }
  var top = -3.0e38;
  for (var i = lane; i < seen; i += LANES) { top = max(top, x_at(start + i) * params.scale); }
  top = max_over_lanes(top, lane);
  var sum = 0.0;
  for (var i = lane; i < seen; i += LANES) { sum += exp(x_at(start + i) * params.scale - top); }
  let factor = 1.0 / sum_over_lanes(sum, lane);
  for (var i = lane; i < params.length; i += LANES) {
    y_put(start + i, select(0.0, exp(x_at(start + i) * params.scale - top) * factor, i < seen));
  }
}`,
  grid: ({ rows }) => spread(rows),
  cost: ({ rows, length }) => ({ flops: 8 * rows * length, bytes: 8 * rows * length }),
});

/** Options of {@linkcode softmax}. */
export interface SoftmaxOptions {
  /** Factor of x before the exponential. Default: 1. */
  readonly scale?: number;
  /** Row t of [..., T, N] sees columns 0 … t only. Default: false. */
  readonly causal?: boolean;
  /** With `causal`: the number that the first row counts as, for blocks of rows. Default: 0. */
  readonly causalStart?: number;
}

/** softmax(scale · x) over the last axis of [..., T, N]. */
export function softmax(x: Tensor, options: SoftmaxOptions = {}): Tensor {
  const { scale = 1, causal = false, causalStart = 0 } = options;
  const length = x.shape.at(-1) ?? 1;
  const y = Tensor.empty(x.gpu, x.shape);
  softmaxKernel.run(
    x.gpu,
    { x, y },
    {
      rows: length === 0 ? 0 : x.size / length,
      length,
      scale,
      causal_rows: causal ? x.shape.at(-2) ?? 1 : 0,
      causal_start: causalStart,
    },
    { LANES: rowLanes(x.gpu, length) },
  );
  return y;
}
