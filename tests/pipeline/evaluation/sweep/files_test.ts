import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { DataError, OptionError } from "../../../../pipeline/errors.ts";
import { parseDataSet } from "../../../../pipeline/evaluation/sweep/data_sets.ts";
import { formatPlan, formatResult, parsePlan, parseResults } from "../../../../pipeline/evaluation/sweep/files.ts";
import { checkPins } from "../../../../pipeline/evaluation/sweep/pins.ts";
import { SweepError } from "../../../../pipeline/evaluation/sweep/sweep_error.ts";
import { settings } from "./plans.ts";
import {
  planSweep,
  promptsOfRow,
  type SweepResult,
  type SweepSettings,
} from "../../../../pipeline/evaluation/sweep/plan.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const result = (prompt: string): SweepResult => ({
  plan: "0123",
  row: 0,
  setting: 0,
  seed: 0,
  measure: "efficacy",
  prompt,
  edited: `blue ${prompt}`,
  logits: [1, 2],
  logitScale: 100,
  fits: "destination",
});

Deno.test("parseDataSet() skips pairs with an empty cell and reads quoted commas, a byte order mark and blank lines", () => {
  const csv =
    '\uFEFFold,new,positive1,gt1,positive2,gt2,negative1,gn1\nA rose,A blue rose,"roses, red",blue roses,,, x ,y\n\n';
  assertEquals(parseDataSet(csv, "x.csv"), [{
    source: "A rose",
    destination: "A blue rose",
    related: [{ prompt: "roses, red", edited: "blue roses" }],
    unrelated: [{ prompt: "x", edited: "y" }],
  }]);
});

Deno.test("parseDataSet() names missing columns and incomplete rows", () => {
  assertThrows(() => parseDataSet("old,new\na,b\n", "x.csv"), SweepError, "lacks the columns positive1, gt1");
  const head = "old,new,positive1,gt1,negative1,gn1";
  assertThrows(() => parseDataSet(`${head}\na,,b,c,d,e\n`, "x.csv"), SweepError, "row 1 lacks");
});

Deno.test("parseDataSet() reads RoAD's columns: the prompt is edited, old and new are what CLIP compares", () => {
  const csv = "prompt,old,new,oracle,positive1,positive_old1,positive_new1,positive_oracle1,negative1,negative_new1\n" +
    "the king,Ann,Bob,the king Bob,the king smiling,Ann smiling,Bob smiling,the king Bob smiling,a queen,Bob\n";
  const [row] = parseDataSet(csv, "road.csv");
  assertEquals(row, {
    source: "the king",
    destination: "the king Bob",
    judged: { own: "Ann", edited: "Bob" },
    related: [{
      prompt: "the king smiling",
      edited: "Bob smiling",
      own: "Ann smiling",
      oracle: "the king Bob smiling",
    }],
    unrelated: [{ prompt: "a queen", edited: "Bob" }],
  });
  assertEquals(promptsOfRow(row)[0], {
    measure: "efficacy",
    prompt: "the king",
    edited: "Bob",
    own: "Ann",
    oracle: "the king Bob",
  });
  assertThrows(() => parseDataSet("prompt,old\na,b\n", "r.csv"), SweepError, "lacks the columns new, positive1");
});

Deno.test("parseDataSet() reads a list of prompts, under each of the given edits, and JSON edits with preserved prompts", () => {
  const csv = "case_number,prompt,evaluation_seed\n0,a house,42\n1,a car,7\n";
  const edits = [{ prompt: "a rose", edited: "a blue rose" }, { prompt: "a cat", edited: "a white cat" }];
  const rows = parseDataSet(csv, "list.csv", edits);
  assertEquals(rows.map(({ source }) => source), ["a rose", "a cat"]);
  assertEquals(rows[0].listed, [{ prompt: "a house", seed: 42 }, { prompt: "a car", seed: 7 }]);
  assertThrows(() => parseDataSet(csv, "list.csv"), SweepError, "names no edit");
  assertThrows(
    () => parseDataSet("case_number,prompt\n0,a\n", "l.csv", edits),
    SweepError,
    "lacks the columns evaluation_seed",
  );
  for (const seed of ["x", "-1", "1.5", "99999999999999999999"]) {
    const bad = `prompt,evaluation_seed\na,${seed}\n`;
    assertThrows(() => parseDataSet(bad, "l.csv", edits), SweepError, "row 1: evaluation_seed must be a whole number");
  }
  const json = '[{"source":"a","destination":"a b","related":[],"unrelated":[],"preserve":["c"]}]';
  assertEquals(parseDataSet(json, "x.json")[0].preserve, ["c"]);
  assertThrows(() => parseDataSet('[{"source":"a"}]', "x.json"), DataError, "destination is missing");
});

