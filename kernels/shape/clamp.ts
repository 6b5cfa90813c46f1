import { declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";
import { flatGrid, flatWgsl } from "../wgsl/elementwise.ts";
import { launchOverVec4 } from "../wgsl/launch.ts";

/** One vec4 per invocation. The last vec4 may reach into the padding of the buffers. */
const clampKernel = declareKernel({
  name: "clamp",
  bindings: { x: input(4), y: output(4) },
  params: { vec4s: "u32", low: "f32", high: "f32" },
  wgsl: /* wgsl */ `
fn element(i: u32) { y_put(i, clamp(x_at(i), vec4f(params.low), vec4f(params.high))); }
${flatWgsl("params.vec4s")}`,
  grid: ({ vec4s }) => flatGrid(vec4s),
  cost: ({ vec4s }) => ({ flops: vec4s * 8, bytes: vec4s * 32 }),
});

/**
 * Limits every element to a range: y = min(max(x, low), high).
 *
 * @param x any shape, f32 or f16
 * @param low lower bound, at most `high`
 * @param high upper bound
 * @returns a new tensor of x's shape and dtype
 * @throws {RangeError} when `low` exceeds `high`, which devices answer differently
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using x = Tensor.from(gpu, new Float32Array([-2, 0.5, 3]), [3]);
 * using y = clamp(x, -1, 1); // [-1, 0.5, 1]
 * ```
 */
export function clamp(x: Tensor, low: number, high: number): Tensor {
  if (!(low <= high)) throw new RangeError(`Cannot clamp to ${low} … ${high} as low must be at most high`);
  return Tensor.filled(x.gpu, x.shape, x.dtype, (y) => {
    launchOverVec4(x.gpu, { x, y }, (windows, vec4s) => clampKernel.run(x.gpu, windows, { vec4s, low, high }));
  });
}
