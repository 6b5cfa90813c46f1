import { declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";
import { flatGrid, flatWgsl } from "../wgsl/elementwise.ts";

const clampKernel = declareKernel({
  name: "clamp",
  bindings: { x: input(4), y: output(4) },
  params: { quads: "u32", low: "f32", high: "f32" },
  wgsl: /* wgsl */ `
fn element(i: u32) { y_put(i, clamp(x_at(i), vec4f(params.low), vec4f(params.high))); }
${flatWgsl("params.quads")}`,
  grid: ({ quads }) => flatGrid(quads),
  cost: ({ quads }) => ({ flops: quads * 8, bytes: quads * 32 }),
});

/** Every element brought into low … high. Any shape. */
export function clamp(x: Tensor, low: number, high: number): Tensor {
  const y = Tensor.empty(x.gpu, x.shape);
  clampKernel.run(x.gpu, { x, y }, { quads: Math.ceil(x.size / 4), low, high });
  return y;
}
