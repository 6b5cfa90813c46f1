/**
 * Whether what an edit is foretold to do to prompts ranks them as what it then does to their
 * pictures.
 */

import type { ModelEdit } from "../editing/model_edit.ts";
import type { Picture } from "../image/picture.ts";
import type { StableDiffusionModelEditingPipeline } from "../model_editing.ts";
import { type DrawingOptions, drawPictures } from "./draw_pictures.ts";
import { rankCorrelation } from "./rank_correlation.ts";

/** A prompt's foretold and drawn change. */
export interface PromptChange {
  readonly prompt: string;
  /** `edit.leakage`. */
  readonly foretold: number;
  /**
   * Root mean square difference of the pictures with and without the edit, of 255, on average over
   * seeds.
   */
  readonly drawn: number;
}

/** What {@linkcode evaluateLeakage} found. */
export interface LeakageEvaluation {
  readonly changes: readonly PromptChange[];
  /** Spearman's ρ between foretold and drawn. */
  readonly rankCorrelation: number;
  /**
   * Spearman's ρ between the drawn changes of two seeds, on average over all pairs; NaN for one
   * seed. What chance there is in a drawn change: no prediction from the prompt alone can do much
   * better than √ρ on one seed.
   */
  readonly seedAgreement: number;
}

/** Options of {@linkcode evaluateLeakage}. */
export interface EvaluateLeakageOptions extends DrawingOptions {
  /** Pictures of each prompt, with and without the edit. Default: 1. */
  readonly seeds?: number;
  /** Seed of each prompt's first picture. Default: 500. */
  readonly firstSeed?: number;
}

/**
 * Draws prompts with and without an edit, from the same noise, and compares the difference with
 * what the edit foretells.
 */
export async function evaluateLeakage(
  pipe: StableDiffusionModelEditingPipeline,
  edit: ModelEdit,
  prompts: readonly string[],
  options: EvaluateLeakageOptions = {},
): Promise<LeakageEvaluation> {
  const { seeds = 1, firstSeed = 500 } = options;
  const foretold = await edit.leakage(prompts);
  const drawings = prompts.flatMap((prompt) =>
    Array.from({ length: seeds }, (_, i) => ({ prompt, seed: firstSeed + i }))
  );
  const before = await drawPictures(pipe, drawings, options);
  const after = await drawPictures(pipe, drawings.map((drawing) => ({ ...drawing, edit })), options);
  const differences = before.map((picture, i) => pixelDifference(picture, after[i]));
  const ofSeed = Array.from({ length: seeds }, (_, seed) => prompts.map((_, i) => differences[i * seeds + seed]));
  const drawn = prompts.map((_, i) => mean(ofSeed.map((values) => values[i])));
  return {
    changes: prompts.map((prompt, i) => ({ prompt, foretold: foretold[i], drawn: drawn[i] })),
    rankCorrelation: rankCorrelation(foretold, drawn),
    seedAgreement: mean(ofSeed.flatMap((a, i) => ofSeed.slice(i + 1).map((b) => rankCorrelation(a, b)))),
  };
}

/** NaN without values. */
function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * Root mean square difference of two pictures' bytes. @throws {RangeError} for pictures of
 * different sizes
 */
export function pixelDifference(a: Picture, b: Picture): number {
  if (a.width !== b.width || a.height !== b.height) {
    throw new RangeError(
      `Cannot compare a picture of ${a.width} × ${a.height} with one of ${b.width} × ${b.height} as the sizes must agree`,
    );
  }
  return Math.sqrt(a.data.reduce((sum, value, i) => sum + (value - b.data[i]) ** 2, 0) / a.data.length);
}
