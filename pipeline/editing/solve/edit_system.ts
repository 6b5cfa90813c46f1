/**
 * From rows to the operator E: which system to solve, in which arithmetic, and whether the result
 * can be trusted.
 */

import { ShapeError } from "../../../engine/errors.ts";
import type { Gpu } from "../../../engine/gpu.ts";
import type { Tensor } from "../../../engine/tensor.ts";
import { firstBadPivot } from "../../../kernels/linalg/cholesky.ts";
import { gram } from "../../../kernels/linalg/gram.ts";
import { conditionNumber, type HostFactor, largestEigenvalue, normalResidual } from "./certificate.ts";
import { ChannelSolver, RefinedChannelSolver } from "./channel_solver.ts";
import { type EditRows, mergeRows } from "../prompts/edit_rows.ts";
import type { EditSolver, Solution } from "./edit_solver.ts";
import { IllConditionedError, LambdaError } from "../errors.ts";
import { EditOperator, type EditRoute, type OperatorReport } from "../operator.ts";
import type { HostRows } from "../prompts/recipe.ts";
import { RefinedTokenSolver, TokenSolver } from "./token_solver.ts";

/** Source and destination embeddings of an edit, row by row. */
export interface EditInput {
  /** C [n, d], f32 or f64. */
  readonly source: Tensor;
  /** D [n, d]. A row that equals its source is one to preserve. */
  readonly destination: Tensor;
  /** Weights of the rows. Default: 1 each. */
  readonly weights?: ArrayLike<number>;
}

/** How an edit is solved. */
export interface EditSystemOptions {
  /**
   * Default: "tokens" (n × n) while there are no more rows than channels after merging, otherwise
   * "channels" (d × d).
   */
  readonly route?: EditRoute;
  /** Default: f64 where the device has it. */
  readonly precision?: "f64" | "f32";
}

/** Beyond this condition number the result would be off by 10⁻⁴ or more. */
const worstCondition = { f64: 1e12, f32: 3e9 };
/** What is proposed in its place keeps the error below 10⁻⁵ with room to spare. */
const goodCondition = { f64: 1e9, f32: 1e8 };
/**
 * Pivots of the second factor of a refined solution that lie further apart say that the first one
 * was too coarse.
 */
const widestSpread = 1e3;

/**
 * The equations of an edit, ready to be solved for any λ: embeddings and Gram matrix stay on the
 * device, so that another λ costs one factorization.
 *
 * ```ts
 * using system = await EditSystem.prepare(gpu, { source, destination });
 * for (const lamb of [0.01, 0.1, 1]) {
 *   using operator = await system.solve({ lamb });
 *   console.log(lamb, operator.report!.relativeSize);
 * }
 * ```
 */
export class EditSystem implements Disposable {
  readonly gpu: Gpu;
  /** The merged rows, on the host. */
  readonly rows: EditRows;
  readonly route: EditRoute;
  readonly precision: "f64" | "f32";
  readonly #solver: EditSolver | undefined;
  #preparationMs: number;

  private constructor(gpu: Gpu, rows: EditRows, options: EditSystemOptions, started: number) {
    this.gpu = gpu;
    this.rows = rows;
    this.route = options.route ?? (rows.count <= rows.width ? "tokens" : "channels");
    this.precision = options.precision ?? (gpu.info.f64 ? "f64" : "f32");
    if (rows.edited > 0) {
      const Solver = this.route === "tokens"
        ? { f64: TokenSolver, f32: RefinedTokenSolver }[this.precision]
        : { f64: ChannelSolver, f32: RefinedChannelSolver }[this.precision];
      this.#solver = new Solver(gpu, rows);
    }
    this.#preparationMs = performance.now() - started;
  }

