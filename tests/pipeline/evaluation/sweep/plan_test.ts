import { assertEquals, assertThrows } from "@std/assert";
import { missingPictures, pendingBatches } from "../../../../pipeline/evaluation/sweep/batches.ts";
import {
  editText,
  jobsOfShard,
  picturesOfJob,
  plannedPictures,
  planSweep,
  promptsOfRow,
  type SweepResult,
} from "../../../../pipeline/evaluation/sweep/plan.ts";
import { checkErasures, checkRetained } from "../../../../pipeline/evaluation/sweep/check_edits.ts";
import { type SettingGrid, settingsOfGrid, solveOptions } from "../../../../pipeline/evaluation/sweep/settings.ts";
import { editedForms } from "../../../../pipeline/evaluation/edit_cases.ts";
import { parseDataSet } from "../../../../pipeline/evaluation/sweep/data_sets.ts";
import { SweepError } from "../../../../pipeline/evaluation/sweep/sweep_error.ts";
import { EditError, OptionError } from "../../../../pipeline/errors.ts";
import { planOf, rows, settings } from "./plans.ts";

const plan = planOf(3);

Deno.test("planSweep() makes one job per row, setting and seed", () => {
  assertEquals(plan.jobs.map(({ row, seed }) => [row, seed]), [[0, 7], [0, 8], [0, 9], [1, 7], [1, 8], [1, 9]]);
  assertEquals(plannedPictures(plan).size, 18);
  const grid = planOf(1, settings([0.1, 1], ["baseline", "edit"]));
  assertEquals(grid.jobs.map(({ row, setting }) => [row, setting]), [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]);
});

Deno.test("settingsOfGrid() combines the options of edits, and has each other method once", () => {
  const grid = settingsOfGrid({
    methods: ["oracle", "edit", "oracle"],
    lambdas: [1, 0.1, 1],
    withToK: [true, false],
    preserve: [false, true],
  });
  assertEquals(grid.length, 1 + 2 * 2 * 2);
  assertEquals(grid.slice(0, 3).map(({ name }) => name), ["oracle", "time, lambda 1", "time, lambda 1, preserve"]);
  assertEquals(new Set(grid.map(({ name }) => name)).size, grid.length);
  const row = { source: "a rose", preserve: ["a cat"] };
  const common = { method: "time", lamb: 1, withToK: false } as const;
  assertEquals(solveOptions(grid[4].editor!, row, ["A rose, red", "a hat"]), {
    ...common,
    preserve: ["a cat", "a hat"],
  });
  assertEquals(solveOptions(grid[3].editor!, row, ["a hat"]), { ...common, preserve: [] });
});

