/**
 * Solves the edit by the d × d system of the channels, for more rows than channels: Z = (E − I)ᵀ =
 * H⁻¹F, H = λI + CᵀΩC, F = CᵀΩ(D − C).
 *
 * @module
 */

import type { Gpu } from "../../../engine/gpu.ts";
import { roundUp } from "../../../engine/memory/pool.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { addScaled } from "../../../kernels/linalg/add_scaled.ts";
import { blockSize, cholesky, type CholeskyFactor } from "../../../kernels/linalg/cholesky.ts";
import { copyMatrix } from "../../../kernels/linalg/copy_matrix.ts";
import { exactProduct, exactProductPair, largestExactDepth } from "../../../kernels/linalg/exact_product.ts";
import { type Pair, slices } from "../../../kernels/linalg/slices.ts";
import { gram } from "../../../kernels/linalg/gram.ts";
import { addProduct } from "../../../kernels/linalg/real_product.ts";
import { triangularSolve } from "../../../kernels/linalg/triangular_solve.ts";
import type { EditRows } from "../prompts/edit_rows.ts";
import {
  checkRefinable,
  DeviceSolver,
  diagonalShift,
  identity,
  paddedRows,
  type Solution,
  uploadedPair,
} from "./edit_solver.ts";

/** C, ΩC and Ω(D − C), padded to whole blocks: [height, stride]. */
function paddedMatrices(rows: EditRows) {
  const shape = { width: rows.width, height: roundUp(rows.count, 4), stride: roundUp(rows.width, blockSize) };
  const weighted = (matrix: Float64Array) => matrix.map((value, i) => value * rows.weights[Math.floor(i / rows.width)]);
  return {
    height: shape.height,
    stride: shape.stride,
    source: paddedRows(rows.source, shape),
    weightedSource: paddedRows(weighted(rows.source), shape),
    weightedChange: paddedRows(weighted(rows.change), shape),
  };
}

/** Z = (E − I)ᵀ [d, d] without padding: the factor P of a product with Q = I. */
function denseFactor(z: Tensor, { width }: EditRows): Tensor {
  return copyMatrix({ matrix: z, rows: width, columns: width }, { real: "f32" });
}

/** Slices of Cᵀ, ΩC and Ω(D − C) for an error-free CᵀΩC. */
const gramSlices = 5;

const filled = (length: number, value: number) => new Float64Array(length).fill(value);

/** Solves the d × d system in f64. */
export class ChannelSolver extends DeviceSolver {
  override readonly maxEffort = 0;
  readonly #gram: Tensor;
  readonly #right: Tensor;

  constructor(gpu: Gpu, rows: EditRows) {
    super(rows, rows.width);
    const { height, stride, source, weightedSource, weightedChange } = paddedMatrices(rows);
    const [gramMatrix, right] = gpu.scope(() => {
      const c = Tensor.from(gpu, source, [height, stride]);
      const weighted = Tensor.from(gpu, weightedSource, [height, stride]);
      const change = Tensor.from(gpu, weightedChange, [height, stride]);
      const right = Tensor.empty(gpu, [stride, stride], "f64");
      addProduct({ matrix: right }, [{ matrix: c }, { matrix: change }], { transposeA: true });
      return [gram(c, { of: "columns", weighted }), right] as const;
    });
    this.#gram = this.own(gramMatrix);
    this.#right = this.own(right);
  }

