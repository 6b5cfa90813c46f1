import { assert, assertEquals } from "@std/assert";
import { type Command, defineCommand } from "../../cli/command.ts";
import { type CommandEntry, main } from "../../cli/main.ts";
import { nearest } from "../../cli/nearest.ts";

const calls: unknown[] = [];
const draw: Command = defineCommand({
  name: "draw",
  summary: "draw something",
  usage: "-p PROMPT [flags]",
  details: "Draws what you say.",
  flags: {
    prompt: { kind: "texts", alias: "p", required: true, help: "what to draw" },
    fail: { kind: "text", default: "", help: "how to fail" },
  },
  examples: [{ line: "draw -p rose", says: "a rose" }],
  run({ prompt, fail }) {
    if (fail === "abort") throw new DOMException("stopped", "AbortError");
    if (fail === "typed") throw Object.assign(new Error("Cannot draw"), { name: "InkError" });
    calls.push(prompt);
    return Promise.resolve();
  },
});
const table: CommandEntry[] = [{ name: "draw", summary: draw.summary, load: () => Promise.resolve({ command: draw }) }];

/** Runs the command line and captures its output. */
async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const { log, error } = console;
  const said = { out: "", err: "" };
  console.log = (text: string) => void (said.out += `${text}\n`);
  console.error = (text: string) => void (said.err += `${text}\n`);
  try {
    return { code: await main(args, table), ...said };
  } finally {
    Object.assign(console, { log, error });
  }
}

Deno.test("a command runs with its typed values and ends with 0", async () => {
  calls.length = 0;
  assertEquals(await run("draw", "-p", "rose"), { code: 0, out: "", err: "" });
  assertEquals(calls, [["rose"]]);
});

Deno.test("--help lists the commands; without any argument it is shown too, and the exit code is 2", async () => {
  for (const [args, expected] of [[["--help"], 0], [["-h"], 0], [["help"], 0], [[], 2]] as const) {
    const { code, out } = await run(...args);
    assertEquals(code, expected);
    assert(out.includes("draw  draw something"), out);
  }
});

Deno.test("NAME --help and help NAME show usage, flags and examples, and run nothing", async () => {
  calls.length = 0;
  for (const args of [["draw", "--help"], ["draw", "-p", "x", "-h"], ["help", "draw"]]) {
    const { code, out } = await run(...args);
    assertEquals(code, 0);
    for (
      const part of [
        "Usage: bluerose draw -p PROMPT",
        "Draws what you say.",
        "-p, --prompt TEXT",
        "bluerose draw -p rose",
      ]
    ) {
      assert(out.includes(part), `${part} is not in\n${out}`);
    }
  }
  assertEquals(calls, []);
});

Deno.test("an unknown command exits with 2 and names the nearest command", async () => {
  const { code, err } = await run("drwa");
  assertEquals(code, 2);
  assert(err.includes("did you mean bluerose draw?"), err);
  assertEquals((await run("qqqqqq")).code, 2);
  assertEquals((await run("help", "qqqqqq")).code, 2);
});

Deno.test("invalid arguments exit with 2, failures with 1, an interruption with 130; each says why", async () => {
  const misused = await run("draw");
  assertEquals(misused.code, 2);
  assert(misused.err.includes("Cannot go on without -p or --prompt"), misused.err);
  const failed = await run("draw", "-p", "x", "--fail", "typed");
  assertEquals([failed.code, failed.err], [1, "bluerose draw: InkError: Cannot draw\n"]);
  assertEquals((await run("draw", "-p", "x", "--fail", "abort")).code, 130);
});

Deno.test("--version names the version of deno.json", async () => {
  const config = JSON.parse(await Deno.readTextFile(new URL("../../deno.json", import.meta.url)));
  const { code, out } = await run("--version");
  assertEquals(code, 0);
  assert(out.includes(config.version), out);
});

Deno.test("nearest() finds typing errors and rejects dissimilar words", () => {
  const known = ["generate", "edit", "bench"];
  assertEquals(["genrate", "edti", "BENCH", "zzzzzz"].map((word) => nearest(word, known)), [
    "generate",
    "edit",
    "bench",
    undefined,
  ]);
  assertEquals(nearest("edit", []), undefined);
});
