/**
 * File formats of a sweep: the data set (CSV), the plan (JSON) and the results (JSON Lines). The
 * functions take and return file contents; the caller reads and writes the files.
 *
 * @module
 */
import * as v from "valibot";
import {
  boolean,
  fields,
  finite,
  listOf,
  oneOf,
  positive,
  type Schema,
  text,
  validateJson,
  whole,
} from "../../schema.ts";
import { type CsvTable, parseCsv } from "../../text/csv.ts";
import { type PromptPair, testedEditSchema } from "../edit_cases.ts";
import { fitOf, pictureKey, plannedPictures, type SweepPlan, type SweepResult, type SweepRow } from "./plan.ts";

/** A file of a sweep is malformed or belongs to another plan, or results are missing. */
export class SweepError extends Error {
  /** The name of the class. */
  override name = "SweepError";
  /** The file that the error is about. */
  readonly path: string;

  /** Keeps the details as fields. */
  constructor(message: string, details: { path: string; cause?: unknown }) {
    super(message, { cause: details.cause });
    this.path = details.path;
  }
}

/**
 * Parses a data set in TIMED's format. Columns: `old` and `new` (source and destination prompt),
 * `positiveN` and `gtN` (a related prompt and its edited form), `negativeN` and `gnN` (an unrelated
 * prompt and the form that it must not take). Pairs with an empty cell are skipped.
 *
 * @param path name of the file, for error messages
 * @throws {SweepError} when the text is not CSV, a column is missing, or a row has no `old` or
 *   `new`
 */
export function parseDataSet(text: string, path: string): SweepRow[] {
  let table: CsvTable;
  try {
    table = parseCsv(text);
  } catch (cause) {
    throw new SweepError(`Cannot read ${path} as CSV: ${(cause as Error).message}`, { path, cause });
  }
  const { columns, records } = table;
  const missing = ["old", "new", "positive1", "gt1", "negative1", "gn1"].filter((name) => !columns.includes(name));
  if (missing.length > 0) {
    const hint = columns.includes("validation") ? " (TIMED's gender set has another format and is not supported)" : "";
    throw new SweepError(
      `Cannot sweep over ${path}: it lacks the columns ${missing.join(", ")}${hint}; it has ${
        columns.join(", ") || "none"
      }`,
      { path },
    );
  }
  const pairs = (record: ReadonlyMap<string, string>, own: string, edited: string): PromptPair[] =>
    columns.filter((name) => new RegExp(`^${own}\\d+$`).test(name)).flatMap((name) => {
      const [prompt, counterpart] = [record.get(name), record.get(name.replace(own, edited))];
      return prompt && counterpart ? [{ prompt, edited: counterpart }] : [];
    });
  return records.map((record, i) => {
    const [source, destination] = [record.get("old"), record.get("new")];
    if (!source || !destination) {
      throw new SweepError(`Cannot sweep over ${path}: row ${i + 1} lacks its old or new prompt`, { path });
    }
    return {
      source,
      destination,
      related: pairs(record, "positive", "gt"),
      unrelated: pairs(record, "negative", "gn"),
    };
  });
}

/** The content of a plan file. */
export function formatPlan(plan: SweepPlan): string {
  return JSON.stringify(plan, null, 1) + "\n";
}

const planSchema: Schema<SweepPlan> = v.pipe(
  fields({
    format: oneOf("blue-rose-sweep-1"),
    model: text(),
    variant: v.optional(text()),
    clip: text(),
    method: oneOf("edit", "baseline", "oracle"),
    lambda: positive(),
    valuesOnly: boolean(),
    steps: whole(1, 10_000),
    cfgScale: finite(),
    samplingMethod: v.optional(text()),
    rows: listOf(testedEditSchema, { max: 1_000_000 }),
    jobs: listOf(
      fields({ row: whole(0, 1_000_000), seed: whole(0, Number.MAX_SAFE_INTEGER) }),
      { max: 10_000_000 },
    ),
  }),
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    const { rows, jobs } = dataset.value;
    const i = jobs.findIndex(({ row }) => row >= rows.length);
    if (i >= 0) {
      addIssue({ message: `consistent: jobs[${i}] is of row ${jobs[i].row} of ${rows.length}`, input: rows.length });
    }
  }),
);

/**
 * Parses a plan file.
 *
 * @param path name of the file, for error messages
 * @returns the plan and its fingerprint: 16 hexadecimal digits of the SHA-256 of the bytes
 * @throws {SweepError} when the bytes are not JSON, or not a plan
 */
export async function parsePlan(
  bytes: Uint8Array<ArrayBuffer>,
  path: string,
): Promise<{ plan: SweepPlan; fingerprint: string }> {
  const plan = validateJson(
    planSchema,
    new TextDecoder().decode(bytes),
    (reason) =>
      new SweepError(`Cannot read the plan ${path}: ${reason}. Write a plan with bluerose sweep plan`, { path }),
  );
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
  row: whole(0, 1_000_000),
  seed: whole(0, Number.MAX_SAFE_INTEGER),
  measure: oneOf("efficacy", "generality", "specificity"),
  prompt: text(),
  edited: text(),
  logits: v.tuple([finite(), finite()], "a list of two logits"),
  fits: oneOf("source", "destination"),
});

/**
 * Parses a results file. An incomplete last line, left by a run that was stopped while writing, is
 * ignored.
 *
 * @param options.path name of the file, for error messages
 * @param options.plan the plan that the results must belong to
 * @param options.fingerprint the plan's fingerprint
 * @returns the results, and the number of bytes that the complete lines take
 * @throws {SweepError} when a line is not a result of a picture that the plan asks for, or the file
 *   is not a results file
 */
export function parseResults(
  bytes: Uint8Array,
  { path, plan, fingerprint }: { path: string; plan: SweepPlan; fingerprint: string },
): { results: SweepResult[]; completeBytes: number } {
  const completeBytes = bytes.lastIndexOf("\n".charCodeAt(0)) + 1;
  const lines = new TextDecoder().decode(bytes.subarray(0, completeBytes)).split("\n").slice(0, -1);
  const incomplete = new TextDecoder().decode(bytes.subarray(completeBytes));
  const beginning = `{"plan":"${fingerprint}"`; // of each line that formatResult() writes for this plan
  if (!beginning.startsWith(incomplete) && !incomplete.startsWith(beginning)) {
    throw new SweepError(`Cannot use ${path} as results: its last line does not come from this plan`, { path });
  }
  const planned = plannedPictures(plan);
  const results = lines.map((line, i): SweepResult => {
    const refuse = (reason: string) =>
      new SweepError(`Cannot use the results ${path}: line ${i + 1}: ${reason}`, { path });
    const result = validateJson(resultSchema, line, refuse);
    if (result.plan !== fingerprint) {
      throw refuse(`it belongs to another plan (${JSON.stringify(result.plan)}, not "${fingerprint}")`);
    }
    if (planned.get(pictureKey(result)) !== result.edited) throw refuse("the plan asks for no such picture");
    const [own, edited] = result.logits;
    if (result.fits !== fitOf(own, edited)) {
      throw refuse(`its logits [${own}, ${edited}] do not fit the ${result.fits}`);
    }
    return result;
  });
  return { results, completeBytes };
}
