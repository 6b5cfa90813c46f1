import { ArgumentError } from "./arguments.ts";
import type { Command } from "./command.ts";
import { nearest } from "./nearest.ts";
import { command as merge } from "./sweep_merge.ts";
import { command as plan } from "./sweep_plan.ts";
import { command as run } from "./sweep_run.ts";

const steps: ReadonlyMap<string, Command> = new Map([["plan", plan], ["run", run], ["merge", merge]]);

const summary = "evaluate edits on a data set such as TIMED, in shards that can be resumed";

const help = [
  `bluerose sweep: ${summary}`,
  "Usage: bluerose sweep plan|run|merge [flags]",
  [...steps].map(([name, { summary }]) => `  ${name.padEnd(5)}  ${summary}`).join("\n"),
  "Write a plan, run its shards on one or more machines (an interrupted run resumes), then merge the results.",
  [
    "Examples:",
    "  # two rows of a data set, with the embedded model, in two shards",
    "  bluerose sweep plan --data TIMED_test_set.csv --rows 2 --seeds 1 -o plan.json",
    "  bluerose sweep run plan.json --shard 1/2 -o part1.jsonl",
    "  bluerose sweep run plan.json --shard 2/2 -o part2.jsonl",
    "  bluerose sweep merge plan.json part1.jsonl part2.jsonl",
  ].join("\n"),
  "Flags: bluerose sweep plan --help, run --help, merge --help.",
].join("\n\n");

/** `bluerose sweep`: dispatches to its three steps. */
export const command: Command = {
  name: "sweep",
  summary,
  help,
  async call([name, ...rest]) {
    if (name === "--help" || name === "-h") return console.log(help);
    const step = steps.get(name ?? "");
    if (step) return await step.call(rest);
    const meant = name === undefined ? undefined : nearest(name, [...steps.keys()]);
    throw new ArgumentError(
      `Cannot sweep ${name === undefined ? "without a step" : JSON.stringify(name)}: ${
        meant === undefined ? "the step must be plan, run or merge" : `did you mean ${meant}?`
      }`,
      { argument: name ?? "STEP" },
    );
  },
};
