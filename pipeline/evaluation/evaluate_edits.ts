/**
 * Evaluates edits by the pictures that the edited model draws, over a grid of λ, with and without
 * preserved prompts.
 *
 * @module
 */

import { ModelEdit } from "../editing/model_edit.ts";
import type { EditMethod, MethodOptions } from "../editing/prompts/method.ts";
import type { EditingPipeline } from "../editing_pipeline.ts";
import { checkOptions, kinds, type OptionTable } from "../options.ts";
import { type DrawingOptions, drawPictures, type PictureRequest, seedFrom } from "./draw_pictures.ts";
import { type EditCase, editedForms } from "./edit_cases.ts";
import { type EditScores, type JudgedPicture, scorePictures } from "./edit_scores.ts";
import { drawingOf, drawingTable, lambdasKind, seedsTable } from "./options.ts";
import { promptsOfRow, type SweepPrompt } from "./sweep/plan.ts";
import { type Judge, judgePictures } from "./verdicts.ts";

/** How the edits of one evaluation are solved. */
export interface EditCondition {
  /** λ of the edits; null is the unedited model. */
  readonly lamb: number | null;
  /** Whether each edit gets its case's prompts to preserve. */
  readonly preserve: boolean;
}

/** The scores under one condition. */
export interface EditEvaluation extends EditCondition {
  /** Over the pictures of all edits. */
  readonly scores: EditScores;
  /** For each case, in the order of the cases. */
  readonly perEdit: readonly EditScores[];
}

/** Options of {@linkcode evaluateEdits}. */
export interface EvaluateEditsOptions extends DrawingOptions {
  /** Default: 0.001, 0.01, 0.1, 1 and 10. */
  readonly lambdas?: readonly number[];
  /** The editor and its settings other than λ. Default: TIME. */
  readonly editor?: Omit<MethodOptions, "lamb">;
  /** Pictures of each prompt. Default: 1. */
  readonly seeds?: number;
  /** Seed of each prompt's first picture; further pictures use the next seeds. Default: 500. */
  readonly firstSeed?: number | bigint;
  /** Called, and waited for, with the scores of each condition as soon as they are known. */
  readonly onEvaluation?: (evaluation: EditEvaluation) => unknown;
}

const evaluateEditsTable: OptionTable<EvaluateEditsOptions> = {
  ...drawingTable,
  ...seedsTable,
  lambdas: lambdasKind,
  editor: kinds.object,
  onEvaluation: kinds.callback,
};

/** A test prompt of a case, with the seed of one of its pictures. */
interface TestPrompt extends SweepPrompt {
  /** Index of the case. */
  readonly index: number;
  readonly seed: number | bigint;
}

/**
 * The unedited model, then each λ in ascending order, without and with prompts to preserve. A
 * null-space edit is not possible without.
 */
export function editGrid(lambdas: readonly number[], method: EditMethod = "time"): EditCondition[] {
  const choices = method === "nullspace" ? [true] : [false, true];
  return [
    { lamb: null, preserve: false },
    ...lambdas.toSorted((a, b) => a - b).flatMap((lamb) => choices.map((preserve) => ({ lamb, preserve }))),
  ];
}

/** The number of pictures that {@linkcode evaluateEdits} draws. */
export function picturesOfGrid(
  cases: readonly EditCase[],
  { lambdas, seeds, method }: { lambdas: readonly number[]; seeds: number; method?: EditMethod },
): number {
  const prompts = cases.reduce((sum, each) => sum + promptsOfRow(each).length, 0);
  return editGrid(lambdas, method).length * prompts * seeds;
}

/**
 * Draws the test prompts of all cases with the unedited model and with each edit under each
 * condition, and scores the pictures. Each case needs two systems, with and without prompts to
 * preserve; further λ reuse the Gram matrix. All systems are solved for the smallest λ before any
 * picture is drawn, so that a λ that is too small fails at once.
 *
 * @throws {LambdaError} {IllConditionedError} {AlignmentError} as `ModelEdit.solve` does
 * @throws {OptionError} for unknown options and values of the wrong kind
 */
export async function evaluateEdits(
  pipe: EditingPipeline,
  judge: Judge,
  cases: readonly EditCase[],
  options: EvaluateEditsOptions = {},
): Promise<EditEvaluation[]> {
  checkOptions("evaluate edits", options, evaluateEditsTable);
  const { lambdas = [0.001, 0.01, 0.1, 1, 10], seeds = 1, firstSeed = 500, editor = {}, signal } = options;
  const grid = editGrid(lambdas, editor.method);
  const tests = cases.flatMap((each, index) => testPrompts(each, index, { seeds, firstSeed }));
  const compared = tests.map((test) => ({ own: test.prompt, edited: editedForms(test) }));
  using edits = new DisposableStack();
  const lamb = Math.min(...lambdas);
  const solve = async ({ source, destination, preserve }: EditCase) =>
    edits.use(await ModelEdit.solve([{ source, destination }], { ...editor, lamb, preserve, signal }, pipe));
  const plain: ModelEdit[] = [], preserving: ModelEdit[] = [];
  for (const each of cases) {
    if (grid.some(({ lamb, preserve }) => lamb !== null && !preserve)) {
      plain.push(await solve({ ...each, preserve: [] }));
    }
    preserving.push(await solve(each));
  }
  const evaluations: EditEvaluation[] = [];
  for (const condition of grid) {
    const { lamb, preserve } = condition;
    const chosen = lamb === null ? [] : preserve ? preserving : plain;
    for (const edit of chosen) if (edit.recipe.lamb !== lamb) await edit.resolve({ lamb: lamb!, signal });
    const requests = tests.map(({ prompt, seed, index }): PictureRequest => ({ prompt, seed, edit: chosen[index] }));
    const pictures = await drawPictures(pipe, requests, drawingOf(options));
    const verdicts = await judgePictures(judge, pictures, compared);
    const judged = tests.map(({ measure, prompt, index }, i): JudgedPicture => ({
      measure,
      ...verdicts[i],
      kept: cases[index].preserve.includes(prompt),
    }));
    const evaluation = {
      ...condition,
      scores: scorePictures(judged),
      perEdit: cases.map((_, index) => scorePictures(judged.filter((_, i) => tests[i].index === index))),
    };
    evaluations.push(evaluation);
    await options.onEvaluation?.(evaluation);
  }
  return evaluations;
}

/** The test prompts of a case, each once per seed. */
function testPrompts(
  each: EditCase,
  index: number,
  { seeds, firstSeed }: { seeds: number; firstSeed: number | bigint },
): TestPrompt[] {
  return promptsOfRow(each).flatMap((prompt) =>
    Array.from({ length: seeds }, (_, i) => ({ ...prompt, index, seed: seedFrom(firstSeed, i) }))
  );
}
