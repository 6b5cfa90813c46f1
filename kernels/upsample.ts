import { declareKernel, input, output } from "../engine/kernel/kernel.ts";
import { Tensor } from "../engine/tensor.ts";
import {
  elementwise,
  elementwiseConstantNames,
  elementwiseGrid,
  elementwiseParams,
  elementwiseWgsl,
} from "./elementwise.ts";
import { bindFrom, stretches } from "./windows.ts";

/**
 * Row r of the input, counted over all planes, is rows 2r and 2r + 1 of the output: no place needs its plane. A lane reads once and
 * writes what it read four times, in fours where the width allows. Convolutions fold this in (conv2d's `upsample`); it stands alone for
 * where no convolution follows.
 */
const upsampleKernel = declareKernel({
  name: "upsample_nearest_2x",
  bindings: { x: input("X_LANES"), y: output("X_LANES") },
  params: { ...elementwiseParams, x_start: "u32", y_start: "u32" },
  constants: ["X_LANES", ...elementwiseConstantNames],
  wgsl: ({ X_LANES }) => /* wgsl */ `
fn element(row: u32, column: u32) {
  let value = x_at(params.x_start + row * params.columns + column);
  let left = ${X_LANES === 4 ? "value.xxyy" : "value"};
  let right = ${X_LANES === 4 ? "value.zzww" : "value"};
  let upper = params.y_start + 2u * (2u * row * params.columns + column);
  let lower = upper + 2u * params.columns;
  y_put(upper, left);
  y_put(upper + 1u, right);
  y_put(lower, left);
  y_put(lower + 1u, right);
}
${elementwiseWgsl}`,
  grid: (params, constants) => elementwiseGrid(params, constants),
  cost: ({ rows, columns }, { X_LANES }) => ({ flops: 0, bytes: rows * columns * Number(X_LANES) * 20 }),
});

/**
 * Nearest upsampling to twice the height and width: y[2i, 2j] = y[2i, 2j + 1] = y[2i + 1, 2j] = y[2i + 1, 2j + 1] = x[i, j].
 *
 * @param x [B, C, H, W], f32 or f16
 * @returns [B, C, 2H, 2W] of x's type; f16 wants W in fours
 * @throws {ShapeError} when `x` has not four axes
 */
export function upsampleNearest2x(x: Tensor): Tensor {
  const { gpu } = x;
  const [batch, channels, height, width] = x.dims(4);
  const y = Tensor.empty(gpu, [batch, channels, 2 * height, 2 * width], x.dtype);
  const lanes = width % 4 === 0 ? 4 : 1;
  for (const { first, count } of stretches(gpu, batch * channels * height, width * 16)) {
    const source = bindFrom(x, first * width, count * width);
    const target = bindFrom(y, first * width * 4, count * width * 4);
    const { params, constants } = elementwise(gpu, count, width / lanes);
    upsampleKernel.run(
      gpu,
      { x: source.window, y: target.window },
      { ...params, x_start: source.start / lanes, y_start: target.start / lanes },
      { X_LANES: lanes, ...constants },
    );
  }
  return y;
}
