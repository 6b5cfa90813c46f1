/**
 * TIME's edit as one operator, apart from any model: W' = WE (2303.08084, eq. 5, with the
 * destination's values written as Wd).
 */

import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { linearCombination } from "../../kernels/shape/linear_combination.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";

/** Which system was solved: one equation a token (n × n) or one a channel (d × d). */
export type EditRoute = "tokens" | "channels";

/** What a solved edit says of itself. */
export interface OperatorReport {
  /** Rows given: tokens of all sentences. */
  readonly rows: number;
  /** Rows left after equal sources were merged. */
  readonly mergedRows: number;
  /** Rows of the thin factors; width of the embeddings where E is held whole. */
  readonly rank: number;
  readonly route: EditRoute;
  /** The arithmetic: "f64", or f32 with products from exact slices and a second factorization. */
  readonly precision: "f64" | "f32 refined";
  readonly lamb: number;
  /** Estimated condition number of the system. */
  readonly conditionEstimate: number;
  /** ‖(E − I)(λI + CᵀWC) − (D − C)ᵀWC‖ over the last term's norm, estimated in float64. */
  readonly residual: number;
  /** ‖E − I‖ / ‖I‖, Frobenius. */
  readonly relativeSize: number;
  /** Wall-clock time from rows to checked factors. */
  readonly ms: number;
  /** What bounds the accuracy of E, in words with the number. */
  readonly limitedBy: string;
}

/** E − I as factors on the device, f32. */
export interface OperatorFactors {
  /** P [rank, width]. */
  readonly left: Tensor;
  /** Q [rank, width]: E − I = PᵀQ. Without it E − I = Pᵀ, and P is [width, width]. */
  readonly right?: Tensor;
}

/**
 * E = I + PᵀQ, which turns the embedding of a source token into that of its destination and leaves
 * alone what lies across.
 *
 * ```ts
 * using operator = await solveOperator(gpu, { source, destination }, { lamb: 0.1 });
 * using edited = operator.apply(embeddings); // [B, T, d]: what the edited layers read
 * console.log(operator.rank, operator.report?.residual);
 * ```
 */
export class EditOperator implements Disposable {
  readonly gpu: Gpu;
  /** Width d of the embeddings. */
  readonly width: number;
  /** P and Q; they are the operator's. */
  readonly factors: OperatorFactors;
  /** What the solver said; undefined for operators that were composed, scaled or loaded. */
  readonly report: OperatorReport | undefined;

  /**
   * Takes factors over.
   *
   * @throws {ShapeError} when they do not fit each other
   */
  constructor(factors: OperatorFactors, report?: OperatorReport) {
    const { left, right } = factors;
    const [rank, width] = left.dims(2);
    if (right ? right.shape.join() !== left.shape.join() : rank !== width) {
      throw new ShapeError(
        `Cannot make an operator of factors [${rank}, ${width}] and ${
          right ? `[${right.shape.join(", ")}]` : "the identity"
        } as their shapes must agree`,
        [left.shape, right?.shape ?? [width, width]],
      );
    }
    this.gpu = left.gpu;
    this.width = width;
    this.factors = factors;
    this.report = report;
  }

  /** The operator that changes nothing. */
  static identity(gpu: Gpu, width: number): EditOperator {
    return new EditOperator({ left: Tensor.empty(gpu, [0, width]), right: Tensor.empty(gpu, [0, width]) });
  }

  /** Rows of P and Q: the rank of E − I is no higher. */
  get rank(): number {
    return this.factors.left.shape[0];
  }

  /**
   * E applied to each row vector: x + strength · (xQᵀ)P.
   *
   * @param x [..., width]
   * @param options.strength 0 leaves x, 1 is the edit; beyond that it is overdone. Default: 1.
   * @throws {ShapeError} when the rows have another width
   */
  apply(x: Tensor, options: { strength?: number } = {}): Tensor {
    const { strength = 1 } = options;
    if (x.shape.at(-1) !== this.width) {
      throw new ShapeError(
        `Cannot edit embeddings [${x.shape.join(", ")}] with an operator of width ${this.width}: ${
          x.shape.at(-1)
        } ≠ ${this.width}`,
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
   * (E − I) applied to each row vector: what an edit adds.
   *
   * @param x [..., width]
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
   * E [width, width] whole, in float64 from the factors: E[i, j] weighs the source's channel j in
   * the destination's channel i.
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
   * This edit after another one: E₂E₁ = I + P₁ᵀQ₁ + P₂ᵀ(Q₂E₁), thin again with both ranks added.
   *
   * @throws {ShapeError} when the widths differ
   */
  compose(first: EditOperator): EditOperator {
    if (first.width !== this.width) {
      throw new ShapeError(`Cannot compose edits of widths ${this.width} and ${first.width} as they must agree`, [
        this.factors.left.shape,
        first.factors.left.shape,
      ]);
    }
    return new EditOperator(this.gpu.scope(() => {
      const [one, two] = [first.thin(), this.thin()];
      if (one.left.shape[0] === 0) return two;
      if (two.left.shape[0] === 0) return one;
      const moved = matmul(matmul(two.right, one.left, { transposeB: true }), one.right, { residual: two.right });
      return { left: concat([one.left, two.left], 0), right: concat([one.right, moved], 0) };
    }));
  }

  /** I + strength · (E − I). */
  scaled(strength: number): EditOperator {
    const { left, right } = this.factors;
    return new EditOperator(this.gpu.scope(() => ({
      left: left.size === 0 ? left.reshape(left.shape) : linearCombination([{ tensor: left, coefficient: strength }]),
      right: right?.reshape(right.shape),
    })));
  }

  /** Both factors, with the identity written out where Q is one. The tensors are the caller's. */
  thin(): { left: Tensor; right: Tensor } {
    const { left, right } = this.factors;
    return { left: left.reshape(left.shape), right: right?.reshape(right.shape) ?? identityRows(this.gpu, this.width) };
  }

  /** Frees the factors. */
  [Symbol.dispose](): void {
    this.factors.left[Symbol.dispose]();
    this.factors.right?.[Symbol.dispose]();
  }
}

function identityRows(gpu: Gpu, width: number): Tensor {
  const rows = new Float32Array(width * width);
  for (let i = 0; i < width; i++) rows[i * (width + 1)] = 1;
  return Tensor.from(gpu, rows, [width, width]);
}
