import { assertEquals, assertThrows } from "@std/assert";
import {
  jobsOfShard,
  pendingJobs,
  plannedPictures,
  planSweep,
  promptsOfRow,
} from "../../../../pipeline/evaluation/sweep/plan.ts";

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
const plan = planSweep(rows, { seeds: 3, firstSeed: 7 }, settings);

Deno.test("planSweep() makes one job per row and seed", () => {
  assertEquals(plan.jobs.map(({ row, seed }) => [row, seed]), [[0, 7], [0, 8], [0, 9], [1, 7], [1, 8], [1, 9]]);
  assertEquals(plannedPictures(plan).size, 18);
});

Deno.test("the shards of a plan are disjoint and together hold every job", () => {
  const shards = [1, 2, 3, 4].map((index) => jobsOfShard(plan.jobs, { index, count: 4 }));
  assertEquals(new Set(shards.flat()), new Set(plan.jobs));
  assertEquals(shards.flat().length, plan.jobs.length);
  for (const index of [0, 5, 1.5]) {
    assertThrows(() => jobsOfShard(plan.jobs, { index, count: 4 }), RangeError, "from 1 to 4");
  }
});

Deno.test("pendingJobs() leaves out pictures with a result, and jobs without pictures to draw", () => {
  const done = promptsOfRow(rows[0]).map((prompt) => ({
    ...prompt,
    plan: "",
    row: 0,
    seed: 7,
    logits: [0, 0] as const,
    fits: "source" as const,
  }));
  assertEquals(pendingJobs(plan, plan.jobs, done).map(({ row, seed }) => [row, seed]), [
    [0, 8],
    [0, 9],
    [1, 7],
    [1, 8],
    [1, 9],
  ]);
  const [first] = pendingJobs(plan, plan.jobs, done.slice(0, 2));
  assertEquals(first.prompts.map(({ measure }) => measure), ["specificity"]);
});