Deno.test("parseDataSet() refuses data sets without rows", () => {
  for (const text of ["old,new,positive1,gt1,negative1,gn1\n", "[]"]) {
    assertThrows(() => parseDataSet(text, "x"), SweepError, "it has no rows");
  }
  assertThrows(() => parseDataSet("", "x"), SweepError, "it is empty");
});

Deno.test("a plan survives formatPlan() and parsePlan(); anything else is rejected", async () => {
  const rows = [{ source: "a rose", destination: "a blue rose", related: [], unrelated: [] }];
  const erased = { ...rows[0], destination: "", also: ["a cup"], more: [{ source: "a cat", destination: "" }] };
  const plan = planSweep([...rows, erased], { seeds: 2, firstSeed: 3 }, settings([0.1, 1], ["edit", "oracle"]));
  const parsed = await parsePlan(bytes(formatPlan(plan)), "plan.json");
  assertEquals(parsed.plan, JSON.parse(JSON.stringify(plan)));
  assert(/^[0-9a-f]{16}$/.test(parsed.fingerprint));
  await assertRejects(() => parsePlan(bytes("old,new"), "x"), SweepError, "must be JSON");
  await assertRejects(() => parsePlan(bytes("{}"), "x"), SweepError, "format is missing");
  const old = JSON.stringify({ ...plan, format: "blue-rose-sweep-1" });
  await assertRejects(
    () => parsePlan(bytes(old), "x"),
    SweepError,
    "its format is blue-rose-sweep-1 and this version reads",
  );
});

Deno.test("formatPlan() refuses what parsePlan() would not read", () => {
  const rows = [{ source: "a rose", destination: "a blue rose", related: [], unrelated: [] }];
  const seeds = { seeds: 1, firstSeed: 0 };
  const longest = { ...settings(), retained: ["x".repeat(100_000)], steps: 10_000 };
  assert(formatPlan(planSweep(rows, seeds, longest)).length > 100_000);
  const refused: [Partial<SweepSettings>, string][] = [
    [{ retained: ["x".repeat(100_001)] }, "retained[0] must be a string of 1 to 100000 characters"],
    [{ retained: Array(100_000).fill("a lamp") }, "retained must be a list of at most 90000"],
    [{ steps: 10_001 }, "steps must be a whole number from 1 to 10000, not 10001"],
    [{ settings: [...settings().settings, ...settings().settings] }, "settings need names of their own"],
  ];
  for (const [given, message] of refused) {
    assertThrows(() => formatPlan(planSweep(rows, seeds, { ...settings(), ...given })), OptionError, message);
  }
});

Deno.test("checkPins() refuses another version and other files, unless told, and ignores what is not pinned", () => {
  const pins = { version: "1", modelHash: "a" };
  const path = "p";
  checkPins(pins, { version: "1", modelHash: "a", clipHash: "c" }, { path });
  checkPins(pins, { version: "1" }, { path });
  assertThrows(() => checkPins(pins, { version: "2" }, { path }), SweepError, "it has 1, found 2");
  assertThrows(() => checkPins(pins, { modelHash: "b" }, { path, anyVersion: true }), SweepError, "it has a, found b");
  checkPins(pins, { version: "2", modelHash: "b" }, { path, anyVersion: true, anyModel: true });
});

const roses = { source: "a rose", destination: "blue a rose", related: [], unrelated: [] };
const plan = planSweep([roses], { seeds: 2, firstSeed: 0 }, settings());
const ofPlan = { path: "r.jsonl", plan, fingerprint: "0123" };

Deno.test("parseResults() ignores an incomplete last line and rejects results of another plan", () => {
  const whole = formatResult(result("a rose"));
  for (let cut = 0; cut < whole.length; cut++) {
    assertEquals(parseResults(bytes(whole + whole.slice(0, cut)), ofPlan), {
      results: [result("a rose")],
      completeBytes: whole.length,
      foreign: 0,
    });
  }
  assertEquals(parseResults(bytes(""), ofPlan), { results: [], completeBytes: 0, foreign: 0 });
  assertThrows(() => parseResults(bytes("{\n"), ofPlan), SweepError, "line 1: it must be JSON");
  const other = { ...ofPlan, fingerprint: "4567" };
  assertThrows(() => parseResults(bytes(whole), other), SweepError, 'another plan ("0123", not "4567")');
  assertEquals(parseResults(bytes(whole), { ...other, skipForeign: true }).foreign, 1);
});

