/**
 * Solves the edit by the n × n system of the tokens: E − I = (D − C)ᵀA⁻¹C, A = λΩ⁻¹ + CCᵀ.
 *
 * With the Cholesky factorization A = LLᵀ, E − I = PᵀQ, P = L⁻¹(D − C), Q = L⁻¹C. This splitting is
 * numerically stable: ‖Q‖₂ ≤ 1, so the product PᵀQ hardly cancels. Forming (D − C)ᵀ(A⁻¹C) instead
 * can cancel by up to √κ(A). The weights enter as λ/ωᵢ on the diagonal, because scaling the rows by
 * √ωᵢ would round them.
 *
 * @module
 */

import type { Gpu } from "../../../engine/gpu.ts";
import { roundUp } from "../../../engine/memory/pool.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { blockSize, cholesky, type CholeskyFactor } from "../../../kernels/linalg/cholesky.ts";
import { copyMatrix } from "../../../kernels/linalg/copy_matrix.ts";
import { exactProduct, largestExactDepth } from "../../../kernels/linalg/exact_product.ts";
import { type Sliced, slices } from "../../../kernels/linalg/slices.ts";
import { addProduct } from "../../../kernels/linalg/real_product.ts";
import { triangularSolve } from "../../../kernels/linalg/triangular_solve.ts";
import type { EditRows } from "../prompts/edit_rows.ts";
import {
  checkRefinable,
  DeviceSolver,
  diagonalShift,
  identity,
  paddedRows,
  sideBySide,
  type Solution,
  uploadedPair,
} from "./edit_solver.ts";

/**
 * [C | D − C], padded to whole blocks, so that kernels need no edge cases: [height, 2 · stride].
 */
function paddedSides(rows: EditRows): { sides: Float64Array<ArrayBuffer>; height: number; stride: number } {
  const height = roundUp(rows.count, blockSize), stride = roundUp(rows.width, 4);
  const pad = (matrix: Float64Array) => paddedRows(matrix, { width: rows.width, height, stride });
  return { sides: sideBySide([pad(rows.source), pad(rows.change)], stride), height, stride };
}

/** Slices of [C | D − C] for error-free TC and T(D − C). */
const sideSlices = 4;

/** The diagonal of λΩ⁻¹: λ/ωᵢ for each row, and 1 for padding. */
function diagonalOf(rows: EditRows, height: number, lamb: number): Float64Array<ArrayBuffer> {
  return Float64Array.from({ length: height }, (_, i) => i < rows.count ? lamb / rows.weights[i] : 1);
}

/** The Gram matrix CCᵀ, lower triangle, with C as the left half of `sides`. */
function gramOfLeft(sides: Tensor): Tensor {
  const [height, width] = sides.dims(2);
  const gram = Tensor.empty(sides.gpu, [height, height], sides.dtype);
  const left = { matrix: sides, columns: width / 2 };
  addProduct({ matrix: gram }, [left, left], { transposeB: true, lowerOnly: true });
  return gram;
}

/**
 * P and Q from [L⁻¹C | L⁻¹(D − C)], without padding. Preserved rows come first and have zero rows
 * in P, so they are left out.
 */
function thinFactors(solved: Tensor, rows: EditRows): { left: Tensor; right: Tensor } {
  const edited = { matrix: solved, row: rows.count - rows.edited, rows: rows.edited, columns: rows.width };
  return {
    left: copyMatrix({ ...edited, column: solved.shape[1] / 2 }, { real: "f32" }),
    right: copyMatrix(edited, { real: "f32" }),
  };
}

/** Solves the n × n system in f64. */
export class TokenSolver extends DeviceSolver {
  override readonly maxEffort = 0;
  readonly #sides: Tensor;
  readonly #gram: Tensor;

  constructor(gpu: Gpu, rows: EditRows) {
    super(rows, rows.count);
    const { sides, height, stride } = paddedSides(rows);
    this.#sides = this.own(Tensor.from(gpu, sides, [height, 2 * stride]));
    this.#gram = this.own(gramOfLeft(this.#sides));
  }

