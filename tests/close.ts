/** Comparison of arrays, for tests that run in a browser too. @module */
import { relativeError } from "../bench/oracles/numbers.ts";

/** Fails unless ‖actual − expected‖ ≤ tolerance · ‖expected‖ and the lengths agree. */
export function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
  what = "result",
): void {
  if (actual.length !== expected.length) {
    throw new Error(`${what}: ${actual.length} elements, expected ${expected.length}`);
  }
  const error = relativeError(actual, expected);
  if (!(error <= tolerance)) throw new Error(`${what}: relative error ${error.toExponential(2)} exceeds ${tolerance}`);
}
