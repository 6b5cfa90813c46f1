import { ShapeError } from "../engine/errors.ts";
import { declareKernel, input, output } from "../engine/kernel.ts";
import { elements, Tensor } from "../engine/tensor.ts";
import { activationCode, activationWgsl } from "./activation.ts";
import {
  elementwise,
  elementwiseConstantNames,
  elementwiseGrid,
  elementwiseParams,
  elementwiseWgsl,
} from "./elementwise.ts";
import { bindFrom, stretches } from "./windows.ts";

/** Columns come in fours where a half is a multiple of four; else one at a time, the activation's other lanes idle. */
const gegluKernel = declareKernel({
  name: "geglu",
  bindings: { x: input("X_LANES"), y: output("X_LANES") },
  params: { ...elementwiseParams, x_start: "u32", y_start: "u32" },
  constants: ["X_LANES", "ACTIVATION", ...elementwiseConstantNames],
  wgsl: (constants) =>
    activationWgsl(constants) + /* wgsl */ `
fn element(row: u32, column: u32) {
  let at = params.x_start + row * 2u * params.columns + column;
  let gate = activate(vec4f(x_at(at + params.columns)));
  y_put(params.y_start + row * params.columns + column, x_at(at) * gate${constants.X_LANES === 1 ? ".x" : ""});
}
${elementwiseWgsl}`,
  grid: (params, constants) => elementwiseGrid(params, constants),
  cost: ({ rows, columns }, { X_LANES }) => ({
    flops: rows * columns * Number(X_LANES) * 5,
    bytes: rows * columns * Number(X_LANES) * 12,
  }),
});

/**
 * The gated unit of the transformer's feed-forward (2002.05202): x₁ · gelu(x₂), with x = [x₁, x₂] along the last axis and the exact gelu.
 *
 * @param x [..., 2N]
 * @returns [..., N]
 * @throws {ShapeError} when the last axis does not halve
 */
export function geglu(x: Tensor): Tensor {
  const { gpu } = x;
  const width = x.shape.at(-1);
  if (width === undefined || width % 2 !== 0) {
    throw new ShapeError(
      `Cannot gate [${x.shape.join(", ")}] as its last axis must hold two halves: ${width ?? "there is none"}`,
      [x.shape],
    );
  }
  const outer = x.shape.slice(0, -1), half = width / 2;
  const y = Tensor.empty(gpu, [...outer, half]);
  const lanes = half % 4 === 0 ? 4 : 1;
  for (const { first, count } of stretches(gpu, elements(outer), width * 4)) {
    const source = bindFrom(x, first * width, count * width);
    const target = bindFrom(y, first * half, count * half);
    const { params, constants } = elementwise(gpu, count, half / lanes);
    gegluKernel.run(
      gpu,
      { x: source.window, y: target.window },
      { ...params, x_start: source.start / lanes, y_start: target.start / lanes },
      { X_LANES: lanes, ACTIVATION: activationCode("gelu"), ...constants },
    );
  }
  return y;
}
