/**
 * Solves null-space edits (SPEED, arXiv 2503.07392): concepts are edited only along directions that
 * the retained concepts do not use.
 *
 * Notation: rows of C [n, d] are the erased concepts, rows of G their destinations, both scaled by
 * the root of their share of the pairs' weight; rows of K [k, d] are the states that must not move;
 * P projects on the eigenvectors of the mean of r rᵀ over the retained concepts r whose eigenvalues
 * are below a threshold. With M = (CᵀC P + sI)⁻¹, the edit is
 *
 *     E = I + (G − C)ᵀ C P (I − M Kᵀ (K P M Kᵀ + λI)⁻¹ K P) M
 *
 * Its change has the n rows of G − C as one thin factor. The other follows from an n × n and a k ×
 * k system, with B = CP and J = KP:
 *
 *     X = C P M = (sI + B Bᵀ)⁻¹ B,    Y = J M = (J − J Bᵀ X)/s
 *     E − I = (G − C)ᵀ R,             R = X − X Jᵀ (Y Jᵀ + λI)⁻¹ Y
 *
 * @module
 */

import type { Gpu } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { EditError } from "../../errors.ts";
import { LambdaError, largestLambda } from "../errors.ts";
import { EditOperator, type OperatorReport } from "../operator.ts";
import { mergeRows } from "../prompts/edit_rows.ts";
import type { HostRows } from "../prompts/recipe.ts";
import { principalDirections } from "./covariance.ts";
import { dominantError } from "./edit_system.ts";
import {
  combined,
  type HostMatrix,
  hostMatrix,
  scaledRows,
  squaredNorm,
  times,
  timesTransposed,
  transposed,
} from "./host_matrix.ts";
import { symmetricEigen } from "./symmetric_eigen.ts";

/** The null space of an edit's retained concepts. */
export interface NullSpaceReport {
  /** Dimension of the null space: directions whose eigenvalue is below the threshold. */
  readonly dimension: number;
  /** The smallest eigenvalues that are not below the threshold, ascending; at most three. */
  readonly above: readonly number[];
  /** The largest eigenvalues below the threshold, descending; at most three. */
  readonly below: readonly number[];
}

/** What a null-space edit is solved from. */
export interface NullSpaceInput {
  /** The erased concepts and their destinations. */
  readonly pairs: HostRows;
  /** The retained concepts [m, width]. */
  readonly retained: Float64Array;
  /** The states that must not move [k, width]. */
  readonly invariant: Float64Array;
}

/** Largest accepted condition number of CᵀC P + sI; s is too small above it. */
const maxCondition = 1e12;
/**
 * Squared relative length up to which invariant states count as linearly dependent, or as part of
 * the retained space. The rounding errors of the f32 text encoder are smaller.
 */
const dependent = 1e-12;
/** The number of eigenvalues that the report shows on each side of the threshold. */
const shownEigenvalues = 3;

/** The equations of a null-space edit, on the host in float64, ready to be solved for any λ. */
export class NullSpaceSystem implements Disposable {
  readonly gpu: Gpu;
  /** The null space of the retained concepts. */
  readonly nullSpace: NullSpaceReport;
  readonly #width: number;
  readonly #rows: number;
  readonly #scale: number;
  /** G − C. */
  readonly #change: HostMatrix;
  readonly #source: HostMatrix;
  /** B = CP. */
  readonly #projected: HostMatrix;
  /** K. */
  readonly #states: HostMatrix;
  /** J = KP. */
  readonly #invariant: HostMatrix;
  /** The rows with G ≠ C, which come last: those of E − I's factors. */
  readonly #edited: number;
  /** X = CPM. */
  readonly #solution: HostMatrix;
  readonly #condition: number;
  #preparationMs: number;

