/**
 * A kernel of your own: GELU in its tanh approximation (arXiv 1606.08415), four elements at a time.
 *
 *     deno run examples/custom_kernel.ts
 */
import { declareKernel, Gpu, input, output, spread, Tensor } from "@bluerose/bluerose/kernels";

const geluTanhKernel = declareKernel({
  name: "gelu_tanh",
  // `x_at(i)` reads four elements as vec4f and `y_put(i, value)` writes them, stored as f32 or f16.
  bindings: { x: input(4), y: output(4) },
  params: { vec4s: "u32" },
  wgsl: /* wgsl */ `
@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.x + group.y * groups.x) * 64u + lane;
  if (i >= params.vec4s) { return; }
  let x = x_at(i);
  // 0.5 (1 + tanh u) = 1 / (1 + exp(-2 u)), which does not cancel for negative x.
  y_put(i, x / (1.0 + exp(-1.5957691216 * (x + 0.044715 * x * x * x))));
}`,
  grid: ({ vec4s }) => spread(Math.ceil(vec4s / 64)),
  cost: ({ vec4s }) => ({ flops: vec4s * 4 * 9, bytes: vec4s * 32 }),
});

function geluTanh(x: Tensor): Tensor {
  return Tensor.filled(x.gpu, x.shape, x.dtype, (y) => {
    geluTanhKernel.run(x.gpu, { x, y }, { vec4s: Math.ceil(x.size / 4) });
  });
}

using gpu = await Gpu.request();
using x = Tensor.from(gpu, Float32Array.of(-2, -1, 0, 1, 2), [5]);
using y = geluTanh(x);
console.log(Array.from(await y.data(), (value) => value.toFixed(4)).join(" "));
