import { assert, assertEquals } from "@std/assert";
import { main } from "../../cli/main.ts";
import { goldens } from "../paths.ts";
import { temporaryFolder } from "./running.ts";

/** Runs `bluerose evaluate` and captures its output. */
async function evaluate(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const { log, error } = console;
  const said = { out: "", err: "" };
  console.log = (text: string) => void (said.out += `${text}\n`);
  console.error = (text: string) => void (said.err += `${text}\n`);
  try {
    return { code: await main(["evaluate", ...args]), ...said };
  } finally {
    Object.assign(console, { log, error });
  }
}

Deno.test({
  name: "evaluate edits prints a line for each condition and writes the figures as JSON",
  sanitizeResources: false,
  sanitizeOps: false,
  fn: async () => {
    const json = await Deno.makeTempFile();
    try {
      const limits = ["--edits", "1", "--related", "0", "--unrelated", "1", "--steps", "2", "--lambda", "0.1"];
      const { code, out, err } = await evaluate("edits", ...limits, "--json", json);
      assertEquals([code, err], [0, ""]);
      const rows = out.split("\n").filter((line) => /^(before|λ)/.test(line));
      assertEquals(rows.map((line) => line.slice(0, 20).trim()), ["before", "λ 0.1", "λ 0.1, preserve"]);
      for (const row of rows) assert(/^.{20} \d+ % \(\d\.\d{3}\) +- +\d+ % /.test(row), row);
      const { settings, evaluations } = JSON.parse(await Deno.readTextFile(json));
      assertEquals([settings.steps, settings.cases.length, evaluations.length], [2, 1, 3]);
      assertEquals(evaluations[0].scores.efficacy.pictures, 1);
    } finally {
      await Deno.remove(json);
    }
  },
});

Deno.test("evaluate edits and evaluate editors judge erasures, for which TIME pairs last tokens", async () => {
  await using folder = await temporaryFolder();
  const [cases, json] = ["cases.json", "result.json"].map((name) => `${folder.path}/${name}`);
  const also = ["a cup", "a hat"], unrelated = [{ prompt: "a lemon", edited: "a rose" }];
  const erased = { source: "a rose", destination: "", also, related: [], unrelated, preserve: ["a lemon"] };
  await Deno.writeTextFile(cases, JSON.stringify([erased]));
  const model = ["-m", `${goldens}/sd1-mini`, "--steps", "1", "--cases", cases, "--json", json, "--overwrite"];
  const edits = await evaluate("edits", ...model, "--lambda", "0.5", "--per-edit");
  assertEquals([edits.code, edits.err], [0, ""]);
  assert(edits.out.startsWith("1 edit, tokens last, 6 pictures of 1 step"), edits.out);
  assertEquals(edits.out.match(/ a rose → ""$/gm)?.length, 3);
  const { settings, evaluations } = JSON.parse(await Deno.readTextFile(json));
  assertEquals([settings.editor.tokens, settings.cases[0].also, evaluations.length], ["last", also, 3]);
  const methods = ["--method", "time", "uce", "--preserve=no", "--concepts", "1"];
  const editors = await evaluate("editors", ...model, ...methods);
  assertEquals([editors.code, editors.err], [0, ""]);
  assert(
    /^time, lambda 0\.1, tokens last +1 /m.test(editors.out) && /^uce, lambda 0\.5 +1 /m.test(editors.out),
    editors.out,
  );
  const { tables: [{ results, losses }] } = JSON.parse(await Deno.readTextFile(json));
  assertEquals([results.length, Array.isArray(losses)], [3, true]);
});

Deno.test({
  name: "evaluate leakage prints each prompt with its ranks, and the rank correlation",
  sanitizeResources: false,
  sanitizeOps: false,
  fn: async () => {
    const file = await Deno.makeTempFile();
    try {
      await Deno.writeTextFile(file, "a rose\na cup\n\na rose\n");
      const { code, out, err } = await evaluate("leakage", "--prompts", file, "--steps", "2");
      assertEquals([code, err], [0, ""]);
      const rows = out.split("\n").filter((line) => /^a (rose|cup) .* \d/.test(line));
      assertEquals(rows.map((row) => row.trim().split(/ {2,}/).length), [5, 5]);
      assert(/rank correlation \(Spearman\) -?1\.000 over 2 prompts/.test(out), out);
    } finally {
      await Deno.remove(file);
    }
  },
});

Deno.test("evaluate rejects a missing or unknown subject, an invalid λ and a missing file", async () => {
  const empty = await Deno.makeTempFile({ suffix: ".json" });
  await Deno.writeTextFile(empty, "[]");
  const cases: [args: string[], code: number, message: string][] = [
    [[], 2, "Cannot evaluate without a subject: the subject must be edits, editors or leakage"],
    [["leekage"], 2, 'Cannot evaluate "leekage": did you mean leakage?'],
    [["edits", "--lambda", "0"], 2, "Cannot edit with lambda 0: it must be a finite number above 0"],
    [["edits", "--threshold", "0.1"], 2, 'an option of the method "nullspace"'],
    [["edits", "--cases", "/nowhere.json"], 1, "/nowhere.json"],
    [["editors", "--cases", empty], 1, "it has no edits"],
    [["editors", "--method", "baseline"], 2, "the unedited model is always shown"],
    [["editors", "--edits", "2", "--concepts", "3"], 2, "with 2 edits: give 2 or fewer"],
    [["leakage", "--seeds", "0"], 2, "Cannot use --seeds"],
  ];
  for (const [args, expected, message] of cases) {
    const { code, out, err } = await evaluate(...args);
    assertEquals([code, out], [expected, ""], args.join(" "));
    assert(err.includes(message), err);
  }
  await Deno.remove(empty);
  assert((await evaluate("--help")).out.includes("evaluate edits|editors|leakage"));
  assert((await evaluate("leakage", "--help")).out.includes("--destination"));
});
