/**
 * The edit operator E of TIME (Orgad et al., arXiv 2303.08084, eq. 5), independent of any model.
 *
 * TIME replaces each key or value projection W [features, d] of cross-attention by the W' that
 * minimizes
 *
 *     Σᵢ ‖W'cᵢ − W dᵢ‖² + λ‖W' − W‖²    (Frobenius norm)
 *
 * where cᵢ and dᵢ are the text embeddings of source token i and of its destination token. With cᵢᵀ
 * and dᵢᵀ as the rows of C and D [n, d], the minimizer is
 *
 *     W' = WE,    E = (λI + DᵀC)(λI + CᵀC)⁻¹
 *
 * E does not depend on W, so one operator [d, d] edits every layer, and W'x = W(Ex): applying E to
 * the embeddings replaces changing the weights. E − I = (D − C)ᵀ(λI + CCᵀ)⁻¹C has rank n at most
 * and is stored as two thin factors, E − I = PᵀQ.
 *
 * @module
 */

import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { inspectAs } from "../../engine/inspect.ts";
import { Tensor } from "../../engine/tensor.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { linearCombination } from "../../kernels/shape/linear_combination.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";

/** The factors of an operator. E − I = PᵀQ, or Pᵀ where Q is undefined. */
export interface SavedFactors {
  readonly width: number;
  readonly rank: number;
  /** P [rank, width]. */
  readonly left: Float32Array<ArrayBuffer>;
  /** Q [rank, width]. */
  readonly right: Float32Array<ArrayBuffer> | undefined;
}

/**
 * Which linear system is solved: "tokens" with the n × n matrix λΩ⁻¹ + CCᵀ, or "channels" with the
 * d × d matrix λI + CᵀΩC, Ω being the diagonal matrix of row weights. Both give the same E.
 */
export type EditRoute = "tokens" | "channels";

/** Size, conditioning and accuracy of a solved operator. */
export interface OperatorReport {
  /** Number of rows of C and D: the tokens of all sentences. */
  readonly rows: number;
  /** Number of rows after merging equal source rows. */
  readonly mergedRows: number;
  /** Rows of P and Q; the width d where E − I is stored densely. */
  readonly rank: number;
  /** The form in which the system was solved. */
  readonly route: EditRoute;
  /**
   * The arithmetic of the solver: "f64", or "f32 refined": f32 with error-free products and a
   * second Cholesky factorization.
   */
  readonly precision: "f64" | "f32 refined";
  /** λ of eq. 5. */
  readonly lamb: number;
  /** Estimated 2-norm condition number κ of the system's matrix, a lower bound. */
  readonly conditionEstimate: number;
  /**
   * Relative residual of the normal equations, ‖(E − I)(λI + CᵀΩC) − (D − C)ᵀΩC‖ / ‖(D − C)ᵀΩC‖,
   * estimated in float64 on the host.
   */
  readonly residual: number;
  /** ‖E − I‖ / ‖I‖ in the Frobenius norm. */
  readonly relativeSize: number;
  /** Wall-clock time from the rows to the verified factors, in milliseconds. */
  readonly ms: number;
  /** The dominant error bound of E, as text with its value. */
  readonly limitedBy: string;
}

/** E − I as factors on the device, in f32. */
export interface OperatorFactors {
  /** P [rank, width]. */
  readonly left: Tensor;
  /** Q [rank, width], with E − I = PᵀQ. Undefined when Q = I: then P is (E − I)ᵀ [width, width]. */
  readonly right?: Tensor;
}

/**
 * E = I + PᵀQ [width, width]: maps the embedding of a source token close to that of its destination
 * token, and is the identity on the orthogonal complement of the source embeddings.
 *
 * ```ts
 * using operator = await solveOperator(gpu, { source, destination }, { lamb: 0.1 });
 * using edited = operator.apply(embeddings); // [B, T, d]: what the edited layers read
 * console.log(operator.rank, operator.report?.residual);
 * ```
 */
export class EditOperator implements Disposable {
  /** The device that the factors are on. */
  readonly gpu: Gpu;
  /** Width d of the embeddings. */
  readonly width: number;
  /** P and Q. The operator owns them. */
  readonly factors: OperatorFactors;
  /** The solver's report; undefined for composed, scaled and loaded operators. */
  readonly report: OperatorReport | undefined;

  /**
   * Takes ownership of the factors.
   *
   * @throws {ShapeError} when the shapes of P and Q differ, or P alone is not square
   */
  constructor(factors: OperatorFactors, report?: OperatorReport) {
    const { left, right } = factors;
    const [rank, width] = left.dims(2);
    if (right ? right.shape.join() !== left.shape.join() : rank !== width) {
      throw new ShapeError(
        right
          ? `Cannot build an edit operator from P [${rank}, ${width}] and Q [${
            right.shape.join(", ")
          }]: the shapes must agree`
          : `Cannot build an edit operator from P [${rank}, ${width}] without Q: P must be square`,
        [left.shape, right?.shape ?? [width, width]],
      );
    }
    this.gpu = left.gpu;
    this.width = width;
    this.factors = factors;
    this.report = report;
  }

  /** The identity operator, of rank 0. */
  static identity(gpu: Gpu, width: number): EditOperator {
    return new EditOperator({ left: Tensor.empty(gpu, [0, width]), right: Tensor.empty(gpu, [0, width]) });
  }

  /** Number of rows of P and Q, an upper bound of the rank of E − I. */
  get rank(): number {
    return this.factors.left.shape[0];
  }

