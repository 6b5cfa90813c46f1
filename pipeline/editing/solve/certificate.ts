/**
 * The certificate of a solved edit, computed on the host in float64: a condition number estimate of
 * the system, and the residual of the solution.
 *
 * @module
 */

import type { EditRows } from "../prompts/edit_rows.ts";

/** A lower triangular matrix [size, size] on the host, stored with row stride `stride`. */
export interface HostFactor {
  readonly values: Float64Array;
  readonly size: number;
  readonly stride: number;
}

/** The matrix-vector product Cv [count]. */
function rowProducts({ source, count, width }: EditRows, v: Float64Array): Float64Array {
  return Float64Array.from({ length: count }, (_, i) => {
    let sum = 0;
    for (let j = 0, at = i * width; j < width; j++, at++) sum += source[at] * v[j];
    return sum;
  });
}

/** The product Mᵀu [width] for a matrix M [count, width]. */
function rowSum(matrix: Float64Array, u: Float64Array, width: number): Float64Array {
  const y = new Float64Array(width);
  for (let i = 0; i < u.length; i++) {
    const factor = u[i];
    for (let j = 0, at = i * width; j < width; j++, at++) y[j] += factor * matrix[at];
  }
  return y;
}

const norm = (v: Float64Array) => Math.sqrt(v.reduce((sum, value) => sum + value * value, 0));

/** A deterministic pseudorandom vector with elements in [−1, 1). */
function probeVector(count: number, seed: number): Float64Array<ArrayBuffer> {
  let state = seed;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

/**
 * A lower estimate, within a few percent, of the largest eigenvalue of λI + CᵀΩC, by power
 * iteration on CᵀΩC. With unit weights, λI + CCᵀ has the same largest eigenvalue.
 */
export function largestEigenvalue(rows: EditRows, lamb: number): number {
  let v: Float64Array = probeVector(rows.width, 1), eigenvalue = 0;
  for (let step = 0; step < 8; step++) {
    const length = norm(v) || 1;
    v = v.map((value) => value / length);
    const products = rowProducts(rows, v);
    v = rowSum(rows.source, products.map((value, i) => value * rows.weights[i]), rows.width);
    eigenvalue = norm(v);
  }
  return eigenvalue + lamb;
}

/** v ← Lv or v ← Lᵀv, in place. */
function multiply({ values, stride }: HostFactor, v: Float64Array, transpose: boolean): void {
  const size = v.length;
  if (transpose) {
    for (let i = 0; i < size; i++) {
      const factor = v[i];
      v[i] = 0;
      for (let j = 0; j <= i; j++) v[j] += values[i * stride + j] * factor;
    }
  } else {
    for (let i = size - 1; i >= 0; i--) {
      let sum = 0;
      for (let j = 0; j <= i; j++) sum += values[i * stride + j] * v[j];
      v[i] = sum;
    }
  }
}

/** v ← L⁻¹v or v ← L⁻ᵀv, in place, by forward or back substitution. */
function triangularSolve({ values, stride }: HostFactor, v: Float64Array, transpose: boolean): void {
  const size = v.length;
  if (transpose) {
    for (let i = size - 1; i >= 0; i--) {
      v[i] /= values[i * stride + i];
      for (let j = 0; j < i; j++) v[j] -= values[i * stride + j] * v[i];
    }
  } else {
    for (let i = 0; i < size; i++) {
      let sum = v[i];
      for (let j = 0; j < i; j++) sum -= values[i * stride + j] * v[j];
      v[i] = sum / values[i * stride + i];
    }
  }
}

/**
 * Estimates the 2-norm condition number of A = FFᵀ, F = L₁L₂…, by six steps of power iteration with
 * A and with A⁻¹. Both give lower bounds of an extreme eigenvalue, so the estimate is a lower bound
 * of κ(A), typically within a few percent.
 */
export function conditionNumber(factors: readonly HostFactor[]): number {
  const reversed = factors.toReversed();
  const powerIteration = (step: (v: Float64Array) => void) => {
    let v: Float64Array = probeVector(factors[0].size, 2), growth = 0;
    for (let i = 0; i < 6; i++) {
      const length = norm(v);
      v = v.map((value) => value / length);
      step(v);
      growth = norm(v);
    }
    return growth;
  };
  const largest = powerIteration((v) => {
    for (const factor of factors) multiply(factor, v, true);
    for (const factor of reversed) multiply(factor, v, false);
  });
  const inverseSmallest = powerIteration((v) => {
    for (const factor of factors) triangularSolve(factor, v, false);
    for (const factor of reversed) triangularSolve(factor, v, true);
  });
  return Math.max(1, largest * inverseSmallest);
}

/** E − I = PᵀQ on the host; Q = I where `right` is undefined. */
export interface HostOperator {
  readonly left: Float64Array;
  readonly right: Float64Array | undefined;
  readonly rank: number;
}

/**
 * The relative residual of the normal equations (E − I)(λI + CᵀΩC) = (D − C)ᵀΩC: the norm of the
 * difference of both sides over the norm of the right side, estimated with two probe vectors.
 */
export function normalResidual(rows: EditRows, operator: HostOperator, lamb: number): number {
  const { width, weights } = rows;
  let difference = 0, reference = 0;
  for (const seed of [5, 6]) {
    const z = probeVector(width, seed);
    const weighted = rowProducts(rows, z).map((value, i) => value * weights[i]); // ΩCz
    // (λI + CᵀΩC)z
    const x = rowSum(rows.source, weighted, width).map((value, j) => value + lamb * z[j]);
    const changed = applyChange(operator, x, width);
    const expected = rowSum(rows.change, weighted, width);
    for (let j = 0; j < width; j++) {
      difference += (changed[j] - expected[j]) ** 2;
      reference += expected[j] ** 2;
    }
  }
  return Math.sqrt(difference / (reference || 1));
}

/** (E − I)x. */
function applyChange({ left, right, rank }: HostOperator, x: Float64Array, width: number): Float64Array {
  let inner = x;
  if (right) {
    inner = new Float64Array(rank);
    for (let k = 0; k < rank; k++) {
      for (let j = 0, at = k * width; j < width; j++, at++) inner[k] += right[at] * x[j];
    }
  }
  return rowSum(left, inner, width);
}
