/**
 * Compares editors on the same cases, with one edit and with several in a row.
 *
 * @module
 */
import { composedBy } from "../../editing/edit_operators.ts";
import { predictLeakage } from "../../editing/leakage.ts";
import { ModelEdit } from "../../editing/model_edit.ts";
import type { Picture } from "../../image/picture.ts";
import type { EditingPipeline } from "../../editing_pipeline.ts";
import { OptionError } from "../../errors.ts";
import { checkOptions, kind, kinds, listOf, type OptionTable, wholeFrom } from "../../options.ts";
import { type DrawingOptions, drawPictures, type PictureRequest, seedFrom } from "../draw_pictures.ts";
import type { EditCase } from "../edit_cases.ts";
import { type EditScores, type JudgedPicture, scorePictures } from "../edit_scores.ts";
import { drawingOf, drawingTable, seedsTable } from "../options.ts";
import { pixelDifference } from "../evaluate_leakage.ts";
import { type EditorSettings, solveOptions } from "../sweep/settings.ts";
import { type Judge, judgePictures } from "../verdicts.ts";
import { type GroupPrompt, groupsOf, isAbout, promptsOfGroup } from "./prompts.ts";

/** An editor with its settings, under a name for tables. */
export interface NamedEditor {
  /** Unique among the editors that are compared. */
  readonly name: string;
  /** How it solves an edit. */
  readonly editor: EditorSettings;
}

/** What an editor did with some number of concepts. */
export interface EditorResult {
  /** The editor's name; undefined for the unedited model. */
  readonly editor: string | undefined;
  /** How many edits act at once; 0 for the unedited model. */
  readonly concepts: number;
  /** By CLIP, over the pictures of all groups of edits. */
  readonly scores: EditScores;
  /** Root mean square change of the pictures of unrelated prompts, in units of a byte (0–255). */
  readonly unrelatedChange: number;
  /** Mean predicted leakage ‖X(E − I)ᵀ‖ / ‖X‖ of the unrelated prompts. */
  readonly leakage: number;
  /** Median time to solve one edit, in milliseconds, with the encoding of its prompts. */
  readonly solveMs: number;
}

/** Options of {@linkcode compareEditors}. */
export interface CompareEditorsOptions extends DrawingOptions {
  /** The editors to compare. */
  readonly editors: readonly NamedEditor[];
  /** Numbers of edits that act at once. Default: 1, 5 and 10, as far as there are cases. */
  readonly concepts?: readonly number[];
  /**
   * Solve the edits of a group together instead of one after the other. Default: false.
   */
  readonly jointly?: boolean;
  /** Pictures of each prompt. Default: 1. */
  readonly seeds?: number;
  /** Seed of each prompt's first picture. Default: 500. */
  readonly firstSeed?: number | bigint;
  /** Called, and waited for, with each result as soon as it is known. */
  readonly onResult?: (result: EditorResult) => unknown;
}

const compareTable: OptionTable<CompareEditorsOptions> = {
  ...drawingTable,
  ...seedsTable,
  editors: kind(
    "a list of objects with name and editor",
    (value) => Array.isArray(value) && value.every((each) => kinds.object.accepts(each?.editor)),
  ),
  concepts: listOf(wholeFrom(1), "whole numbers from 1"),
  jointly: kinds.flag,
  onResult: kinds.callback,
};

/** A group of edits with its prompts and their pictures' seeds. */
interface Group {
  readonly cases: readonly EditCase[];
  readonly tests: readonly (GroupPrompt & { readonly seed: number | bigint })[];
}

/** The numbers of concepts that cases suffice for. */
export function conceptCounts(cases: readonly EditCase[], counts: readonly number[] = [1, 5, 10]): number[] {
  return [...new Set(counts)].filter((count) => count <= cases.length);
}

/** The number of pictures that {@linkcode compareEditors} draws. */
export function picturesOfComparison(
  cases: readonly EditCase[],
  { editors, concepts, seeds = 1 }: { editors: number; concepts?: readonly number[]; seeds?: number },
): number {
  const prompts = (count: number) =>
    groupsOf(cases, count).reduce((sum, group) => sum + promptsOfGroup(group, cases).length, 0);
  const counts = conceptCounts(cases, concepts);
  return seeds * (distinctPrompts(cases, counts).length + editors * counts.reduce((sum, n) => sum + prompts(n), 0));
}

