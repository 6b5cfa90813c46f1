/**
 * Runs a property on random inputs. Each property has a fixed seed, so that a run in CI repeats
 * itself. `deno task fuzz` runs a hundred times as many inputs, from a seed of its own:
 *
 *     deno task fuzz [FILES]
 *     BLUEROSE_FUZZ_SEED=7 BLUEROSE_FUZZ_FACTOR=1000 deno task fuzz tests/fuzz/safetensors_test.ts
 *
 * A failure prints the smallest input found, and the seed and path that lead to it.
 *
 * @module
 */

import fc from "fast-check";

const long = Deno.env.get("BLUEROSE_FUZZ") === "long";
const factor = Number(Deno.env.get("BLUEROSE_FUZZ_FACTOR") ?? (long ? 100 : 1));
const seed = Number(Deno.env.get("BLUEROSE_FUZZ_SEED") ?? (long ? Date.now() % 2 ** 31 : 20230315));

/** How many inputs a run tries where CI tries `short`. */
export function fuzzRuns(short: number): number {
  return Math.ceil(short * factor);
}

/** The parameters of a fast-check run of `short` inputs in CI. */
export function fuzzParameters(short: number): { numRuns: number; seed: number } {
  return { numRuns: fuzzRuns(short), seed };
}

/** Checks `property`, which throws where it does not hold, on `short` inputs in CI. */
export async function fuzz<T>(
  inputs: fc.Arbitrary<T>,
  property: (input: T) => void | Promise<void>,
  short: number,
): Promise<void> {
  await fc.assert(fc.asyncProperty(inputs, async (input) => await property(input)), fuzzParameters(short));
}
