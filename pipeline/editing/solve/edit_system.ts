/**
 * Solves for the operator E: selects the system and the arithmetic, and verifies the result.
 *
 * @module
 */

import { ShapeError } from "../../../engine/errors.ts";
import type { Gpu } from "../../../engine/gpu.ts";
import type { Tensor } from "../../../engine/tensor.ts";
import { firstBadPivot } from "../../../kernels/linalg/cholesky.ts";
import { gram } from "../../../kernels/linalg/gram.ts";
import { breathe } from "../breathe.ts";
import { conditionNumber, type HostFactor, largestEigenvalue, normalResidual } from "./certificate.ts";
import { ChannelSolver, RefinedChannelSolver } from "./channel_solver.ts";
import { type EditRows, mergeRows } from "../prompts/edit_rows.ts";
import type { EditSolver, Solution } from "./edit_solver.ts";
import { IllConditionedError, LambdaError, largestLambda } from "../errors.ts";
import { EditOperator, type EditRoute, type OperatorReport } from "../operator.ts";
import type { HostRows } from "../prompts/recipe.ts";
import { RefinedTokenSolver, TokenSolver } from "./token_solver.ts";

/** Source and destination embeddings of an edit, as the rows of C and D. */
export interface EditInput {
  /** C [n, d], f32 or f64. */
  readonly source: Tensor;
  /** D [n, d]. A row that equals its source row is preserved. */
  readonly destination: Tensor;
  /** Row weights ωᵢ [n], the diagonal of Ω. Default: 1 each. */
  readonly weights?: ArrayLike<number>;
}

/** Options of the solver. */
export interface EditSystemOptions {
  /**
   * Which system to solve. Default: the smaller one, "tokens" (n × n) if n ≤ d after merging equal
   * rows, otherwise "channels" (d × d). The system of the pooled embedding (`withPooled`) is always
   * the smaller one.
   */
  readonly route?: EditRoute;
  /** Arithmetic of the solver. Default: f64 if the device supports it. */
  readonly precision?: "f64" | "f32";
}

/** Largest accepted condition number; above it the relative error of E may exceed 10⁻⁴. */
const maxCondition = { f64: 1e12, f32: 3e9 };
/** Condition number of the λ that an error proposes; it keeps the relative error below 10⁻⁵. */
const targetCondition = { f64: 1e9, f32: 1e8 };
/**
 * Largest accepted ratio of the pivots of a refined solution's last factor. The factor is close to
 * I unless the factorization before it was too inaccurate.
 */
const maxPivotRatio = 1e3;

