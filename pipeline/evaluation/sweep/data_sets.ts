/**
 * Data sets of a sweep, recognized by their content: TIMED's CSV, RoAD's CSV, lists of prompts
 * (CSV), and edits with test prompts (JSON).
 *
 * @module
 */
import { type CsvTable, parseCsv } from "../../text/csv.ts";
import { parseEditCases, type PromptPair } from "../edit_cases.ts";
import type { ListedPrompt, PromptEdit, SweepPair, SweepRow } from "./plan.ts";
import { SweepError } from "./sweep_error.ts";

/** Listed prompts of one job; a shard is a whole number of jobs. */
const listedPerJob = 16;

type CsvRecord = ReadonlyMap<string, string>;

/**
 * Parses a data set.
 *
 * - TIMED: `old` and `new` (source and destination), `positiveN` and `gtN` (a related prompt and
 *   its edited form), `negativeN` and `gnN` (an unrelated prompt and the form that it must not
 *   take).
 * - RoAD (ReFACT, arXiv 2306.00738): `prompt` is edited to `oracle`; its pictures are compared with
 *   `old` and `new`. `positiveN` with `positive_oldN`, `positive_newN` and `positive_oracleN`;
 *   `negativeN` with `negative_newN`.
 * - A list of prompts, as UCE's: `prompt`, `evaluation_seed` and optionally `case_number`. It names
 *   no edit, so `edits` does.
 * - JSON: a list of edits with their test prompts (`parseEditCases`).
 *
 * Pairs with an empty cell are skipped.
 *
 * @param path name of the file, for error messages
 * @param edits the edits that a list of prompts is drawn under; other data sets have their own
 * @param options.jointly whether those edits act together, as one edit of several pairs, instead of
 *   one after the other. Default: false.
 * @throws {SweepError} when the text is of none of these forms, or has no rows, or a row lacks a
 *   prompt
 * @throws {DataError} when JSON is not of the form of `parseEditCases`
 */