Deno.test("settingsOfGrid() gives each editor the options that it has, and refuses those of others", () => {
  const grid = settingsOfGrid({
    methods: ["time", "uce", "nullspace"],
    lambdas: { time: [0.1, 1], uce: [0.2] },
    preserve: [false, true],
    preserveScale: [1, 3],
    threshold: [0.1, 0.3],
  });
  assertEquals(grid.map(({ name }) => name), [
    "time, lambda 0.1",
    "time, lambda 0.1, preserve",
    "time, lambda 1",
    "time, lambda 1, preserve",
    "uce, lambda 0.2",
    "uce, lambda 0.2, preserve",
    "uce, lambda 0.2, preserve scale 3",
    "uce, lambda 0.2, preserve scale 3, preserve",
    "nullspace, lambda 0",
    "nullspace, lambda 0, threshold 0.3",
  ]);
  assertEquals(solveOptions(grid[9].editor!, { source: "a rose", preserve: ["a cat"] }), {
    method: "nullspace",
    lamb: 0,
    withToK: true,
    threshold: 0.3,
    preserve: ["a cat"],
  });
  const pooled = settingsOfGrid({ methods: ["time", "nullspace"], withPooled: [false, true] });
  assertEquals(pooled.map(({ name, editor }) => [name, editor!.withPooled]), [
    ["time, lambda 0.1", undefined],
    ["time, lambda 0.1, pooled", true],
    ["nullspace, lambda 0", undefined],
    ["nullspace, lambda 0, pooled", true],
  ]);
  const some = settingsOfGrid({ methods: ["time", "nullspace"], withPooled: [true], augment: [0, 2] });
  assertEquals(some.map(({ name }) => name), [
    "time, lambda 0.1, pooled",
    "nullspace, lambda 0, pooled",
    "nullspace, lambda 0, augment 2",
  ]);
  const filtered = { influenceFilter: [true], withPooled: [false, true] };
  assertEquals(settingsOfGrid({ methods: ["uce", "nullspace"], ...filtered }).map(({ name }) => name), [
    "uce, lambda 0.5",
    "uce, lambda 0.5, pooled",
    "nullspace, lambda 0, influence filter",
  ]);
  const tokens = settingsOfGrid({ methods: ["uce", "nullspace"], tokens: ["all", "last", "all"] });
  assertEquals(tokens.map(({ editor }) => [editor!.method, editor!.tokens]), [
    ["uce", "all"],
    ["uce", "last"],
    ["nullspace", "last"],
  ]);
  const all = settingsOfGrid({ methods: ["time", "nullspace"], tokens: ["all"] });
  assertEquals(all.map(({ editor }) => editor!.tokens), ["all", undefined]);
  const perLayer = settingsOfGrid({ methods: ["nullspace"], influenceFilter: [false, true], augment: [0, 2] });
  assertEquals(perLayer.map(({ name }) => name), [
    "nullspace, lambda 0",
    "nullspace, lambda 0, augment 2",
    "nullspace, lambda 0, influence filter",
    "nullspace, lambda 0, influence filter, augment 2",
  ]);
  const fails = (given: Partial<SettingGrid>, type: typeof EditError | typeof OptionError, message: string) =>
    assertThrows(() => settingsOfGrid({ methods: ["time"], ...given }), type, message);
  fails({ threshold: [0.1] }, OptionError, 'an option of the method "nullspace"');
  fails({ methods: ["uce"], influenceFilter: [true] }, OptionError, 'an option of the method "nullspace"');
  fails({ methods: ["nullspace"], augment: [0.5] }, EditError, "augment 0.5");
  fails({ methods: ["nullspace"], withPooled: [true], augment: [2] }, EditError, "leave withPooled out");
  fails({ methods: ["baseline"], eraseScale: [1] }, OptionError, "without an edit");
  fails({ methods: ["baseline", "oracle"], lambdas: [1] }, OptionError, "Cannot use lambdas without an edit: 1");
  fails({ methods: ["baseline"], withToK: [true, false] }, OptionError, "withToK without an edit");
  fails({ methods: ["baseline"], withPooled: [true] }, OptionError, "withPooled without an edit");
  fails({ methods: ["baseline"], preserve: [false, true] }, OptionError, "preserve without an edit");
  assertEquals(settingsOfGrid({ methods: ["baseline"], withToK: [true], preserve: [false] }).length, 1);
  fails({ lambdas: [0] }, EditError, "above 0");
  fails({ methods: ["nullspace"], tokens: ["all"] }, OptionError, 'with tokens "all"');
  fails({ methods: ["nullspace"], tokens: ["last", "all"] }, OptionError, 'with tokens "all"');
  // Values that a plan could not be read back with.
  fails({ lambdas: ["0.1" as never] }, OptionError, "lambdas must be a list, each a number");
  fails({ lambdas: { time: "0.1" as never } }, OptionError, "lambdas.time must be a list, each a number");
  fails({ lambdas: { times: [1] } as never }, OptionError, "did you mean time?");
  fails({ withToK: ["no" as never] }, OptionError, "withToK must be a list, each true or false");
  fails({ tokens: ["constructor" as never] }, OptionError, 'tokens must be a list, each "all" or "last"');
  fails({ methods: ["nullspace"], invariant: [3 as never] }, OptionError, "invariant must be a list of strings");
  assertEquals(settingsOfGrid({ methods: ["time"], withToK: [], preserve: [] }), settingsOfGrid({ methods: ["time"] }));
});

Deno.test("checkRetained() names the first row whose null-space edit has nothing to preserve", () => {
  const settings = settingsOfGrid({ methods: ["baseline", "nullspace"] });
  const both = [{ ...rows[0], preserve: ["a hat"] }, rows[1]];
  assertThrows(() => checkRetained({ rows: both, settings }, "data.csv"), SweepError, 'row 2, "a cat", has no prompt');
  assertThrows(
    () => checkRetained({ rows: both, settings, retained: ["the black cat"] }, "data.csv"),
    SweepError,
    "has no prompt to preserve",
  );
  const own = [{ ...rows[0], preserve: ["two a rose"] }];
  assertThrows(() => checkRetained({ rows: own, settings }, "data.csv"), SweepError, "contain its source's words");
  checkRetained({ rows: both, settings, retained: ["the black cat", "a cup"] }, "data.csv");
});

