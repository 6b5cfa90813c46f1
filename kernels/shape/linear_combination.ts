import { ShapeError } from "../../engine/errors.ts";
import { declareKernel, input, type Kernel, output } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";
import {
  elementwise,
  elementwiseConstantTypes,
  elementwiseGrid,
  elementwiseParams,
  elementwiseWgsl,
} from "../wgsl/elementwise.ts";
import { launchOverVec4 } from "../wgsl/launch.ts";

/**
 * Largest number of terms: with the result, seven of the eight storage buffers that every WebGPU
 * device can bind.
 */
const maxTerms = 6;

/**
 * One kernel for each number of terms: y = c₀ x₀ + c₁ x₁ + …, summed in that order by fma. The
 * fixed order makes results reproducible. The kernel is bound by memory bandwidth.
 */
const combinationKernels: readonly Kernel<string, string, typeof elementwiseConstantTypes>[] = Array.from({
  length: maxTerms,
}, (_, index) => {
  const terms = index + 1;
  const indices = Array.from({ length: terms }, (_, term) => term);
  return declareKernel<string, string, typeof elementwiseConstantTypes>({
    name: "linear_combination",
    bindings: { ...Object.fromEntries(indices.map((term) => [`x${term}`, input(4)])), y: output(4) },
    params: { ...elementwiseParams, ...Object.fromEntries(indices.map((term) => [`c${term}`, "f32" as const])) },
    constants: elementwiseConstantTypes,
    wgsl: `
fn element(row: u32, column: u32) {
  var sum = params.c0 * x0_at(column);
  ${indices.slice(1).map((term) => `sum = fma(vec4f(params.c${term}), x${term}_at(column), sum);`).join("\n  ")}
  y_put(column, sum);
}
${elementwiseWgsl}`,
    grid: ({ rows, parts }, constants) => elementwiseGrid({ rows, parts }, constants),
    cost: ({ columns }) => ({ flops: columns * 4 * (2 * terms - 1), bytes: columns * 16 * (terms + 1) }),
  });
});

/** One term of a linear combination. */
export interface LinearTerm {
  /** The tensor that is scaled and added. */
  readonly tensor: Tensor;
  /** The factor of the tensor. */
  readonly coefficient: number;
}

/**
 * Linear combination y = Σᵢ coefficientᵢ · tensorᵢ, summed in f32. Schedulers express their steps
 * with it.
 *
 * @param terms 1 to 6 terms of one shape, each f32 or f16
 * @returns a new tensor of that shape, with the dtype of the first term
 * @throws {ShapeError} when the shapes differ, or the number of terms is not 1 to 6
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using x = Tensor.from(gpu, new Float32Array([1, 2]), [2]);
 * using noise = Tensor.from(gpu, new Float32Array([0.5, -0.5]), [2]);
 * using y = linearCombination([
 *   { tensor: x, coefficient: 0.8 },
 *   { tensor: noise, coefficient: 0.6 },
 * ]);
 * ```
 */
export function linearCombination(terms: readonly LinearTerm[]): Tensor {
  if (terms.length < 1 || terms.length > maxTerms) {
    throw new ShapeError(`Cannot combine ${terms.length} tensors as a combination has 1 to ${maxTerms} terms`);
  }
  const [{ tensor: model }] = terms;
  const { gpu, shape } = model;
  for (const { tensor } of terms) {
    if (tensor.shape.join() !== shape.join()) {
      const all = terms.map(({ tensor }) => tensor.shape);
      throw new ShapeError(
        `Cannot combine tensors ${all.map((one) => `[${one.join(", ")}]`).join(", ")} as their shapes must be equal`,
        all,
      );
    }
  }
  return Tensor.filled(gpu, shape, model.dtype, (y) => {
    const inputs = Object.fromEntries(terms.map(({ tensor }, term) => [`x${term}`, tensor]));
    const coefficients = Object.fromEntries(terms.map(({ coefficient }, term) => [`c${term}`, coefficient]));
    launchOverVec4(gpu, { y, ...inputs }, (windows, vec4Count) => {
      const { params, constants } = elementwise(gpu, 1, vec4Count);
      combinationKernels[terms.length - 1].run(gpu, windows, { ...params, ...coefficients }, constants);
    });
  });
}

/**
 * Elementwise sum a + b of two tensors of one shape. The result has the dtype of `a`.
 *
 * @throws {ShapeError} when the shapes differ
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using a = Tensor.from(gpu, new Float32Array([1, 2]), [2]);
 * using b = Tensor.from(gpu, new Float32Array([3, 4]), [2]);
 * using sum = add(a, b); // [4, 6]
 * ```
 */
export function add(a: Tensor, b: Tensor): Tensor {
  return linearCombination([{ tensor: a, coefficient: 1 }, { tensor: b, coefficient: 1 }]);
}
