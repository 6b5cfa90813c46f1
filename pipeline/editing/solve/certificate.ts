/**
 * What is checked of every solved edit, on the host and in float64: how well conditioned the system
 * was, and whether the factors solve it.
 */

import type { EditRows } from "../prompts/edit_rows.ts";

/** A lower triangular matrix on the host: `size` rows that lie `stride` apart. */
export interface HostFactor {
  readonly values: Float64Array;
  readonly size: number;
  readonly stride: number;
}

/** Cv [count] of the rows. */
function rowProducts({ source, count, width }: EditRows, v: Float64Array): Float64Array {
  return Float64Array.from({ length: count }, (_, i) => {
    let sum = 0;
    for (let j = 0, at = i * width; j < width; j++, at++) sum += source[at] * v[j];
    return sum;
  });
}

/** Σ uᵢ rowᵢ [width] over rows of `matrix`. */
function rowSum(matrix: Float64Array, u: Float64Array, width: number): Float64Array {
  const y = new Float64Array(width);
  for (let i = 0; i < u.length; i++) {
    const factor = u[i];
    for (let j = 0, at = i * width; j < width; j++, at++) y[j] += factor * matrix[at];
  }
  return y;
}

const norm = (v: Float64Array) => Math.sqrt(v.reduce((sum, value) => sum + value * value, 0));

/** Numbers of both signs, the same in every run. */
function probe(count: number, seed: number): Float64Array<ArrayBuffer> {
  let state = seed;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

/**
 * The largest eigenvalue of λI + CᵀWC, by power iteration on CᵀWC (from below, to a few per cent).
 * It bounds that of the n × n system, too.
 */
export function largestEigenvalue(rows: EditRows, lamb: number): number {
  let v: Float64Array = probe(rows.width, 1), eigenvalue = 0;
  for (let step = 0; step < 8; step++) {
    const length = norm(v) || 1;
    v = v.map((value) => value / length);
    const products = rowProducts(rows, v);
    v = rowSum(rows.source, products.map((value, i) => value * rows.weights[i]), rows.width);
    eigenvalue = norm(v);
  }
  return eigenvalue + lamb;
}

/** v ← L·v or Lᵀ·v, in place. */
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

/** v ← L⁻¹·v or L⁻ᵀ·v, in place. */
function divide({ values, stride }: HostFactor, v: Float64Array, transpose: boolean): void {
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
 * The condition number of F·Fᵀ with F = L₁·L₂ …, by six steps of power iteration with the matrix
 * and with its inverse. Both eigenvalues are found from inside the spectrum, so the estimate is
 * low, by a few per cent as a rule.
 */
export function conditionNumber(factors: readonly HostFactor[]): number {
  const inward = [...factors].reverse();
  const grown = (step: (v: Float64Array) => void) => {
    let v: Float64Array = probe(factors[0].size, 2), growth = 0;
    for (let i = 0; i < 6; i++) {
      const length = norm(v);
      v = v.map((value) => value / length);
      step(v);
      growth = norm(v);
    }
    return growth;
  };
  const largest = grown((v) => {
    for (const factor of factors) multiply(factor, v, true);
    for (const factor of inward) multiply(factor, v, false);
  });
  const inverseSmallest = grown((v) => {
    for (const factor of factors) divide(factor, v, false);
    for (const factor of inward) divide(factor, v, true);
  });
  return Math.max(1, largest * inverseSmallest);
}

/** E − I = PᵀQ on the host; without Q, E − I = Pᵀ. */
export interface HostOperator {
  readonly left: Float64Array;
  readonly right: Float64Array | undefined;
  readonly rank: number;
}

/**
 * How well E solves its normal equations, (E − I)(λI + CᵀWC) = (D − C)ᵀWC: the norm of the
 * difference of both sides over the right side's, on two probing vectors.
 */
export function normalResidual(rows: EditRows, operator: HostOperator, lamb: number): number {
  const { width, weights } = rows;
  let difference = 0, reference = 0;
  for (const seed of [5, 6]) {
    const z = probe(width, seed);
    const weighted = rowProducts(rows, z).map((value, i) => value * weights[i]); // WCz
    const x = rowSum(rows.source, weighted, width).map((value, j) => value + lamb * z[j]); // (λI + CᵀWC) z
    const changed = applyChange(operator, x, width);
    const wanted = rowSum(rows.change, weighted, width);
    for (let j = 0; j < width; j++) {
      difference += (changed[j] - wanted[j]) ** 2;
      reference += wanted[j] ** 2;
    }
  }
  return Math.sqrt(difference / (reference || 1));
}

/** (E − I) x */
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
