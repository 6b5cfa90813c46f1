/**
 * The plan of a sweep: which pictures to draw, with which settings, and how they divide into
 * shards.
 *
 * @module
 */
import { countText } from "../../../engine/inspect.ts";
import { OptionError } from "../../errors.ts";
import { checkArgument, checkOptions, kind, kinds, listOf, type OptionKind, wholeFrom } from "../../options.ts";
import { type EditCase, editedForms, type PromptPair } from "../edit_cases.ts";
import type { Measure } from "../edit_scores.ts";
import type { SweepSetting } from "./settings.ts";

/** The most jobs of a plan. */
export const mostJobs = 10_000_000;

/** Version of the plan's file format. */
export const planFormat = "blue-rose-sweep-3";

/**
 * What a picture counts toward: one of the paper's measures, or "list" for a prompt of a list,
 * which has no edited form and counts toward the CLIP score only.
 */
export type SweepMeasure = Measure | "list";

/** A test prompt with the two texts that CLIP compares its picture with. */
export interface SweepPair extends PromptPair {
  /** What the unedited model is expected to draw. Default: the prompt. */
  readonly own?: string;
  /** What the oracle draws. Default: the edited prompt. */
  readonly oracle?: string;
}

/** A prompt of a list, drawn from a seed of its own. */
export interface ListedPrompt {
  /** The prompt. */
  readonly prompt: string;
  /** The seed of its picture. */
  readonly seed: number;
}

/** A source prompt and its destination; "" erases the source. */
export type PromptEdit = Pick<EditCase, "source" | "destination">;

/** One edit of the data set with its test prompts. */
export interface SweepRow extends PromptEdit {
  /** Further pairs of the edit, which are solved together with the first. Default: none. */
  readonly more?: readonly PromptEdit[];
  /**
   * Further prompts that count as the new meaning. A destination "" needs them, unless the row has
   * listed prompts: no picture shows "".
   */
  readonly also?: readonly string[];
  /** The texts that CLIP compares the source's picture with. Default: source and destination. */
  readonly judged?: { readonly own: string; readonly edited: string };
  /** Prompts that should change; they measure generality. */
  readonly related: readonly SweepPair[];
  /** Prompts that should not change; they measure specificity. */
  readonly unrelated: readonly SweepPair[];
  /** Prompts to preserve, for settings that do. */
  readonly preserve?: readonly string[];
  /** Prompts of a list. A row with a list draws nothing else. */
  readonly listed?: readonly ListedPrompt[];
}

/** One unit of work: every prompt of a row, drawn from one seed under one setting. */
export interface SweepJob {
  /** Index into the plan's rows. */
  readonly row: number;
  /** Index into the plan's settings. */
  readonly setting: number;
  /** Seed of the pictures. Listed prompts have their own; their job's seed is 0. */
  readonly seed: number;
}

/** The model and program that a plan was made for; a run with others gives other pictures. */
export interface SweepPins {
  /** Version of this package. */
  readonly version: string;
  /** Commit of a model on the hub. */
  readonly revision?: string;
  /** SHA-256 over the files of a local model. */
  readonly modelHash?: string;
  /** SHA-256 over the files of the CLIP model. */
  readonly clipHash?: string;
}

/** What a sweep draws, and how. */
export interface SweepSettings {
  /** What the plan was made for. */
  readonly pins: SweepPins;
  /** Directory, single file or hub id of the model to edit. */
  readonly model: string;
  /** Which weights of a directory to load, such as "fp16". */
  readonly variant?: string;
  /** Directory of the CLIP model that scores the pictures. */
  readonly clip: string;
  /** The settings that are compared. */
  readonly settings: readonly SweepSetting[];
  /**
   * Prompts that all rows preserve, for settings that do; a row leaves out those that contain the
   * words of its source. Default: none.
   */
  readonly retained?: readonly string[];
  /** Denoising steps. */
  readonly steps: number;
  /** Scale of classifier-free guidance; the model's own by default: 7.5, for SDXL 5. */
  readonly cfgScale?: number;
  /** Sampler; the model's own by default. */
  readonly samplingMethod?: string;
}

/** The settings, rows and jobs of a sweep; the content of a plan file. */
export interface SweepPlan extends SweepSettings {
  /** Version of the file format. */
  readonly format: typeof planFormat;
  /** The edits with their test prompts. */
  readonly rows: readonly SweepRow[];
  /** The jobs, in the order in which they run. */
  readonly jobs: readonly SweepJob[];
}