  /**
   * Reads the embeddings back, merges equal rows and uploads what the solver needs.
   *
   * @throws {ShapeError} when shapes or the number of weights do not fit
   * @throws {EditError} when a number is not finite, a weight is negative, or there are no rows
   */
  static async prepare(gpu: Gpu, input: EditInput, options: EditSystemOptions = {}): Promise<EditSystem> {
    const started = performance.now();
    const { source, destination, weights } = input;
    if (source.shape.length !== 2 || source.shape.join() !== destination.shape.join()) {
      throw new ShapeError(
        `Cannot edit with sources [${source.shape.join(", ")}] and destinations [${
          destination.shape.join(", ")
        }] as both must be [rows, width]`,
        [source.shape, destination.shape],
      );
    }
    const [c, d] = await Promise.all([source.float64(), destination.float64()]);
    const rows = mergeRows(c, d, { width: source.shape[1], weights });
    return new EditSystem(gpu, rows, options, started);
  }

  /**
   * The same from embeddings on the host.
   *
   * @throws as {@linkcode EditSystem.prepare} does
   */
  static fromHost(gpu: Gpu, input: HostRows, options: EditSystemOptions = {}): EditSystem {
    const started = performance.now();
    return new EditSystem(gpu, mergeRows(input.source, input.destination, input), options, started);
  }

  /**
   * Solves for a λ.
   *
   * @param options.lamb λ of eq. 5: how firmly everything else is held. Default: 0.1.
   * @throws {LambdaError} when λ is not a finite number above 0
   * @throws {IllConditionedError} when λ is too small for the arithmetic; it proposes one that is
   *   not
   */
  async solve(options: { lamb?: number } = {}): Promise<EditOperator> {
    const { lamb = 0.1 } = options;
    if (!(Number.isFinite(lamb) && lamb > 0)) throw new LambdaError(lamb);
    const started = performance.now();
    const { rows, route, precision } = this;
    const measured = this.#solver
      ? await this.#solveChecked(this.#solver, lamb)
      : { operator: EditOperator.identity(this.gpu, rows.width), conditionEstimate: 1, residual: 0, size: 0 };
    const { operator, conditionEstimate, residual, size } = measured;
    const ms = performance.now() - started + this.#preparationMs;
    this.#preparationMs = 0;
    const report: OperatorReport = {
      rows: rows.given,
      mergedRows: rows.count,
      rank: operator.rank,
      route,
      precision: precision === "f64" ? "f64" : "f32 refined",
      lamb,
      conditionEstimate,
      residual,
      relativeSize: size / Math.sqrt(rows.width),
      ms,
      limitedBy: limit(conditionEstimate, precision),
    };
    return new EditOperator(operator.factors, report);
  }

  /** Frees what is kept on the device. */
  [Symbol.dispose](): void {
    this.#solver?.[Symbol.dispose]();
  }

  async #solveChecked(solver: EditSolver, lamb: number) {
    for (let effort = 0;; effort++) {
      const solution = solver.record(lamb, effort);
      const { left, right, factors } = solution;
      let kept = false;
      try {
        const host = await this.#read(solution);
        const trouble = judge(host.pivots, this.precision === "f32");
        if (trouble && effort < solver.mostEffort) continue;
        if (trouble?.pivot) throw this.#tooSmall(lamb, { pivot: trouble.pivot, size: solver.order });
        const conditionEstimate = conditionNumber(host.factors);
        if (!(conditionEstimate <= worstCondition[this.precision])) {
          throw this.#tooSmall(lamb, { conditionEstimate, size: solver.order });
        }
        const residual = normalResidual(this.rows, host.operator, lamb);
        kept = true;
        return { operator: new EditOperator({ left, right }), conditionEstimate, residual, size: host.size };
      } finally {
        for (const factor of factors) factor[Symbol.dispose]();
        if (!kept) { for (const tensor of [left, right]) tensor?.[Symbol.dispose](); }
      }
    }
  }

  /** All that the host judges by, with one wait. */
  async #read({ left, right, factors }: Solution) {
    const rank = left.shape[0];
    const grams = right ? this.gpu.scope(() => [gram(left), gram(right)]) : []; // ‖PᵀQ‖² = ⟨PPᵀ, QQᵀ⟩
    try {
      const [pivots, lowers, p, q, gramP, gramQ] = await Promise.all([
        Promise.all(factors.map((factor) => factor.pivots.float64())),
        Promise.all(factors.map((factor) => factor.lower.float64())),
        left.float64(),
        right?.float64(),
        grams[0]?.float64(),
        grams[1]?.float64(),
      ]);
      return {
        pivots,
        factors: factors.map(({ size, lower }, i): HostFactor => ({ values: lowers[i], size, stride: lower.shape[1] })),
        operator: { left: p, right: q, rank },
        size: Math.sqrt(gramP && gramQ ? symmetricInnerProduct(gramP, gramQ, rank) : innerProduct(p, p)),
      };
    } finally {
      for (const tensor of grams) tensor[Symbol.dispose]();
    }
  }

  #tooSmall(
    lamb: number,
    trouble: { size: number; pivot?: { index: number; value: number }; conditionEstimate?: number },
  ): IllConditionedError {
    const { size, pivot, conditionEstimate } = trouble;
    const largest = largestEigenvalue(this.rows, lamb);
    const proposedLamb = roundedUp(largest / goodCondition[this.precision]);
    const reason = pivot
      ? `pivot ${pivot.index} of ${size} came out as ${pivot.value.toExponential(2)}, not above 0`
      : `the condition number of its ${size} equations is ${
        conditionEstimate!.toExponential(1)
      }, and ${this.precision} can do with ${worstCondition[this.precision].toExponential(0)}`;
    return new IllConditionedError(
      `Cannot solve the edit with lambda ${lamb} as ${reason}: lambda is too small beside embeddings whose squares sum to ${
        largest.toExponential(1)
      } in one direction. Use ${proposedLamb} or more`,
      { lamb, proposedLamb, ...trouble },
    );
  }
}

