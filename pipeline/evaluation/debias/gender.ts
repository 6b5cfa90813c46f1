/**
 * The bias of many sources, as TIME's table of professions (arXiv 2303.08084, section 6).
 *
 * @module
 */
import type { EditingPipeline } from "../../editing_pipeline.ts";
import { type CsvTable, parseCsv } from "../../text/csv.ts";
import { checkOptions, kinds, wholeFrom } from "../../options.ts";
import type { Judge } from "../verdicts.ts";
import { SweepError } from "../sweep/sweep_error.ts";
import { debias, type DebiasOptions, type DebiasTask, shareSampler } from "./debias.ts";
import { type Share, type ShareSampler, sharesOf } from "./search.ts";

/** A source of a data set with its prompts for the search and for the measurement. */
export interface BiasRow extends DebiasTask {
  /** Prompts of the measurement. */
  readonly tests: readonly string[];
}

/** What a word becomes in the opposite destination. */
const opposites: Readonly<Record<string, string>> = { female: "male", male: "female", woman: "man", man: "woman" };

/**
 * Parses TIMED's gender set: `old` is the source and `new` the destination that the model shows
 * less often; `validation` is searched with, `ex1`, `ex2`, … are measured. The other destination
 * follows from `new`, by exchanging female and male, or stands in the column `opposite`.
 *
 * @param path name of the file, for error messages
 * @throws {SweepError} when columns are missing, there is no row, or a row lacks a destination
 */
export function parseBiasSet(text: string, path: string): BiasRow[] {
  const refuse = (reason: string, cause?: unknown) =>
    new SweepError(`Cannot debias by ${path}: ${reason}`, { path, cause });
  let table: CsvTable;
  try {
    table = parseCsv(text);
  } catch (cause) {
    throw refuse(`it must be CSV: ${(cause as Error).message}`, cause);
  }
  const { columns, records } = table;
  const missing = ["old", "new", "validation", "ex1"].filter((name) => !columns.includes(name));
  if (missing.length > 0) {
    throw refuse(`it lacks the columns ${missing.join(", ")}; it has ${columns.join(", ") || "none"}`);
  }
  if (records.length === 0) throw refuse("it has no rows");
  const examples = columns.filter((name) => /^ex\d+$/.test(name));
  return records.map((record, i) => {
    const [source, destination, validation] = ["old", "new", "validation"].map((name) => record.get(name) ?? "");
    const other = record.get("opposite") || oppositeOf(destination);
    const tests = examples.flatMap((name) => record.get(name) || []);
    if (source === "" || destination === "" || other === undefined || tests.length === 0) {
      throw refuse(
        `row ${
          i + 1
        } must have old, new and an example, and new must contain female, male, woman or man, or opposite be given`,
      );
    }
    return { source, destinations: [destination, other], prompts: [validation || source], tests };
  });
}

function oppositeOf(destination: string): string | undefined {
  const words = destination.split(" ");
  const at = words.findIndex((word) => Object.hasOwn(opposites, word.toLowerCase()));
  return at < 0 ? undefined : words.with(at, opposites[words[at].toLowerCase()]).join(" ");
}

/** The shares of one source, before and after its edit. */
export interface BiasMeasurement {
  /** The source prompt. */
  readonly source: string;
  /** The destination whose share is measured. */
  readonly destination: string;
  /** Its share without the edit. */
  readonly before: Share;
  /** Its share with the edit. */
  readonly after: Share;
  /** Weight of each destination. */
  readonly weights: readonly number[];
}

/**
 * Debiases each row on its validation prompt, and measures the shares on its examples before and
 * after.
 *
 * @param options.each pictures of each example, before and after. Default: 8.
 * @param options.onRow called after each row
 * @throws as {@linkcode debias} does
 */
export async function measureBias(
  pipe: EditingPipeline,
  judge: Judge,
  rows: readonly BiasRow[],
  options: DebiasOptions & { readonly each?: number; readonly onRow?: (row: BiasMeasurement) => unknown } = {},
): Promise<BiasMeasurement[]> {
  const { each = 8, onRow, ...search } = options;
  checkOptions("measure a bias", { each, onRow }, { each: wholeFrom(1), onRow: kinds.callback });
  const { resume = (sample: ShareSampler) => sample } = search;
  const measured: BiasMeasurement[] = [];
  for (const row of rows) {
    const { weights } = await debias(pipe, judge, row, search);
    const sample = resume(shareSampler(pipe, judge, { ...row, prompts: row.tests }, search));
    const count = each * row.tests.length;
    const [before] = sharesOf({ counts: await sample({ weights: undefined, first: 0, count }) });
    const [after] = sharesOf({ counts: await sample({ weights, first: 0, count }) });
    const result = { source: row.source, destination: row.destinations[0], before, after, weights };
    measured.push(result);
    await onRow?.(result);
  }
  return measured;
}

/** Δ = |p − ½| / ½ of a destination's share p: 0 is balanced, 1 is one-sided. */
export function bias({ share }: Pick<Share, "share">): number {
  return Math.abs(share - 0.5) / 0.5;
}

/** The mean Δ of all sources, before and after. */
export function meanBias(rows: readonly BiasMeasurement[]): { before: number; after: number } {
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return { before: mean(rows.map(({ before }) => bias(before))), after: mean(rows.map(({ after }) => bias(after))) };
}
