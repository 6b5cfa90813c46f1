/** Files that list pairs of source and destination prompts. @module */

import { DataError } from "../../errors.ts";
import { validate } from "../../schema.ts";
import { parseCsv } from "../../text/csv.ts";
import { conceptPairsSchema, editPairsSchema } from "./recipe_schema.ts";
import type { EditPair } from "./recipe.ts";

/**
 * Parses the content of a file of pairs, by the ending of its name:
 *
 * - `.json`: a list of {@linkcode EditPair}s.
 * - anything else: CSV whose first line names the columns `source`, `destination` and, optionally,
 *   `weight`. The columns `old` and `new` of the TIMED data set are accepted for the first two.
 *
 * ```ts
 * import { parseEditPairs } from "@bluerose/bluerose";
 *
 * const pairs = parseEditPairs("source,destination\na rose,a blue rose\n", "pairs.csv");
 * ```
 *
 * @param name the file's name, for its ending and for messages
 * @param options.emptyDestinations Accept "" as a destination, which erases where last tokens are
 *   paired. Default: false.
 * @throws {DataError} when the content is neither, a prompt is missing, or a weight is not positive
 */
export function parseEditPairs(
  content: string,
  name: string,
  options: { emptyDestinations?: boolean } = {},
): EditPair[] {
  const { emptyDestinations = false } = options;
  const refuse = (reason: string) => new DataError(`Cannot read pairs from ${name}: ${reason}`, { source: name });
  let rows: unknown;
  try {
    rows = name.toLowerCase().endsWith(".json") ? JSON.parse(content) : parseCsv(content).records.map(pairOfRecord);
  } catch (cause) {
    throw refuse((cause as Error).message);
  }
  if (Array.isArray(rows)) rows = rows.map(withTimedNames);
  return validate(emptyDestinations ? conceptPairsSchema : editPairsSchema, rows, refuse);
}

/** A CSV cell is text; an empty weight is none. */
function pairOfRecord(record: ReadonlyMap<string, string>): Record<string, unknown> {
  const { weight, ...prompts } = Object.fromEntries(record);
  return weight === undefined || weight === "" ? prompts : { ...prompts, weight: Number(weight) };
}

function withTimedNames(row: unknown): unknown {
  if (typeof row !== "object" || row === null) return row;
  const { old, new: edited, source = old, destination = edited, ...rest } = row as Record<string, unknown>;
  return { source, destination, ...rest };
}
