import { assert, assertEquals } from "@std/assert";
import { temporaryFolder } from "./running.ts";
import { runDeno } from "../run_deno.ts";

const root = new URL("../../", import.meta.url).pathname;

/** Runs the command line in a process of its own, with the given permissions. */
function runWith(flags: readonly string[], args: readonly string[], cwd?: string) {
  return runDeno(
    ["run", "-q", "--no-prompt", ...flags, "--config", `${root}deno.json`, `${root}cli/main.ts`, ...args],
    { cwd, env: { HF_HUB_CACHE: "cache" } },
  );
}

Deno.test("without permissions, each command says which one it needs and why; help and version need none", async () => {
  await using folder = await temporaryFolder();
  const draw = ["-m", "models/pocket", "-p", "x"];
  const all = ["--allow-read", "--allow-write", "--allow-env"];
  const cases: [flags: string[], args: string[], parts: string[]][] = [
    [[], ["generate", ...draw], ['"write" for "output.png"', "to write the pictures"]],
    [["--allow-write"], ["generate", ...draw], ['"read"', "to see which files exist"]],
    [[], ["xy", ...draw, "--x", "seed=1"], ['"write" for "xy.png"', "to write the grid"]],
    [[], ["demo"], ['"write" for "blue-roses.png"']],
    [[], ["edit", "-m", "models/pocket", "--source", "a", "--destination", "a b"], ['"read"', "to read the model"]],
    [[], ["inspect", "x.safetensors"], ['"read" for "x.safetensors"', "to read what is to be described"]],
    [[], ["score", "x.png", "-p", "y"], ['"read" for "x.png"', "to read the pictures"]],
    [[], ["sweep", "plan", "--data", "x.csv"], ['"read" for "x.csv"', "to read the data set"]],
    [[], ["sweep", "run", "plan.json"], ['"write"', "to write the results"]],
    [[], ["sweep", "merge", "plan.json", "a.jsonl"], ['"read" for "plan.json"']],
    [[], ["evaluate", "edits"], ['"read"', "to read the edits to judge"]],
    [["--allow-read"], ["evaluate", "leakage", "--json", "r.json"], ['"write" for "r.json"', "to write the result"]],
    [["--allow-read"], ["sweep", "merge", "p", "r", "--json=m.json"], ['"write" for "m.json"', "to write the result"]],
    [["--allow-read"], ["sweep", "slurm", "p", "-o", "j"], ['"write" for "j"', "to write the job file"]],
    [["--allow-read"], ["doctor", "--json", "d.json"], ['"write" for "d.json"', "to write the result"]],
    [["--allow-read"], ["bench", "--html", "b.html"], ['"write" for "b.html"', "to write the page"]],
    [["--allow-read"], ["bench", "--tune"], ['"env" for "HOME"', "to find the user's caches"]],
    [[], ["studio", "--port", "0"], ['"read"', "to bundle the page"]],
    [["--allow-read"], ["studio", "--port", "0"], ['"net" for "127.0.0.1:0"', "to serve the page"]],
    [["--allow-read"], ["studio", "--host", "::1", "--port", "0"], ['"net" for "[::1]:0"', "to serve the page"]],
    // A model of the hub: its cache, and the network.
    [["--allow-read"], ["inspect", "owner/model"], ['"env" for "HOME"', "to find the user's caches"]],
    [all, ["generate", "-m", "owner/model", "-p", "x"], ['"net" for "huggingface.co', "--offline"]],
    // What may not be looked at is not said to be missing.
    [[...all, `--deny-read=${root}models`], ["generate", ...draw, "-o", "a.png"], ['"read"', "models/pocket"]],
    [[...all, "--deny-read=cache"], ["inspect", "owner/model"], ['"read"', "cache/models--owner--model"]],
    [[...all, "--deny-read=list.txt"], ["generate", ...draw, "--prompts-file", "list.txt"], ['"read" for "list.txt"']],
  ];
  const rest = cases.values();
  // Two at a time: each is a process.
  await Promise.all([1, 2].map(async () => {
    for (const each of rest) await check(...each);
  }));
  async function check(flags: string[], args: string[], parts: string[]): Promise<void> {
    const { code, err } = await runWith(flags, args, folder.path);
    assertEquals(code, 1, err);
    assert(!/\n\s+at /.test(err), err);
    for (const part of ["PermissionError: ", ...parts]) assert(err.includes(part), `${args}: ${part} is not in ${err}`);
    assert(!/no such|does not exist/.test(err), err);
  }
  assertEquals((await runWith([], ["--version"])).code, 0);
  assertEquals((await runWith([], ["generate", "--help"])).code, 0);
  assertEquals((await runWith([], ["completion", "bash"])).code, 0);
});

Deno.test("deno task bluerose works in the user's folder, whatever the folder of deno.json", async () => {
  await using folder = await temporaryFolder();
  await Deno.writeTextFile(`${folder.path}/note.png`, "no picture");
  // deno task keeps an INIT_CWD that is set, as it is where the tests were started by deno task.
  const { INIT_CWD: _, ...environment } = Deno.env.toObject();
  const { out, err } = await runDeno(
    ["task", "-q", "--config", `${root}deno.json`, "bluerose", "inspect", "note.png", "models/pocket", "--json"],
    { cwd: folder.path, clearEnv: true, env: environment },
  );
  assert(out !== "", err);
  const inspections = JSON.parse(out);
  assertEquals(
    inspections.map(({ problems }: { problems: string[] }) => problems),
    [['Cannot load note.png: it is text and no weights: it begins with "no picture"'], []],
    err,
  );
});
