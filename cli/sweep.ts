import { type Command, defineGroup } from "./command.ts";
import { command as hyperqueue } from "./sweep_hyperqueue.ts";
import { command as kubernetes } from "./sweep_kubernetes.ts";
import { command as merge } from "./sweep_merge.ts";
import { command as plan } from "./sweep_plan.ts";
import { command as run } from "./sweep_run.ts";
import { command as slurm } from "./sweep_slurm.ts";

/** `bluerose sweep`: dispatches to its steps. */
export const command: Command = defineGroup({
  name: "sweep",
  summary: "evaluate edits on a data set such as TIMED, in shards that can be resumed",
  noun: "step",
  details:
    "Write a plan, run its shards on one or more machines (an interrupted run resumes), then merge the results. slurm, kubernetes and hyperqueue write " +
    "the job file of a cluster.",
  examples: [
    {
      line: "sweep plan --data TIMED_test_set.csv --rows 2 --seeds 1 -o plan.json",
      says: "two rows of a data set, with the embedded model, in two shards",
    },
    { line: "sweep run plan.json --shard 1/2 -o part1.jsonl", says: "the first shard" },
    { line: "sweep run plan.json --shard 2/2 -o part2.jsonl", says: "the second, perhaps on another machine" },
    { line: "sweep merge plan.json part1.jsonl part2.jsonl", says: "the figures of both" },
  ],
  subcommands: new Map([["plan", plan], ["run", run], ["merge", merge], ["slurm", slurm], ["kubernetes", kubernetes], [
    "hyperqueue",
    hyperqueue,
  ]]),
});