/**
 * The equations of an edit, ready to be solved for any λ. The embeddings and the Gram matrix stay
 * on the device, so another λ costs one factorization.
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
  /** Made by the first solution, so that setting up the equations blocks the host in two parts. */
  #solver: EditSolver | undefined;
  #preparationMs: number;

  private constructor(gpu: Gpu, rows: EditRows, options: EditSystemOptions, started: number) {
    this.gpu = gpu;
    this.rows = rows;
    this.route = options.route ?? (rows.count <= rows.width ? "tokens" : "channels");
    this.precision = options.precision ?? (gpu.info.f64 ? "f64" : "f32");
    this.#preparationMs = performance.now() - started;
  }

  /**
   * Prepares the system: reads the embeddings back and merges equal rows. The first solution
   * computes the Gram matrix.
   *
   * @throws {ShapeError} when the shapes of C and D or the number of weights disagree
   * @throws {EditError} when a value is not finite, a weight is negative, or no row has a weight
   *   above 0
   */
  static async prepare(gpu: Gpu, input: EditInput, options: EditSystemOptions = {}): Promise<EditSystem> {
    const started = performance.now();
    const { source, destination, weights } = input;
    if (source.shape.length !== 2 || source.shape.join() !== destination.shape.join()) {
      throw new ShapeError(
        `Cannot solve an edit for sources [${source.shape.join(", ")}] and destinations [${
          destination.shape.join(", ")
        }]: both must have the same shape [rows, width]`,
        [source.shape, destination.shape],
      );
    }
    const [c, d] = await Promise.all([source.float64(), destination.float64()]);
    const rows = mergeRows(c, d, { width: source.shape[1], weights });
    return new EditSystem(gpu, rows, options, started);
  }

  /**
   * Prepares the system from embeddings on the host.
   *
   * @throws as {@linkcode EditSystem.prepare} does
   */
  static fromHost(gpu: Gpu, input: HostRows, options: EditSystemOptions = {}): EditSystem {
    const started = performance.now();
    return new EditSystem(gpu, mergeRows(input.source, input.destination, input), options, started);
  }

  /**
   * Solves for a λ and verifies the solution.
   *
   * @param options.lamb λ of eq. 5: larger values change the model less. Default: 0.1.
   * @param options.signal stops between the parts of the work
   * @throws {LambdaError} when λ is not a number above 0, or is larger than 10¹⁰⁰
   * @throws {IllConditionedError} when λ is too small for the arithmetic, or weights are too large;
   *   the error proposes others
   * @throws the signal's reason when it aborts
   */
  async solve(options: { lamb?: number; signal?: AbortSignal } = {}): Promise<EditOperator> {
    const { lamb = 0.1, signal } = options;
    if (!(lamb > 0 && lamb <= largestLambda)) throw new LambdaError(lamb);
    const started = performance.now();
    const { rows, route, precision } = this;
    const measured = rows.edited > 0
      ? await this.#solveChecked(lamb, signal)
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
      limitedBy: dominantError(conditionEstimate, precision),
    };
    return new EditOperator(operator.factors, report);
  }

  /** Frees the tensors on the device. */
  [Symbol.dispose](): void {
    this.#solver?.[Symbol.dispose]();
  }

  async #solveChecked(lamb: number, signal: AbortSignal | undefined) {
    await breathe(signal);
    const solver = this.#solver ??= newSolver(this);
    await breathe(signal);
    for (let effort = 0;; effort++) {
      const solution = solver.record(lamb, effort);
      using unlessReturned = new DisposableStack();
      const operator = unlessReturned.use(new EditOperator({ left: solution.left, right: solution.right }));
      using factors = new DisposableStack();
      for (const factor of solution.factors) factors.use(factor);
      const host = await this.#read(solution);
      await breathe(signal);
      const failure = factorizationFailure(host.pivots, this.precision === "f32");
      if (failure && effort < solver.maxEffort) continue;
      if (failure?.pivot) throw this.#illConditioned(lamb, { pivot: failure.pivot, size: solver.order });
      const conditionEstimate = conditionNumber(host.factors);
      await breathe(signal);
      if (!(conditionEstimate <= maxCondition[this.precision])) {
        throw this.#illConditioned(lamb, { conditionEstimate, size: solver.order });
      }
      const residual = normalResidual(this.rows, host.operator, lamb);
      unlessReturned.move();
      return { operator, conditionEstimate, residual, size: host.size };
    }
  }

  /** Reads everything that the certificate needs, in one readback. */
  async #read({ left, right, factors }: Solution) {
    const rank = left.shape[0];
    // ‖PᵀQ‖² = ⟨PPᵀ, QQᵀ⟩
    const grams = right ? this.gpu.scope(() => [gram(left), gram(right)]) : [];
    using disposables = new DisposableStack();
    for (const tensor of grams) disposables.use(tensor);
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
  }

  #illConditioned(
    lamb: number,
    failure: { size: number; pivot?: { index: number; value: number }; conditionEstimate?: number },
  ): IllConditionedError {
    const { size, pivot, conditionEstimate } = failure;
    const largest = largestEigenvalue(this.rows, lamb);
    const proposedLamb = roundedUp(largest / targetCondition[this.precision]);
    const lightest = lightestEdited(this.rows);
    const isSuppressed = proposedLamb > lightest / 10;
    const weightFactor = isSuppressed ? roundedUp(largest / lamb / targetCondition[this.precision]) : undefined;
    const reason = pivot
      ? `pivot ${pivot.index} of ${size} is ${pivot.value.toExponential(2)} and must be above 0`
      : `the condition number of the ${size} × ${size} system is ${
        conditionEstimate!.toExponential(1)
      }, and ${this.precision} allows at most ${maxCondition[this.precision].toExponential(0)}`;
    const advice = weightFactor === undefined
      ? `Lambda is too small for embeddings whose largest eigenvalue is ${
        largest.toExponential(1)
      }; use ${proposedLamb} or more`
      : `Some rows weigh too much: the largest eigenvalue is ${
        largest.toExponential(1)
      }, that of the lightest edited row alone ${lightest.toExponential(1)}, and a larger lambda would suppress it; ` +
        `divide preserveWeight (of uce: preserveScale), or the weight of the heaviest pair, by ${weightFactor} or more`;
    return new IllConditionedError(
      `Cannot solve the edit with lambda ${lamb}: ${reason}. ${advice}`,
      { lamb, proposedLamb, weightFactor, ...failure },
    );
  }
}

