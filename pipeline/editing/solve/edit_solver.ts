/** What the four ways to solve an edit have in common. */

import type { Gpu } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import type { CholeskyFactor } from "../../../kernels/linalg/cholesky.ts";
import { copyMatrix } from "../../../kernels/linalg/copy_matrix.ts";
import type { Pair } from "../../../kernels/linalg/exact_product.ts";

/**
 * E − I = PᵀQ, or Pᵀ where Q is the identity, f32, and the factors whose product is the system's
 * Cholesky factor.
 */
export interface Solution {
  /** P [rank, width]. */
  readonly left: Tensor;
  /** Q [rank, width]. */
  readonly right?: Tensor;
  readonly factors: readonly CholeskyFactor[];
}

/** An edit's rows on the device with what does not depend on λ. */
export interface EditSolver extends Disposable {
  /** Order of the system. */
  readonly order: number;
  /** How often it may be worth trying again, with more effort. */
  readonly mostEffort: number;
  /** Records the solution for a λ. Tensors are the caller's. */
  record(lamb: number, effort: number): Solution;
}

/**
 * How much the diagonal is raised, as a share of itself, before the f32 factorization of a matrix
 * that f32 has rounded: rounding moves the eigenvalues of an n × n matrix by some √n units of 2⁻²⁴
 * of its diagonal; sixteen times that is safe, and costs nothing, since the second factorization
 * takes it out again. What is still not positive is tried with more.
 */
export function diagonalShift(order: number, effort: number): number {
  return 2 ** -20 * Math.sqrt(order) * 32 ** effort;
}

/** The identity [side, side]. */
export function identity(gpu: Gpu, side: number): Tensor {
  using nothing = Tensor.empty(gpu, [0, 0]);
  return copyMatrix({ matrix: nothing }, { shape: [side, side], padDiagonal: 1 });
}

/** Rows [count, width] laid into [height, stride] with zeros around. */
export function paddedRows(
  rows: Float64Array,
  shape: { width: number; height: number; stride: number },
): Float64Array<ArrayBuffer> {
  const { width, height, stride } = shape;
  const padded = new Float64Array(height * stride);
  for (let row = 0; row * width < rows.length; row++) {
    padded.set(rows.subarray(row * width, (row + 1) * width), row * stride);
  }
  return padded;
}

/** Matrices of one height side by side: all [height, stride]. */
export function sideBySide(parts: readonly Float64Array[], stride: number): Float64Array<ArrayBuffer> {
  const height = parts[0].length / stride;
  const whole = new Float64Array(height * stride * parts.length);
  parts.forEach((part, index) => {
    for (let row = 0; row < height; row++) {
      whole.set(part.subarray(row * stride, (row + 1) * stride), (row * parts.length + index) * stride);
    }
  });
  return whole;
}

/** A float64 matrix on a device without f64, as a sum of two f32: 48 bits of its 53. */
export function uploadedPair(gpu: Gpu, values: Float64Array, shape: readonly [number, number]): Pair {
  const highs = Float32Array.from(values);
  const high = Tensor.from(gpu, highs, shape);
  const low = Tensor.from(gpu, Float32Array.from(values, (value, i) => value - highs[i]), shape);
  return { high, low, [Symbol.dispose]: () => [high, low].forEach((tensor) => tensor[Symbol.dispose]()) };
}
