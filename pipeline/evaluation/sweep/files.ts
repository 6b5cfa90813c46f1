/**
 * File formats of a sweep: the data set (CSV), the plan (JSON) and the results (JSON Lines). The
 * functions take and return file contents; reading and writing is the caller's part.
 *
 * @module
 */
import { type CsvTable, parseCsv } from "../../text/csv.ts";
import type { PromptPair } from "../edit_cases.ts";
import type { SweepPlan, SweepResult, SweepRow } from "./plan.ts";

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
  let plan: SweepPlan;
  try {
    plan = JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new SweepError(`Cannot read the plan ${path}: it must be JSON (${(cause as Error).message})`, {
      path,
      cause,
    });
  }
  if (plan?.format !== "blue-rose-sweep-1") {
    throw new SweepError(
      `Cannot read the plan ${path}: its format must be "blue-rose-sweep-1", not ${
        JSON.stringify(plan?.format ?? null)
      }. Write one with bluerose sweep plan`,
      { path },
    );
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return { plan, fingerprint: digest.toHex().slice(0, 16) };
}

/** The line of a result in a results file. */
export function formatResult(result: SweepResult): string {
  return JSON.stringify(result) + "\n";
}

/**
 * Parses a results file. An incomplete last line, left by a run that was stopped while writing, is
 * ignored.
 *
 * @param options.path name of the file, for error messages
 * @param options.fingerprint fingerprint of the plan that the results must belong to
 * @returns the results, and the number of bytes that the complete lines take
 * @throws {SweepError} when a line is not JSON or belongs to another plan
 */
export function parseResults(
  bytes: Uint8Array,
  { path, fingerprint }: { path: string; fingerprint: string },
): { results: SweepResult[]; completeBytes: number } {
  const completeBytes = bytes.lastIndexOf("\n".charCodeAt(0)) + 1;
  const lines = new TextDecoder().decode(bytes.subarray(0, completeBytes)).split("\n").slice(0, -1);
  const results = lines.map((line, i): SweepResult => {
    let result: SweepResult;
    try {
      result = JSON.parse(line);
    } catch (cause) {
      throw new SweepError(`Cannot read the results ${path}: line ${i + 1} is not JSON`, { path, cause });
    }
    if (result.plan === fingerprint) return result;
    throw new SweepError(
      `Cannot use the results ${path}: line ${i + 1} belongs to another plan (${result.plan}, not ${fingerprint})`,
      { path },
    );
  });
  return { results, completeBytes };
}
