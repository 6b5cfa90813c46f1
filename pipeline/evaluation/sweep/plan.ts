/**
 * The plan of a sweep: which pictures to draw, with which settings, and how they divide into
 * shards.
 *
 * @module
 */
import type { EditCase, PromptPair } from "../edit_cases.ts";
import type { Measure } from "../edit_scores.ts";

/**
 * Which model draws the source and related prompts. "edit": the edited model. "baseline": the
 * unedited model. "oracle": the unedited model, prompted with the destination: an upper bound.
 */
export type SweepMethod = "edit" | "baseline" | "oracle";

/** One edit of the data set with its test prompts. */
export type SweepRow = Pick<EditCase, "source" | "destination" | "related" | "unrelated">;

/** One unit of work: every prompt of a row, drawn from one seed. */
export interface SweepJob {
  /** Index into the plan's rows. */
  readonly row: number;
  /** Seed of the pictures. */
  readonly seed: number;
}

/** What a sweep draws, and how. */
export interface SweepSettings {
  /** Directory, single file or hub id of the model to edit. */
  readonly model: string;
  /** Which weights of a directory to load, such as "fp16". */
  readonly variant?: string;
  /** Directory of the CLIP model that scores the pictures. */
  readonly clip: string;
  /** How the model is edited. */
  readonly method: SweepMethod;
  /** λ of eq. 5. */
  readonly lambda: number;
  /** Whether only the value projections are edited. */
  readonly valuesOnly: boolean;
  /** Denoising steps. */
  readonly steps: number;
  /** Guidance scale of classifier-free guidance. */
  readonly cfgScale: number;
  /** Sampler; the model's own by default. */
  readonly samplingMethod?: string;
}

/** The settings, rows and jobs of a sweep; the content of a plan file. */
export interface SweepPlan extends SweepSettings {
  /** Version of the file format. */
  readonly format: "blue-rose-sweep-1";
  /** The edits with their test prompts. */
  readonly rows: readonly SweepRow[];
  /** The jobs, in the order in which they run. */
  readonly jobs: readonly SweepJob[];
}

/** A prompt of a row, and the measure that its pictures count toward. */
export interface SweepPrompt extends PromptPair {
  /** The measure that the prompt's pictures count toward. */
  readonly measure: Measure;
}

/** The score of one picture. */
export interface SweepResult extends SweepPrompt, SweepJob {
  /** Fingerprint of the plan. */
  readonly plan: string;
  /** CLIP's logits for the prompt and for its edited counterpart. */
  readonly logits: readonly [own: number, edited: number];
  /** Which of the two has the larger logit. */
  readonly fits: "source" | "destination";
}

/** A job with those of its prompts that have no result yet. */
export interface PendingJob extends SweepJob {
  /** The prompts without a result. */
  readonly prompts: readonly SweepPrompt[];
}

/**
 * Plans a sweep: one job for each row and seed, all seeds of a row in succession.
 *
 * ```ts
 * const rows = parseDataSet(csv, "TIMED_test_set.csv");
 * const plan = planSweep(rows, { seeds: 8, firstSeed: 0 }, settings);
 * ```
 */
export function planSweep(
  rows: readonly SweepRow[],
  { seeds, firstSeed }: { seeds: number; firstSeed: number },
  settings: SweepSettings,
): SweepPlan {
  const { model, variant, clip, method, lambda, valuesOnly, steps, cfgScale, samplingMethod } = settings;
  const jobs = rows.flatMap((_, row) => Array.from({ length: seeds }, (_, i) => ({ row, seed: firstSeed + i })));
  return {
    format: "blue-rose-sweep-1",
    model,
    variant,
    clip,
    method,
    lambda,
    valuesOnly,
    steps,
    cfgScale,
    samplingMethod,
    rows,
    jobs,
  };
}

/**
 * All prompts of a row: the source (efficacy), the related prompts (generality) and the unrelated
 * prompts (specificity).
 */
export function promptsOfRow({ source, destination, related, unrelated }: SweepRow): SweepPrompt[] {
  return [
    { measure: "efficacy", prompt: source, edited: destination },
    ...related.map((pair) => ({ measure: "generality" as const, ...pair })),
    ...unrelated.map((pair) => ({ measure: "specificity" as const, ...pair })),
  ];
}

/** Identifies a picture within a plan. */
export function pictureKey(
  { row, seed, measure, prompt }: Pick<SweepResult, "row" | "seed" | "measure" | "prompt">,
): string {
  return JSON.stringify([row, seed, measure, prompt]);
}

/** The keys of all pictures of a plan, with the edited prompt that each is compared with. */
export function plannedPictures({ rows, jobs }: Pick<SweepPlan, "rows" | "jobs">): Map<string, string> {
  const planned = new Map<string, string>();
  for (const { row, seed } of jobs) {
    for (const prompt of promptsOfRow(rows[row])) planned.set(pictureKey({ row, seed, ...prompt }), prompt.edited);
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
 * @throws {RangeError} when `index` is not between 1 and `count`
 */
export function jobsOfShard(
  jobs: readonly SweepJob[],
  { index, count }: { index: number; count: number },
): SweepJob[] {
  if (!(Number.isInteger(index) && Number.isInteger(count) && index >= 1 && index <= count)) {
    throw new RangeError(
      `Cannot select shard ${index} of ${count}: the index must be a whole number from 1 to ${count}`,
    );
  }
  return jobs.filter((_, i) => i % count === index - 1);
}

/** The jobs that still have pictures to draw, given the results that exist. */
export function pendingJobs(
  { rows }: Pick<SweepPlan, "rows">,
  jobs: readonly SweepJob[],
  results: readonly SweepResult[],
): PendingJob[] {
  const done = new Set(results.map(pictureKey));
  return jobs.map(({ row, seed }) => ({
    row,
    seed,
    prompts: promptsOfRow(rows[row]).filter((prompt) => !done.has(pictureKey({ row, seed, ...prompt }))),
  })).filter(({ prompts }) => prompts.length > 0);
}
