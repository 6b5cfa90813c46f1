/** Which prompts an edit can retain: those without the words of what it erases. @module */

/** Words that do not tell concepts apart. */
const articles: ReadonlySet<string> = new Set(["a", "an", "the"]);

/** The words of a text in lower case, without articles unless it has no other words. */
function wordsOf(text: string): string[] {
  const words = text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  const telling = words.filter((word) => !articles.has(word));
  return telling.length > 0 ? telling : words;
}

/**
 * Splits retained prompts into those that can be retained and those that contain all words of an
 * erased concept: articles do not count, nor do case, punctuation and the order of words.
 */
export function withoutErased(
  retained: readonly string[],
  erased: readonly string[],
): { kept: string[]; leftOut: string[] } {
  const concepts = erased.map(wordsOf).filter((words) => words.length > 0);
  const kept: string[] = [], leftOut: string[] = [];
  for (const prompt of retained) {
    const words = new Set(wordsOf(prompt));
    const contains = erased.includes(prompt) || concepts.some((concept) => concept.every((word) => words.has(word)));
    (contains ? leftOut : kept).push(prompt);
  }
  return { kept, leftOut };
}
