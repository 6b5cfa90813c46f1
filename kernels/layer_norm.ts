import { ShapeError } from "../engine/errors.ts";
import { declareKernel, input, output, spread } from "../engine/kernel.ts";
import { Tensor } from "../engine/tensor.ts";
import { rowLanes, workgroupSumWgsl } from "./workgroup_sum.ts";

/** One workgroup a row; mean first, then the variance around it: the difference of two large sums would cancel. */
const layerNormKernel = declareKernel({
  name: "layer_norm",
  bindings: { x: input("WIDE"), weight: input("WIDE"), bias: input("WIDE"), y: output("WIDE") },
  params: { rows: "u32", length: "u32", epsilon: "f32" },
  constants: ["LANES", "WIDE"],
  wgsl: ({ WIDE }) =>
    workgroupSumWgsl + (WIDE === 4
      ? "fn total(x: vec4f) -> f32 { return dot(x, vec4f(1.0)); }"
      : "fn total(x: f32) -> f32 { return x; }") +
    /* wgsl */ `
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= params.rows) { return; }
  let start = row * params.length;
  let count = f32(params.length * u32(WIDE));
  var sum = x_at(start) * 0.0;
  for (var i = lane; i < params.length; i += LANES) { sum += x_at(start + i); }
  let mean = sum_over_lanes(total(sum), lane) / count;
  var squares = x_at(start) * 0.0;
  for (var i = lane; i < params.length; i += LANES) { let d = x_at(start + i) - mean; squares = fma(d, d, squares); }
  let scale = inverseSqrt(sum_over_lanes(total(squares), lane) / count + params.epsilon);
  for (var i = lane; i < params.length; i += LANES) { y_put(start + i, fma((x_at(start + i) - mean) * scale, weight_at(i), bias_at(i))); }
}`,
  grid: ({ rows }) => spread(rows),
  cost: ({ rows, length }, { WIDE }) => ({
    flops: 8 * rows * length * (WIDE as number),
    bytes: 8 * rows * length * (WIDE as number),
  }),
});

/**
 * Layer normalisation (1607.06450) of the last axis: y = (x − mean) / √(variance + ε) · weight + bias.
 *
 * @param x [..., C]
 * @throws {ShapeError} when weight or bias is not [C]
 */
export function layerNorm(x: Tensor, options: { weight: Tensor; bias: Tensor; epsilon: number }): Tensor {
  const { weight, bias, epsilon } = options;
  const width = x.shape.at(-1) ?? 1;
  if (weight.size !== width || bias.size !== width) {
    throw new ShapeError(
      `Cannot normalise [${
        x.shape.join(", ")
      }] by weight [${weight.shape}] and bias [${bias.shape}] as both must hold ${width}`,
      [
        x.shape,
        weight.shape,
        bias.shape,
      ],
    );
  }
  const y = Tensor.empty(x.gpu, x.shape);
  const wide = width % 4 === 0 ? 4 : 1;
  layerNormKernel.run(
    x.gpu,
    { x, weight, bias, y },
    { rows: width === 0 ? 0 : x.size / width, length: width / wide, epsilon },
    { LANES: rowLanes(x.gpu, width), WIDE: wide },
  );
  return y;
}
