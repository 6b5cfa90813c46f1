/**
 * The files of a sweep: the data set's CSV, the plan (JSON) and the results (one JSON object a
 * line).
 *
 * @module
 */
import { parse } from "csv-parse/browser/esm/sync";
import type { EditCase, PromptPair } from "../edit_cases.ts";
import type { Measure } from "../edit_scores.ts";

/** A file of a sweep is not what it should be, or results are missing. */
export class SweepError extends Error {
  override name = "SweepError";
  /** The file that the error is about. */
  readonly path: string;

  constructor(message: string, details: { path: string; cause?: unknown }) {
    super(message, { cause: details.cause });
    this.path = details.path;
  }
}

/**
 * What draws the pictures of prompts that an edit should reach: the edited model; the model as it
 * is; the model as it is, asked for the destination.
 */
export type SweepMethod = "edit" | "baseline" | "oracle";

/** What is to be drawn, and how. */
export interface SweepPlan {
  readonly format: "blue-rose-sweep-1";
  readonly model: string;
  readonly variant?: string;
  /** Folder of the CLIP model that judges. */
  readonly clip: string;
  readonly method: SweepMethod;
  readonly lambda: number;
  readonly valuesOnly: boolean;
  readonly steps: number;
  readonly cfgScale: number;
  readonly samplingMethod?: string;
  readonly rows: readonly Pick<EditCase, "source" | "destination" | "related" | "unrelated">[];
  /** Each draws all prompts of a row, from one seed. */
  readonly jobs: readonly { readonly row: number; readonly seed: number }[];
}

/** A prompt of a row, with the question that its pictures answer. */
export interface SweepPrompt extends PromptPair {
  readonly measure: Measure;
}

/** What came of one picture. */
export interface SweepResult extends SweepPrompt {
  /** The plan's fingerprint. */
  readonly plan: string;
  readonly row: number;
  readonly seed: number;
  /** CLIP's logits: of the prompt, and of that prompt with what the edit adds. */
  readonly logits: readonly [own: number, edited: number];
  readonly fits: "source" | "destination";
}

/**
 * All prompts of a row: the source (efficacy), related ones (generality), unrelated ones
 * (specificity).
 */
export function promptsOf({ source, destination, related, unrelated }: SweepPlan["rows"][number]): SweepPrompt[] {
  return [
    { measure: "efficacy", prompt: source, edited: destination },
    ...related.map((pair) => ({ measure: "generality" as const, ...pair })),
    ...unrelated.map((pair) => ({ measure: "specificity" as const, ...pair })),
  ];
}

/** What tells pictures of a sweep apart. */
export function keyOf(
  { row, seed, measure, prompt }: Pick<SweepResult, "row" | "seed" | "measure" | "prompt">,
): string {
  return JSON.stringify([row, seed, measure, prompt]);
}

/**
 * The rows of a data set in TIMED's form: columns `old` and `new`, `positiveN` with `gtN` (what it
 * should become), `negativeN` with `gnN` (what it should not become). Pairs whose cells are empty
 * are left out.
 *
 * @throws {SweepError} where columns are missing
 */
export function parseDataSet(text: string, path: string): SweepPlan["rows"] {
  let records: Record<string, string>[];
  try {
    records = parse(text, { columns: true, skip_empty_lines: true, bom: true, trim: true });
  } catch (cause) {
    throw new SweepError(`Cannot read ${path} as CSV: ${(cause as Error).message}`, { path, cause });
  }
  const columns = Object.keys(records[0] ?? {});
  const missing = ["old", "new", "positive1", "gt1", "negative1", "gn1"].filter((name) => !columns.includes(name));
  if (missing.length > 0) {
    const hint = columns.includes("validation") ? " (the gender set asks another question and has none of these)" : "";
    throw new SweepError(
      `Cannot sweep over ${path} as it lacks the columns ${missing.join(", ")}${hint}; it has ${
        columns.join(", ") || "none"
      }`,
      { path },
    );
  }
  const pairs = (record: Record<string, string>, own: string, edited: string): PromptPair[] =>
    columns.filter((name) => new RegExp(`^${own}\\d+$`).test(name)).flatMap((name) => {
      const pair = { prompt: record[name], edited: record[name.replace(own, edited)] };
      return pair.prompt && pair.edited ? [pair] : [];
    });
  return records.map((record, i) => {
    if (!record.old || !record.new) {
      throw new SweepError(`Cannot sweep over ${path} as row ${i + 1} lacks its old or new prompt`, { path });
    }
    return {
      source: record.old,
      destination: record.new,
      related: pairs(record, "positive", "gt"),
      unrelated: pairs(record, "negative", "gn"),
    };
  });
}

/** Reads a plan and its fingerprint. @throws {SweepError} where it is none */
export async function readPlan(path: string): Promise<{ plan: SweepPlan; fingerprint: string }> {
  const bytes = await Deno.readFile(path).catch((cause) => {
    throw new SweepError(`Cannot read the plan ${path}: ${cause.message}`, { path, cause });
  });
  let plan: SweepPlan;
  try {
    plan = JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new SweepError(`Cannot read the plan ${path} as it must be JSON: ${(cause as Error).message}`, {
      path,
      cause,
    });
  }
  if (plan?.format !== "blue-rose-sweep-1") {
    throw new SweepError(`Cannot read ${path} as it is no plan of bluerose sweep plan`, { path });
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return { plan, fingerprint: digest.toHex().slice(0, 16) };
}

/**
 * Reads results. A last line that was cut off (the run was stopped while it wrote) is left out.
 *
 * @returns the results, and the bytes of the file's whole lines
 * @throws {SweepError} for results of another plan, and lines that are none
 */
export async function readResults(
  path: string,
  options: { fingerprint: string },
): Promise<{ results: SweepResult[]; wholeBytes: number }> {
  const bytes = await Deno.readFile(path);
  const wholeBytes = bytes.lastIndexOf(10) + 1;
  const lines = new TextDecoder().decode(bytes.subarray(0, wholeBytes)).split("\n").slice(0, -1);
  const results = lines.map((line, i): SweepResult => {
    try {
      return JSON.parse(line);
    } catch (cause) {
      throw new SweepError(`Cannot read ${path} as line ${i + 1} is not JSON`, { path, cause });
    }
  });
  const stranger = results.findIndex(({ plan }) => plan !== options.fingerprint);
  if (stranger >= 0) {
    throw new SweepError(
      `Cannot use ${path} as line ${stranger + 1} belongs to another plan: ${
        results[stranger].plan
      } ≠ ${options.fingerprint}`,
      { path },
    );
  }
  return { results, wholeBytes };
}
