/**
 * Debiases a source prompt: finds the weights of its destinations by drawing pictures and judging
 * them with CLIP.
 *
 * @module
 */
import type { ModelEditOptions } from "../../editing/edit_options.ts";
import { ModelEdit } from "../../editing/model_edit.ts";
import type { EditPair } from "../../editing/prompts/recipe.ts";
import type { EditingPipeline } from "../../editing_pipeline.ts";
import { OptionError } from "../../errors.ts";
import { checkOptions, kinds, type OptionTable } from "../../options.ts";
import { type DrawingOptions, drawPictures, seedFrom } from "../draw_pictures.ts";
import type { Judge } from "../verdicts.ts";
import { drawingOf, drawingTable, firstSeedKind } from "../options.ts";
import {
  type DebiasResult,
  searchShares,
  type ShareSampler,
  type ShareSearchOptions,
  shareSearchTable,
} from "./search.ts";

/** What is to be debiased. */
export interface DebiasTask {
  /** The prompt whose pictures are biased: "a doctor". */
  readonly source: string;
  /** What its pictures should show: "a female doctor", "a male doctor". */
  readonly destinations: readonly string[];
  /** Share of each destination; their sum is 1. Default: equal shares. */
  readonly target?: readonly number[];
  /** Prompts to draw, in turn. Default: the source. */
  readonly prompts?: readonly string[];
}

/** Options of {@linkcode debias}. */
export interface DebiasOptions extends ShareSearchOptions, DrawingOptions {
  /** How the edit is solved. Default: the method "uce". */
  readonly editor?: ModelEditOptions;
  /** Seed of the first picture; further pictures use the next seeds. Default: 500. */
  readonly firstSeed?: number | bigint;
  /** Stands between the search and the drawing, such as to replay what an earlier run has drawn. */
  readonly resume?: (sample: ShareSampler) => ShareSampler;
}

const debiasTable: OptionTable<DebiasOptions> = {
  ...drawingTable,
  ...shareSearchTable,
  editor: kinds.object,
  firstSeed: firstSeedKind,
  resume: kinds.callback,
};

/** The pair of an edit that mixes destinations by weights. */
export function debiasPair({ source, destinations }: DebiasTask, weights: readonly number[]): EditPair {
  return { source, destination: destinations.map((prompt, j) => ({ prompt, weight: weights[j] })) };
}

/**
 * Finds weights with which the edited model shows each destination as often as wanted: draws
 * pictures of the prompts, and lets CLIP say which destination each fits best.
 *
 * ```ts ignore
 * const task = { source: "a doctor", destinations: ["a female doctor", "a male doctor"] };
 * const { weights, after, reached } = await debias(pipe, clip, task, { budget: 256 });
 * using edit = await ModelEdit.solve([debiasPair(task, weights)], { method: "uce" }, pipe);
 * ```
 *
 * @throws {OptionError} as {@linkcode searchShares} does
 * @throws {EditError} as `ModelEdit.solve` does, before anything is drawn
 */
export async function debias(
  pipe: EditingPipeline,
  judge: Judge,
  task: DebiasTask,
  options: DebiasOptions = {},
): Promise<DebiasResult> {
  checkOptions("debias", options, debiasTable);
  const { destinations, target = destinations.map(() => 1 / destinations.length) } = task;
  const { editor = { method: "uce" }, resume = (sample: ShareSampler) => sample } = options;
  if (target.length !== destinations.length) {
    throw new OptionError(
      `Cannot search for ${target.length} shares of ${destinations.length} destinations: give one share for each`,
      { option: "target", value: target },
    );
  }
  const { signal } = options;
  // fails before drawing
  (await ModelEdit.solve([debiasPair(task, target)], { ...editor, signal }, pipe))[Symbol.dispose]();
  const { budget, roundSize, tolerance, onRound } = options;
  const search = { budget, roundSize, tolerance, onRound };
  return await searchShares(resume(shareSampler(pipe, judge, task, options)), target, search);
}

/** Draws and judges pictures of a task. */
export function shareSampler(
  pipe: EditingPipeline,
  judge: Judge,
  task: DebiasTask,
  options: Pick<DebiasOptions, "editor" | "firstSeed"> & DrawingOptions = {},
): ShareSampler {
  const { source, destinations, prompts = [source] } = task;
  const { editor = { method: "uce" }, firstSeed = 500, signal } = options;
  return async ({ weights, first, count }) => {
    using edit = weights && await ModelEdit.solve([debiasPair(task, weights)], { ...editor, signal }, pipe);
    const requests = Array.from({ length: count }, (_, i) => ({
      prompt: prompts[i % prompts.length],
      seed: seedFrom(firstSeed, first + i),
      edit,
    }));
    const pictures = await drawPictures(pipe, requests, drawingOf(options));
    const logits = await judge.score(pictures, destinations); // [pictures, destinations]
    const counts = destinations.map(() => 0);
    for (let i = 0; i < count; i++) counts[bestOf(logits.subarray(i * counts.length, (i + 1) * counts.length))]++;
    return counts;
  };
}

/** Index of the largest; the first of equal ones. */
function bestOf(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}