/** What functions take for a plan, at a glance; `parsePlan` reads all of it. */
export const planKind: OptionKind = kind(
  "a plan as planSweep() and parsePlan() return it",
  (value) => ["rows", "jobs", "settings"].every((name) => Array.isArray((value as SweepPlan | null)?.[name as "rows"])),
);

/** A prompt of a row, and the measure that its pictures count toward. */
export interface SweepPrompt extends SweepPair {
  /** The measure that the prompt's pictures count toward. */
  readonly measure: Measure;
}

/** A picture of a job: its prompt and seed. */
export interface PlannedPicture extends SweepPair {
  /** The measure that the picture counts toward. */
  readonly measure: SweepMeasure;
  /** Seed of the picture. */
  readonly seed: number;
}

/** The score of one picture. */
export interface SweepResult extends SweepJob {
  /** Fingerprint of the plan. */
  readonly plan: string;
  /** The measure that the picture counts toward. */
  readonly measure: SweepMeasure;
  /** The prompt that the edit is tested on. */
  readonly prompt: string;
  /** The edited form of the prompt; for a listed prompt, the prompt itself. */
  readonly edited: string;
  /** CLIP's logits for the prompt and for its edited counterpart. */
  readonly logits: readonly [own: number, edited: number];
  /** CLIP's factor between cosines and logits. */
  readonly logitScale: number;
  /** Which of the two has the larger logit. */
  readonly fits: "source" | "destination";
}

/**
 * Plans a sweep: one job for each row, setting and seed. All jobs of a row are in succession, so
 * that its settings are compared early. Rows with listed prompts have one job for each setting.
 *
 * ```ts ignore
 * const rows = parseDataSet(csv, "TIMED_test_set.csv");
 * const plan = planSweep(rows, { seeds: 8, firstSeed: 0 }, settings);
 * ```
 *
 * @throws {OptionError} for seeds that are no whole numbers, for more than 10 million jobs, and for
 *   a row with a destination "" that does not say what may be shown instead
 */
export function planSweep(
  rows: readonly SweepRow[],
  { seeds, firstSeed }: { seeds: number; firstSeed: number },
  given: SweepSettings,
): SweepPlan {
  checkSweep(rows, { seeds, firstSeed }, given);
  const { pins, model, variant, clip, settings, retained, steps, cfgScale, samplingMethod } = given;
  const jobs = rows.flatMap(({ listed }, row) =>
    settings.flatMap((_, setting) =>
      listed === undefined
        ? Array.from({ length: seeds }, (_, i): SweepJob => ({ row, setting, seed: firstSeed + i }))
        : [{ row, setting, seed: 0 }]
    )
  );
  return {
    format: planFormat,
    pins,
    model,
    variant,
    clip,
    settings,
    retained,
    steps,
    cfgScale,
    samplingMethod,
    rows,
    jobs,
  };
}

/**
 * Checks what a sweep is planned from, as {@linkcode planSweep} does, before the models are hashed.
 *
 * @throws {OptionError} as there
 */
export function checkSweep(
  rows: readonly SweepRow[],
  { seeds, firstSeed }: { seeds: number; firstSeed: number },
  { settings }: Pick<SweepSettings, "settings">,
): void {
  checkArgument("plan a sweep", "rows", rows, listOf(kinds.object, "rows"));
  checkOptions("plan a sweep", { seeds, firstSeed }, { seeds: wholeFrom(1), firstSeed: wholeFrom(0) });
  if (!(rows.length * settings.length * seeds <= mostJobs && Number.isSafeInteger(firstSeed + seeds))) {
    throw new OptionError(
      `Cannot plan a sweep over ${countText(rows.length, "row")}, ${countText(settings.length, "setting")} and ` +
        `${countText(seeds, "seed")} from ${firstSeed}: ` +
        `they must be at most ${mostJobs} jobs, with seeds below 2^53; plan several sweeps`,
      { option: "seeds", value: seeds },
    );
  }
  for (const [i, row] of rows.entries()) {
    const reason = unjudged(row);
    if (reason === undefined) continue;
    throw new OptionError(`Cannot plan a sweep over row ${i + 1}: ${reason}`, { option: "rows", value: row });
  }
}

