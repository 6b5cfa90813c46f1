import { ShapeError } from "../../engine/errors.ts";
import { roundUp } from "../../engine/memory/pool.ts";
import { Tensor } from "../../engine/tensor.ts";
import { blockSize, type CholeskyFactor } from "./cholesky.ts";
import { copyMatrix } from "./copy_matrix.ts";
import { addProduct } from "./real_product.ts";

/** Options of {@linkcode triangularSolve}. */
export interface TriangularSolveOptions {
  /** Whether Lᵀ·X = B is solved instead of L·X = B. Default: false. */
  readonly transpose?: boolean;
}

/**
 * Solves L·X = B, or Lᵀ·X = B, for all right-hand sides B [n, columns] at once.
 *
 * Proceeds by blocks of 32 rows, from the top (from the bottom for Lᵀ): B[i] −= L[i, :i]·X[:i],
 * then X[i] = L[i, i]⁻¹·B[i] with the inverse that cholesky() stored.
 *
 * @returns X [n, columns]
 * @throws {ShapeError} when B and L differ in their number of rows
 */
export function triangularSolve(factor: CholeskyFactor, b: Tensor, options: TriangularSolveOptions = {}): Tensor {
  const { transpose = false } = options;
  const [rows, columns] = b.dims(2);
  if (rows !== factor.size) {
    throw new ShapeError(
      `Cannot solve for right-hand sides [${rows}, ${columns}] as the factor has ${factor.size} rows: ${rows} ≠ ${factor.size}`,
      [b.shape, factor.lower.shape],
    );
  }
  const { lower, inverses } = factor;
  const padded = lower.shape[0], width = roundUp(columns, 4);
  return b.gpu.scope(() => {
    const work = copyMatrix({ matrix: b }, { shape: [padded, width], real: lower.dtype as "f32" | "f64" });
    const x = Tensor.empty(b.gpu, [padded, width], lower.dtype);
    for (let step = 0; step < padded; step += blockSize) {
      const start = transpose ? padded - blockSize - step : step;
      const here = { row: start, rows: blockSize };
      const known = transpose ? { row: start + blockSize } : { rows: start };
      if (step > 0) {
        const factorPart = transpose
          ? { matrix: lower, row: start + blockSize, column: start, columns: blockSize }
          : { matrix: lower, ...here, columns: start };
        addProduct({ matrix: work, ...here }, [factorPart, { matrix: x, ...known }], {
          transposeA: transpose,
          mode: "subtract",
        });
      }
      addProduct({ matrix: x, ...here }, [{ matrix: inverses, ...here }, { matrix: work, ...here }], {
        transposeA: transpose,
      });
    }
    return padded === rows && width === columns ? x : copyMatrix({ matrix: x }, { shape: [rows, columns] });
  });
}