  /**
   * Applies E to each row: x + strength · (xQᵀ)P.
   *
   * @param x embeddings [..., width]
   * @param options.strength 0 returns x, 1 applies the edit as solved. Default: 1.
   * @returns a tensor of x's shape
   * @throws {ShapeError} when the last dimension of x is not the operator's width
   */
  apply(x: Tensor, options: { strength?: number } = {}): Tensor {
    const { strength = 1 } = options;
    if (x.shape.at(-1) !== this.width) {
      throw new ShapeError(
        `Cannot apply an edit of width ${this.width} to embeddings [${
          x.shape.join(", ")
        }]: the last dimension must be ${this.width}, as of the model that it was solved for`,
        [x.shape],
      );
    }
    if (this.rank === 0 || strength === 0 || x.size === 0) return x.reshape(x.shape);
    const { left, right } = this.factors;
    return this.gpu.scope(() => {
      const rows = x.reshape([x.size / this.width, this.width]);
      if (!right) return matmul(rows, left, { residual: rows, scale: strength }).reshape(x.shape);
      const inner = matmul(rows, right, { transposeB: true, scale: strength }); // [rows, rank]
      return matmul(inner, left, { residual: rows }).reshape(x.shape);
    });
  }

  /**
   * Applies E − I to each row: (xQᵀ)P, the change that the edit makes.
   *
   * @param x embeddings [..., width]
   */
  change(x: Tensor): Tensor {
    const { left, right } = this.factors;
    return this.gpu.scope(() => {
      const rows = x.reshape([x.size / this.width, this.width]);
      if (this.rank === 0) return Tensor.from(this.gpu, new Float32Array(x.size), x.shape);
      return matmul(right ? matmul(rows, right, { transposeB: true }) : rows, left).reshape(x.shape);
    });
  }

  /**
   * E as a dense row-major matrix [width, width], computed in float64 from the f32 factors. E acts
   * on column vectors: (Ex)ᵢ = Σⱼ E[i, j] xⱼ.
   */
  async dense(): Promise<Float64Array<ArrayBuffer>> {
    const { width, rank } = this;
    const e = new Float64Array(width * width);
    for (let i = 0; i < width; i++) e[i * (width + 1)] = 1;
    if (rank === 0) return e;
    const { left, right } = this.factors;
    const [p, q] = await Promise.all([left.data(), right?.data()]);
    for (let k = 0; k < rank; k++) {
      for (let i = 0; i < width; i++) {
        const factor = p[k * width + i];
        if (!q) e[i * width + k] += factor;
        else for (let j = 0; j < width; j++) e[i * width + j] += factor * q[k * width + j];
      }
    }
    return e;
  }

  /**
   * The product E₂E₁, with this operator as E₂ and `first` as E₁. From E₂E₁ = I + P₁ᵀQ₁ + P₂ᵀ(Q₂E₁)
   * its factors are the stacked rows [P₁; P₂] and [Q₁; Q₂E₁]; the ranks add up.
   *
   * @throws {ShapeError} when the widths differ
   */
  compose(first: EditOperator): EditOperator {
    if (first.width !== this.width) {
      throw new ShapeError(
        `Cannot compose edits of widths ${this.width} and ${first.width}: the widths must be equal`,
        [
          this.factors.left.shape,
          first.factors.left.shape,
        ],
      );
    }
    return new EditOperator(this.gpu.scope(() => {
      const [one, two] = [first.thin(), this.thin()];
      if (one.left.shape[0] === 0) return two;
      if (two.left.shape[0] === 0) return one;
      const moved = matmul(matmul(two.right, one.left, { transposeB: true }), one.right, { residual: two.right });
      return { left: concat([one.left, two.left], 0), right: concat([one.right, moved], 0) };
    }));
  }

  /** The operator I + strength · (E − I). */
  scaled(strength: number): EditOperator {
    const { left, right } = this.factors;
    return new EditOperator(this.gpu.scope(() => ({
      left: left.size === 0 ? left.reshape(left.shape) : linearCombination([{ tensor: left, coefficient: strength }]),
      right: right?.reshape(right.shape),
    })));
  }

  /** A second owner of the same factors: they live until both are disposed of. */
  share(): EditOperator {
    const { left, right } = this.factors;
    return new EditOperator({
      left: left.reshape(left.shape).keep(),
      right: right?.reshape(right.shape).keep(),
    }, this.report);
  }

  /** P and Q, with Q = I materialized where it is undefined. The caller owns the tensors. */
  thin(): { left: Tensor; right: Tensor } {
    const { left, right } = this.factors;
    return {
      left: left.reshape(left.shape),
      right: right?.reshape(right.shape) ?? identityMatrix(this.gpu, this.width),
    };
  }

  /** Frees the factors. */
  [Symbol.dispose](): void {
    this.factors.left[Symbol.dispose]();
    this.factors.right?.[Symbol.dispose]();
  }
}

function identityMatrix(gpu: Gpu, width: number): Tensor {
  const rows = new Float32Array(width * width);
  for (let i = 0; i < width; i++) rows[i * (width + 1)] = 1;
  return Tensor.from(gpu, rows, [width, width]);
}

inspectAs(EditOperator.prototype, (operator) => {
  if (!(operator instanceof EditOperator)) return "EditOperator";
  return `EditOperator ${operator.width} × ${operator.width}, rank ${operator.rank}`;
});
