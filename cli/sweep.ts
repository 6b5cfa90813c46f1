import { ArgumentError } from "./arguments.ts";
import type { Command } from "./command.ts";
import { nearest } from "./nearest.ts";
import { command as merge } from "./sweep_merge.ts";
import { command as plan } from "./sweep_plan.ts";
import { command as run } from "./sweep_run.ts";

const steps: ReadonlyMap<string, Command> = new Map([["plan", plan], ["run", run], ["merge", merge]]);

const help = [
  "bluerose sweep: evaluate edits on a data set such as TIMED, in shards that can be resumed",
  "Usage: bluerose sweep plan|run|merge [flags]",
  [...steps].map(([name, { summary }]) => `  ${name.padEnd(5)}  ${summary}`).join("\n"),
  "A plan says what to draw; each machine runs a shard of it, again where it was stopped; merge counts what all of them found.",
  [
    "Examples:",
    "  # two rows of a data set with the embedded models, in two shards",
    "  bluerose sweep plan --data TIMED_test_set.csv --rows 2 --seeds 1 -o plan.json",
    "  bluerose sweep run plan.json --shard 1/2 -o part1.jsonl",
    "  bluerose sweep run plan.json --shard 2/2 -o part2.jsonl",
    "  bluerose sweep merge plan.json part1.jsonl part2.jsonl",
  ].join("\n"),
  "bluerose sweep plan --help (run, merge) shows the flags.",
].join("\n\n");

/** `bluerose sweep`: the TIMED evaluation in three steps. */
export const command: Command = {
  name: "sweep",
  summary: "evaluate edits on a data set such as TIMED, in shards that can be resumed",
  help,
  async call([name, ...rest]) {
    if (name === "--help" || name === "-h") return console.log(help);
    const step = steps.get(name ?? "");
    if (step) return await step.call(rest);
    const meant = name === undefined ? undefined : nearest(name, [...steps.keys()]);
    throw new ArgumentError(
      `Cannot sweep ${name === undefined ? "without saying which step" : JSON.stringify(name)}: ${
        meant === undefined ? "it takes plan, run or merge" : `did you mean ${meant}?`
      }`,
      { argument: name ?? "STEP" },
    );
  },
};
