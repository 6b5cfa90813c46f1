import { assert, assertEquals } from "@std/assert";
import type { Command } from "../../cli/command.ts";
import { kebab } from "../../cli/flag_types.ts";
import { commandTable } from "../../cli/main.ts";
import { run } from "./running.ts";

// Not "-": it is standard input, which belongs to whoever runs the tests.
const odd = ["", "--", "\x1b[31m", "NaN", "1e999", "-1", "0x10", "{}", "..", "/", "/dev/null", "１", "\ud800"];

/** Commands that measure, draw or serve whatever arguments they take: they do not fail early. */
const excluded = ["bench", "demo", "doctor", "completion", "studio"];

Deno.test("no odd value of any flag gives a stack, a control character or an unexpected error", async () => {
  const commands: [words: string[], command: Command][] = [];
  for (const { name, load } of commandTable) {
    if (excluded.includes(name)) continue;
    const { command } = await load();
    for (const [word, each] of command.subcommands ?? [["", command] as const]) {
      commands.push([[name, word].filter((word) => word !== ""), each]);
    }
  }
  let runs = 0;
  for (const [words, { flags, takesPaths }] of commands) {
    // enough to pass the checks of the other flags, and a model that cannot be loaded
    const others = { model: "./nowhere", prompt: "x", x: "seed=1" };
    const paths = takesPaths ? ["./nowhere", "./nowhere2"].slice(0, words[1] === "run" ? 1 : 2) : [];
    for (const [name, flag] of Object.entries(flags)) {
      if (flag.kind === "switch" || name === "output" || name === "preview") continue;
      const given = Object.entries(others).filter(([other]) => other in flags && other !== name)
        .map(([other, value]) => `--${other}=${value}`);
      for (const value of odd) {
        const { code, err } = await run(...words, `--${kebab(name)}=${value}`, ...given, ...paths);
        runs++;
        const line = `${words.join(" ")} --${name} ${JSON.stringify(value)}: ${code} ${err}`;
        assert(code === 1 || code === 2, line);
        // deno-lint-ignore no-control-regex
        assert(!/Unexpected error|\n\s+at |\x1b/.test(err), line);
      }
    }
  }
  assertEquals(runs > 1000, true);
});
