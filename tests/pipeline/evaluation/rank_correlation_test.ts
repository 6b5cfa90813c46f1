import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { rankCorrelation, ranks } from "../../../pipeline/evaluation/rank_correlation.ts";

Deno.test("ranks() starts at 1 for the smallest value, and equal values share the mean of their ranks", () => {
  assertEquals(ranks([30, 10, 20]), [3, 1, 2]);
  assertEquals(ranks([5, 1, 5, 5, 0]), [4, 2, 4, 4, 1]);
  assertEquals(ranks([7, 7]), [1.5, 1.5]);
  assertEquals(ranks([]), []);
});

Deno.test("rankCorrelation() is Spearman's ρ, with ties as in scipy", () => {
  assertEquals(rankCorrelation([1, 2, 3, 4], [1, 10, 11, 4000]), 1);
  assertEquals(rankCorrelation([1, 2, 3, 4], [4, 3, 2, 1]), -1);
  // 1 − 6 Σd² / n(n² − 1) with d = (0, 1, 1, 0, 0)
  assert(Math.abs(rankCorrelation([1, 2, 3, 4, 5], [1, 3, 2, 4, 5]) - 0.9) < 1e-12);
  // Ranks (1, 2.5, 2.5, 4) and (1, 2, 3.5, 3.5): Σ of products of deviations 3.75, of squares 4.5
  // and 4.5.
  assert(Math.abs(rankCorrelation([1, 2, 2, 3], [1, 2, 3, 3]) - 3.75 / 4.5) < 1e-12);
  assert(Number.isNaN(rankCorrelation([1, 1, 1], [1, 2, 3])));
});

Deno.test("rankCorrelation() depends only on order, is symmetric and lies in −1…1", () => {
  const lists = fc.array(fc.tuple(fc.integer({ min: -9, max: 9 }), fc.integer({ min: -9, max: 9 })), { minLength: 2 });
  fc.assert(fc.property(lists, (pairs) => {
    const a = pairs.map(([x]) => x), b = pairs.map(([, y]) => y);
    const rho = rankCorrelation(a, b);
    assertEquals(rankCorrelation(a.map((x) => Math.exp(x)), b), rho);
    assertEquals(rankCorrelation(b, a), rho);
    if (new Set(a).size === 1 || new Set(b).size === 1) assert(Number.isNaN(rho));
    else assert(Math.abs(rho) <= 1 + 1e-12, `${rho}`);
  }));
});

Deno.test("rankCorrelation() rejects unequal lengths, single values and NaN", () => {
  assertThrows(() => rankCorrelation([1, 2], [1]), RangeError, "Cannot correlate lists of 2 and 1 values");
  assertThrows(() => rankCorrelation([1], [1]), RangeError, "at least 2");
  assertThrows(() => rankCorrelation([1, NaN], [1, 2]), RangeError, "NaN and 2 at index 1");
});