/**
 * Solves an edit: E − I = (D − C)ᵀ (λW⁻¹ + CCᵀ)⁻¹ C, in WGSL, by the n × n or the d × d system.
 *
 * @param options.lamb λ of eq. 5. Default: 0.1.
 * @throws as {@linkcode EditSystem.prepare} and {@linkcode EditSystem.solve} do
 */
export async function solveOperator(
  gpu: Gpu,
  input: EditInput,
  options: EditSystemOptions & { lamb?: number } = {},
): Promise<EditOperator> {
  using system = await EditSystem.prepare(gpu, input, options);
  return await system.solve(options);
}

/**
 * What is wrong with a factorization: a pivot that is not positive, or a refined factor that is no
 * good preconditioner.
 */
function judge(
  pivots: readonly Float64Array[],
  refined: boolean,
): { pivot?: { index: number; value: number } } | undefined {
  for (const diagonal of pivots) {
    const pivot = firstBadPivot(diagonal);
    if (pivot) return { pivot };
  }
  const last = pivots.at(-1)!;
  const spread = last.reduce((a, b) => Math.max(a, b)) / last.reduce((a, b) => Math.min(a, b));
  return refined && spread > widestSpread ? {} : undefined;
}

function innerProduct(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** ⟨A, B⟩ of symmetric matrices given by their lower triangles. */
function symmetricInnerProduct(a: Float64Array, b: Float64Array, side: number): number {
  let sum = 0;
  for (let i = 0; i < side; i++) {
    for (let j = 0; j < i; j++) sum += 2 * a[i * side + j] * b[i * side + j];
    sum += a[i * side + i] * b[i * side + i];
  }
  return Math.max(sum, 0);
}

/** The next of 1, 2, 5, 10, … */
function roundedUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 5, 10].find((step) => step * power >= value * (1 - 1e-9))!;
  return Number((step * power).toPrecision(1));
}

function limit(condition: number, precision: "f64" | "f32"): string {
  const solver = condition * (precision === "f64" ? 2 ** -53 : 2 ** -45);
  const root = Math.sqrt(condition);
  const candidates: [number, string][] = [
    [
      2 ** -24,
      "rounding of the factors to f32 (6e-8)",
    ],
    [solver, `the solver's own arithmetic (${solver.toExponential(0)})`],
    // Embeddings come from an f32 encoder; E − I answers to their rounding by the root of the
    // condition number at most.
    [
      root * 2 ** -24,
      `rounding of the embeddings to f32, which the edit amplifies by up to ${Math.round(root)} (${
        (root * 2 ** -24).toExponential(0)
      })`,
    ],
  ];
  return candidates.reduce((most, candidate) => candidate[0] > most[0] ? candidate : most)[1];
}