Deno.test("parseResults() rejects a file that is not its own, so that a caller never truncates it", () => {
  for (const foreign of ["my notes", '{"plan":"99', "\0\u0001", '{"note": 1}\n']) {
    assertThrows(() => parseResults(bytes(foreign), ofPlan), SweepError);
  }
});

Deno.test("parseResults() rejects pictures that the plan does not ask for, and values that contradict each other", () => {
  const good = result("a rose");
  const wrong: [changes: object, message: string][] = [
    [{ logits: [1] }, "logits[1] is missing"],
    [{ logits: ["1", 2] }, "logits[0] must be a finite number"],
    [{ logits: { 0: 1, 1: 2 } }, "logits must be a list of two logits"],
    [{ logits: [3, 2] }, "do not fit the destination"],
    [{ fits: "both" }, "fits must be one of source, destination"],
    [{ row: "../../evil" }, "row must be a whole number"],
    [{ row: 1 }, "the plan asks for no such picture"],
    [{ setting: 1 }, "the plan asks for no such picture"],
    [{ logitScale: 0 }, "logitScale must be a number above 0"],
    [{ seed: 2 }, "the plan asks for no such picture"],
    [{ measure: "specificity" }, "the plan asks for no such picture"],
    [{ edited: "another" }, "the plan asks for no such picture"],
    [{ prompt: undefined }, "prompt is missing"],
  ];
  for (const [changes, message] of wrong) {
    const line = JSON.stringify({ ...good, ...changes }) + "\n";
    assertThrows(() => parseResults(bytes(formatResult(good) + line), ofPlan), SweepError, message);
  }
  assertThrows(() => parseResults(bytes("null\n"), ofPlan), SweepError, "line 1: it must be an object, not null");
});

Deno.test("parsePlan() rejects jobs without a row and settings of the wrong type", async () => {
  const wrong: [changes: object, message: string][] = [
    [{ jobs: [{ row: 1, setting: 0, seed: 0 }] }, "jobs[0] is of row 1, and there are rows 0 to 0"],
    [{ jobs: [{ row: 0, setting: 1, seed: 0 }] }, "jobs[0] is of setting 1, and there are settings 0 to 0"],
    [{ jobs: [{ row: 0, setting: 0, seed: -1 }] }, "jobs[0].seed must be a whole number"],
    [{ jobs: [plan.jobs[0], plan.jobs[0]] }, "jobs[1] is there twice"],
    [{ settings: [...plan.settings, ...plan.settings] }, "its settings need names of their own"],
    [{ settings: [{ name: "x", method: "edit" }] }, "settings[0] must be a setting whose editor is given"],
    [
      { settings: [{ ...plan.settings[0], editor: { ...plan.settings[0].editor, lamb: null } }] },
      "editor.lamb must be a number",
    ],
    [
      { settings: [{ ...plan.settings[0], editor: { method: "other" } }] },
      "editor of this version (time, uce, nullspace)",
    ],
    [{ settings: [{ name: "x", method: "constructor" }] }, "method must be one of edit, baseline, oracle"],
    [{ pins: {} }, "pins.version is missing"],
    [{ steps: 1e9 }, "steps must be a whole number from 1 to 10000"],
    [{ rows: [{ ...roses, related: [{}] }] }, "rows[0].related[0].prompt is missing"],
  ];
  for (const [changes, message] of wrong) {
    const text = JSON.stringify({ ...plan, ...changes });
    await assertRejects(() => parsePlan(bytes(text), "plan.json"), SweepError, message);
  }
});

const timed = new URL("../../../../../shared/timed/", import.meta.url);
const isThere = await Deno.stat(timed).then(() => true, () => false);

Deno.test({
  name: `each row of TIMED has one source, five related and five unrelated prompts${
    isThere ? "" : " (skipped: ../shared/timed is not there)"
  }`,
  ignore: !isThere,
  fn: async () => {
    const text = await Deno.readTextFile(new URL("TIMED_test_set.csv", timed));
    const rows = parseDataSet(text, "TIMED_test_set.csv");
    assert(rows.length > 100);
    for (const row of rows) {
      const measures = promptsOfRow(row).map(({ measure }) => measure);
      const five = (measure: string) => Array<string>(5).fill(measure);
      assertEquals(measures, ["efficacy", ...five("generality"), ...five("specificity")], row.source);
    }
  },
});
