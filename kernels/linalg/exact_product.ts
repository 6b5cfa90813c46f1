import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { declareKernel, storage } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";
import { blockDepth } from "../gemm/tile_blocks.ts";
import { policyOf } from "../policy.ts";
import {
  exactTerms,
  finishWgsl,
  mostLevels,
  subgroupProduct,
  subgroupRows,
  workgroupProduct,
} from "./exact_product_wgsl.ts";
import type { Pair, Sliced } from "./slices.ts";

/**
 * Matrix products without rounding, in f32 alone, for devices that lack f64 (Ozaki, Ogita, Oishi,
 * Rump: "Error-free transformations of matrix multiplication by using fast routines of matrix
 * multiplication", Numerical Algorithms 59, 2012).
 *
 * 1. A matrix is split into slices of 9 bits: x = 2^e (q₀ 2⁻⁹ + q₁ 2⁻¹⁸ + …), with integers |q| ≤
 *    256 and one exponent e per row of A or per column of B.
 * 2. A product of two slices, summed over 256 terms, is an integer of at most 2²⁴. So every step is
 *    exact in f32, in any order of the terms and with or without fma. (Double-float arithmetic has
 *    no such guarantee, because shader compilers may reassociate.)
 * 3. These sums are added in i32. A factor of 2⁻⁹ per level is carried from level to level, as in
 *    long multiplication. Only the last step rounds.
 *
 * Measurements: docs/tuning.md.
 */

/** Sums of 2²⁴ that are added in one i32, which holds 127 of them. */
const mostSums = 120;

/** Types of {@linkcode SolverPolicy.exactProduct}. */
const exactConstantTypes = {
  SUBGROUP: "bool",
  LANES: "u32",
  THREADS_X: "u32",
  ROWS: "u32",
  COLUMNS: "u32",
  LOOPED: "bool",
} as const;

const productKernel = declareKernel({
  name: "exact_product",
  bindings: {
    a: storage("read", "array<vec4f>"),
    b: storage("read", "array<vec4f>"),
    a_scales: storage("read", "array<f32>"),
    b_scales: storage("read", "array<vec4f>"),
    high: storage("write", "array<vec4f>"),
    low: storage("write", "array<vec4f>"),
  },
  params: { m: "u32", n4: "u32", k: "u32" },
  constants: {
    A_SLICES: "u32",
    B_SLICES: "u32",
    LOWER: "bool",
    PAIR: "bool",
    WHOLE: "bool",
    ...exactConstantTypes,
  },
  extensions: ["subgroups"],
  wgsl: (constants) =>
    finishWgsl + (constants.SUBGROUP ? subgroupProduct(constants.LANES) : workgroupProduct(constants)),
  grid: ({ m, n4 }, { SUBGROUP, LANES, THREADS_X, ROWS, COLUMNS }) =>
    SUBGROUP
      ? [Math.ceil(n4 / LANES), Math.ceil(m / subgroupRows), 1]
      : [Math.ceil(n4 / (THREADS_X * COLUMNS)), Math.ceil(m / (ROWS * LANES / THREADS_X)), 1],
  cost: ({ m, n4, k }, { A_SLICES, B_SLICES, LOWER, PAIR }) => {
    const share = LOWER ? 0.5 : 1, n = 4 * n4, pairs = slicePairs(A_SLICES, B_SLICES);
    return {
      flops: 2 * share * m * n * k * pairs,
      bytes: 4 * (share * m * k * A_SLICES + k * n * B_SLICES + m * n * (PAIR ? 2 : 1)),
    };
  },
});

function slicePairs(a: number, b: number): number {
  let pairs = 0;
  for (let s = 0; s < a; s++) pairs += Math.max(0, Math.min(b, mostLevels - s));
  return pairs;
}

/** Options of {@linkcode exactProduct}. */
export interface ExactProductOptions {
  /** Whether A is lower triangular; elements above its diagonal are not read. Default: false. */
  readonly lowerA?: boolean;
}

/**
 * The largest depth of an exact product of matrices in `count` slices each, one of which has
 * `lines` rows or columns: what i32 holds the sums of, and what the device can bind. A multiple of
 * 32, to which the solvers pad.
 */
export function largestExactDepth(gpu: Gpu, { count, lines }: { count: number; lines: number }): number {
  const summable = Math.floor(mostSums / count) * exactTerms;
  const bindable = gpu.info.limits.maxStorageBufferBindingSize / (count * lines * Float32Array.BYTES_PER_ELEMENT);
  return 32 * Math.floor(Math.min(summable, bindable) / 32);
}

function checked(a: Sliced, b: Sliced): { gpu: Gpu; m: number; n: number; k: number } {
  const [m, k, n] = [a.rows, a.columns, b.columns];
  if (a.along !== "rows" || b.along !== "columns" || k !== b.rows || k % 4 !== 0 || n % 4 !== 0) {
    throw new ShapeError(
      `Cannot multiply a matrix [${m}, ${k}] sliced along ${a.along} by one [${b.rows}, ${n}] sliced along ${b.along} as A must be sliced along rows, B along columns, ` +
        "the depths must agree, and they and B's columns must be multiples of 4",
      [[m, k], [b.rows, n]],
    );
  }
  const sums = Math.min(a.count, b.count) * Math.ceil(k / exactTerms);
  if (sums > mostSums) {
    throw new ShapeError(
      `Cannot multiply ${a.count} by ${b.count} slices of depth ${k} exactly as at most ${mostSums} sums of ${exactTerms} terms fit in i32: ${sums}`,
      [[m, k], [k, n]],
    );
  }
  return { gpu: a.digits.gpu, m, n, k };
}

function run(a: Sliced, b: Sliced, pair: boolean, lowerA: boolean): { high: Tensor; low: Tensor } {
  const { gpu, m, n, k } = checked(a, b);
  return gpu.scope(() => {
    const high = Tensor.empty(gpu, [m, n]);
    const low = pair ? Tensor.empty(gpu, [m, n]) : Tensor.empty(gpu, [4]);
    productKernel.run(
      gpu,
      { a: a.digits, b: b.digits, a_scales: a.scales, b_scales: b.scales, high, low },
      { m, n4: n / 4, k },
      {
        A_SLICES: a.count,
        B_SLICES: b.count,
        LOWER: lowerA,
        PAIR: pair,
        WHOLE: !policyOf(gpu).solver.exactProduct.SUBGROUP && k % blockDepth === 0,
        ...policyOf(gpu).solver.exactProduct,
      },
    );
    return { high, low };
  });
}

/**
 * A·B [m, n] of sliced matrices, rounded once, to f32.
 *
 * @throws {ShapeError} when the slices do not match
 */
export function exactProduct(a: Sliced, b: Sliced, options: ExactProductOptions = {}): Tensor {
  const { high, low } = run(a, b, false, options.lowerA ?? false);
  low[Symbol.dispose]();
  return high;
}

/**
 * A·B [m, n] of sliced matrices as the sum of two f32, with about 45 bits below the largest terms.
 *
 * @throws {ShapeError} when the slices do not match
 */
export function exactProductPair(a: Sliced, b: Sliced, options: ExactProductOptions = {}): Pair {
  const { high, low } = run(a, b, true, options.lowerA ?? false);
  const dispose = () => [high, low].forEach((tensor) => tensor[Symbol.dispose]());
  return { high, low, [Symbol.dispose]: dispose };
}
