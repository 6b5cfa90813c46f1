/**
 * Edits judged by the pictures that the edited model draws, over a grid of λ, with and without
 * prompts to preserve.
 */

import { ModelEdit } from "../editing/model_edit.ts";
import type { Picture } from "../image/picture.ts";
import type { StableDiffusionModelEditingPipeline } from "../model_editing.ts";
import { type Drawing, type DrawingOptions, drawPictures } from "./draw_pictures.ts";
import type { EditCase } from "./edit_cases.ts";
import { type EditScores, type JudgedPicture, type Measure, scorePictures } from "./edit_scores.ts";

/** Who judges; `CLIPModel` fits. */
export interface Judge {
  /** Logits [images, prompts]. */
  score(images: readonly Picture[], prompts: readonly string[]): Promise<Float32Array>;
}

/** A way to solve the edits. */
export interface EditCondition {
  /** λ of eq. 5; null is the model before any edit. */
  readonly lamb: number | null;
  /** Whether each case's prompts to preserve were given to its edit. */
  readonly preserve: boolean;
}

/** What came of one condition. */
export interface EditEvaluation extends EditCondition {
  /** Over the pictures of all edits. */
  readonly scores: EditScores;
  /** For each case, in their order. */
  readonly perEdit: readonly EditScores[];
}

/** Options of {@linkcode evaluateEdits}. */
export interface EvaluateEditsOptions extends DrawingOptions {
  /** Default: 0.001, 0.01, 0.1, 1 and 10. */
  readonly lambdas?: readonly number[];
  /** Pictures of each prompt. Default: 1. */
  readonly seeds?: number;
  /** Seed of each prompt's first picture. Default: 500. */
  readonly firstSeed?: number;
  /** Told of each condition when it is done. */
  readonly onEvaluation?: (evaluation: EditEvaluation) => void;
}

/** A prompt of a case, with the question that its pictures answer. */
interface TestPrompt {
  readonly index: number;
  readonly measure: Measure;
  readonly prompt: string;
  readonly edited: string;
  readonly seed: number;
}

/** The model as it is, then each λ, smallest first, without and with prompts to preserve. */
export function editGrid(lambdas: readonly number[]): EditCondition[] {
  return [
    { lamb: null, preserve: false },
    ...lambdas.toSorted((a, b) => a - b).flatMap((lamb) => [false, true].map((preserve) => ({ lamb, preserve }))),
  ];
}

/** How many pictures {@linkcode evaluateEdits} draws. */
export function picturesOfGrid(cases: readonly EditCase[], options: { lambdas: number; seeds: number }): number {
  const prompts = cases.reduce((sum, { related, unrelated }) => sum + 1 + related.length + unrelated.length, 0);
  return (1 + 2 * options.lambdas) * prompts * options.seeds;
}

/**
 * Draws the test prompts of all cases with the model as it is and with each edit under each
 * condition, and has them judged. A case's edit is made once with and once without prompts to
 * preserve; each λ after the first is solved from the kept Gram matrix. All is solved for the
 * smallest λ before anything is drawn, so that a λ too small for the numbers costs no time.
 *
 * @throws {LambdaError} {IllConditionedError} {AlignmentError} as `ModelEdit.solve` does
 */
export async function evaluateEdits(
  pipe: StableDiffusionModelEditingPipeline,
  judge: Judge,
  cases: readonly EditCase[],
  options: EvaluateEditsOptions = {},
): Promise<EditEvaluation[]> {
  const { lambdas = [0.001, 0.01, 0.1, 1, 10], seeds = 1, firstSeed = 500, onEvaluation } = options;
  const tests = cases.flatMap((each, index) => testPrompts(each, index, { seeds, firstSeed }));
  const texts = [...new Set(tests.flatMap(({ prompt, edited }) => [prompt, edited]))];
  const column = new Map(texts.map((text, i) => [text, i]));
  using edits = new DisposableStack();
  const solve = async ({ source, destination, preserve }: EditCase) =>
    edits.use(await ModelEdit.solve([{ source, destination }], { lamb: Math.min(...lambdas), preserve }, pipe));
  const plain: ModelEdit[] = [], preserving: ModelEdit[] = [];
  for (const each of cases) {
    plain.push(await solve({ ...each, preserve: [] }));
    preserving.push(await solve(each));
  }
  const evaluations: EditEvaluation[] = [];
  for (const condition of editGrid(lambdas)) {
    const { lamb, preserve } = condition;
    const chosen = lamb === null ? [] : preserve ? preserving : plain;
    for (const edit of chosen) if (edit.recipe.lamb !== lamb) await edit.resolve({ lamb: lamb! });
    const drawings = tests.map(({ prompt, seed, index }): Drawing => ({ prompt, seed, edit: chosen[index] }));
    const pictures = await drawPictures(pipe, drawings, options);
    const logits = await judge.score(pictures, texts); // [pictures, texts]
    const judged = tests.map(({ measure, prompt, edited, index }, i): JudgedPicture => ({
      measure,
      own: logits[i * texts.length + column.get(prompt)!],
      edited: logits[i * texts.length + column.get(edited)!],
      kept: cases[index].preserve.includes(prompt),
    }));
    const evaluation = {
      ...condition,
      scores: scorePictures(judged),
      perEdit: cases.map((_, index) => scorePictures(judged.filter((_, i) => tests[i].index === index))),
    };
    evaluations.push(evaluation);
    onEvaluation?.(evaluation);
  }
  return evaluations;
}

function testPrompts(
  { source, destination, related, unrelated }: EditCase,
  index: number,
  { seeds, firstSeed }: { seeds: number; firstSeed: number },
): TestPrompt[] {
  const prompts = [
    { measure: "efficacy" as const, prompt: source, edited: destination },
    ...related.map((pair) => ({ measure: "generality" as const, ...pair })),
    ...unrelated.map((pair) => ({ measure: "specificity" as const, ...pair })),
  ];
  return prompts.flatMap((each) => Array.from({ length: seeds }, (_, i) => ({ ...each, index, seed: firstSeed + i })));
}
