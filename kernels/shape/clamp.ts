import { declareKernel, input, output, spread } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";

const clampKernel = declareKernel({
  name: "clamp",
  bindings: { x: input(4), y: output(4) },
  params: { quads: "u32", low: "f32", high: "f32" },
  wgsl: /* wgsl */ `
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 64u + lane;
  if (i < params.quads) { y_put(i, clamp(x_at(i), vec4f(params.low), vec4f(params.high))); }
}`,
  grid: ({ quads }) => spread(Math.ceil(quads / 64)),
  cost: ({ quads }) => ({ flops: quads * 8, bytes: quads * 32 }),
});

/** Every element brought into low … high. Any shape. */
export function clamp(x: Tensor, low: number, high: number): Tensor {
  const y = Tensor.empty(x.gpu, x.shape);
  clampKernel.run(x.gpu, { x, y }, { quads: Math.ceil(x.size / 4), low, high });
  return y;
}
