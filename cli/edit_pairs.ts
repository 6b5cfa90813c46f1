/**
 * Pairs of source and destination prompts, from flags and from files.
 *
 * @module
 */
import type { EditPair } from "../pipeline/editing/prompts/recipe.ts";
import { parseCsv } from "../pipeline/text/csv.ts";
import { ArgumentError } from "./arguments.ts";

/**
 * Pairs the i-th source with the i-th destination.
 *
 * @throws {ArgumentError} when their numbers differ
 */
export function pairsOfFlags(sources: readonly string[], destinations: readonly string[]): EditPair[] {
  if (sources.length !== destinations.length) {
    throw new ArgumentError(
      `Cannot pair ${sources.length} --source with ${destinations.length} --destination: give one destination for each source`,
      { argument: "--destination" },
    );
  }
  return sources.map((source, i) => ({ source, destination: destinations[i] }));
}

/**
 * Parses pairs: JSON, a list of `{ "source", "destination", "weight"? }`; or CSV with these column
 * names in its first line. The TIMED data set's `old` and `new` are accepted too.
 *
 * @throws {ArgumentError} when the text is neither, a pair lacks a prompt, or a weight is not
 *   positive
 */
export function pairsOfFile(text: string, path: string): EditPair[] {
  const refuse = (why: string): never => {
    throw new ArgumentError(`Cannot read pairs from ${path} as ${why}`, { argument: "--pairs" });
  };
  let rows: unknown;
  try {
    rows = path.toLowerCase().endsWith(".json")
      ? JSON.parse(text)
      : parseCsv(text).records.map((record) => Object.fromEntries(record));
  } catch (error) {
    refuse((error as Error).message);
  }
  if (!Array.isArray(rows)) refuse("it does not hold a list of pairs");
  return (rows as Record<string, unknown>[]).map((row, i) => {
    const source = row.source ?? row.old, destination = row.destination ?? row.new;
    if (typeof source !== "string" || typeof destination !== "string" || source === "" || destination === "") {
      refuse(`pair ${i + 1} needs a source and a destination: ${JSON.stringify(row)}`);
    }
    const weight = row.weight === undefined || row.weight === "" ? undefined : Number(row.weight);
    if (weight !== undefined && !(weight > 0)) refuse(`the weight of pair ${i + 1} must be above 0: ${row.weight}`);
    return { source: source as string, destination: destination as string, weight };
  });
}
