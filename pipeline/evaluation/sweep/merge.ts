/**
 * Merges the results of all shards into the paper's three measures.
 *
 * @module
 */
import { harmonicMean, type JudgedPicture, type Measure, scorePictures, type Tally } from "../edit_scores.ts";
import { pictureKey, plannedPictures, type SweepPlan, type SweepResult } from "./plan.ts";

const measures: readonly Measure[] = ["efficacy", "generality", "specificity"];

/** One measure over all edits. */
export interface MeasureSummary {
  /** The measure that is summarized. */
  readonly measure: Measure;
  /** Number of pictures. */
  readonly pictures: number;
  /** Share of pictures that fit the wanted prompt better. */
  readonly rate: number;
  /**
   * Standard error of the rate, from the rates per edit: pictures of one edit are not independent.
   * NaN for a single edit.
   */
  readonly standardError: number;
  /** Mean softmax probability of the wanted prompt. */
  readonly belief: number;
}

/** The scores of one edit. */
export type EditSummary =
  & { readonly source: string; readonly destination: string }
  & Readonly<Record<Measure, Tally>>;

/** The outcome of a sweep. */
export interface SweepSummary {
  /** The summary of each measure. */
  readonly measures: readonly MeasureSummary[];
  /** F, the harmonic mean of generality and specificity. */
  readonly f: number;
  /** Scores of each edit, in the order of the plan's rows. */
  readonly edits: readonly EditSummary[];
  /** Number of pictures that the plan asks for. */
  readonly planned: number;
  /** Number of planned pictures without a result. */
  readonly missing: number;
}

/** Summarizes the results of a plan. Shards may overlap: each picture counts once. */
export function mergeResults(plan: SweepPlan, results: readonly SweepResult[]): SweepSummary {
  const byPicture = new Map(results.map((result) => [pictureKey(result), result]));
  const planned = plannedPictures(plan);
  const distinct = [...byPicture.values()];
  const summaries = measures.map((measure) => summarize(distinct, measure));
  return {
    measures: summaries,
    f: harmonicMean(summaries.filter(({ measure }) => measure !== "efficacy").map(({ rate }) => rate)),
    edits: plan.rows.map(({ source, destination }, row) => {
      const { efficacy, generality, specificity } = score(distinct.filter((result) => result.row === row));
      return { source, destination, efficacy, generality, specificity };
    }),
    planned: planned.size,
    missing: [...planned.keys()].filter((key) => !byPicture.has(key)).length,
  };
}

function score(results: readonly SweepResult[]) {
  return scorePictures(results.map(({ measure, logits: [own, edited] }): JudgedPicture => ({ measure, own, edited })));
}

function summarize(results: readonly SweepResult[], measure: Measure): MeasureSummary {
  const { rate, pictures, belief } = score(results)[measure];
  const ratesPerEdit = [...Map.groupBy(results, ({ row }) => row).values()]
    .map((ofEdit) => score(ofEdit)[measure].rate).filter((rate) => !Number.isNaN(rate));
  const mean = ratesPerEdit.reduce((sum, each) => sum + each, 0) / ratesPerEdit.length;
  const variance = ratesPerEdit.reduce((sum, each) => sum + (each - mean) ** 2, 0) / (ratesPerEdit.length - 1);
  return { measure, pictures, rate, standardError: Math.sqrt(variance / ratesPerEdit.length), belief };
}