  override record(lamb: number): Solution {
    const { gpu } = this.#sides;
    return gpu.scope(() => {
      const [height] = this.#gram.dims(2);
      const diagonal = Tensor.from(gpu, diagonalOf(this.rows, height, lamb), [height]);
      const factor = cholesky(copyMatrix({ matrix: this.#gram }, { addDiagonal: diagonal }));
      const solved = triangularSolve(factor, this.#sides); // L⁻¹[C | D − C]
      return { ...thinFactors(solved, this.rows), factors: [factor] };
    });
  }
}

/**
 * Solves the n × n system in f32 only, to full f32 accuracy up to condition numbers above 10⁹.
 *
 * For every invertible T, E − I = (T(D − C))ᵀ(TATᵀ)⁻¹(TC). Take T = L₁⁻¹, where L₁ is the Cholesky
 * factor of A rounded to f32. Then TATᵀ is close to I, and f32 suffices to form, factor and solve
 * it. Only the products TC and T(D − C) cancel; they are computed without error from slices of the
 * operands. Errors of L₁ do not matter, as in CholeskyQR2 (Yamamoto et al., ETNA 44, 2015). If L₁
 * was too inaccurate, T ← L₂⁻¹T and the step is repeated.
 */
export class RefinedTokenSolver extends DeviceSolver {
  override readonly maxEffort = 2;
  readonly #gram: Tensor;
  readonly #slices: Sliced;
  readonly #squaredNorms: Float64Array;

  constructor(gpu: Gpu, rows: EditRows) {
    super(rows, rows.count);
    const { sides, height, stride } = paddedSides(rows);
    checkRefinable(rows, largestExactDepth(gpu, { count: sideSlices, lines: 2 * stride }));
    using pair = uploadedPair(gpu, sides, [height, 2 * stride]);
    this.#gram = this.own(gramOfLeft(pair.high));
    this.#slices = this.own(slices(pair, { along: "columns", count: sideSlices }));
    this.#squaredNorms = Float64Array.from({ length: height }, (_, i) => {
      let sum = 0;
      for (let j = 0; j < stride; j++) sum += sides[2 * i * stride + j] ** 2;
      return sum;
    });
  }

  override record(lamb: number, effort: number): Solution {
    const { gpu } = this.#gram;
    const [height] = this.#gram.dims(2);
    const diagonal = diagonalOf(this.rows, height, lamb);
    return gpu.scope(() => {
      const shift = diagonalShift(height, effort);
      const raised = diagonal.map((value, i) => value + shift * (value + this.#squaredNorms[i]));
      const rounded = copyMatrix({ matrix: this.#gram }, { addDiagonal: Tensor.from(gpu, raised, [height], "f32") });
      const roots = Tensor.from(gpu, diagonal.map(Math.sqrt), [height], "f32"); // Λ^½
      const factors: CholeskyFactor[] = [cholesky(rounded)];
      let inverse = triangularSolve(factors[0], identity(gpu, height)); // T
      for (let pass = 0;; pass++) {
        const sides = this.#transformed(inverse); // [TC | T(D − C)]
        const left = { matrix: sides, columns: sides.shape[1] / 2 };
        const scaled = { matrix: copyMatrix({ matrix: inverse }, { scaleColumns: roots }) }; // TΛ^½
        const gram = Tensor.empty(gpu, [height, height]); // TATᵀ = (TC)(TC)ᵀ + (TΛ^½)(TΛ^½)ᵀ
        addProduct({ matrix: gram }, [left, left], { transposeB: true, lowerOnly: true });
        addProduct({ matrix: gram }, [scaled, scaled], { transposeB: true, lowerOnly: true, mode: "add" });
        const factor = cholesky(gram);
        factors.push(factor);
        if (pass === effort) return { ...thinFactors(triangularSolve(factor, sides), this.rows), factors };
        inverse = triangularSolve(factor, inverse);
      }
    });
  }

  #transformed(inverse: Tensor): Tensor {
    return exactProduct(slices(inverse, { along: "rows", count: 3 }), this.#slices, { lowerA: true });
  }
}