  override record(lamb: number): Solution {
    const { gpu } = this.#gram;
    return gpu.scope(() => {
      const [side] = this.#gram.dims(2);
      const diagonal = Tensor.from(gpu, filled(side, lamb), [side]);
      const factor = cholesky(copyMatrix({ matrix: this.#gram }, { addDiagonal: diagonal }));
      const z = triangularSolve(factor, triangularSolve(factor, this.#right), { transpose: true });
      return { left: denseFactor(z, this.rows), factors: [factor] };
    });
  }
}

/**
 * Solves the d × d system in f32 only, by preconditioned iterative refinement.
 *
 * G = CᵀΩC and F are computed without error from slices of the operands, as unevaluated sums of two
 * f32. The preconditioner M⁻¹ = TᵀB⁻¹T comes from the two-step factorization that token_solver.ts
 * explains, with B = THTᵀ and an error-free TCᵀ. Refinement iterates Z ← Z + M⁻¹(F − GZ − λZ), with
 * an error-free GZ. M has a relative error of 10⁻³ at most, so two corrections reach f32 accuracy.
 */
export class RefinedChannelSolver extends DeviceSolver {
  override readonly maxEffort = 2;
  /** Cᵀ [side, height]. */
  readonly #transposed: Pair;
  readonly #gram: Pair;
  readonly #right: Pair;
  readonly #diagonal: Float64Array;
  readonly #roots: Tensor;

  constructor(gpu: Gpu, rows: EditRows) {
    super(rows, rows.width);
    const { height, stride, source, weightedSource, weightedChange } = paddedMatrices(rows);
    checkRefinable(rows, largestExactDepth(gpu, { count: gramSlices, lines: stride }));
    const transposed = new Float64Array(source.length);
    this.#diagonal = new Float64Array(stride);
    for (let i = 0; i < height; i++) {
      for (let j = 0; j < stride; j++) {
        transposed[j * height + i] = source[i * stride + j];
        this.#diagonal[j] += source[i * stride + j] * weightedSource[i * stride + j];
      }
    }
    this.#transposed = this.own(uploadedPair(gpu, transposed, [stride, height]));
    const roots = Float64Array.from({ length: height }, (_, i) => Math.sqrt(rows.weights[i] ?? 0));
    this.#roots = this.own(Tensor.from(gpu, roots, [height], "f32"));
    using left = slices(this.#transposed, { along: "rows", count: gramSlices });
    const times = (values: Float64Array) => {
      using right = uploadedPair(gpu, values, [height, stride]);
      using rightSlices = slices(right, { along: "columns", count: gramSlices });
      return this.own(exactProductPair(left, rightSlices));
    };
    this.#gram = times(weightedSource);
    this.#right = times(weightedChange);
  }

  override record(lamb: number, effort: number): Solution {
    const { gpu } = this.#gram.high;
    return gpu.scope(() => {
      const { factors, inverse } = this.#preconditioner(lamb, effort);
      const last = factors.at(-1)!;
      const precondition = (y: Tensor) => { // M⁻¹y = TᵀB⁻¹Ty
        const transformed = Tensor.empty(gpu, y.shape);
        addProduct({ matrix: transformed }, [{ matrix: inverse }, { matrix: y }]);
        const solved = triangularSolve(last, triangularSolve(last, transformed), { transpose: true });
        const result = Tensor.empty(gpu, y.shape);
        addProduct({ matrix: result }, [{ matrix: inverse }, { matrix: solved }], { transposeA: true });
        return result;
      };
      const left = slices(this.#gram, { along: "rows", count: 5 });
      const z = precondition(this.#right.high);
      for (let correction = 0; correction < 2; correction++) {
        addScaled(z, precondition(this.#residual(left, z, lamb)), 1);
      }
      return { left: denseFactor(z, this.rows), factors };
    });
  }

  /**
   * The residual F − GZ − λZ. The high parts nearly cancel, so their difference is exact; the low
   * parts are added afterwards.
   */
  #residual(gram: ReturnType<typeof slices>, z: Tensor, lamb: number): Tensor {
    const product = exactProductPair(gram, slices(z, { along: "columns", count: 4 }));
    const residual = copyMatrix({ matrix: this.#right.high });
    addScaled(residual, product.high, -1);
    addScaled(residual, z, -lamb);
    addScaled(residual, this.#right.low, 1);
    addScaled(residual, product.low, -1);
    return residual;
  }

  /** T, and the factors L₁, L₂, … whose last one is the Cholesky factor of B = THTᵀ. */
  #preconditioner(lamb: number, effort: number): { factors: CholeskyFactor[]; inverse: Tensor } {
    const { gpu } = this.#gram.high;
    const [side] = this.#gram.high.dims(2);
    const [, height] = this.#transposed.high.dims(2);
    const shift = diagonalShift(side, effort);
    const raised = this.#diagonal.map((value) => lamb + shift * (value + lamb));
    const rounded = copyMatrix({ matrix: this.#gram.high }, {
      addDiagonal: Tensor.from(gpu, raised, [side], "f32"),
    });
    const factors = [cholesky(rounded)];
    const roots = Tensor.from(gpu, filled(side, Math.sqrt(lamb)), [side], "f32");
    const rowSlices = slices(this.#transposed, { along: "columns", count: 4 });
    let inverse = triangularSolve(factors[0], identity(gpu, side));
    for (let pass = 0;; pass++) {
      // TCᵀ
      const product = exactProduct(slices(inverse, { along: "rows", count: 3 }), rowSlices, { lowerA: true });
      const weighted = { matrix: copyMatrix({ matrix: product }, { scaleColumns: this.#roots }), columns: height };
      const scaled = { matrix: copyMatrix({ matrix: inverse }, { scaleColumns: roots }) };
      const gram = Tensor.empty(gpu, [side, side]); // THTᵀ
      addProduct({ matrix: gram }, [weighted, weighted], { transposeB: true, lowerOnly: true });
      addProduct({ matrix: gram }, [scaled, scaled], { transposeB: true, lowerOnly: true, mode: "add" });
      factors.push(cholesky(gram));
      if (pass === effort) return { factors, inverse };
      inverse = triangularSolve(factors.at(-1)!, inverse);
    }
  }
}
