/**
 * File formats of a sweep: the plan (JSON) and the results (JSON Lines). The functions take and
 * return file contents; the caller reads and writes the files.
 *
 * @module
 */
import * as v from "valibot";
import {
  anyText,
  fields,
  finite,
  listOf,
  oneOf,
  positive,
  type Schema,
  text,
  validate,
  validateJson,
  whole,
} from "../../schema.ts";
import {
  fitOf,
  mostJobs,
  pictureKey,
  planFormat,
  plannedPictures,
  type SweepPair,
  type SweepPlan,
  type SweepResult,
  type SweepRow,
  unjudged,
} from "./plan.ts";
import { also, destinationSchema } from "../edit_cases.ts";
import { maxPrompts as mostOfEdit } from "../../editing/prompts/recipe_schema.ts";
import { OptionError } from "../../errors.ts";
import { settingSchema } from "./settings.ts";
import { SweepError } from "./sweep_error.ts";

const maxPrompts = 10_000, maxRows = 1_000_000;
const seed = whole(0, Number.MAX_SAFE_INTEGER);

const pairSchema: Schema<SweepPair> = fields({
  prompt: text(),
  edited: anyText(),
  also,
  own: v.optional(text()),
  oracle: v.optional(text()),
});

const rowSchema: Schema<SweepRow> = fields({
  source: text(),
  destination: destinationSchema,
  more: v.optional(listOf(fields({ source: text(), destination: destinationSchema }), { max: maxPrompts })),
  also,
  judged: v.optional(fields({ own: text(), edited: text() })),
  related: listOf(pairSchema, { max: maxPrompts }),
  unrelated: listOf(pairSchema, { max: maxPrompts }),
  preserve: v.optional(listOf(text(), { max: maxPrompts })),
  listed: v.optional(listOf(fields({ prompt: text(), seed }), { min: 1, max: maxPrompts })),
});

const planSchema: Schema<SweepPlan> = fields({
  format: oneOf(planFormat),
  pins: fields({
    version: text(),
    revision: v.optional(text()),
    modelHash: v.optional(text()),
    clipHash: v.optional(text()),
  }),
  model: text(),
  variant: v.optional(text()),
  clip: text(),
  settings: listOf(settingSchema, { min: 1, max: 1000 }),
  retained: v.optional(listOf(text(), { max: mostOfEdit - maxPrompts })), // an edit has those of its row, too
  steps: whole(1, 10_000),
  cfgScale: v.optional(finite()),
  samplingMethod: v.optional(text()),
  rows: listOf(rowSchema, { min: 1, max: maxRows }),
  jobs: listOf(fields({ row: whole(0, maxRows), setting: whole(0, 1000), seed }), { min: 1, max: mostJobs }),
});

/** What of a plan does not fit the rest of it; undefined if all does. */
function inconsistency({ rows, jobs, settings }: SweepPlan): string | undefined {
  if (new Set(settings.map(({ name }) => name)).size < settings.length) return "its settings need names of their own";
  const reasons = rows.map(unjudged), unfit = reasons.findIndex((reason) => reason !== undefined);
  if (unfit >= 0) return `rows[${unfit}]: ${reasons[unfit]}`;
  const keys = new Set<string>();
  for (const [i, { row, setting, seed }] of jobs.entries()) {
    if (row >= rows.length) return `jobs[${i}] is of row ${row}, and there are rows 0 to ${rows.length - 1}`;
    if (setting >= settings.length) {
      return `jobs[${i}] is of setting ${setting}, and there are settings 0 to ${settings.length - 1}`;
    }
    const key = `${row}/${setting}/${seed}`;
    if (keys.has(key)) return `jobs[${i}] is there twice`;
    keys.add(key);
  }
}

/**
 * The content of a plan file.
 *
 * @throws {OptionError} for a plan that `parsePlan` would refuse, such as one with a prompt of more
 *   than 100,000 characters
 */
export function formatPlan(plan: SweepPlan): string {
  const refuse = (reason: string) =>
    new OptionError(`Cannot write a plan that could not be read again: ${reason}`, { option: "plan", value: plan });
  validate(planSchema, plan, refuse);
  const reason = inconsistency(plan);
  if (reason !== undefined) throw refuse(reason);
  const { rows, jobs, ...rest } = plan;
  const lines = (items: readonly unknown[]) => items.map((item) => `  ${JSON.stringify(item)}`).join(",\n");
  const head = JSON.stringify(rest, null, 1).slice(0, -2);
  return `${head},\n "rows": [\n${lines(rows)}\n ],\n "jobs": [\n${lines(jobs)}\n ]\n}\n`;
}

