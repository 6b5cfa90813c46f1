import { ShapeError } from "../../engine/errors.ts";
import { declareKernel, storage } from "../../engine/kernel/kernel.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { flatGrid, flatWgsl } from "../wgsl/elementwise.ts";

const addScaledKernel = declareKernel({
  name: "add_scaled",
  bindings: { x: storage("read", "array<f32>"), y: storage("write", "array<f32>") },
  params: { elements: "u32", factor: "f32" },
  wgsl: /* wgsl */ `
fn element(i: u32) { y[i] = fma(params.factor, x[i], y[i]); }
${flatWgsl("params.elements")}`,
  grid: ({ elements }) => flatGrid(elements),
  cost: ({ elements }) => ({ flops: 2 * elements, bytes: 12 * elements }),
});

/**
 * y ← y + factor · x, in place, f32. Each element is rounded once (fma), and a compiler cannot
 * reassociate sums across dispatches. So sums whose terms cancel are computed by calls of this.
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
  addScaledKernel.run(y.gpu, { x, y }, { elements: y.size, factor });
}
