/**
 * Pairs of source and destination prompts, from flags.
 *
 * @module
 */
import type { EditPair } from "../pipeline/editing/prompts/recipe.ts";
import { ArgumentError } from "./argument_error.ts";

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
