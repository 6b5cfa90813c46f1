import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { bestSettings, mergeResults, type SettingSummary } from "../../../../pipeline/evaluation/sweep/merge.ts";
import { picturesOfJob, type SweepResult } from "../../../../pipeline/evaluation/sweep/plan.ts";
import { settingsOfGrid } from "../../../../pipeline/evaluation/sweep/settings.ts";
import { bestLines, summaryCsv, summaryTable } from "../../../../pipeline/evaluation/sweep/tables.ts";
import { wilsonInterval } from "../../../../pipeline/evaluation/wilson.ts";
import { planOf, settings } from "./plans.ts";

const plan = planOf(1, settings([1], ["edit", "baseline"]));
// The edit succeeds in every measure, but for generality of row 1. The baseline draws as told.
const results = plan.jobs.flatMap((job) =>
  picturesOfJob(plan, job).map((picture): SweepResult => {
    const isEdited = job.setting === 0 &&
      (picture.measure === "efficacy" || (picture.measure === "generality" && job.row === 0));
    const logits = isEdited ? [0, 20] as const : [20, 0] as const;
    return { ...picture, plan: "", ...job, logits, logitScale: 50, fits: isEdited ? "destination" : "source" };
  })
);

Deno.test("mergeResults() computes rates, intervals, standard errors over edits, F and means for each setting", () => {
  const { settings: [edit, baseline], planned, missing, doubled } = mergeResults(plan, results);
  assertEquals(edit.measures.map(({ rate, pictures }) => [rate, pictures]), [[1, 2], [0.5, 2], [1, 2]]);
  assertEquals(edit.measures.map(({ standardError }) => standardError), [0, 0.5, 0]);
  assertEquals(edit.measures[1].interval, wilsonInterval(1, 2));
  assertAlmostEquals(edit.f, 2 / 3);
  assertAlmostEquals(edit.harmonicMean, 3 / (1 + 2 + 1));
  assertEquals(edit.edits.map(({ measures }) => measures[1].rate), [1, 0]);
  assertEquals(baseline.measures.map(({ rate }) => rate), [0, 0, 1]);
  assertEquals([planned, missing, doubled], [12, 0, 0]);
  // 100 · 20 / 50 where the wanted prompt has the logit 20: five of six pictures of the edit
  assertAlmostEquals(edit.clipScore, 40 * 5 / 6);
  assertAlmostEquals(baseline.clipScore, 40 * 2 / 6);
});

Deno.test("mergeResults() counts each picture once, whatever the order of the shards, and reports what is missing", () => {
  const whole = mergeResults(plan, results);
  assertEquals(mergeResults(plan, results.toReversed()), whole);
  assertEquals(mergeResults(plan, [...results, ...results]), { ...whole, doubled: 12 });
  const { missing, settings: [edit] } = mergeResults(plan, results.slice(0, 2));
  assertEquals(missing, 10);
  assert(Number.isNaN(edit.measures[2].rate));
});

Deno.test("wilsonInterval() gives the published bounds, and stays within 0 and 1", () => {
  // Newcombe 1998, table I: 81/263, 15/148, 0/20, 1/29
  const published = [[81, 263, 0.2553, 0.3662], [15, 148, 0.0624, 0.1605], [0, 20, 0, 0.1611], [1, 29, 0.0061, 0.1718]];
  for (const [successes, trials, low, high] of published) {
    const interval = wilsonInterval(successes, trials);
    assertAlmostEquals(interval.low, low, 5e-5);
    assertAlmostEquals(interval.high, high, 5e-5);
    const mirrored = wilsonInterval(trials - successes, trials);
    assertAlmostEquals(mirrored.low, 1 - interval.high, 1e-12);
  }
  assert(Number.isNaN(wilsonInterval(0, 0).low));
});

Deno.test("bestSettings() has each editor's setting of the largest harmonic mean, and models without an edit not", () => {
  const { settings: [some] } = mergeResults(plan, results);
  const of = (method: "time" | "uce" | "baseline", lamb: number, harmonicMean: number): SettingSummary => ({
    ...some,
    harmonicMean,
    setting: method === "baseline"
      ? { name: method, method }
      : settingsOfGrid({ methods: [method], lambdas: [lamb] })[0],
  });
  const settings = [
    of("baseline", 0, 0.9),
    of("time", 1, 0.5),
    of("time", 2, 0.7),
    of("time", 3, 0.7),
    of("uce", 1, NaN),
  ];
  assertEquals(bestSettings({ settings }), [settings[2]]);
  const summary = { ...mergeResults(plan, results), settings };
  assertEquals(bestLines(summary), ["best of time: time, lambda 2, harmonic mean 70.0"]);
  assertEquals(bestLines({ ...summary, settings: settings.slice(0, 2) }), []);
});

Deno.test("the tables have a line for each setting, and the CSV one for each edit too", () => {
  const summary = mergeResults(plan, results);
  const lines = summaryTable(summary).split("\n");
  assertEquals(lines.length, 3);
  assert(lines[1].startsWith("time, lambda 1  100.0 [34.2, 100.0]  50.0 [9.5, 90.5]"), lines[1]);
  const csv = summaryCsv(summary).trimEnd().split("\n");
  assertEquals(csv.length, 1 + 2 * 3);
  assert(csv[0].startsWith("setting,method,editor,lambda,values_only,with_pooled,preserve,tokens,"), csv[0]);
  assert(csv[1].startsWith('"time, lambda 1",edit,time,1,false,false,false,,,,,,,,,,1,'), csv[1]);
});
