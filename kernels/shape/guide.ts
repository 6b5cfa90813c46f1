import { DTypeError, ShapeError } from "../../engine/errors.ts";
import { declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";
import {
  elementwise,
  elementwiseConstantTypes,
  elementwiseGrid,
  elementwiseParams,
  elementwiseWgsl,
} from "../wgsl/elementwise.ts";
import { launchOverRanges } from "../wgsl/launch.ts";
import { vectorType } from "../wgsl/text.ts";

const guideKernel = declareKernel({
  name: "guide",
  bindings: { unconditional: input("X_WIDTH"), conditional: input("X_WIDTH"), y: output("X_WIDTH") },
  // Starts count accesses of X_WIDTH elements.
  params: { ...elementwiseParams, scale: "f32", unconditional_start: "u32", conditional_start: "u32", y_start: "u32" },
  constants: { X_WIDTH: "u32", vector: "type", ...elementwiseConstantTypes },
  wgsl: /* wgsl */ `
fn element(row: u32, column: u32) {
  let u = unconditional_at(params.unconditional_start + column);
  let c = conditional_at(params.conditional_start + column);
  y_put(params.y_start + column, fma(vector(params.scale), c - u, u));
}
${elementwiseWgsl}`,
  grid: (params, constants) => elementwiseGrid(params, constants),
  cost: ({ columns }, { X_WIDTH }) => ({ flops: columns * X_WIDTH * 3, bytes: columns * X_WIDTH * 12 }),
});

/**
 * Classifier-free guidance (arXiv 2207.12598, eq. 6 with w = guidanceScale − 1):
 * y = u + guidanceScale · (c − u). u is the first half of the batch (unconditional prediction), c
 * the second half (conditional prediction).
 *
 * @param x [2B, …], f32
 * @returns [B, …], f32
 * @throws {ShapeError} when the first axis is odd
 * @throws {DTypeError} when x is not f32
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using x = Tensor.from(gpu, new Float32Array([1, 3]), [2, 1]); // u = 1, c = 3
 * using y = guide(x, 2); // [[5]]
 * ```
 */
export function guide(x: Tensor, guidanceScale: number): Tensor {
  const { gpu, dtype } = x;
  const [batch = 1, ...rest] = x.shape;
  if (batch % 2 !== 0) {
    throw new ShapeError(
      `Cannot guide [${
        x.shape.join(", ")
      }] as its first axis must hold unconditional and conditional predictions, an even number: ${batch}`,
      [x.shape],
    );
  }
  if (dtype !== "f32") throw new DTypeError(`Cannot guide a tensor of ${dtype} as predictions are f32`);
  return Tensor.filled(gpu, [batch / 2, ...rest], "f32", (y) => {
    const vectorWidth = y.size % 4 === 0 ? 4 : 1;
    launchOverRanges(
      gpu,
      y.size / vectorWidth,
      {
        unconditional: { tensor: x, unit: vectorWidth },
        conditional: { tensor: x, unit: vectorWidth, first: y.size },
        y: { tensor: y, unit: vectorWidth },
      },
      ({ count, windows, starts }) => {
        const { params, constants } = elementwise(gpu, 1, count);
        guideKernel.run(
          gpu,
          windows,
          {
            ...params,
            scale: guidanceScale,
            unconditional_start: starts.unconditional,
            conditional_start: starts.conditional,
            y_start: starts.y,
          },
          { X_WIDTH: vectorWidth, vector: vectorType(vectorWidth), ...constants },
        );
      },
      { vectorWidth },
    );
  });
}