/**
 * Parses a plan file.
 *
 * @param path name of the file, for error messages
 * @returns the plan and its fingerprint: 16 hexadecimal digits of the SHA-256 of the bytes
 * @throws {SweepError} when the bytes are not JSON, or not a plan of this version
 */
export async function parsePlan(
  bytes: Uint8Array<ArrayBuffer>,
  path: string,
): Promise<{ plan: SweepPlan; fingerprint: string }> {
  const refuse = (reason: string) =>
    new SweepError(`Cannot read the plan ${path}: ${reason}. Write a plan with bluerose sweep plan`, { path });
  if (!(bytes instanceof Uint8Array)) throw refuse("it must be bytes");
  const value = validateJson(v.unknown(), new TextDecoder().decode(bytes), refuse);
  const format = (value as { format?: unknown } | null)?.format;
  if (typeof format === "string" && /^blue-rose-sweep-\d+$/.test(format) && format !== planFormat) {
    throw refuse(`its format is ${format} and this version reads ${planFormat}`);
  }
  const plan = validate(planSchema, value, refuse);
  const reason = inconsistency(plan);
  if (reason !== undefined) throw refuse(reason);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return { plan, fingerprint: digest.toHex().slice(0, 16) };
}

/** The line of a result in a results file. */
export function formatResult(result: SweepResult): string {
  const { plan, ...rest } = result;
  return JSON.stringify({ plan, ...rest }) + "\n"; // the plan first: parseResults knows the line by it
}

const resultSchema: Schema<SweepResult> = fields({
  plan: text(),
  row: whole(0, maxRows),
  setting: whole(0, 1000),
  seed,
  measure: oneOf("efficacy", "generality", "specificity", "list"),
  prompt: text(),
  edited: anyText(),
  logits: v.tuple([finite(), finite()], "a list of two logits"),
  logitScale: positive(),
  fits: oneOf("source", "destination"),
});

/** What a results file holds. */
export interface ParsedResults {
  /** The results of the plan. */
  readonly results: SweepResult[];
  /** Number of bytes that the complete lines take. What follows is an incomplete line. */
  readonly completeBytes: number;
  /** Number of lines of other plans, where those are skipped. */
  readonly foreign: number;
}

/**
 * Parses a results file. An incomplete last line, left by a run that was stopped while writing, is
 * ignored.
 *
 * @param options.path name of the file, for error messages
 * @param options.plan the plan that the results must belong to
 * @param options.fingerprint the plan's fingerprint
 * @param options.skipForeign whether results of other plans are counted instead of refused
 * @throws {SweepError} when a line is not a result of a picture that the plan asks for, or the file
 *   is not a results file
 */
export function parseResults(
  bytes: Uint8Array,
  options: { path: string; plan: SweepPlan; fingerprint: string; skipForeign?: boolean },
): ParsedResults {
  const { path, plan, fingerprint, skipForeign = false } = options;
  const completeBytes = bytes.lastIndexOf("\n".charCodeAt(0)) + 1;
  const lines = new TextDecoder().decode(bytes.subarray(0, completeBytes)).split("\n").slice(0, -1);
  const incomplete = new TextDecoder().decode(bytes.subarray(completeBytes));
  const beginning = `{"plan":"${fingerprint}"`; // of each line that formatResult() writes for this plan
  if (!skipForeign && !beginning.startsWith(incomplete) && !incomplete.startsWith(beginning)) {
    throw new SweepError(`Cannot use ${path} as results: its last line does not come from this plan`, { path });
  }
  const planned = plannedPictures(plan);
  let foreign = 0;
  const results = lines.flatMap((line, i): SweepResult[] => {
    const refuse = (reason: string) =>
      new SweepError(`Cannot use the results ${path}: line ${i + 1}: ${reason}`, { path });
    const owner = validateJson(fields({ plan: text() }), line, refuse).plan;
    if (owner !== fingerprint) {
      foreign++;
      if (skipForeign) return [];
      throw refuse(`it belongs to another plan (${JSON.stringify(owner)}, not "${fingerprint}")`);
    }
    const result = validateJson(resultSchema, line, refuse);
    if (!planned.has(pictureKey(result))) throw refuse("the plan asks for no such picture");
    const [own, edited] = result.logits;
    if (result.fits !== fitOf(own, edited)) {
      throw refuse(`its logits [${own}, ${edited}] do not fit the ${result.fits}`);
    }
    return [result];
  });
  return { results, completeBytes, foreign };
}
