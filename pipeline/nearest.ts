import { closestString } from "@std/text/closest-string";
import { levenshteinDistance } from "@std/text/levenshtein-distance";

/** Words beyond this length are no slips of the keyboard; comparing them takes long. */
const longestWord = 200;

/**
 * The word of `known` nearest to `word` by edit distance; undefined if more than a third of the
 * letters (at least two) differ, or the word is longer than names are.
 */
export function nearest(word: string, known: readonly string[]): string | undefined {
  if (known.length === 0 || word.length > longestWord) return undefined;
  const closest: string = closestString(word, [...known]);
  const distance: number = levenshteinDistance(word.toLowerCase(), closest.toLowerCase());
  return distance <= Math.max(2, Math.floor(word.length / 3)) ? closest : undefined;
}
