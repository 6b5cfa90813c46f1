import { declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import { ShapeError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { flatGrid, flatWgsl } from "../wgsl/elementwise.ts";

/**
 * WGSL leaves the accuracy of sin() and cos() open outside of [−π, π], so the angle is reduced to
 * [−π/4, π/4] by multiples of π/2 in three parts (Cody and Waite), and both functions are the
 * polynomials of Cephes' `sinf` and `cosf`: their error is about 1e-7 for angles up to 2¹⁵.
 */
const sinusoidsKernel = declareKernel({
  name: "sinusoids",
  bindings: { x: input(1), frequencies: input(1), y: output(1) },
  params: { count: "u32", half: "u32", cosines: "u32", sines: "u32" },
  wgsl: /* wgsl */ `
fn element(i: u32) {
  let row = i / params.half;
  let column = i % params.half;
  let angle = x_at(row) * frequencies_at(column);
  let turns = round(angle * 0.63661977236758134);
  let r = fma(-turns, 7.549789948768648e-8, fma(-turns, 4.837512969970703125e-4, fma(-turns, 1.5703125, angle)));
  let z = r * r;
  let s = fma(r * z, fma(z, fma(z, -1.9515295891e-4, 8.3321608736e-3), -1.6666654611e-1), r);
  let c = fma(z * z, fma(z, fma(z, 2.443315711809948e-5, -1.388731625493765e-3), 4.166664568298827e-2), fma(z, -0.5, 1.0));
  let quadrant = u32(i32(turns) & 3);
  let odd = (quadrant & 1u) == 1u;
  let sine = select(s, c, odd);
  let cosine = select(c, s, odd);
  let at = row * 2u * params.half + column;
  y_put(at + params.sines, select(sine, -sine, quadrant >= 2u));
  y_put(at + params.cosines, select(cosine, -cosine, quadrant == 1u || quadrant == 2u));
}
${flatWgsl("params.count")}`,
  grid: ({ count }) => flatGrid(count),
  cost: ({ count }) => ({ flops: count * 30, bytes: count * 12 }),
});

/**
 * Cosines and sines of x at several frequencies: [cos ωx…, sin ωx…], or the sines first.
 *
 * @param x any shape, f32
 * @param frequencies ω [F], f32
 * @param options.cosinesFirst whether the cosines come first. Default: true.
 * @returns [..., 2 F], f32
 * @throws {ShapeError} when the frequencies are no vector
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using x = Tensor.from(gpu, new Float32Array([0]), [1]);
 * using frequencies = Tensor.from(gpu, new Float32Array([1, 2]), [2]);
 * using y = sinusoids(x, frequencies); // [[1, 1, 0, 0]]
 * ```
 */
export function sinusoids(x: Tensor, frequencies: Tensor, options: { cosinesFirst?: boolean } = {}): Tensor {
  const { cosinesFirst = true } = options;
  const { gpu } = x;
  if (frequencies.shape.length !== 1) {
    throw new ShapeError(
      `Cannot compute sinusoids at frequencies [${frequencies.shape.join(", ")}] as they must be a vector`,
      [frequencies.shape],
    );
  }
  const [half] = frequencies.shape;
  return Tensor.filled(gpu, [...x.shape, 2 * half], "f32", (y) => {
    const [cosines, sines] = cosinesFirst ? [0, half] : [half, 0];
    sinusoidsKernel.run(gpu, { x, frequencies, y }, { count: x.size * half, half, cosines, sines });
  });
}
