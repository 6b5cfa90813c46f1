/**
 * Reproducible random values, and the errors that arithmetic of a given precision may make: shared
 * by the kernels' tests and `bluerose doctor`.
 *
 * @module
 */

/**
 * Reproducible pseudo-random integers from −2³¹ to 2³¹ − 1, without 0 (xorshift32).
 *
 * @param seed an integer; 0 counts as 1
 */
export function xorshift32(seed: number): () => number {
  let state = seed || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state;
  };
}

/** `count` reproducible pseudo-random values in −1 … 1. */
export function randomArray(count: number, seed = 1): Float32Array<ArrayBuffer> {
  const next = xorshift32((seed * 2654435761) >>> 0);
  return Float32Array.from({ length: count }, () => (next() >>> 0) / 2 ** 31 - 1);
}

/** `count` random elements that f16 represents exactly. */
export function randomF16(count: number, seed = 1): Float32Array<ArrayBuffer> {
  return Float32Array.from(Float16Array.from(randomArray(count, seed)));
}

/** ‖actual − expected‖ / ‖expected‖; the norm of the difference where all of `expected` is 0. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let difference = 0, norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i] - expected[i]) ** 2;
    norm += expected[i] ** 2;
  }
  return Math.sqrt(difference) / (Math.sqrt(norm) || 1);
}

/**
 * Peak signal-to-noise ratio of values from 0 to 1, in dB: −10 lg(mean squared difference).
 */
export function psnr(actual: Float32Array, expected: Float32Array): number {
  const squares = actual.reduce((sum, value, i) => sum + (value - expected[i]) ** 2, 0);
  return -10 * Math.log10(squares / expected.length);
}

/** Rounding errors of one operation, relative. */
export const unitRoundoff = { f32: 2 ** -24, f64: 2 ** -53 } as const;

/**
 * Bound of the relative error of storing a tensor in f16, which has 11 significant bits. WGSL lets
 * devices truncate; the norm of the error over a tensor is then about three quarters of this.
 */
export const f16Rounding: number = 2 ** -11;

/**
 * Tolerance of the relative error of f32 sums of `terms` products: rounding errors grow with the
 * square root of `terms`; the factor covers the worst case.
 */
export function f32Tolerance(terms: number): number {
  return 4 * 2 ** -24 * Math.sqrt(Math.max(terms, 1)) + 2 ** -23;
}

/**
 * Tolerance of the relative error of sums of `terms` products on subgroup matrices: tensor cores
 * truncate where f32 arithmetic rounds, which doubles the error.
 */
export function matrixTolerance(terms: number): number {
  return 2 * f32Tolerance(terms);
}

/**
 * Most that an element of a product in f16 arithmetic errs by, relative to |A|·|B|: two roundings
 * of operands and 16 of a short sum, each of 2⁻¹⁰, as WGSL lets devices truncate.
 */
export const f16ArithmeticBound: number = 18 * 2 ** -10;

/**
 * Tolerance of the relative error of such products of random operands, of any length: 18 rounding
 * errors of random signs.
 */
export const f16ArithmeticTolerance: number = Math.sqrt(18) * 2 ** -10;

/** What WGSL allows exp to err by, relative, for arguments of at most `largest`: 3 + 2|x| ulp. */
export function expTolerance(largest: number): number {
  return (3 + 2 * largest) * 2 ** -23;
}