Deno.test("a prompt that a row lists twice is drawn once; listed prompts have seeds of their own", () => {
  const twice = { ...rows[0], related: [...rows[0].related, ...rows[0].related] };
  assertEquals(picturesOfJob({ rows: [twice] }, { row: 0, setting: 0, seed: 1 }).length, 3);
  const listed = [{ prompt: "a", seed: 5 }, { prompt: "b", seed: 6 }, { prompt: "a", seed: 5 }];
  const list = planSweep([{ ...rows[0], listed }], { seeds: 3, firstSeed: 0 }, settings([1, 2]));
  assertEquals(list.jobs.length, 2);
  assertEquals(picturesOfJob(list, list.jobs[0]), [
    { measure: "list", prompt: "a", edited: "a", seed: 5 },
    { measure: "list", prompt: "b", edited: "b", seed: 6 },
  ]);
});

Deno.test("an erasure's pictures are compared with what may be shown instead; several pairs are one edit", () => {
  const also = ["a cup", "a hat"];
  const erased = { ...rows[0], destination: "", also };
  const [source, ...others] = promptsOfRow(erased);
  assertEquals(source, { measure: "efficacy", prompt: "a rose", edited: "", also });
  assertEquals(editedForms(source), also);
  assertEquals(others, promptsOfRow(rows[0]).slice(1));
  const list = "case_number,prompt,evaluation_seed\n0,a house,1\n";
  const edits = ["a rose", "a cat"].map((prompt) => ({ prompt, edited: "" }));
  const [joint, ...none] = parseDataSet(list, "list.csv", edits, { jointly: true });
  assertEquals([none.length, editText(joint)], [0, 'a rose → ""; a cat → ""']);
  assertEquals(parseDataSet(list, "list.csv", edits).map(editText), ['a rose → ""', 'a cat → ""']);
  const [{ editor }] = settingsOfGrid({ methods: ["uce"], preserve: [true] });
  assertEquals(solveOptions(editor!, joint, ["a red rose", "two cats", "a black cat"]).preserve, ["two cats"]);
  const uce = settingsOfGrid({ methods: ["baseline", "uce", "nullspace"] });
  checkErasures({ rows: [erased], settings: uce }, "data.json");
  const time = settingsOfGrid({ methods: ["uce", "time"] });
  assertThrows(() => checkErasures({ rows: [rows[1], erased], settings: time }, "data.json"), SweepError, "row 2");
  checkErasures({ rows: [erased], settings: settingsOfGrid({ methods: ["time"], tokens: ["last"] }) }, "data.json");
});

Deno.test("the shards of a plan are disjoint and together hold every job", () => {
  const shards = [1, 2, 3, 4].map((index) => jobsOfShard(plan.jobs, { index, count: 4 }));
  assertEquals(new Set(shards.flat()), new Set(plan.jobs));
  assertEquals(shards.flat().length, plan.jobs.length);
  for (const index of [0, 5, 1.5]) {
    assertThrows(() => jobsOfShard(plan.jobs, { index, count: 4 }), RangeError, "from 1 to 4");
  }
});

Deno.test("pendingBatches() leaves out whole batches with results, and draws others as they were planned", () => {
  const pictures = picturesOfJob(plan, plan.jobs[0]);
  const done = pictures.map((picture): SweepResult => ({
    ...plan.jobs[0],
    ...picture,
    plan: "",
    logits: [0, 0],
    logitScale: 100,
    fits: "source",
  }));
  const all = pendingBatches(plan, plan.jobs, { results: [], batchSize: 2 });
  assertEquals(all.slice(0, 2).map((batch) => batch.pictures.length), [2, 1]);
  assertEquals(missingPictures(all), 18);
  const rest = pendingBatches(plan, plan.jobs, { results: done, batchSize: 2 });
  assertEquals(rest.map(({ job }) => job), all.slice(2).map(({ job }) => job));
  // The second picture lacks its result: its batch is drawn whole, and one result is added.
  const [first] = pendingBatches(plan, plan.jobs, { results: [done[0], done[2]], batchSize: 2 });
  assertEquals([first.pictures, first.done.size, missingPictures([first])], [pictures.slice(0, 2), 1, 1]);
});
