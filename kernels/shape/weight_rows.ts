import { ShapeError } from "../../engine/errors.ts";
import { declareKernel, input, output, spread } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";

/** One workgroup a batch; partial sums are added in a fixed order, so results are reproducible. */
const weightRowsKernel = declareKernel({
  name: "weight_rows",
  bindings: { x: input(1), weights: input(1), y: output(1) },
  params: { batches: "u32", rows: "u32", columns: "u32" },
  wgsl: /* wgsl */ `
var<workgroup> plain: array<f32, 128>;
var<workgroup> weighted: array<f32, 128>;
@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let batch = group.x + group.y * groups.x;
  if (batch >= params.batches) { return; }
  let count = params.rows * params.columns;
  let start = batch * count;
  var sum = 0.0;
  var weighted_sum = 0.0;
  for (var i = lane; i < count; i += 128u) {
    let value = x_at(start + i);
    sum += value;
    weighted_sum = fma(value, weights_at(batch * params.rows + i / params.columns), weighted_sum);
  }
  plain[lane] = sum;
  weighted[lane] = weighted_sum;
  workgroupBarrier();
  for (var half = 64u; half > 0u; half /= 2u) {
    if (lane < half) {
      plain[lane] += plain[lane + half];
      weighted[lane] += weighted[lane + half];
    }
    workgroupBarrier();
  }
  let ratio = plain[0] / weighted[0];
  for (var i = lane; i < count; i += 128u) {
    y_put(start + i, x_at(start + i) * weights_at(batch * params.rows + i / params.columns) * ratio);
  }
}`,
  grid: ({ batches }) => spread(batches),
  cost: ({ batches, rows, columns }) => ({ flops: 5 * batches * rows * columns, bytes: 12 * batches * rows * columns }),
});

/**
 * Weights the rows of each batch and restores the batch's mean: y = w x · Σx / Σ(w x), with one
 * weight per row and the sums over a whole batch. A1111 weights text states in this way.
 *
 * @param x [B, rows, columns], f32 or f16
 * @param weights [B, rows]
 * @returns a new tensor of x's shape and dtype
 * @throws {ShapeError} when there is not one weight for each row
 */
export function weightRows(x: Tensor, weights: Tensor): Tensor {
  const [batches, rows, columns] = x.dims(3);
  if (weights.shape.join() !== `${batches},${rows}`) {
    throw new ShapeError(
      `Cannot weight the rows of [${x.shape.join(", ")}] by [${
        weights.shape.join(", ")
      }] as one weight for each row is needed: [${batches}, ${rows}]`,
      [x.shape, weights.shape],
    );
  }
  return Tensor.filled(x.gpu, x.shape, x.dtype, (y) => {
    weightRowsKernel.run(x.gpu, { x, weights, y }, { batches, rows, columns });
  });
}