export function parseDataSet(
  text: string,
  path: string,
  edits: readonly PromptPair[] = [],
  options: { readonly jointly?: boolean } = {},
): SweepRow[] {
  const { jointly = false } = options;
  if (text.trim() === "") throw new SweepError(`Cannot sweep over ${path}: it is empty`, { path });
  const isJson = /^\s*[[{]/.test(text);
  if (isJson && edits.length > 0) throw ownEdits(path);
  const rows = isJson ? parseEditCases(text, path) : rowsOfCsv(text, path, { edits, jointly });
  if (rows.length === 0) throw new SweepError(`Cannot sweep over ${path}: it has no rows`, { path });
  return rows;
}

/** The edits of a list of prompts. */
interface ListEdits {
  readonly edits: readonly PromptPair[];
  readonly jointly: boolean;
}

function rowsOfCsv(text: string, path: string, listEdits: ListEdits): SweepRow[] {
  let table: CsvTable;
  try {
    table = parseCsv(text);
  } catch (cause) {
    throw new SweepError(`Cannot read ${path} as CSV: ${(cause as Error).message}`, { path, cause });
  }
  const { columns } = table;
  const isListed = columns.includes("evaluation_seed") || (columns.includes("prompt") && !columns.includes("old"));
  if (isListed) return listRows(table, path, listEdits);
  if (listEdits.edits.length > 0) throw ownEdits(path);
  return columns.includes("prompt") ? roadRows(table, path) : timedRows(table, path);
}

function ownEdits(path: string): SweepError {
  return new SweepError(
    `Cannot sweep over ${path} with other edits: the file names its own. Edits are given for a list of prompts`,
    { path },
  );
}

function timedRows({ columns, records }: CsvTable, path: string): SweepRow[] {
  const hint = columns.includes("validation") ? " (TIMED's gender set has another format and is not supported)" : "";
  requireColumns(columns, ["old", "new", "positive1", "gt1", "negative1", "gn1"], path, hint);
  return records.map((record, i) => {
    const [source, destination] = requireCells(record, ["old", "new"], i, path);
    return {
      source,
      destination,
      related: pairs(columns, record, { own: "positive", edited: "gt" }),
      unrelated: pairs(columns, record, { own: "negative", edited: "gn" }),
    };
  });
}

function roadRows({ columns, records }: CsvTable, path: string): SweepRow[] {
  requireColumns(columns, ["prompt", "old", "new", "positive1", "positive_new1", "negative1", "negative_new1"], path);
  return records.map((record, i) => {
    const [source, own, edited] = requireCells(record, ["prompt", "old", "new"], i, path);
    return {
      source,
      destination: record.get("oracle") || edited,
      judged: { own, edited },
      related: pairs(columns, record, {
        own: "positive",
        edited: "positive_new",
        judged: "positive_old",
        oracle: "positive_oracle",
      }),
      unrelated: pairs(columns, record, { own: "negative", edited: "negative_new" }),
    };
  });
}

function listRows({ columns, records }: CsvTable, path: string, { edits, jointly }: ListEdits): SweepRow[] {
  requireColumns(columns, ["prompt", "evaluation_seed"], path);
  if (edits.length === 0) {
    throw new SweepError(
      `Cannot sweep over ${path} as a list of prompts names no edit: give the edit's source and destination prompts`,
      { path },
    );
  }
  const listed = records.map((record, i): ListedPrompt => {
    const [prompt, seedText] = requireCells(record, ["prompt", "evaluation_seed"], i, path);
    const seed = Number(seedText);
    if (!/^\d+(\.0+)?$/.test(seedText) || !Number.isSafeInteger(seed)) {
      throw new SweepError(
        `Cannot sweep over ${path}: row ${
          i + 1
        }: evaluation_seed must be a whole number from 0 to ${Number.MAX_SAFE_INTEGER}, not ${
          JSON.stringify(seedText)
        }`,
        { path },
      );
    }
    return { prompt, seed };
  });
  const chunks = Array.from(
    { length: Math.ceil(listed.length / listedPerJob) },
    (_, i) => listed.slice(i * listedPerJob, (i + 1) * listedPerJob),
  );
  const pairs = edits.map(({ prompt, edited }): PromptEdit => ({ source: prompt, destination: edited }));
  if (pairs.some(({ source }) => source === "")) {
    throw new SweepError(`Cannot sweep over ${path} under an edit whose source is "": name a concept`, { path });
  }
  const rows = jointly ? [{ ...pairs[0], more: pairs.slice(1) }] : pairs;
  return rows.flatMap((row) =>
    chunks.map((chunk): SweepRow => ({ ...row, related: [], unrelated: [], listed: chunk }))
  );
}

/** The prompts of a record whose column is a name with a number: positive1, positive2, …. */
function pairs(
  columns: readonly string[],
  record: CsvRecord,
  names: { own: string; edited: string; judged?: string; oracle?: string },
): SweepPair[] {
  const numbers = columns.flatMap((column) => new RegExp(`^${names.own}(\\d+)$`).exec(column)?.[1] ?? []);
  return numbers.flatMap((number): SweepPair[] => {
    const cell = (name: string | undefined) => name === undefined ? undefined : record.get(name + number) || undefined;
    const [prompt, edited, own, oracle] = [names.own, names.edited, names.judged, names.oracle].map(cell);
    if (prompt === undefined || edited === undefined) return [];
    return [{ prompt, edited, ...own === undefined ? {} : { own }, ...oracle === undefined ? {} : { oracle } }];
  });
}

function requireColumns(columns: readonly string[], needed: readonly string[], path: string, hint = ""): void {
  const missing = needed.filter((name) => !columns.includes(name));
  if (missing.length === 0) return;
  throw new SweepError(
    `Cannot sweep over ${path}: it lacks the columns ${missing.join(", ")}${hint}; it has ${
      columns.join(", ") || "none"
    }`,
    { path },
  );
}

function requireCells(record: CsvRecord, names: readonly string[], i: number, path: string): string[] {
  return names.map((name) => {
    const cell = record.get(name);
    if (cell) return cell;
    throw new SweepError(`Cannot sweep over ${path}: row ${i + 1} lacks its ${name}`, { path });
  });
}