/**
 * Compares editors. With n concepts, successive cases form groups of n. Each edit of a group is
 * solved for itself and put on the stack, and all of them act on the group's prompts. Unrelated
 * prompts are about nothing that any case edits; their pictures must fit the prompt better than any
 * form that the group's edits could give it.
 *
 * @throws as `ModelEdit.solve` does
 * @throws {OptionError} for unknown options and values of the wrong kind, and without
 *   cases for any of the numbers of concepts
 */
export async function compareEditors(
  pipe: EditingPipeline,
  judge: Judge,
  cases: readonly EditCase[],
  options: CompareEditorsOptions,
): Promise<EditorResult[]> {
  checkOptions("compare editors", options, compareTable);
  const { editors, jointly = false, seeds = 1, firstSeed = 500, onResult, signal } = options;
  const counts = conceptCounts(cases, options.concepts);
  if (counts.length === 0) {
    throw new OptionError(`Cannot compare editors on ${cases.length} cases: give as many as concepts act at once`, {
      option: "concepts",
      value: options.concepts,
    });
  }
  const before = new Map<string, Picture>();
  const unedited = distinctPrompts(cases, counts);
  const requests = unedited.flatMap((prompt) => seedsOf(seeds, firstSeed).map((seed) => ({ prompt, seed })));
  const pictures = await drawPictures(pipe, requests, drawingOf(options));
  requests.forEach(({ prompt, seed }, i) => before.set(keyOf(prompt, seed), pictures[i]));
  const results: EditorResult[] = [];
  const add = async (result: EditorResult) => {
    results.push(result);
    await onResult?.(result);
  };
  const groups = (count: number) => groupsOf(cases, count).map((group) => groupOf(group, cases, { seeds, firstSeed }));
  await add({
    ...await uneditedResult(judge, groups(counts[0]), before),
    editor: undefined,
    concepts: 0,
  });
  for (const { name, editor } of editors) {
    await warmUp(pipe, editor, cases[0], options);
    for (const concepts of counts) {
      using owned = new DisposableStack();
      const solved: { group: Group; edits: ModelEdit[]; ms: number[] }[] = [];
      for (const group of groups(concepts)) {
        const made = await solveGroup(pipe, editor, group.cases, { jointly, signal });
        for (const edit of made.edits) owned.use(edit);
        solved.push({ group, ...made });
      }
      const result = await editedResult(pipe, judge, solved, before, options);
      await add({ editor: name, concepts, ...result });
    }
  }
  return results;
}

function distinctPrompts(cases: readonly EditCase[], counts: readonly number[]): string[] {
  const groups = counts.flatMap((count) => groupsOf(cases, count));
  return [...new Set(groups.flatMap((group) => promptsOfGroup(group, cases).map(({ prompt }) => prompt)))];
}

function seedsOf(seeds: number, firstSeed: number | bigint): (number | bigint)[] {
  return Array.from({ length: seeds }, (_, i) => seedFrom(firstSeed, i));
}

function groupOf(
  group: readonly EditCase[],
  all: readonly EditCase[],
  { seeds, firstSeed }: { seeds: number; firstSeed: number | bigint },
): Group {
  const tests = promptsOfGroup(group, all)
    .flatMap((prompt) => seedsOf(seeds, firstSeed).map((seed) => ({ ...prompt, seed })));
  return { cases: group, tests };
}

/** The first solution compiles kernels, which would count as its time. */
async function warmUp(
  pipe: EditingPipeline,
  editor: EditorSettings,
  each: EditCase,
  { signal }: Pick<DrawingOptions, "signal">,
): Promise<void> {
  const { edits } = await solveGroup(pipe, editor, [each], { jointly: false, signal });
  for (const edit of edits) edit[Symbol.dispose]();
}