  /**
   * Finds the null space and factors the system of the erased concepts.
   *
   * @param options.threshold eigenvalues below it span the null space; above 0
   * @param options.retainScale s; above 0
   * @throws {EditError} when there is no retained concept, the null space is empty, or s is too
   *   small
   */
  constructor(gpu: Gpu, input: NullSpaceInput, options: { threshold: number; retainScale: number }) {
    const started = performance.now();
    const { pairs, invariant } = input, { width } = pairs;
    const { threshold, retainScale } = options;
    const retained = hostMatrix(input.retained, width);
    if (retained.rows === 0) throw new EditError("Cannot find a null space without retained concepts");
    const { values, vectors } = principalDirections(
      scaledRows(retained, () => 1 / Math.sqrt(retained.rows)),
      threshold,
    );
    const dimension = width - vectors.rows;
    if (dimension === 0) {
      throw new EditError(
        `Cannot edit with the threshold ${threshold} as it leaves no null space: the smallest of ${width} eigenvalues is ${
          values.at(-1)!.toExponential(2)
        }, and those below the threshold can be edited. Raise threshold, or preserve fewer prompts (${retained.rows} now)`,
      );
    }
    // Also checks that all values are finite.
    const merged = mergeRows(pairs.source, pairs.destination, pairs);
    const total = merged.weights.reduce((sum, weight) => sum + weight, 0);
    const share = (row: number) => Math.sqrt(merged.weights[row] / total);
    this.gpu = gpu;
    this.#width = width;
    this.#rows = pairs.weights.length + retained.rows;
    this.#scale = retainScale;
    this.nullSpace = {
      dimension,
      above: Array.from(values.subarray(0, vectors.rows).slice(-shownEigenvalues)).reverse(),
      below: Array.from(values.subarray(vectors.rows, vectors.rows + shownEigenvalues)),
    };
    this.#change = scaledRows(hostMatrix(merged.change, width), share);
    this.#source = scaledRows(hostMatrix(merged.source, width), share);
    const project = (x: HostMatrix) => combined(1, x, -1, times(timesTransposed(x, vectors), vectors));
    this.#projected = project(this.#source);
    this.#states = hostMatrix(invariant, width);
    this.#invariant = project(this.#states);
    this.#edited = merged.edited;
    const { solution, condition } = solveShifted(this.#projected, retainScale);
    this.#solution = solution;
    this.#condition = condition;
    this.#preparationMs = performance.now() - started;
  }

  /**
   * Solves for a λ and verifies the solution.
   *
   * @param options.lamb λ: above 0, the invariant states may move. Default: 0.
   * @throws {LambdaError} when λ is not a number from 0, or is larger than 10¹⁰⁰
   * @throws {EditError} when the invariant states leave nothing to edit
   */
  async solve(options: { lamb?: number } = {}): Promise<EditOperator> {
    const { lamb = 0 } = options;
    if (!(lamb >= 0 && lamb <= largestLambda)) throw new LambdaError(lamb, { allowsZero: true });
    const started = performance.now();
    const { right, multipliers, condition } = this.#constrained(lamb);
    const rank = this.#edited, width = this.#width;
    const edited = ({ values }: HostMatrix) => Float32Array.from(values.subarray(values.length - rank * width));
    const left32 = edited(this.#change), right32 = edited(right);
    const rounded = hostMatrix(Float64Array.from(right.values, Math.fround), width);
    // ‖(G − C)ᵀR‖² = ⟨(G − C)(G − C)ᵀ, RRᵀ⟩
    const [g, r] = [this.#change, rounded].map((factor) => timesTransposed(factor, factor).values);
    const size = Math.sqrt(Math.max(g.reduce((sum, value, i) => sum + value * r[i], 0), 0));
    const residual = this.#residual(rounded, multipliers, lamb);
    const ms = performance.now() - started + this.#preparationMs;
    this.#preparationMs = 0;
    const conditionEstimate = Math.max(this.#condition, condition);
    const report: OperatorReport = {
      rows: this.#rows,
      mergedRows: this.#rows,
      rank,
      route: "tokens",
      precision: "f64",
      lamb,
      conditionEstimate,
      residual,
      relativeSize: size / Math.sqrt(width),
      ms,
      limitedBy: dominantError(conditionEstimate, "f64"),
    };
    const { gpu } = this;
    const factors = gpu.scope(() => ({
      left: Tensor.from(gpu, left32, [rank, width]),
      right: Tensor.from(gpu, right32, [rank, width]),
    }));
    return await Promise.resolve(new EditOperator(factors, report));
  }

  /** Nothing stays on the device. */
  [Symbol.dispose](): void {}

  /**
   * R and the multipliers X Jᵀ(Y Jᵀ + λI)⁻¹ [n, k] of the invariant states. Directions in which
   * these are dependent, or need no constraint, are left out.
   */
  #constrained(lamb: number): { right: HostMatrix; multipliers: HostMatrix; condition: number } {
    const j = this.#invariant, x = this.#solution, s = this.#scale;
    const y = combined(1 / s, j, -1 / s, times(timesTransposed(j, this.#projected), x)); // Y = JM
    const { values, vectors } = symmetricEigen(timesTransposed(y, j).values, j.rows);
    const longest = timesTransposed(this.#states, this.#states).values.reduce((a, b) => Math.max(a, b), 0);
    const count = values.filter((value) => value * s > dependent * longest).length;
    const { dimension } = this.nullSpace;
    if (count >= dimension && lamb === 0) {
      throw new EditError(
        `Cannot edit as the states that must not move span the whole null space, of dimension ${dimension}: ` +
          "name fewer prompts as invariant, raise threshold, or set lamb above 0",
      );
    }
    const u: HostMatrix = { rows: count, columns: j.rows, values: vectors.subarray(0, count * j.rows) };
    const inverse = scaledRows(u, (i) => 1 / (values[i] + lamb)); // (Y Jᵀ + λI)⁻¹ = Uᵀ·inverse
    const multipliers = times(timesTransposed(timesTransposed(x, j), u), inverse);
    const condition = count === 0 ? 1 : (values[0] + lamb) / (values[count - 1] + lamb);
    return { right: combined(1, x, -1, times(multipliers, y)), multipliers, condition };
  }

  /**
   * The relative residual of the optimality conditions R(CᵀC P + sI) + ΛJ = B and RKᵀ = λΛ, where Λ
   * are the multipliers: the norm of both differences over that of B.
   */
  #residual(r: HostMatrix, multipliers: HostMatrix, lamb: number): number {
    const b = this.#projected;
    const left = combined(1, times(timesTransposed(r, this.#source), b), this.#scale, r);
    const first = combined(1, combined(1, left, 1, times(multipliers, this.#invariant)), -1, b);
    const second = combined(1, timesTransposed(r, this.#states), -lamb, multipliers);
    return Math.sqrt((squaredNorm(first) + squaredNorm(second)) / (squaredNorm(b) || 1));
  }
}

/**
 * X = (sI + BBᵀ)⁻¹B, and the condition number of the system.
 *
 * @throws {EditError} when s is too small
 */
function solveShifted(b: HostMatrix, s: number): { solution: HostMatrix; condition: number } {
  const { values, vectors } = symmetricEigen(timesTransposed(b, b).values, b.rows);
  const shifted = values.map((value) => Math.max(value, 0) + s);
  const condition = shifted[0] / s; // of the d × d matrix CᵀC P + sI
  if (!(condition <= maxCondition)) {
    throw new EditError(
      `Cannot edit with retainScale ${s}: the condition number of the system is ${
        condition.toExponential(1)
      }, and at most ${maxCondition.toExponential(0)} is allowed. Use ${(shifted[0] / 1e9).toExponential(0)} or more`,
    );
  }
  const u: HostMatrix = { rows: b.rows, columns: b.rows, values: vectors };
  const inverse = scaledRows(u, (i) => 1 / shifted[i]);
  // X = Uᵀ diag(1/σ) (U B)
  return { solution: times(transposed(u), times(inverse, b)), condition };
}
