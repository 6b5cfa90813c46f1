import { ShapeError } from "../../engine/errors.ts";
import { declareKernel, input, output, spread } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";
import { reduction, reductionConstantTypes, reductionWgsl } from "../wgsl/reduction.ts";

/** One workgroup per picture: means, then deviations from them, then the result. */
const rescaleKernel = declareKernel({
  name: "rescale_guided",
  bindings: { guided: input(1), conditional: input(1), y: output(1) },
  params: { rows: "u32", columns: "u32", share: "f32" },
  constants: reductionConstantTypes,
  extensions: ["subgroups"],
  wgsl: (constants) =>
    reductionWgsl(constants) + /* wgsl */ `
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= params.rows) { return; }
  let first = row * params.columns;
  var g = 0.0;
  var c = 0.0;
  for (var i = lane; i < params.columns; i += LANES) {
    g += guided_at(first + i);
    c += conditional_at(first + i);
  }
  let g_mean = sum_over_lanes(g, lane) / f32(params.columns);
  let c_mean = sum_over_lanes(c, lane) / f32(params.columns);
  var g_square = 0.0;
  var c_square = 0.0;
  for (var i = lane; i < params.columns; i += LANES) {
    let g_off = guided_at(first + i) - g_mean;
    let c_off = conditional_at(first + i) - c_mean;
    g_square = fma(g_off, g_off, g_square);
    c_square = fma(c_off, c_off, c_square);
  }
  let ratio = sqrt(sum_over_lanes(c_square, lane) / sum_over_lanes(g_square, lane));
  let factor = params.share * ratio + (1.0 - params.share);
  for (var i = lane; i < params.columns; i += LANES) { y_put(first + i, guided_at(first + i) * factor); }
}`,
  grid: ({ rows }) => spread(rows),
  cost: ({ rows, columns }) => ({ flops: 10 * rows * columns, bytes: 12 * rows * columns }),
});

/**
 * Rescales guided predictions towards the deviation of the conditional ones (arXiv 2305.08891, eqs.
 * 14 to 16; diffusers' `rescale_noise_cfg`): y = g · (φ σ(c) / σ(g) + 1 − φ), where σ is the
 * standard deviation over a picture.
 *
 * @param guided g [B, …], f32
 * @param conditional c, of the same shape
 * @param rescale φ, 0 … 1
 * @returns [B, …], f32
 * @throws {ShapeError} when the shapes differ
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using guided = Tensor.from(gpu, new Float32Array([0, 4]), [1, 2]); // σ = 2
 * using conditional = Tensor.from(gpu, new Float32Array([0, 2]), [1, 2]); // σ = 1
 * using y = rescaleGuided(guided, conditional, 1); // [[0, 2]]
 * ```
 */
export function rescaleGuided(guided: Tensor, conditional: Tensor, rescale: number): Tensor {
  if (guided.shape.join() !== conditional.shape.join()) {
    throw new ShapeError(
      `Cannot rescale [${guided.shape.join(", ")}] by [${conditional.shape.join(", ")}] as the shapes must agree`,
      [guided.shape, conditional.shape],
    );
  }
  const { gpu } = guided;
  const [rows = 1] = guided.shape;
  return Tensor.filled(gpu, guided.shape, "f32", (y) => {
    rescaleKernel.run(
      gpu,
      { guided, conditional, y },
      { rows, columns: rows === 0 ? 0 : guided.size / rows, share: rescale },
      { ...reduction(gpu) },
    );
  });
}
