import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { EditingPipeline } from "../../../pipeline/editing_pipeline.ts";
import { OptionError } from "../../../pipeline/errors.ts";
import type { ModelEdit } from "../../../pipeline/editing/model_edit.ts";
import {
  compareEditors,
  debias,
  drawPictures,
  evaluateEdits,
  evaluateLeakage,
  jobsOfShard,
  type Judge,
  measureBias,
  mergeResults,
  pendingBatches,
  planSweep,
  rankCorrelation,
  searchShares,
  type SweepSettings,
} from "../../../pipeline/evaluation/mod.ts";
import { drawGrid } from "../../../pipeline/generation/xy_grid.ts";

/** Fails the test where an option is not checked before the pipeline is used. */
const unused = <T extends object>() =>
  new Proxy({} as T, { get: (_, name): never => assert(false, `used ${String(name)}`) as never });
const pipe = unused<EditingPipeline>(), judge = unused<Judge>(), edit = unused<ModelEdit>();

Deno.test("evaluations refuse options of the wrong kind, and unknown ones, before they draw", async () => {
  const calls: [string, (options: never) => Promise<unknown>, Record<string, unknown>[]][] = [
    ["drawPictures", (options) => drawPictures(pipe, [{ prompt: "a", seed: 1 }], options), [
      { batchSize: 0 }, // an endless loop before
      { steps: 0.5 },
      { guidance: NaN },
      { signal: {} },
      { seeds: 2 },
    ]],
    ["evaluateEdits", (options) => evaluateEdits(pipe, judge, [], options), [
      { lambdas: [] },
      { lambdas: [1, NaN] },
      { lambdas: "1" },
      { seeds: 0 },
      { firstSeed: -1 },
      { firstSeed: 2n ** 64n },
      { onEvaluation: 5 },
    ]],
    ["evaluateLeakage", (options) => evaluateLeakage(pipe, edit, ["a", "b"], options), [{ seeds: 1.5 }, { seed: 1 }]],
    ["compareEditors", (options) => compareEditors(pipe, judge, [], options), [
      { editors: [null] },
      { editors: [{ name: "x" }] },
      { editors: [], concepts: [0] },
      { editors: [], jointly: "yes" },
      { editors: [] }, // no cases
    ]],
    ["debias", (options) => debias(pipe, judge, { source: "a", destinations: ["b", "c"] }, options), [
      { budget: Infinity },
      { roundSize: 0 },
      { tolerance: NaN },
      { editor: "uce" },
    ]],
    ["measureBias", (options) => measureBias(pipe, judge, [], options), [{ each: 0 }, { onRow: 1 }]],
    ["searchShares", (options) => searchShares(() => Promise.reject(), [0.5, 0.5], options), [
      { budget: Infinity },
      { budget: 10 },
    ]],
    ["drawGrid", (options) => drawGrid(pipe, "a", options).next(), [
      { x: null },
      { x: { name: "__proto__", values: [1] } },
      { x: { name: "seed", values: "1" } },
      { x: { name: "seed", values: [] }, edits: [] },
      { x: { name: "seed", values: [1] }, y: { name: "seed", values: [1] }, edits: [] },
      { x: { name: "seed", values: [1] }, batchSize: 1 },
      { edits: [] },
    ]],
  ];
  for (const [name, call, refused] of calls) {
    for (const options of refused) {
      const message = `${name} with ${Deno.inspect(options)}`;
      assertEquals(
        (await assertRejects(() => call(options as never), Error, undefined, message)).name,
        "OptionError",
        message,
      );
    }
  }
  await assertRejects(() => evaluateLeakage(pipe, edit, ["a"]), OptionError, "two or more");
  await assertRejects(() => searchShares(() => Promise.reject(), [0.5, NaN]), OptionError, "sum must be 1");
});

Deno.test("plans, batches, shards and ranks refuse numbers that are none, and plans have at most 10 million jobs", () => {
  const settings = { settings: [{ name: "baseline", method: "baseline" }] } as unknown as SweepSettings;
  const row = { source: "a", destination: "b", related: [], unrelated: [] };
  for (const seeds of [0, 0.5, NaN, 1e9]) {
    assertThrows(() => planSweep([row], { seeds, firstSeed: 0 }, settings), OptionError, "seeds");
  }
  assertThrows(() => planSweep([row], { seeds: 1, firstSeed: 2 ** 53 - 1 }, settings), OptionError, "2^53");
  const plan = planSweep([row], { seeds: 2, firstSeed: 0 }, settings);
  for (const batchSize of [0, -1, NaN]) {
    assertThrows(() => pendingBatches(plan, plan.jobs, { results: [], batchSize }), OptionError, "batchSize");
  }
  for (const none of [null, undefined, {}, "plan"] as never[]) {
    assertThrows(() => mergeResults(none, []), OptionError, "plan must be a plan");
    assertThrows(() => mergeResults(plan, none), OptionError, "results must be a list");
    assertThrows(() => planSweep(none, { seeds: 1, firstSeed: 0 }, settings), OptionError, "rows must be a list");
  }
  const erased = { ...row, destination: "" };
  assertThrows(
    () => planSweep([erased], { seeds: 1, firstSeed: 0 }, settings),
    OptionError,
    "what may be shown instead",
  );
  assertThrows(() => jobsOfShard(plan.jobs, { index: 3, count: 2 }), OptionError, "from 1 to 2");
  assertThrows(() => rankCorrelation([1, 2], [1]), OptionError);
  assertThrows(() => rankCorrelation([1, 2], [1, NaN]), OptionError, "index 1");
});
