import { ShapeError } from "../../engine/errors.ts";
import { declareKernel, storage } from "../../engine/kernel/kernel.ts";
import { roundUp } from "../../engine/memory/pool.ts";
import { Tensor } from "../../engine/tensor.ts";
import { copyMatrix } from "./copy_matrix.ts";
import { each } from "../wgsl/text.ts";
import { addProduct } from "./real_product.ts";

/** Side of the diagonal blocks. Factors are padded to a multiple of it with the identity. */
export const blockSize = 32;

/**
 * Factors one diagonal block in workgroup memory, one row per invocation, then inverts the factor,
 * one column per invocation. The inverse reduces the rest of the factorization and the triangular
 * solves to matrix products.
 *
 * The pivots (the diagonal of L before the square root) are stored for the host to check. A pivot
 * that is not positive is replaced by 1, so that later values stay finite, though meaningless.
 *
 * Latency bounds it: a workgroup is alone, and each step depends on the one before. So four terms
 * of a sum are read at a time.
 */
const diagonalKernel = declareKernel({
  name: "cholesky_diagonal",
  bindings: {
    a: storage("read", "array<real>"),
    lower: storage("write", "array<real>"),
    inverses: storage("write", "array<real>"),
    pivots: storage("write", "array<real>"),
  },
  params: { start: "u32", width: "u32" },
  constants: { real: "type" },
  wgsl: /* wgsl */ `
const SIDE = ${blockSize}u;
const STRIDE = ${blockSize + 1}u; // odd: a column's elements fall on different memory banks
var<workgroup> factor: array<real, ${blockSize * (blockSize + 1)}>;
var<workgroup> inverse: array<real, ${blockSize * (blockSize + 1)}>;

@compute @workgroup_size(${blockSize})
fn main(@builtin(local_invocation_index) lane: u32) {
  let row = lane * STRIDE;
  let from_row = (params.start + lane) * params.width + params.start;
  for (var j = 0u; j < SIDE; j++) { factor[row + j] = a[from_row + j]; }
  workgroupBarrier();
  for (var j = 0u; j < SIDE; j++) { // column by column: l[i][j] = (a[i][j] - l[i]·l[j]) / l[j][j]
    let row_j = j * STRIDE;
    var pivot = factor[row_j + j];
    var value = factor[row + j];
    for (var k = 0u; k < j; k += 4u) {
      ${each(4, (i) => `let l${i} = select(real(0.0), factor[row_j + k + ${i}u], k + ${i}u < j);`)}
      ${each(4, (i) => `let f${i} = factor[row + k + ${i}u];`)}
      ${each(4, (i) => `pivot = fma(-l${i}, l${i}, pivot); value = fma(-l${i}, f${i}, value);`)}
    }
    let good = pivot > real(0.0);
    let root = sqrt(select(real(1.0), pivot, good));
    workgroupBarrier();
    if (lane == j) { pivots[params.start + j] = pivot; factor[row + j] = root; }
    if (lane > j) { factor[row + j] = value / root; }
    if (lane < j) { factor[row + j] = real(0.0); }
    workgroupBarrier();
  }
  for (var j = 0u; j < SIDE; j++) { lower[from_row + j] = factor[row + j]; }
  for (var i = 0u; i < SIDE; i++) { // forward substitution for this lane's column of L·X = I
    let row_i = i * STRIDE;
    var sum = select(real(0.0), real(1.0), i == lane);
    for (var k = 0u; k < i; k += 4u) { // L and, so far, its inverse are 0 from k = i + 1 and i on
      ${each(4, (i) => `let l${i} = factor[row_i + k + ${i}u]; let x${i} = inverse[(k + ${i}u) * STRIDE + lane];`)}
      ${each(4, (i) => `sum = fma(-l${i}, x${i}, sum);`)}
    }
    inverse[row_i + lane] = sum / factor[row_i + i];
  }
  let to = params.start * SIDE;
  for (var i = 0u; i < SIDE; i++) { inverses[to + i * SIDE + lane] = inverse[i * STRIDE + lane]; }
}`,
  grid: () => [1, 1, 1],
  cost: (_, { real }) => ({ flops: 2 * blockSize ** 3 / 3, bytes: 3 * blockSize ** 2 * (real === "f64" ? 8 : 4) }),
});

