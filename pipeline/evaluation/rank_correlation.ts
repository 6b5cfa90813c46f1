/** Ranks from 1, smallest first; equal values share the mean of their places. */
export function ranks(values: readonly number[]): number[] {
  const order = values.map((_, i) => i).sort((a, b) => values[a] - values[b]);
  const result = new Array<number>(values.length);
  for (let first = 0, end; first < order.length; first = end) {
    end = first + 1;
    while (end < order.length && values[order[end]] === values[order[first]]) end++;
    for (let place = first; place < end; place++) result[order[place]] = (first + 1 + end) / 2;
  }
  return result;
}

/**
 * Spearman's ρ: the correlation of ranks, from −1 to 1. 1 where one list orders as the other does,
 * whatever the values.
 *
 * ```ts
 * rankCorrelation([1, 2, 3], [1, 10, 100]); // 1
 * ```
 *
 * @returns NaN where one list does not vary
 * @throws {RangeError} for lists of different lengths, fewer than two values, or values that are
 *   not numbers
 */
export function rankCorrelation(a: readonly number[], b: readonly number[]): number {
  if (a.length !== b.length || a.length < 2) {
    throw new RangeError(
      `Cannot correlate ${a.length} values with ${b.length} as the lists must be of one length, 2 or more`,
    );
  }
  const index = [...a.keys()].find((i) => Number.isNaN(a[i]) || Number.isNaN(b[i]));
  if (index !== undefined) {
    throw new RangeError(`Cannot rank values that are not numbers: ${a[index]} and ${b[index]} at ${index}`);
  }
  const mean = (a.length + 1) / 2; // of any ranks, shared places or not
  const [x, y] = [ranks(a), ranks(b)].map((each) => each.map((rank) => rank - mean));
  const dot = (p: number[], q: number[]) => p.reduce((sum, value, i) => sum + value * q[i], 0);
  return dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y));
}
