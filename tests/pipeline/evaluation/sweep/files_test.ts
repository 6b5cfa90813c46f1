import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  formatPlan,
  formatResult,
  parseDataSet,
  parsePlan,
  parseResults,
  SweepError,
} from "../../../../pipeline/evaluation/sweep/files.ts";
import { planSweep, promptsOfRow, type SweepResult } from "../../../../pipeline/evaluation/sweep/plan.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const result = (prompt: string): SweepResult => ({
  plan: "0123",
  row: 0,
  seed: 0,
  measure: "efficacy",
  prompt,
  edited: `blue ${prompt}`,
  logits: [1, 2],
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

Deno.test("a plan survives formatPlan() and parsePlan(); anything else is rejected", async () => {
  const settings = {
    model: "m",
    clip: "c",
    method: "edit",
    lambda: 1,
    valuesOnly: false,
    steps: 2,
    cfgScale: 5,
  } as const;
  const rows = [{ source: "a rose", destination: "a blue rose", related: [], unrelated: [] }];
  const plan = planSweep(rows, { seeds: 2, firstSeed: 3 }, settings);
  const parsed = await parsePlan(bytes(formatPlan(plan)), "plan.json");
  assertEquals(parsed.plan, JSON.parse(JSON.stringify(plan)));
  assert(/^[0-9a-f]{16}$/.test(parsed.fingerprint));
  await assertRejects(() => parsePlan(bytes("old,new"), "x"), SweepError, "must be JSON");
  await assertRejects(
    () => parsePlan(bytes("{}"), "x"),
    SweepError,
    "format is missing",
  );
});

const roses = { source: "a rose", destination: "blue a rose", related: [], unrelated: [] };
const plan = planSweep([roses], { seeds: 2, firstSeed: 0 }, {
  model: "m",
  clip: "c",
  method: "edit",
  lambda: 1,
  valuesOnly: false,
  steps: 2,
  cfgScale: 5,
});
const ofPlan = { path: "r.jsonl", plan, fingerprint: "0123" };

Deno.test("parseResults() ignores an incomplete last line and rejects results of another plan", () => {
  const whole = formatResult(result("a rose"));
  for (let cut = 0; cut < whole.length; cut++) {
    assertEquals(parseResults(bytes(whole + whole.slice(0, cut)), ofPlan), {
      results: [result("a rose")],
      completeBytes: whole.length,
    });
  }
  assertEquals(parseResults(bytes(""), ofPlan), { results: [], completeBytes: 0 });
  assertThrows(() => parseResults(bytes("{\n"), ofPlan), SweepError, "line 1: it must be JSON");
  const other = { ...ofPlan, fingerprint: "4567" };
  assertThrows(() => parseResults(bytes(whole), other), SweepError, 'another plan ("0123", not "4567")');
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
    [{ jobs: [{ row: 1, seed: 0 }] }, "jobs[0] is of row 1 of 1"],
    [{ jobs: [{ row: 0, seed: -1 }] }, "jobs[0].seed must be a whole number"],
    [{ lambda: null }, "lambda must be a number above 0, not null"],
    [{ method: "constructor" }, "method must be one of edit, baseline, oracle"],
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
