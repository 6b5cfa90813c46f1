/**
 * Evaluates how well the predicted leakage of an edit ranks prompts by the actual change of their
 * pictures.
 *
 * @module
 */

import type { ModelEdit } from "../editing/model_edit.ts";
import { OptionError } from "../errors.ts";
import { ImageError } from "../image/errors.ts";
import type { Picture } from "../image/picture.ts";
import type { EditingPipeline } from "../editing_pipeline.ts";
import { checkOptions, kinds, type OptionTable, shown } from "../options.ts";
import { type DrawingOptions, drawPictures, seedFrom } from "./draw_pictures.ts";
import { drawingOf, drawingTable, seedsTable } from "./options.ts";
import { rankCorrelation } from "./rank_correlation.ts";

/** The predicted and the actual change of a prompt's pictures. */
export interface PromptChange {
  /** The prompt. */
  readonly prompt: string;
  /** `edit.leakage`: ‖X(E − I)ᵀ‖ / ‖X‖ of the prompt's embeddings X. */
  readonly predicted: number;
  /**
   * Root mean square difference of the pictures with and without the edit, in units of a byte
   * (0–255), averaged over seeds.
   */
  readonly drawn: number;
}

/** The result of {@linkcode evaluateLeakage}. */
export interface LeakageEvaluation {
  /** The change of each prompt. */
  readonly changes: readonly PromptChange[];
  /** Spearman's ρ between the predicted and the drawn changes. */
  readonly rankCorrelation: number;
  /**
   * Spearman's ρ between the drawn changes of two seeds, averaged over all pairs of seeds; NaN for
   * one seed. It measures the noise in the drawn changes: for one seed, no prediction from the
   * prompt alone can correlate much better than √ρ.
   */
  readonly seedAgreement: number;
}

/** Options of {@linkcode evaluateLeakage}. */
export interface EvaluateLeakageOptions extends DrawingOptions {
  /** Pictures of each prompt, both with and without the edit. Default: 1. */
  readonly seeds?: number;
  /** Seed of each prompt's first picture; further pictures use the next seeds. Default: 500. */
  readonly firstSeed?: number | bigint;
}

const leakageTable: OptionTable<EvaluateLeakageOptions> = { ...drawingTable, ...seedsTable };

/**
 * Draws prompts with and without an edit, from the same noise, and compares the change of the
 * pictures with the predicted leakage.
 *
 * @throws {OptionError} for fewer than two prompts, unknown options and values of the wrong kind
 */
export async function evaluateLeakage(
  pipe: EditingPipeline,
  edit: ModelEdit,
  prompts: readonly string[],
  options: EvaluateLeakageOptions = {},
): Promise<LeakageEvaluation> {
  checkOptions("evaluate leakage", options, leakageTable);
  if (!(Array.isArray(prompts) && prompts.length >= 2 && prompts.every(kinds.text.accepts))) {
    throw new OptionError(`Cannot rank prompts by leakage as they must be a list of two or more: ${shown(prompts)}`, {
      option: "prompts",
      value: prompts,
    });
  }
  const { seeds = 1, firstSeed = 500 } = options;
  const drawing = drawingOf(options);
  const predicted = await edit.leakage(prompts);
  const requests = prompts.flatMap((prompt) =>
    Array.from({ length: seeds }, (_, i) => ({ prompt, seed: seedFrom(firstSeed, i) }))
  );
  const before = await drawPictures(pipe, requests, drawing);
  const after = await drawPictures(pipe, requests.map((request) => ({ ...request, edit })), drawing);
  const differences = before.map((picture, i) => pixelDifference(picture, after[i]));
  const bySeed = Array.from({ length: seeds }, (_, seed) => prompts.map((_, i) => differences[i * seeds + seed]));
  const drawn = prompts.map((_, i) => mean(bySeed.map((values) => values[i])));
  return {
    changes: prompts.map((prompt, i) => ({ prompt, predicted: predicted[i], drawn: drawn[i] })),
    rankCorrelation: rankCorrelation(predicted, drawn),
    seedAgreement: mean(bySeed.flatMap((a, i) => bySeed.slice(i + 1).map((b) => rankCorrelation(a, b)))),
  };
}

/** The arithmetic mean; NaN without values. */
function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * Root mean square difference of the bytes of two pictures.
 *
 * @throws {ImageError} when the pictures differ in size
 */
export function pixelDifference(a: Picture, b: Picture): number {
  if (a.width !== b.width || a.height !== b.height) {
    throw new ImageError(
      `Cannot compare pictures of ${a.width} × ${a.height} and ${b.width} × ${b.height} pixels: the sizes must agree`,
    );
  }
  return Math.sqrt(a.data.reduce((sum, value, i) => sum + (value - b.data[i]) ** 2, 0) / a.data.length);
}
