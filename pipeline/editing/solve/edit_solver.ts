/**
 * The interface of the four solvers (tokens or channels, f64 or refined f32), and what they share.
 *
 * Notation: C [n, d] are the source embeddings, D [n, d] the destination embeddings, Ω the diagonal
 * matrix of row weights, λ the regularization.
 *
 * @module
 */

import type { Gpu } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import type { CholeskyFactor } from "../../../kernels/linalg/cholesky.ts";
import { copyMatrix } from "../../../kernels/linalg/copy_matrix.ts";
import type { Pair } from "../../../kernels/linalg/slices.ts";
import { EditError } from "../../errors.ts";
import type { EditRows } from "../prompts/edit_rows.ts";

/**
 * A recorded solution: E − I = PᵀQ in f32 (Pᵀ where Q is undefined), and the lower triangular
 * factors L₁, L₂, … of the system's matrix A = (L₁L₂…)(L₁L₂…)ᵀ.
 */
export interface Solution {
  /** P [rank, width]. */
  readonly left: Tensor;
  /** Q [rank, width]. */
  readonly right?: Tensor;
  readonly factors: readonly CholeskyFactor[];
}

/** A solver: holds the rows and everything that does not depend on λ on the device. */
export interface EditSolver extends Disposable {
  /** Order of the linear system: n or d. */
  readonly order: number;
  /** Largest useful `effort`: the number of times that a failed solution can be retried. */
  readonly maxEffort: number;
  /**
   * Records the commands that solve for a λ. The caller owns the tensors.
   *
   * @param effort 0 at first; each retry uses a larger diagonal shift and one more factorization
   */
  record(lamb: number, effort: number): Solution;
}

/**
 * Refuses systems with more rows than the refined arithmetic in f32 can hold. In f64, there is no
 * such limit: products are summed in parts.
 *
 * @throws {EditError} for more rows than `most`
 */
export function checkRefinable(rows: EditRows, most: number): void {
  if (rows.count <= most) return;
  throw new EditError(
    `Cannot solve an edit of ${rows.count} different rows of width ${rows.width} in f32 as this device can multiply ` +
      `at most ${most} of them exactly: edit or preserve fewer prompts, or use a device with f64`,
  );
}

/**
 * Base class of the solvers. It holds the merged rows, and owns the tensors that are kept on the
 * device for every λ.
 */
export abstract class DeviceSolver implements EditSolver {
  abstract readonly maxEffort: number;
  readonly #owned = new DisposableStack();

  protected constructor(protected readonly rows: EditRows, readonly order: number) {}

  abstract record(lamb: number, effort: number): Solution;

  /** Frees a value together with the solver. */
  protected own<T extends Disposable>(value: T): T {
    return this.#owned.use(value);
  }

  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}

/**
 * Relative diagonal shift before the f32 Cholesky factorization of a matrix rounded to f32.
 * Rounding perturbs the eigenvalues of a matrix of order n by about √n · 2⁻²⁴ of its diagonal. A
 * shift of 16 times that keeps the matrix positive definite; the second factorization removes its
 * effect. Each retry uses 32 times the shift.
 */
export function diagonalShift(order: number, effort: number): number {
  return 2 ** -20 * Math.sqrt(order) * 32 ** effort;
}

/** The identity matrix [side, side] in f32. */
export function identity(gpu: Gpu, side: number): Tensor {
  using empty = Tensor.empty(gpu, [0, 0]);
  return copyMatrix({ matrix: empty }, { shape: [side, side], padDiagonal: 1 });
}

/** Copies rows [count, width] into a matrix [height, stride], padded with zeros. */
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

/** Concatenates matrices [height, stride] along their columns. */
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

/** A float64 matrix as the unevaluated sum of two f32 tensors, high + low: 48 of its 53 bits. */
export function uploadedPair(gpu: Gpu, values: Float64Array, shape: readonly [number, number]): Pair {
  const highs = Float32Array.from(values);
  const high = Tensor.from(gpu, highs, shape);
  const low = Tensor.from(gpu, Float32Array.from(values, (value, i) => value - highs[i]), shape);
  return { high, low, [Symbol.dispose]: () => [high, low].forEach((tensor) => tensor[Symbol.dispose]()) };
}
