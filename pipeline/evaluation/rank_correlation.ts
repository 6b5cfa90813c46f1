import { OptionError } from "../errors.ts";
import { checkArgument, kind, listOf } from "../options.ts";

/** Ranks from 1, smallest first. Equal values share the mean of their ranks. */
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
 * Spearman's rank correlation ρ, from −1 to 1: Pearson's correlation of the ranks. It is 1 when
 * both lists have the same order.
 *
 * ```ts
 * rankCorrelation([1, 2, 3], [1, 10, 100]); // 1
 * ```
 *
 * @returns ρ; NaN when all values of a list are equal
 * @throws {OptionError} when the lengths differ, a list has fewer than two values, or a value
 *   is NaN
 */
export function rankCorrelation(a: readonly number[], b: readonly number[]): number {
  for (const [name, list] of [["a", a], ["b", b]] as const) {
    checkArgument(
      "correlate ranks",
      name,
      list,
      listOf(kind("a number", (value) => typeof value === "number"), "numbers"),
    );
  }
  if (a.length !== b.length || a.length < 2) {
    throw new OptionError(
      `Cannot correlate lists of ${a.length} and ${b.length} values: the lengths must be equal, and at least 2`,
      { option: "b", value: b },
    );
  }
  const index = [...a.keys()].find((i) => Number.isNaN(a[i]) || Number.isNaN(b[i]));
  if (index !== undefined) {
    throw new OptionError(`Cannot rank ${a[index]} and ${b[index]} at index ${index}: NaN has no rank`, {
      option: Number.isNaN(a[index]) ? "a" : "b",
      value: NaN,
    });
  }
  const mean = (a.length + 1) / 2; // of the ranks, with or without ties
  const [x, y] = [ranks(a), ranks(b)].map((each) => each.map((rank) => rank - mean));
  const dot = (p: number[], q: number[]) => p.reduce((sum, value, i) => sum + value * q[i], 0);
  return dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y));
}
