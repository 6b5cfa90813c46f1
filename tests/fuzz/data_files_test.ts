import { assert } from "@std/assert";
import fc from "fast-check";
import { readEdit } from "../../pipeline/editing/edit_file.ts";
import { EditError } from "../../pipeline/errors.ts";
import { parseEditPairs } from "../../pipeline/editing/prompts/pair_file.ts";
import { DataError, SafetensorsError } from "../../pipeline/errors.ts";
import { editedForms, parseEditCases } from "../../pipeline/evaluation/edit_cases.ts";
import { mergeResults } from "../../pipeline/evaluation/sweep/merge.ts";
import { parseDataSet } from "../../pipeline/evaluation/sweep/data_sets.ts";
import { formatPlan, parsePlan, parseResults } from "../../pipeline/evaluation/sweep/files.ts";
import { picturesOfJob, planSweep, promptsOfRow } from "../../pipeline/evaluation/sweep/plan.ts";
import { SweepError } from "../../pipeline/evaluation/sweep/sweep_error.ts";
import { settings } from "../pipeline/evaluation/sweep/plans.ts";
import { fuzz } from "./fuzz.ts";
import { mutated } from "./mutations.ts";
import { fileOfEntries } from "./safetensors_inputs.ts";

/** The result of `read`, or undefined where it fails with one of the `expected` errors. */
async function accepted<T>(
  expected: readonly (abstract new (...args: never[]) => Error)[],
  read: () => T | Promise<T>,
): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (expected.some((type) => error instanceof type)) return undefined;
    throw error;
  }
}

const cases = [
  {
    source: "a rose",
    destination: "a blue rose",
    related: [{ prompt: "two roses", edited: "two blue roses" }],
    unrelated: [{ prompt: "a lemon", edited: "a blue lemon" }],
    preserve: ["a lemon"],
  },
];
const plan = planSweep(cases, { seeds: 2, firstSeed: 0 }, settings([0.1, 1], ["edit", "baseline"]));
const bytes = (text: string) => new TextEncoder().encode(text);

Deno.test("a changed edit file is an EditError, or holds a whole recipe and finite factors", async () => {
  const metadata = {
    format: "blue-rose-edit-1",
    recipe: {
      pairs: [
        { source: "a rose", destination: "a blue rose", alignment: [[0, 0], [1, 1]] },
        { source: "a doctor", destination: [{ prompt: "a female doctor", weight: 0.5 }], weight: 2 },
      ],
      preserve: ["a lemon"],
      preserveWeight: 1,
      lamb: 0.1,
      withToK: true,
      withAugs: ["A photo of "],
      layers: ["down_blocks.0"],
    },
    report: {
      rows: 2,
      mergedRows: 2,
      rank: 1,
      route: "tokens",
      precision: "f64",
      lamb: 0.1,
      conditionEstimate: 10,
      residual: 1e-12,
      relativeSize: 0.1,
      ms: 1,
      limitedBy: "rounding",
    },
  };
  const factor = (name: string, shape: number[], value: number) => ({
    name,
    dtype: "F32" as const,
    shape,
    chunks: () => [new Uint8Array(new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value).buffer)],
  });
  const inputs = fc.tuple(mutated(metadata), fc.constantFrom(1, 1, 1, NaN, Infinity), fc.constantFrom(3, 3, 3, 2));
  await fuzz(
    inputs,
    async ([json, value, width]) => {
      const changed = JSON.parse(json);
      if (typeof changed !== "object" || changed === null) return;
      const texts: Record<string, string> = {};
      for (const [key, part] of Object.entries(changed)) {
        texts[key] = typeof part === "string" ? part : JSON.stringify(part);
      }
      const file = await fileOfEntries([
        factor("left", [1, 3], value),
        factor("right", [1, width], 1),
        factor("probe", [3], 1),
      ], texts);
      const edit = await accepted([EditError, SafetensorsError], () => readEdit(file));
      if (edit === undefined) return;
      assert(Number.isFinite(value) && width === 3);
      assert(edit.recipe.pairs.every(({ source }) => source.length > 0));
      assert(edit.recipe.lamb > 0 && [...edit.recipe.preserve, ...edit.recipe.withAugs].every((x) => x.length >= 0));
    },
    1500,
  );
});

Deno.test("a changed plan is a SweepError, or each of its jobs has a row with prompts", async () => {
  await fuzz(
    mutated(JSON.parse(formatPlan(plan))),
    async (json) => {
      const read = await accepted([SweepError], () => parsePlan(bytes(json), "plan.json"));
      for (const job of read?.plan.jobs ?? []) assert(picturesOfJob(read!.plan, job).length > 0);
    },
    1500,
  );
});

Deno.test("changed results are a SweepError, or count only pictures that the plan asks for", async () => {
  const result = {
    plan: "0123",
    row: 0,
    setting: 0,
    seed: 1,
    measure: "efficacy",
    prompt: "a rose",
    edited: "a blue rose",
    logits: [1, 2],
    logitScale: 100,
    fits: "destination",
  };
  await fuzz(
    fc.tuple(mutated(result), fc.string()),
    async ([json, tail]) => {
      const content = bytes(`${json}\n${tail}`);
      const expected = { path: "r.jsonl", plan, fingerprint: "0123" };
      const read = await accepted([SweepError], () => parseResults(content, expected));
      if (read === undefined) return;
      const { missing, planned, settings: [{ measures }] } = mergeResults(plan, read.results);
      assert(planned - missing === 1 && measures.every(({ rate }) => Number.isNaN(rate) || rate === 0 || rate === 1));
    },
    1500,
  );
});

Deno.test("changed cases and pairs are a DataError, or whole", async () => {
  await fuzz(
    mutated(cases),
    async (json) => {
      for (const one of await accepted([DataError], () => parseEditCases(json, "cases.json")) ?? []) {
        assert(promptsOfRow(one).every((each) => each.prompt !== "" && editedForms(each).length > 0));
      }
      for (const pair of await accepted([DataError], () => parseEditPairs(json, "pairs.json")) ?? []) {
        assert(pair.source !== "" && pair.destination.length > 0);
      }
    },
    1500,
  );
});

Deno.test("any text is a data set, or a SweepError; a list of pairs, or a DataError", async () => {
  const cell = fc.oneof(fc.constantFrom("old", "new", "positive1", "gt1", "negative1", "gn1", "source"), fc.string());
  const csv = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.array(fc.array(cell, { maxLength: 8 }).map((cells) => cells.join(",")), { maxLength: 5 }).map((rows) =>
      rows.join("\n")
    ),
  );
  await fuzz(
    csv,
    async (text) => {
      await accepted([SweepError, DataError], () => parseDataSet(text, "x.csv"));
      await accepted([DataError], () => parseEditPairs(text, "x.csv"));
    },
    1500,
  );
});
