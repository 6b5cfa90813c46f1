import { ShapeError } from "../../engine/errors.ts";
import { declareKernel, spread, storage } from "../../engine/kernel/kernel.ts";
import type { Tensor } from "../../engine/tensor.ts";

const addScaledKernel = declareKernel({
  name: "add_scaled",
  bindings: { x: storage("read", "array<f32>"), y: storage("write", "array<f32>") },
  params: { numbers: "u32", factor: "f32" },
  wgsl: /* wgsl */ `
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let at = (group.x + group.y * groups.x) * 64u + lane;
  if (at < params.numbers) { y[at] = fma(params.factor, x[at], y[at]); }
}`,
  grid: ({ numbers }) => spread(Math.ceil(numbers / 64)),
  cost: ({ numbers }) => ({ flops: 2 * numbers, bytes: 12 * numbers }),
});

/**
 * y ← y + factor · x, in place, f32. One rounding an element, of which a compiler cannot make
 * another: sums whose terms cancel are spelled out in steps of this.
 *
 * @throws {ShapeError} when the shapes differ
 */
export function addScaled(y: Tensor, x: Tensor, factor: number): void {
  if (x.shape.join() !== y.shape.join()) {
    throw new ShapeError(`Cannot add [${x.shape.join(", ")}] to [${y.shape.join(", ")}] as the shapes must agree`, [
      x.shape,
      y.shape,
    ]);
  }
  addScaledKernel.run(y.gpu, { x, y }, { numbers: y.size, factor });
}
