import { ShapeError } from "../../engine/errors.ts";
import { declareKernel, input, output, spread } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";
import { reduction, reductionConstantTypes, reductionWgsl, totalWgsl } from "../wgsl/reduction.ts";
import { launchOverRanges } from "../wgsl/launch.ts";
import { each, vectorType } from "../wgsl/text.ts";
import { policyOf } from "../policy.ts";
import { checkEpsilon } from "./epsilon.ts";

/**
 * A workgroup processes ROWS rows together, so that weight and bias are read once for all of them.
 * The variance is computed in a second pass around the mean, to avoid the cancellation of
 * E[x²] − E[x]². Rows are not held in registers, because every width would then compile a long
 * kernel of its own. Measurements: docs/tuning.md.
 */
const layerNormKernel = declareKernel({
  name: "layer_norm",
  bindings: { x: input("X_WIDTH"), weight: input("X_WIDTH"), bias: input("X_WIDTH"), y: output("X_WIDTH") },
  params: { rows: "u32", columns: "u32", x_start: "u32", y_start: "u32", epsilon: "f32" },
  constants: { X_WIDTH: "u32", vector: "type", ROWS: "u32", ...reductionConstantTypes },
  extensions: ["subgroups"],
  wgsl: (constants) => {
    const eachRow = (line: (row: number) => string) => each(constants.ROWS, line);
    return reductionWgsl(constants) + totalWgsl(constants.X_WIDTH) + /* wgsl */ `
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = (group.x + group.y * groups.x) * ROWS;
  if (row >= params.rows) { return; }
  let end = params.columns;
  let count = f32(end * X_WIDTH);
  // Rows past the end repeat the last row and write the same values.
  ${eachRow((r) => `let row${r} = min(row + ${r}u, params.rows - 1u) * end; let x${r} = params.x_start + row${r};`)}
  ${eachRow((r) => `var sum${r} = vector();`)}
  for (var i = lane; i < end; i += LANES) {
    ${eachRow((r) => `sum${r} += x_at(x${r} + i);`)}
  }
  ${eachRow((r) => `let mean${r} = vector(sum_over_lanes(total(sum${r}), lane) / count);`)}
  ${eachRow((r) => `var squares${r} = vector();`)}
  for (var i = lane; i < end; i += LANES) {
    ${eachRow((r) => `let d${r} = x_at(x${r} + i) - mean${r}; squares${r} = fma(d${r}, d${r}, squares${r});`)}
  }
  ${eachRow((r) => `let scale${r} = inverseSqrt(sum_over_lanes(total(squares${r}), lane) / count + params.epsilon);`)}
  for (var i = lane; i < end; i += LANES) {
    let weight = weight_at(i);
    let bias = bias_at(i);
    ${
      eachRow((r) =>
        `y_put(params.y_start + row${r} + i, fma((x_at(x${r} + i) - mean${r}) * scale${r}, weight, bias));`
      )
    }
  }
}`;
  },
  grid: ({ rows }, { ROWS }) => spread(Math.ceil(rows / ROWS)),
  cost: ({ rows, columns }, { X_WIDTH }) => ({
    flops: 8 * rows * columns * X_WIDTH,
    bytes: 8 * rows * columns * X_WIDTH,
  }),
});

/** Options of {@linkcode layerNorm}. */
export interface LayerNormOptions {
  /** [C], f32 or f16 */
  readonly weight: Tensor;
  /** [C], f32 or f16 */
  readonly bias: Tensor;
  /** Added to the variance: a finite number of at least 0. */
  readonly epsilon: number;
}

/**
 * Layer normalization (arXiv 1607.06450) of the last axis: y = (x − mean) / √(variance + ε) ·
 * weight + bias. Mean and variance (divided by C, not C − 1) are computed in f32.
 *
 * @param x [..., C], f32 or f16
 * @returns a new tensor of x's shape and dtype
 * @throws {ShapeError} when weight or bias does not hold C elements
 * @throws {GpuError} when epsilon is negative or not finite
 * @throws {DTypeError} when x is f16 and C is not a multiple of 4
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using x = Tensor.from(gpu, new Float32Array([1, 3]), [1, 2]);
 * using weight = Tensor.from(gpu, new Float32Array([1, 1]), [2]);
 * using bias = Tensor.from(gpu, new Float32Array([0, 0]), [2]);
 * using y = layerNorm(x, { weight, bias, epsilon: 1e-6 }); // [[-1, 1]]
 * ```
 */
export function layerNorm(x: Tensor, options: LayerNormOptions): Tensor {
  const { gpu } = x;
  const { weight, bias, epsilon } = options;
  const width = x.shape.at(-1) ?? 1;
  if (weight.size !== width || bias.size !== width) {
    throw new ShapeError(
      `Cannot normalize [${x.shape.join(", ")}] by weight [${weight.shape.join(", ")}] and bias [${
        bias.shape.join(", ")
      }] as both must hold ${width} elements`,
      [x.shape, weight.shape, bias.shape],
    );
  }
  checkEpsilon(x, epsilon);
  return Tensor.filled(gpu, x.shape, x.dtype, (y) => {
    if (y.size === 0) return;
    const vectorWidth = width % 4 === 0 ? 4 : 1;
    launchOverRanges(
      gpu,
      x.size / width,
      { x: { tensor: x, unit: width }, y: { tensor: y, unit: width } },
      ({ count, windows, starts }) =>
        layerNormKernel.run(
          gpu,
          { ...windows, weight, bias },
          { rows: count, columns: width / vectorWidth, x_start: starts.x, y_start: starts.y, epsilon },
          {
            X_WIDTH: vectorWidth,
            vector: vectorType(vectorWidth),
            ROWS: policyOf(gpu).passes.layerNormRows(count),
            ...reduction(gpu),
          },
        ),
      { vectorWidth },
    );
  });
}
