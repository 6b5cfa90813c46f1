/** A destination that keeps the source's words, for pairs that cannot be aligned. @module */

/**
 * The destination with each word that replaces a source word taken back, and each word that is
 * added kept: for "A pack of roses" and "A bunch of blue roses", "A pack of blue roses".
 *
 * @returns `undefined` where nothing would be added
 */
export function suggestDestination(source: string, destination: string): string | undefined {
  const [from, to] = [wordsOf(source), wordsOf(destination)];
  const words: string[] = [];
  let [i, j] = [0, 0];
  for (const [a, b] of [...commonWords(from, to), [from.length, to.length] as const]) {
    words.push(...(a > i ? from.slice(i, a) : to.slice(j, b)));
    if (a < from.length) words.push(from[a]);
    [i, j] = [a + 1, b + 1];
  }
  return words.length > from.length ? words.join(" ") : undefined;
}

function wordsOf(prompt: string): string[] {
  return prompt.trim().split(/\s+/).filter((word) => word !== "");
}

/** Positions of a longest common subsequence, without regard to case. */
function commonWords(from: readonly string[], to: readonly string[]): [number, number][] {
  const equal = (i: number, j: number) => from[i].toLowerCase() === to[j].toLowerCase();
  const lengths = Array.from({ length: from.length + 1 }, () => new Array<number>(to.length + 1).fill(0));
  for (let i = from.length - 1; i >= 0; i--) {
    for (let j = to.length - 1; j >= 0; j--) {
      lengths[i][j] = equal(i, j) ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  const common: [number, number][] = [];
  for (let i = 0, j = 0; i < from.length && j < to.length;) {
    if (equal(i, j)) common.push([i++, j++]);
    else if (lengths[i + 1][j] >= lengths[i][j + 1]) i++;
    else j++;
  }
  return common;
}
