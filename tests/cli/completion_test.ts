import { assert, assertEquals } from "@std/assert";
import { main } from "../../cli/main.ts";
import { run } from "./running.ts";

/** Runs a program with a completion script; undefined where the shell is not installed. */
async function inShell(shell: string, program: (path: string) => string): Promise<string | undefined> {
  const { code, out } = await run("completion", shell);
  assertEquals(code, 0);
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(path, out);
    const { success, stdout, stderr } = await new Deno.Command(shell, { args: ["-c", program(path)] }).output();
    assert(success, new TextDecoder().decode(stderr));
    assertEquals(new TextDecoder().decode(stderr), "");
    return new TextDecoder().decode(stdout);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  } finally {
    await Deno.remove(path);
  }
}

/** Words as typed, the last one being completed, and what completes it. */
const cases: readonly (readonly [words: readonly string[], completions: readonly string[]])[] = [
  [["gen"], ["generate"]],
  [["sweep", ""], ["hyperqueue", "kubernetes", "merge", "plan", "run", "slurm"]],
  [["generate", "--activ"], ["--activations"]],
  [["generate", "--activations", ""], ["f16", "f32"]],
  [["sweep", "run", "--sh"], ["--shard", "--shards"]],
  [["edit", "--lora-format", "d"], ["diffusers"]],
];

Deno.test("bash completes commands, subcommands, flags and their values", async () => {
  const said = await inShell(
    "bash",
    (path) =>
      `source ${path}\n` +
      cases.map(([words]) =>
        `COMP_WORDS=(bluerose ${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length}; _bluerose; ` +
        'echo "${COMPREPLY[@]}"'
      ).join("\n"),
  );
  if (said === undefined) return;
  const lines = said.trimEnd().split("\n");
  // subcommands come with the flags of a group in bash, which has none of its own
  assertEquals(lines.map((line) => line.split(" ").sort()), cases.map(([, completions]) => [...completions]));
});

Deno.test("fish completes the same, with descriptions", async () => {
  const said = await inShell(
    "fish",
    (path) =>
      `source ${path}; ` + cases.map(([words]) => `complete -C 'bluerose ${words.join(" ")}'; echo @@`).join("; "),
  );
  if (said === undefined) return;
  const blocks = said.split("@@\n").slice(0, -1).map((block) => block.trimEnd().split("\n"));
  assertEquals(
    blocks.map((lines) => lines.map((line) => line.split("\t")[0]).sort()),
    cases.map(([, completions]) => [...completions]),
  );
  assert(blocks[0][0].includes("\tdraw pictures from prompts"), said);
});

Deno.test("zsh completes the same, with descriptions", async () => {
  // zsh's own functions exist during completion only; these print what they are given
  const stubs = `
    compdef() { :; }
    _files() { print FILES; }
    compadd() { shift; print -l -- "$@"; }
    _describe() { print -l -- "\${entries[@]}"; }`;
  const said = await inShell(
    "zsh",
    (path) =>
      `${stubs}\nsource ${path}\n` +
      cases.map(([words]) =>
        `words=(bluerose ${words.map((word) => `'${word}'`).join(" ")}); CURRENT=${
          words.length + 1
        }; _bluerose; echo --`
      ).join("\n"),
  );
  if (said === undefined) return;
  const blocks = said.split("\n--\n").slice(0, cases.length).map((block) => block.split("\n"));
  cases.forEach(([words, completions], i) => {
    const typed = words.at(-1)!;
    const offered = blocks[i].map((line) => line.split(":")[0]).filter((word) => word.startsWith(typed));
    for (const completion of completions) assert(offered.includes(completion), `${completion} is not in ${offered}`);
  });
});

Deno.test("an unknown shell is refused with a suggestion", async () => {
  const { code, err } = await run("completion", "zhs");
  assertEquals(code, 2);
  assert(err.includes("did you mean zsh?"), err);
  assertEquals(await main(["completion", "--quiet"]), 2);
});
