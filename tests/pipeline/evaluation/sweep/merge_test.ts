import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { mergeResults } from "../../../../pipeline/evaluation/sweep/merge.ts";
import { planSweep, promptsOfRow, type SweepResult } from "../../../../pipeline/evaluation/sweep/plan.ts";

const rows = ["rose", "cat"].map((name) => ({
  source: `a ${name}`,
  destination: `a blue ${name}`,
  related: [{ prompt: `two ${name}s`, edited: `two blue ${name}s` }],
  unrelated: [{ prompt: "a lemon", edited: "a blue lemon" }],
}));
const settings = {
  model: "m",
  clip: "c",
  method: "edit",
  lambda: 1,
  valuesOnly: false,
  steps: 2,
  cfgScale: 5,
} as const;
const plan = planSweep(rows, { seeds: 1, firstSeed: 0 }, settings);
// Row 0 succeeds in every measure; row 1 fails generality.
const results = plan.jobs.flatMap(({ row, seed }) =>
  promptsOfRow(rows[row]).map((prompt): SweepResult => {
    const isEdited = prompt.measure === "efficacy" || (prompt.measure === "generality" && row === 0);
    const logits = isEdited ? [0, 2] as const : [2, 0] as const;
    return { ...prompt, plan: "", row, seed, logits, fits: isEdited ? "destination" : "source" };
  })
);

Deno.test("mergeResults() computes rates, standard errors over edits and F", () => {
  const { measures, f, edits, planned, missing } = mergeResults(plan, results);
  assertEquals(measures.map(({ rate, pictures }) => [rate, pictures]), [[1, 2], [0.5, 2], [1, 2]]);
  assertEquals(measures.map(({ standardError }) => standardError), [0, 0.5, 0]);
  assertAlmostEquals(f, 2 / 3);
  assertEquals(edits.map(({ generality }) => generality.rate), [1, 0]);
  assertEquals([planned, missing], [6, 0]);
});

Deno.test("mergeResults() counts each picture of overlapping shards once, and reports missing pictures", () => {
  assertEquals(mergeResults(plan, [...results, ...results]), mergeResults(plan, results));
  const { missing, measures } = mergeResults(plan, results.slice(0, 2));
  assertEquals(missing, 4);
  assert(Number.isNaN(measures[2].rate));
});
