import { assert, assertEquals } from "@std/assert";
import { temporaryFolder } from "./running.ts";

const root = new URL("../../", import.meta.url).pathname;

/** Runs the command line in a process of its own, with the given permissions. */
async function runWith(flags: readonly string[], args: readonly string[], cwd?: string) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "--no-prompt", ...flags, "--config", `${root}deno.json`, `${root}cli/main.ts`, ...args],
    cwd,
    env: { NO_COLOR: "1" },
  }).output();
  return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
}

Deno.test("without permissions, each command says which one it needs and why; help and version need none", async () => {
  await using folder = await temporaryFolder();
  const draw = ["-m", "models/pocket", "-p", "x"];
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
  ];
  await Promise.all(cases.map(async ([flags, args, parts]) => {
    const { code, err } = await runWith(flags, args, folder.path);
    assertEquals(code, 1, err);
    assert(!/\n\s+at /.test(err), err);
    for (const part of ["PermissionError: ", ...parts]) assert(err.includes(part), `${args}: ${part} is not in ${err}`);
  }));
  assertEquals((await runWith([], ["--version"])).code, 0);
  assertEquals((await runWith([], ["generate", "--help"])).code, 0);
  assertEquals((await runWith([], ["completion", "bash"])).code, 0);
});

Deno.test("deno task bluerose works in the user's folder, whatever the folder of deno.json", async () => {
  await using folder = await temporaryFolder();
  await Deno.writeTextFile(`${folder.path}/note.png`, "no picture");
  // deno task keeps an INIT_CWD that is set, as it is where the tests were started by deno task.
  const { INIT_CWD: _, ...environment } = Deno.env.toObject();
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "-q", "--config", `${root}deno.json`, "bluerose", "inspect", "note.png", "models/pocket", "--json"],
    cwd: folder.path,
    clearEnv: true,
    env: { ...environment, NO_COLOR: "1" },
  }).output();
  assert(stdout.length > 0, new TextDecoder().decode(stderr));
  const inspections = JSON.parse(new TextDecoder().decode(stdout));
  assertEquals(
    inspections.map(({ problems }: { problems: string[] }) => problems),
    [["Cannot read the PNG file as the file does not begin with the PNG signature"], []],
    new TextDecoder().decode(stderr),
  );
});