/** The smallest ωᵢ‖cᵢ‖² of the edited rows; λ far above it leaves that row as it is. */
function lightestEdited({ source, weights, width, count, edited }: EditRows): number {
  let least = Infinity;
  for (let row = count - edited; row < count; row++) {
    const squares = source.subarray(row * width, (row + 1) * width).reduce((sum, value) => sum + value * value, 0);
    least = Math.min(least, weights[row] * squares);
  }
  return least;
}

function newSolver({ gpu, rows, route, precision }: EditSystem): EditSolver {
  const Solver = route === "tokens"
    ? { f64: TokenSolver, f32: RefinedTokenSolver }[precision]
    : { f64: ChannelSolver, f32: RefinedChannelSolver }[precision];
  return new Solver(gpu, rows);
}

/**
 * Solves an edit on the device: E − I = (D − C)ᵀ(λΩ⁻¹ + CCᵀ)⁻¹C, by the n × n or the d × d system.
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
 * Checks the pivots of a solution's factors.
 *
 * @returns undefined when they are sound; the first pivot that is not positive; or an empty object
 *   when all are positive but the last factor is too far from I
 */
function factorizationFailure(
  pivots: readonly Float64Array[],
  refined: boolean,
): { pivot?: { index: number; value: number } } | undefined {
  for (const diagonal of pivots) {
    const pivot = firstBadPivot(diagonal);
    if (pivot) return { pivot };
  }
  const last = pivots.at(-1)!;
  const spread = last.reduce((a, b) => Math.max(a, b)) / last.reduce((a, b) => Math.min(a, b));
  return refined && spread > maxPivotRatio ? {} : undefined;
}

function innerProduct(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** The Frobenius inner product ⟨A, B⟩ of symmetric matrices given by their lower triangles. */
function symmetricInnerProduct(a: Float64Array, b: Float64Array, side: number): number {
  let sum = 0;
  for (let i = 0; i < side; i++) {
    for (let j = 0; j < i; j++) sum += 2 * a[i * side + j] * b[i * side + j];
    sum += a[i * side + i] * b[i * side + i];
  }
  return Math.max(sum, 0);
}

/** The value rounded up to 1, 2 or 5 times a power of ten. */
function roundedUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 5, 10].find((step) => step * power >= value * (1 - 1e-9))!;
  return Number((step * power).toPrecision(1));
}

/** The largest of the error bounds of E, as text. */
export function dominantError(condition: number, precision: "f64" | "f32"): string {
  const solver = condition * (precision === "f64" ? 2 ** -53 : 2 ** -45);
  const root = Math.sqrt(condition);
  const candidates: [number, string][] = [
    [
      2 ** -24,
      "rounding of the factors to f32 (6e-8)",
    ],
    [solver, `rounding in the solver (${solver.toExponential(0)})`],
    // The embeddings come from an f32 text encoder. Their rounding errors enter E − I amplified by
    // √κ at most.
    [
      root * 2 ** -24,
      `rounding of the embeddings to f32, amplified by up to ${Math.round(root)} (${
        (root * 2 ** -24).toExponential(0)
      })`,
    ],
  ];
  return candidates.reduce((most, candidate) => candidate[0] > most[0] ? candidate : most)[1];
}
