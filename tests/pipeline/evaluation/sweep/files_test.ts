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
  await assertRejects(() => parsePlan(bytes("{}"), "x"), SweepError, 'must be "blue-rose-sweep-1", not null');
});

Deno.test("parseResults() ignores an incomplete last line and rejects results of another plan", () => {
  const whole = formatResult(result("a rose"));
  const options = { path: "r.jsonl", fingerprint: "0123" };
  assertEquals(parseResults(bytes(whole + whole.slice(0, -9)), options), {
    results: [result("a rose")],
    completeBytes: whole.length,
  });
  assertEquals(parseResults(bytes(""), options), { results: [], completeBytes: 0 });
  assertThrows(() => parseResults(bytes("{\n"), options), SweepError, "line 1 is not JSON");
  const other = { ...options, fingerprint: "4567" };
  assertThrows(() => parseResults(bytes(whole), other), SweepError, "another plan (0123, not 4567)");
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
