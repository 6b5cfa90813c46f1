import { declareKernel, input, spread, storage } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";

/** One workgroup of 32 threads per row. Their partial sums are added in a fixed order. */
const squaredNormsKernel = declareKernel({
  name: "squared_norms",
  bindings: { x: input(1), y: storage("write", "array<f32>") },
  params: { rows: "u32", columns: "u32" },
  wgsl: /* wgsl */ `
var<workgroup> sums: array<f32, 32>;
@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= params.rows) { return; }
  var sum = 0.0;
  for (var column = lane; column < params.columns; column += 32u) {
    let value = x_at(row * params.columns + column);
    sum = fma(value, value, sum);
  }
  sums[lane] = sum;
  workgroupBarrier();
  if (lane == 0u) {
    var total = 0.0;
    for (var i = 0u; i < 32u; i++) { total += sums[i]; }
    y[row] = total;
  }
}`,
  grid: ({ rows }) => spread(rows),
  cost: ({ rows, columns }) => ({ flops: 2 * rows * columns, bytes: 4 * rows * (columns + 1) }),
});

/**
 * Squared Euclidean norms along the last axis: y = Σ x².
 *
 * @param x [..., C], f32 or f16
 * @returns [...], f32
 */
export function squaredNorms(x: Tensor): Tensor {
  const columns = x.shape.at(-1) ?? 1;
  return Tensor.filled(x.gpu, x.shape.slice(0, -1), "f32", (y) => {
    squaredNormsKernel.run(x.gpu, { x, y }, { rows: y.size, columns });
  });
}
