import { closestString } from "@std/text/closest-string";
import { levenshteinDistance } from "@std/text/levenshtein-distance";

/** Words beyond this length are no slips of the keyboard; comparing them takes long. */
const longestWord = 200;

/**
 * The word of `known` that differs from `word` in case, hyphens and underscores alone; else the
 * nearest by edit distance. Undefined if more than a third of the letters (at least two) differ, or
 * the word is longer than names are.
 */
export function nearest(word: string, known: readonly string[]): string | undefined {
  if (known.length === 0 || word.length > longestWord) return undefined;
  const plain = (text: string) => text.replace(/[-_]/g, "").toLowerCase();
  const same = known.find((each) => plain(each) === plain(word));
  if (same !== undefined) return same;
  const closest: string = closestString(word, [...known]);
  const distance: number = levenshteinDistance(word.toLowerCase(), closest.toLowerCase());
  return distance <= Math.max(2, Math.floor(word.length / 3)) ? closest : undefined;
}
