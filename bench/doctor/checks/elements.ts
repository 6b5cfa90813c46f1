import type { Gpu } from "../../../engine/gpu.ts";
import { elements, Tensor } from "../../../engine/tensor.ts";
import { activate } from "../../../kernels/shape/activate.ts";
import { clamp } from "../../../kernels/shape/clamp.ts";
import { concat } from "../../../kernels/shape/concat.ts";
import { embedding } from "../../../kernels/shape/embedding.ts";
import { guide } from "../../../kernels/shape/guide.ts";
import { linearCombination } from "../../../kernels/shape/linear_combination.ts";
import { rescaleGuided } from "../../../kernels/shape/rescale_guided.ts";
import { sinusoids } from "../../../kernels/shape/sinusoids.ts";
import { slice } from "../../../kernels/shape/slice.ts";
import { transpose } from "../../../kernels/shape/transpose.ts";
import { weightRows } from "../../../kernels/shape/weight_rows.ts";
import type { Activation } from "../../../kernels/wgsl/activation.ts";
import { activations, rescaledOf, sinusoidsOf } from "../../oracles/functions.ts";
import { transposed } from "../../oracles/matrices.ts";
import { expTolerance, f32Tolerance, randomArray, randomF16 } from "../../oracles/numbers.ts";
import type { Check, Outcome } from "../check.ts";

/** A random tensor of 32-bit floats, and its elements. */
function random(gpu: Gpu, shape: readonly number[], seed = 1): { tensor: Tensor; data: Float32Array } {
  const data = randomArray(elements(shape), seed);
  return { tensor: Tensor.from(gpu, data, shape), data };
}

const check = (operation: string, shape: string, tolerance: number, run: (gpu: Gpu) => Outcome): Check => ({
  operation,
  shape,
  tolerance,
  run,
});

// With |x| up to 8: GELU takes exp of −x² / 2. WGSL allows tanh an absolute error of 10⁻⁵; the root
// mean square of 3 tanh(x / 3) is above 2.
const activationError = (kind: Activation) => kind === "soft_clamp_3" ? 3e-5 / 2 : expTolerance(32);

/** Operations on single elements, and those that move them. */
export const elementChecks: readonly Check[] = [
  ...(Object.keys(activations) as Activation[]).map((kind) =>
    check(`activate ${kind}`, "257", activationError(kind), (gpu) => {
      const x = randomArray(257, 3).map((value) => value * 8);
      return { tensor: activate(Tensor.from(gpu, x, [257]), kind), expected: Float64Array.from(x, activations[kind]) };
    })
  ),
  check("clamp", "131", 0, (gpu) => {
    const { tensor, data } = random(gpu, [131]);
    return { tensor: clamp(tensor, -0.25, 0.5), expected: data.map((value) => Math.min(Math.max(value, -0.25), 0.5)) };
  }),
  ...[64, 7].map((width) =>
    check("embedding", `11×${width}, f16 table`, 0, (gpu) => {
      const ids = [0, 10, 3, 3, 7, 1], table = randomF16(11 * width);
      return {
        tensor: embedding(Tensor.from(gpu, table, [11, width], "f16"), Tensor.from(gpu, new Int32Array(ids), [6])),
        expected: ids.flatMap((id) => [...table.subarray(id * width, (id + 1) * width)]),
      };
    })
  ),
  check("transpose", "3×31×33", 0, (gpu) => {
    const { tensor, data } = random(gpu, [3, 31, 33]);
    const parts = [0, 1, 2].map((i) => [...transposed(data.subarray(i * 1023, (i + 1) * 1023), 31, 33)]);
    return { tensor: transpose(tensor), expected: parts.flat() };
  }),
  check("concat", "2×3×15 and 2×5×15, axis 1", 0, (gpu) => {
    const a = random(gpu, [2, 3, 15], 1), b = random(gpu, [2, 5, 15], 2);
    return {
      tensor: concat([a.tensor, b.tensor], 1),
      expected: [0, 1].flatMap((i) => [
        ...a.data.subarray(i * 45, (i + 1) * 45),
        ...b.data.subarray(i * 75, (i + 1) * 75),
      ]),
    };
  }),
  check("slice", "2×7×15, 2 … 5 of axis 1", 0, (gpu) => {
    const { tensor, data } = random(gpu, [2, 7, 15]);
    return {
      tensor: slice(tensor, 1, 2, 5),
      expected: [0, 1].flatMap((i) => [...data.subarray(i * 105 + 30, i * 105 + 75)]),
    };
  }),
  check("guide", "4×3×17", 2 ** -21, (gpu) => {
    const { tensor, data } = random(gpu, [4, 3, 17]), half = data.length / 2;
    return {
      tensor: guide(tensor, 7.5),
      expected: Float64Array.from({ length: half }, (_, i) => data[i] + 7.5 * (data[half + i] - data[i])),
    };
  }),
  check("linearCombination", "3 terms of 259", 4 * 2 ** -24, (gpu) => {
    const terms = [0.8, -1.25, 0.375].map((coefficient, i) => ({ ...random(gpu, [259], i + 1), coefficient }));
    return {
      tensor: linearCombination(terms),
      expected: Float64Array.from(
        { length: 259 },
        (_, i) => terms.reduce((sum, { data, coefficient }) => sum + coefficient * data[i], 0),
      ),
    };
  }),
  check("rescaleGuided", "3×4×65, φ 0.7", f32Tolerance(4 * 65), (gpu) => {
    const guided = random(gpu, [3, 4, 65]), conditional = random(gpu, [3, 4, 65], 2);
    return {
      tensor: rescaleGuided(guided.tensor, conditional.tensor, 0.7),
      expected: rescaledOf(guided.data, conditional.data, { rows: 3, rescale: 0.7 }),
    };
  }),
  // Angles are up to 48: half a unit in their last place is 2⁻²⁴ · 48, and sine and cosine err by
  // 3·10⁻⁷ beside it; the root mean square of the result is 0.7.
  check("sinusoids", "5 at 7 frequencies", (3e-7 + 2 ** -24 * 48) / 0.7, (gpu) => {
    const x = Float32Array.from([0.5, -48, 1, 33, -7]);
    const frequencies = Float32Array.from({ length: 7 }, (_, i) => Math.exp(-i / 2));
    return {
      tensor: sinusoids(Tensor.from(gpu, x, [5]), Tensor.from(gpu, frequencies, [7])),
      expected: sinusoidsOf(x, frequencies, { cosinesFirst: true }),
    };
  }),
  check("weightRows", "2×77×36", f32Tolerance(77 * 36), (gpu) => {
    const [batches, rows, columns] = [2, 77, 36], size = rows * columns;
    const values = randomArray(batches * size).map((value) => value + 0.3);
    const weights = randomArray(batches * rows, 2).map((value) => 1 + value / 2);
    const tensor = weightRows(
      Tensor.from(gpu, values, [batches, rows, columns]),
      Tensor.from(gpu, weights, [batches, rows]),
    );
    const weighted = Float64Array.from(values, (value, i) => value * weights[Math.floor(i / columns)]);
    const sum = (of: ArrayLike<number>, batch: number) => {
      let total = 0;
      for (let i = batch * size; i < (batch + 1) * size; i++) total += of[i];
      return total;
    };
    const ratios = [0, 1].map((batch) => sum(values, batch) / sum(weighted, batch));
    return { tensor, expected: weighted.map((value, i) => value * ratios[Math.floor(i / size)]) };
  }),
];
