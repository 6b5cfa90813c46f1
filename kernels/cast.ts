import type { DType } from "../engine/dtype.ts";
import { DTypeError } from "../engine/errors.ts";
import { declareKernel, input, output } from "../engine/kernel.ts";
import { Tensor } from "../engine/tensor.ts";
import {
  elementwise,
  elementwiseConstantNames,
  elementwiseGrid,
  elementwiseParams,
  elementwiseWgsl,
} from "./elementwise.ts";
import { quadStretches } from "./windows.ts";

/** The types do it all: the accessors pack and unpack f16, with no feature of the device. */
const castKernel = declareKernel({
  name: "cast",
  bindings: { x: input(4), y: output(4) },
  params: elementwiseParams,
  constants: elementwiseConstantNames,
  wgsl: /* wgsl */ `
fn element(row: u32, column: u32) { y_put(column, x_at(column)); }
${elementwiseWgsl}`,
  grid: (params, constants) => elementwiseGrid(params, constants),
  cost: ({ columns }) => ({ flops: 0, bytes: columns * 24 }), // one side is f16
});

/**
 * A copy of `x` [...] in f16: half the memory. Rounded as the driver rounds (WGSL's pack2x16float); beyond ±65504 the number is lost.
 *
 * @throws {DTypeError} when `x` is neither f32 nor f16
 */
export function toF16(x: Tensor): Tensor {
  return cast(x, "f16");
}

/**
 * A copy of `x` [...] in f32. Exact.
 *
 * @throws {DTypeError} when `x` is neither f32 nor f16
 */
export function toF32(x: Tensor): Tensor {
  return cast(x, "f32");
}

function cast(x: Tensor, dtype: DType): Tensor {
  const { gpu } = x;
  if (x.dtype !== "f32" && x.dtype !== "f16") {
    throw new DTypeError(`Cannot cast to ${dtype} as only f32 and f16 convert: ${x.dtype}`);
  }
  const y = Tensor.empty(gpu, x.shape, dtype);
  for (const { first, count, quads } of quadStretches(gpu, x.size)) {
    const { params, constants } = elementwise(gpu, 1, quads);
    castKernel.run(gpu, { x: x.window(first, count), y: y.window(first, count) }, params, constants);
  }
  return y;
}
