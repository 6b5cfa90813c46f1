import { declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";
import { type Activation, activationValues, activationWgsl } from "../wgsl/activation.ts";
import {
  elementwise,
  elementwiseConstantTypes,
  elementwiseGrid,
  elementwiseParams,
  elementwiseWgsl,
} from "../wgsl/elementwise.ts";
import { launchOverVec4 } from "../wgsl/launch.ts";

/** y = activation(x) on flat arrays. Each loop iteration of an invocation processes one vec4. */
const activationKernel = declareKernel({
  name: "activation",
  bindings: { x: input(4), y: output(4) },
  params: elementwiseParams,
  constants: { ACTIVATION: activationValues, ...elementwiseConstantTypes },
  wgsl: (constants) =>
    activationWgsl(constants) + /* wgsl */ `
fn element(row: u32, column: u32) { y_put(column, activate(x_at(column))); }
${elementwiseWgsl}`,
  grid: (params, constants) => elementwiseGrid(params, constants),
  cost: ({ columns }) => ({ flops: columns * 4 * 4, bytes: columns * 32 }),
});

/**
 * Applies an activation function to every element. Formulas: {@linkcode Activation}.
 *
 * @param x any shape, f32 or f16
 * @returns a new tensor of x's shape and dtype
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using x = Tensor.from(gpu, new Float32Array([-1, 2]), [2]);
 * using y = activate(x, "relu"); // [0, 2]
 * ```
 */
export function activate(x: Tensor, activation: Activation): Tensor {
  const { gpu } = x;
  return Tensor.filled(gpu, x.shape, x.dtype, (y) => {
    launchOverVec4(gpu, { x, y }, (windows, vec4Count) => {
      const { params, constants } = elementwise(gpu, 1, vec4Count);
      activationKernel.run(gpu, windows, params, { ACTIVATION: activation, ...constants });
    });
  });
}