/** A = L·Lᵀ, ready for triangular solves. */
export interface CholeskyFactor extends Disposable {
  /** Side of A. */
  readonly size: number;
  /**
   * L, padded with the identity to a multiple of {@linkcode blockSize}. Blocks above the diagonal
   * are undefined.
   */
  readonly lower: Tensor;
  /**
   * The inverses of L's diagonal blocks [blocks, blockSize, blockSize], laid out as [blocks ·
   * blockSize, blockSize].
   */
  readonly inverses: Tensor;
  /**
   * The squared diagonal of L [padded size]. An element that is not positive means that A is not
   * positive definite in this precision. See {@linkcode firstBadPivot}.
   */
  readonly pivots: Tensor;
}

/**
 * Computes the Cholesky factor of a symmetric positive definite matrix A [n, n]. Only the lower
 * triangle of A is read.
 *
 * The factorization is left-looking, by blocks of 32 columns, in three dispatches per block:
 *
 * 1. A[i:, i] −= L[i:, :i]·L[i, :i]ᵀ
 * 2. One workgroup factors and inverts the diagonal block.
 * 3. L[i+1:, i] = A[i+1:, i]·L[i, i]⁻ᵀ
 *
 * A right-looking form would rewrite the trailing matrix at every step.
 *
 * A matrix that is not positive definite raises no error here: read `pivots` back and pass them to
 * {@linkcode firstBadPivot}.
 *
 * @throws {ShapeError} when A is not square
 */
export function cholesky(a: Tensor): CholeskyFactor {
  const [size, columns] = a.dims(2);
  if (size !== columns) {
    throw new ShapeError(`Cannot factor a matrix [${size}, ${columns}] as it must be square: ${size} ≠ ${columns}`, [
      a.shape,
    ]);
  }
  const { gpu, dtype: real } = a;
  const padded = roundUp(size, blockSize);
  return gpu.scope(() => {
    const lower = Tensor.empty(gpu, [padded, padded], real);
    const inverses = Tensor.empty(gpu, [padded, blockSize], real);
    const pivots = Tensor.empty(gpu, [padded], real);
    const work = copyMatrix({ matrix: a }, { shape: [padded, padded], padDiagonal: 1 });
    for (let start = 0; start < padded; start += blockSize) {
      const column = { matrix: work, row: start, column: start, columns: blockSize };
      if (start > 0) {
        const done = { matrix: lower, row: start, columns: start };
        addProduct(column, [done, { ...done, rows: blockSize }], { transposeB: true, mode: "subtract" });
      }
      diagonalKernel.run(gpu, { a: work, lower, inverses, pivots }, { start, width: padded }, { real });
      const below = start + blockSize;
      if (below < padded) {
        addProduct(
          { ...column, matrix: lower, row: below },
          [{ ...column, row: below }, { matrix: inverses, row: start, rows: blockSize }],
          { transposeB: true },
        );
      }
    }
    const dispose = () => [lower, inverses, pivots].forEach((tensor) => tensor[Symbol.dispose]());
    return { size, lower, inverses, pivots, [Symbol.dispose]: dispose };
  });
}

/**
 * The first pivot that is not positive and finite, or undefined when the factorization is valid.
 *
 * @param pivots the elements of `factor.pivots`, read back to the host
 */
export function firstBadPivot(pivots: ArrayLike<number>): { index: number; value: number } | undefined {
  for (let index = 0; index < pivots.length; index++) {
    if (!(pivots[index] > 0) || pivots[index] === Infinity) return { index, value: pivots[index] };
  }
}
