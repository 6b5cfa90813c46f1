/**
 * The operators of one edit: that of the states, one for each group of layers where layers differ,
 * and that of the pooled embedding.
 *
 * @module
 */

import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { breathe } from "./breathe.ts";
import { type ConceptMoves, conceptMoves, largestMoves } from "./moves.ts";
import { EditOperator, type OperatorReport, type SavedFactors } from "./operator.ts";
import type { PreparedEdit, RetainedReport } from "./prepare_edit.ts";

/** The equations of an edit, kept to solve them again. */
export type Solvable = Pick<PreparedEdit, "systems" | "pooled" | "concepts">;

/** An operator, and the layers whose projections it edits. */
export interface LayerOperator {
  /** Paths of the layers. */
  readonly layers: readonly string[];
  /** E of these layers. */
  readonly operator: EditOperator;
}

/** A solved edit: its operators by layer, and that of the pooled embedding. */
export interface Operators {
  readonly byLayer: readonly LayerOperator[];
  readonly pooled: EditOperator | undefined;
}

/** The solver's report on one of several operators of an edit. */
export interface LayerReport extends OperatorReport {
  /** Paths of the layers that the operator edits. */
  readonly layers: readonly string[];
  /** How far the concepts move in these layers. */
  readonly moves?: ConceptMoves;
  /** The null space of these layers. */
  readonly nullSpace?: RetainedReport;
}

/** What a solution reports. */
export type SolutionReport = OperatorReport & {
  readonly moves: ConceptMoves;
  readonly nullSpace?: RetainedReport;
  readonly pooled?: OperatorReport;
  readonly byLayer?: readonly LayerReport[];
};

/** Solves the equations for a λ, and measures how far the concepts move. */
export async function solveAll(
  { systems, pooled, concepts }: Solvable,
  options: { lamb: number; signal?: AbortSignal },
): Promise<{ operators: Operators; report: SolutionReport }> {
  using cleanup = new DisposableStack();
  const byLayer: LayerOperator[] = [];
  const reports: (LayerReport & { readonly moves: ConceptMoves })[] = [];
  for (const { layers, system, nullSpace } of systems) {
    await breathe(options.signal);
    const operator = cleanup.use(await system.solve(options));
    const moves = await conceptMoves(operator, concepts);
    byLayer.push({ layers, operator });
    reports.push({ layers, ...operator.report!, moves, ...(nullSpace && { nullSpace }) });
  }
  await breathe(options.signal);
  const ofPooled = cleanup.use(await pooled?.solve(options));
  cleanup.move(); // the caller's now
  return {
    operators: { byLayer, pooled: ofPooled },
    report: { ...together(reports), ...(ofPooled && { pooled: ofPooled.report! }) },
  };
}

/** One report of all operators: that of the only one, or the worst figures of several. */
function together(reports: readonly (LayerReport & { readonly moves: ConceptMoves })[]): SolutionReport {
  const [{ layers: _, ...first }] = reports;
  if (reports.length === 1) return first;
  const largest = (figure: "rows" | "mergedRows" | "rank" | "conditionEstimate" | "relativeSize") =>
    Math.max(...reports.map(({ [figure]: value }) => value));
  const worst = reports.reduce((a, b) => b.residual > a.residual ? b : a);
  const spaces = reports.flatMap(({ nullSpace }) => nullSpace ?? []);
  return {
    ...first,
    rows: largest("rows"),
    mergedRows: largest("mergedRows"),
    rank: largest("rank"),
    conditionEstimate: largest("conditionEstimate"),
    relativeSize: largest("relativeSize"),
    residual: worst.residual,
    limitedBy: worst.limitedBy,
    ms: reports.reduce((sum, { ms }) => sum + ms, 0),
    moves: largestMoves(reports.map(({ moves }) => moves)),
    ...(spaces.length > 0 && { nullSpace: spaces.reduce((a, b) => b.dimension < a.dimension ? b : a) }),
    byLayer: reports,
  };
}

/** Frees the operators. */
export function disposeOf({ byLayer, pooled }: Operators): void {
  for (const { operator } of byLayer) operator[Symbol.dispose]();
  pooled?.[Symbol.dispose]();
}

/** Shares of operators, which the stack owns: the originals may be replaced or freed meanwhile. */
export function sharesOf(byLayer: readonly LayerOperator[], owner: DisposableStack): LayerOperator[] {
  return byLayer.map(({ layers, operator }) => ({ layers, operator: owner.use(operator.share()) }));
}

/** The parts of an edit that say how it changes a layer. */
export interface EditOfLayers {
  /** The operators, each with the layers that it edits. */
  readonly operators: readonly LayerOperator[];
  /** Whether the edit changes the keys or the values of a layer. */
  edits(layer: string, role: "keys" | "values"): boolean;
}

/** The operator by which an edit changes the keys or values of a layer, if it does. */
export function operatorFor(
  edit: EditOfLayers,
  layer: string,
  role: "keys" | "values",
): EditOperator | undefined {
  if (!edit.edits(layer, role)) return undefined;
  return edit.operators.find(({ layers }) => layers.includes(layer))?.operator;
}

/** E₁·E₂·… of edits that act together, and the places where they do. */
export interface ComposedOperator<Place> {
  readonly operator: EditOperator;
  readonly places: readonly Place[];
}

/**
 * Composes the operators that act on each place. Places with the same operators share one; places
 * that no edit changes are left out.
 *
 * @param edits in the order in which they were pushed: in W·E₁·E₂·…·x, later ones are applied first
 * @param owned takes ownership of the compositions
 */
export function composedBy<Place extends { readonly layer: string; readonly role: "keys" | "values" }>(
  edits: readonly EditOfLayers[],
  places: readonly Place[],
  owned: DisposableStack,
): ComposedOperator<Place>[] {
  const numbers = new Map<EditOperator, number>();
  const groups = new Map<string, { operators: EditOperator[]; places: Place[] }>();
  for (const place of places) {
    const operators = edits.flatMap((edit) => operatorFor(edit, place.layer, place.role) ?? [])
      .filter(({ rank }) => rank > 0);
    if (operators.length === 0) continue;
    for (const operator of operators) numbers.set(operator, numbers.get(operator) ?? numbers.size);
    const key = operators.map((operator) => numbers.get(operator)).join();
    const group = groups.get(key) ?? { operators, places: [] };
    group.places.push(place);
    groups.set(key, group);
  }
  return [...groups.values()].map(({ operators: [first, ...more], places }) => ({
    operator: more.reduce((operator, next) => owned.use(operator.compose(next)), first),
    places,
  }));
}

/** An operator on the device. */
export function uploaded(gpu: Gpu, { left, right, rank, width }: SavedFactors): EditOperator {
  return new EditOperator(gpu.scope(() => ({
    left: Tensor.from(gpu, left, [rank, width]),
    right: right && Tensor.from(gpu, right, [rank, width]),
  })));
}

/** The factors of an operator on the host. */
export async function downloaded({ width, rank, factors: { left, right } }: EditOperator): Promise<SavedFactors> {
  const [p, q] = await Promise.all([left.data(), right?.data()]);
  return { width, rank, left: p, right: q };
}