/** The edits of a group, each by itself or all as one, and the time of each. */
async function solveGroup(
  pipe: EditingPipeline,
  editor: EditorSettings,
  cases: readonly EditCase[],
  { jointly, signal }: { jointly: boolean } & Pick<DrawingOptions, "signal">,
): Promise<{ edits: ModelEdit[]; ms: number[] }> {
  using unlessReturned = new DisposableStack();
  const edits: ModelEdit[] = [], ms: number[] = [];
  for (const part of jointly ? [cases] : cases.map((each) => [each])) {
    const sources = part.map(({ source }) => source);
    const preserve = [...new Set(part.flatMap((each) => each.preserve))].filter((prompt) => !isAbout(prompt, sources));
    const started = performance.now();
    const pairs = part.map(({ source, destination }) => ({ source, destination }));
    const options = { ...solveOptions(editor, { source: pairs[0].source, preserve }), signal };
    edits.push(unlessReturned.use(await ModelEdit.solve(pairs, options, pipe)));
    ms.push((performance.now() - started) / part.length);
  }
  unlessReturned.move();
  return { edits, ms };
}

async function uneditedResult(judge: Judge, groups: readonly Group[], before: ReadonlyMap<string, Picture>) {
  const judged = await Promise.all(
    groups.map(({ tests }) =>
      verdicts(judge, tests, tests.map(({ prompt, seed }) => before.get(keyOf(prompt, seed))!))
    ),
  );
  return { scores: scorePictures(judged.flat()), unrelatedChange: 0, leakage: 0, solveMs: 0 };
}

/** Draws and judges the prompts of all groups under their edits. */
async function editedResult(
  pipe: EditingPipeline,
  judge: Judge,
  solved: readonly { group: Group; edits: readonly ModelEdit[]; ms: readonly number[] }[],
  before: ReadonlyMap<string, Picture>,
  options: DrawingOptions,
): Promise<Omit<EditorResult, "editor" | "concepts">> {
  const requests = solved.flatMap(({ group, edits }) =>
    group.tests.map(({ prompt, seed }): PictureRequest => ({ prompt, seed, edits }))
  );
  const pictures = await drawPictures(pipe, requests, drawingOf(options));
  const judged: JudgedPicture[] = [], changes: number[] = [], leakages: number[] = [];
  let at = 0;
  for (const { group: { tests }, edits } of solved) {
    const own = pictures.slice(at, at += tests.length);
    judged.push(...await verdicts(judge, tests, own));
    const unrelated = tests.map((test, i) => ({ ...test, picture: own[i] }))
      .filter(({ measure }) => measure === "specificity");
    for (const { prompt, seed, picture } of unrelated) {
      changes.push(pixelDifference(before.get(keyOf(prompt, seed))!, picture));
    }
    leakages.push(...await leakageOf(edits, [...new Set(unrelated.map(({ prompt }) => prompt))]));
  }
  return {
    scores: scorePictures(judged),
    unrelatedChange: mean(changes),
    leakage: mean(leakages),
    solveMs: median(solved.flatMap(({ ms }) => ms)),
  };
}

/** CLIP's verdicts of the pictures of a group. */
async function verdicts(
  judge: Judge,
  tests: readonly GroupPrompt[],
  pictures: readonly Picture[],
): Promise<JudgedPicture[]> {
  const compared = tests.map(({ prompt, edited }) => ({ own: prompt, edited }));
  return (await judgePictures(judge, pictures, compared)).map((verdict, i) => ({
    measure: tests[i].measure,
    ...verdict,
  }));
}

/** The leakage of edits that act together: W·E₁·E₂·…, as on a stack. */
async function leakageOf(edits: readonly ModelEdit[], prompts: readonly string[]): Promise<number[]> {
  if (prompts.length === 0) return [];
  using owned = new DisposableStack();
  const { recipe, model } = edits[0];
  const places = model.crossAttentions.map(({ path }) => ({ layer: path, role: "values" } as const));
  const operators = composedBy(edits, places, owned).map(({ operator, places }) => ({
    operator,
    layers: places.map(({ layer }) => layer),
  }));
  return (await predictLeakage({ operators, recipe, model }, prompts)).map(({ leakage }) => leakage);
}

function keyOf(prompt: string, seed: number | bigint): string {
  return `${seed} ${prompt}`;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