/**
 * All prompts of a row: the source (efficacy), the related prompts (generality) and the unrelated
 * prompts (specificity), each once.
 */
export function promptsOfRow({ source, destination, also, judged, related, unrelated }: SweepRow): SweepPrompt[] {
  const texts = judged === undefined
    ? { edited: destination, ...also === undefined ? {} : { also } }
    : { edited: judged.edited, own: judged.own, oracle: destination };
  const prompts: SweepPrompt[] = [
    { measure: "efficacy", prompt: source, ...texts },
    ...related.map((pair) => ({ measure: "generality" as const, ...pair })),
    ...unrelated.map((pair) => ({ measure: "specificity" as const, ...pair })),
  ];
  return distinct(prompts, ({ measure, prompt, edited }) => JSON.stringify([measure, prompt, edited]));
}

/** The pairs of a row's edit. */
export function pairsOfRow({ source, destination, more = [] }: PromptEdit & Pick<SweepRow, "more">): PromptEdit[] {
  return [{ source, destination }, ...more.map(({ source, destination }) => ({ source, destination }))];
}

/** A row's edit in short: `a rose → a tulip`, `a rose → ""`; of several pairs, `; `-separated. */
export function editText(row: PromptEdit & Pick<SweepRow, "more">): string {
  return pairsOfRow(row).map(({ source, destination }) => `${source} → ${destination || '""'}`).join("; ");
}

/** Identifies a row's edit; rows of a list of prompts share theirs. */
export function editKey(row: PromptEdit & Pick<SweepRow, "more">): string {
  return JSON.stringify(pairsOfRow(row).map(({ source, destination }) => [source, destination]));
}

/** What keeps a row's pictures from being judged; undefined if nothing does. */
export function unjudged(row: SweepRow): string | undefined {
  const empty = row.listed ? undefined : promptsOfRow(row).find((prompt) => editedForms(prompt).length === 0);
  return empty &&
    `${
      JSON.stringify(empty.prompt)
    } is edited to "", which no picture shows: "also" must list what may be shown instead`;
}

/** The pictures of a job, in the order in which they are drawn. */
export function picturesOfJob({ rows }: Pick<SweepPlan, "rows">, { row, seed }: SweepJob): PlannedPicture[] {
  const { listed } = rows[row];
  if (listed === undefined) return promptsOfRow(rows[row]).map((prompt) => ({ ...prompt, seed }));
  const prompts = listed.map(({ prompt, seed }) => ({ measure: "list" as const, prompt, edited: prompt, seed }));
  return distinct(prompts, ({ prompt, seed }) => JSON.stringify([prompt, seed]));
}

function distinct<T>(items: readonly T[], keyOf: (item: T) => string): T[] {
  const known = new Set<string>();
  return items.filter((item) => {
    const key = keyOf(item);
    return !known.has(key) && known.add(key);
  });
}

/** Identifies a picture within a plan. */
export function pictureKey(
  { row, setting, seed, measure, prompt, edited }: Omit<SweepResult, "plan" | "logits" | "logitScale" | "fits">,
): string {
  return JSON.stringify([row, setting, seed, measure, prompt, edited]);
}

/** The keys of all pictures of a plan. */
export function plannedPictures(plan: Pick<SweepPlan, "rows" | "jobs">): Set<string> {
  const planned = new Set<string>();
  for (const job of plan.jobs) {
    for (const picture of picturesOfJob(plan, job)) planned.add(pictureKey({ ...job, ...picture }));
  }
  return planned;
}

/** Which prompt a picture fits, by its logits for the picture's own and its edited prompt. */
export function fitOf(own: number, edited: number): SweepResult["fits"] {
  return edited > own ? "destination" : "source";
}

/**
 * The jobs of shard `index` of `count`, counted from 1: every `count`-th job, so that slow rows are
 * spread over all shards.
 *
 * @throws {OptionError} when `index` is not between 1 and `count`
 */
export function jobsOfShard(
  jobs: readonly SweepJob[],
  { index, count }: { index: number; count: number },
): SweepJob[] {
  if (!(Number.isInteger(index) && Number.isInteger(count) && index >= 1 && index <= count)) {
    throw new OptionError(
      `Cannot select shard ${index} of ${count}: the index must be a whole number from 1 to ${count}`,
      { option: "index", value: index },
    );
  }
  return jobs.filter((_, i) => i % count === index - 1);
}
