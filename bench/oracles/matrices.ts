/**
 * Plain float64 matrices, row-major.
 *
 * @module
 */
import { randomArray } from "./numbers.ts";

/** `count` random values with bits below the last bit of f32. */
export function random64(count: number, seed: number): Float64Array<ArrayBuffer> {
  // The sum of two f32 values has bits below the last bit of f32.
  const coarse = randomArray(count, seed), fine = randomArray(count, seed + 7919);
  return Float64Array.from(coarse, (value, i) => value + fine[i] * 2 ** -25);
}

/** A·B of [m, k] and [k, n]. */
export function product(a: ArrayLike<number>, b: ArrayLike<number>, m: number, k: number, n: number): Float64Array {
  const y = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let q = 0; q < k; q++) {
      const factor = a[i * k + q];
      for (let j = 0; j < n; j++) y[i * n + j] += factor * b[q * n + j];
    }
  }
  return y;
}

/** The transpose of [rows, columns]. */
export function transposed(a: ArrayLike<number>, rows: number, columns: number): Float64Array {
  return Float64Array.from({ length: rows * columns }, (_, i) => a[(i % rows) * columns + Math.floor(i / rows)]);
}

/** A symmetric positive definite [n, n] whose condition number is small: M·Mᵀ + n I. */
export function positiveDefinite(n: number, seed: number): Float64Array {
  const m = random64(n * n, seed);
  const a = product(m, transposed(m, n, n), n, n, n);
  for (let i = 0; i < n; i++) a[i * (n + 1)] += n;
  return a;
}

/**
 * X of A·X = B for a symmetric positive definite A [n, n] and B [n, columns], by plain Cholesky in
 * float64.
 */
export function solvePositive(a: ArrayLike<number>, b: ArrayLike<number>, n: number, columns: number): Float64Array {
  const l = Float64Array.from(a as number[]), x = Float64Array.from(b as number[]);
  for (let j = 0; j < n; j++) {
    for (let i = j; i < n; i++) {
      let sum = l[i * n + j];
      for (let k = 0; k < j; k++) sum -= l[i * n + k] * l[j * n + k];
      l[i * n + j] = i === j ? Math.sqrt(sum) : sum / l[j * n + j];
    }
  }
  const subtract = (to: number, from: number, factor: number) => {
    for (let c = 0; c < columns; c++) x[to * columns + c] -= factor * x[from * columns + c];
  };
  const divide = (row: number) => {
    for (let c = 0; c < columns; c++) x[row * columns + c] /= l[row * n + row];
  };
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) subtract(i, k, l[i * n + k]);
    divide(i);
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) subtract(i, k, l[k * n + i]);
    divide(i);
  }
  return x;
}
