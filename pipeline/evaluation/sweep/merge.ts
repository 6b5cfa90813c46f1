/**
 * Merges the results of all shards into the paper's three measures, for each setting.
 *
 * @module
 */
import { harmonicMean, type JudgedPicture, type Measure, scorePictures, type Tally } from "../edit_scores.ts";
import { type Interval, wilsonInterval } from "../wilson.ts";
import { checkArgument, kinds, listOf } from "../../options.ts";
import {
  editKey,
  pictureKey,
  planKind,
  plannedPictures,
  type PromptEdit,
  type SweepPlan,
  type SweepResult,
} from "./plan.ts";
import type { SweepSetting } from "./settings.ts";

const measures: readonly Measure[] = ["efficacy", "generality", "specificity"];

/** One measure over all edits. */
export interface MeasureSummary extends Tally {
  /** The measure that is summarized. */
  readonly measure: Measure;
  /** Wilson's 95 % interval of the rate; it takes pictures as independent. */
  readonly interval: Interval;
  /**
   * Standard error of the rate, from the rates per edit: pictures of one edit are not independent.
   * NaN for a single edit.
   */
  readonly standardError: number;
}

/** The scores of one edit, or of all. */
export interface ScoreSummary {
  /** Number of pictures, those of listed prompts included. */
  readonly pictures: number;
  /** The summary of each measure. */
  readonly measures: readonly MeasureSummary[];
  /** Harmonic mean of efficacy, generality and specificity. */
  readonly harmonicMean: number;
  /** F of the paper, the harmonic mean of generality and specificity. */
  readonly f: number;
  /**
   * Mean of max(100 cos, 0) of each picture with its wanted prompt (Hessel et al. 2021, arXiv
   * 2104.08718): the edited form for efficacy and generality, the picture's own prompt otherwise.
   */
  readonly clipScore: number;
}

/** The scores of one edit. */
export interface EditSummary extends ScoreSummary, PromptEdit {
  /** Further pairs of the edit. */
  readonly more?: readonly PromptEdit[];
}

/** The scores of one setting. */
export interface SettingSummary extends ScoreSummary {
  /** The setting. */
  readonly setting: SweepSetting;
  /** Scores of each edit, in the order of the plan's rows. */
  readonly edits: readonly EditSummary[];
}

/** The outcome of a sweep. */
export interface SweepSummary {
  /** For each setting, in the plan's order. */
  readonly settings: readonly SettingSummary[];
  /** Number of pictures that the plan asks for. */
  readonly planned: number;
  /** Number of planned pictures without a result. */
  readonly missing: number;
  /** Number of results beyond the first of a picture; the first counts. */
  readonly doubled: number;
}

/**
 * Summarizes the results of a plan.
 *
 * @throws {OptionError} for what is no plan, or no list of results
 */
export function mergeResults(plan: SweepPlan, results: readonly SweepResult[]): SweepSummary {
  checkArgument("merge results", "plan", plan, planKind);
  checkArgument("merge results", "results", results, listOf(kinds.object, "results"));
  const byPicture = new Map<string, SweepResult>();
  let doubled = 0;
  for (const result of results) {
    const key = pictureKey(result);
    if (byPicture.has(key)) doubled++;
    else byPicture.set(key, result);
  }
  const planned = plannedPictures(plan);
  // In the plan's order, so that sums do not depend on the order of the files.
  const distinct = [...planned].flatMap((key) => byPicture.get(key) ?? []);
  const keys = plan.rows.map(editKey);
  const firstRows = new Map<string, number>();
  keys.forEach((key, row) => firstRows.has(key) || firstRows.set(key, row));
  return {
    settings: plan.settings.map((setting, index) => {
      const own = distinct.filter((result) => result.setting === index);
      const byEdit = Map.groupBy(own, ({ row }) => keys[row]);
      const edits = [...firstRows].map(([key, row]): EditSummary => {
        const { source, destination, more } = plan.rows[row];
        const ofEdit = byEdit.get(key) ?? [];
        return { source, destination, ...more && { more }, ...summarize(ofEdit, [ofEdit]) };
      });
      return { setting, ...summarize(own, [...byEdit.values()]), edits };
    }),
    planned: planned.size,
    missing: planned.size - distinct.length,
    doubled,
  };
}

/**
 * The setting of each editor with the largest harmonic mean; of equal ones the first. Editors whose
 * settings have no harmonic mean are left out. As it is chosen by the pictures that it is shown
 * with, its figures are a little better than those of other pictures would be.
 */
export function bestSettings({ settings }: Pick<SweepSummary, "settings">): SettingSummary[] {
  const scored = settings.filter(({ setting, harmonicMean }) => setting.editor && Number.isFinite(harmonicMean));
  return [...Map.groupBy(scored, ({ setting }) => setting.editor!.method).values()]
    .map((rivals) => rivals.reduce((best, each) => each.harmonicMean > best.harmonicMean ? each : best));
}

function summarize(
  results: readonly SweepResult[],
  resultsOfEdits: readonly (readonly SweepResult[])[],
): ScoreSummary {
  const byEdit = resultsOfEdits.map(score);
  const all = score(results);
  const summaries = measures.map((measure): MeasureSummary => {
    const { rate, pictures, belief } = all[measure];
    const interval = wilsonInterval(Math.round(rate * pictures), pictures);
    return { measure, pictures, rate, belief, interval, standardError: standardError(byEdit, measure) };
  });
  return {
    pictures: results.length,
    measures: summaries,
    harmonicMean: all.harmonicMean,
    f: harmonicMean([all.generality.rate, all.specificity.rate]),
    clipScore: mean(results.map(({ measure, logits: [own, edited], logitScale }) => {
      const wanted = measure === "efficacy" || measure === "generality" ? edited : own;
      return Math.max(0, 100 * wanted / logitScale);
    })),
  };
}

function score(results: readonly SweepResult[]) {
  return scorePictures(
    results.flatMap(({ measure, logits: [own, edited] }): JudgedPicture[] =>
      measure === "list" ? [] : [{ measure, own, edited }]
    ),
  );
}

function standardError(byEdit: readonly ReturnType<typeof score>[], measure: Measure): number {
  const rates = byEdit.map((scores) => scores[measure].rate).filter((rate) => !Number.isNaN(rate));
  const center = mean(rates);
  const variance = rates.reduce((sum, each) => sum + (each - center) ** 2, 0) / (rates.length - 1);
  return Math.sqrt(variance / rates.length);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
