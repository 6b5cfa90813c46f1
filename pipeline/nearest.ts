import { closestString } from "@std/text/closest-string";
import { levenshteinDistance } from "@std/text/levenshtein-distance";

/**
 * The word of `known` nearest to `word` by edit distance; undefined if more than a third of the
 * letters (at least two) differ.
 */
export function nearest(word: string, known: readonly string[]): string | undefined {
  if (known.length === 0) return undefined;
  const closest: string = closestString(word, [...known]);
  const distance: number = levenshteinDistance(word.toLowerCase(), closest.toLowerCase());
  return distance <= Math.max(2, Math.floor(word.length / 3)) ? closest : undefined;
}
