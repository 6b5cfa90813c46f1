/**
 * Flags of the commands that write job files, and what they share.
 *
 * @module
 */
import { countText } from "../engine/inspect.ts";
import { type ClusterJob, shellWord } from "../pipeline/evaluation/cluster/job.ts";
import { pathOf } from "../pipeline/checkpoint/source/disk.ts";
import { parsePlan } from "../pipeline/evaluation/sweep/files.ts";
import { SweepError } from "../pipeline/evaluation/sweep/sweep_error.ts";
import { writeText } from "../pipeline/output/file.ts";
import { withoutSlashes } from "../pipeline/output/paths.ts";
import { ArgumentError } from "./argument_error.ts";
import type { Flags, Values } from "./flag_types.ts";
import { bytesOf, checkNewFile, overwriteFlag } from "./files.ts";
import { keep } from "./kept.ts";
import { say, sayJson } from "./printer.ts";

/** What a job file says of its tasks. */
export const clusterFlags = {
  output: {
    kind: "text",
    alias: "o",
    placeholder: "FILE",
    defaultText: "printed",
    help: "where to write the job file",
    access: { kind: "write", purpose: "write the job file" },
  },
  overwrite: overwriteFlag,
  shards: { kind: "whole", min: 1, max: 100_000, default: 4, group: "Tasks", help: "number of tasks" },
  retries: {
    kind: "whole",
    min: 0,
    max: 100,
    default: 3,
    group: "Tasks",
    help: "further attempts of a task that is killed",
  },
  results: {
    kind: "text",
    placeholder: "DIR",
    default: "results",
    group: "Tasks",
    help: "folder for results and logs, as tasks see it",
  },
  pictures: {
    kind: "text",
    placeholder: "DIR",
    defaultText: "pictures are not kept",
    group: "Tasks",
    help: "folder for the pictures, as tasks see it",
  },
  batchSize: { kind: "whole", default: 8, min: 1, group: "Tasks", help: "pictures per batch" },
  command: {
    kind: "text",
    placeholder: "TEXT",
    group: "Tasks",
    defaultText: "this program, as it runs now",
    help: "the program of the tasks, before sweep run; its words are separated by spaces",
  },
  cpus: { kind: "whole", min: 1, default: 4, group: "Resources", help: "cores of a task" },
  memory: { kind: "whole", min: 1, default: 16, group: "Resources", help: "memory of a task in GiB" },
  gpus: { kind: "whole", min: 0, default: 1, group: "Resources", help: "GPUs of a task" },
  minutes: { kind: "whole", min: 3, default: 240, group: "Resources", help: "time limit of a task in minutes" },
} as const satisfies Flags;

/** The job of a plan's sweep, after a look at the plan. */
export async function clusterJob(
  values: Values<typeof clusterFlags>,
  { planPath, taskPlan = planPath, command }: { planPath: string; taskPlan?: string; command: readonly string[] },
): Promise<ClusterJob> {
  const { plan, fingerprint } = await parsePlan(await bytesOf(planPath, "PLAN"), planPath);
  const { shards, retries, results, pictures, batchSize, cpus, memory, gpus, minutes } = values;
  await checkNewFile(values.output, "--output", values);
  if (results === "") {
    throw new ArgumentError('Cannot use --results "": it names no folder; "." is that of the job', {
      argument: "--results",
    });
  }
  if (shards > plan.jobs.length) {
    throw new SweepError(
      `Cannot divide ${planPath} into ${shards} shards as it has ${
        countText(plan.jobs.length, "job")
      }: give --shards ${plan.jobs.length} or fewer`,
      { path: planPath },
    );
  }
  return {
    name: `sweep-${fingerprint.slice(0, 8)}`,
    plan: taskPlan,
    output: withoutSlashes(results),
    pictures,
    command: values.command === undefined ? command : values.command.trim().split(/\s+/),
    shards,
    retries,
    batchSize,
    cpus,
    memoryGib: memory,
    gpus,
    minutes,
  };
}

/**
 * The command line by which this program runs.
 *
 * @param module the URL of a file in the program's folder `cli`. Default: this one
 */
export function ownCommand(module: string = import.meta.url): string[] {
  const root = pathOf(new URL("..", module)).replace(/\/$/, "");
  const flags = ["run", "-q", "-P=bluerose", "--no-prompt", "--config", `${root}/deno.json`, `${root}/cli/main.ts`];
  return [Deno.execPath(), ...flags];
}

/** Prints or writes a job file, and says how to submit it. */
export async function giveJobFile(path: string | undefined, text: string, submit: string): Promise<void> {
  if (path === undefined) {
    sayJson({ text });
    return say(text.trimEnd());
  }
  await writeText(path, text);
  keep(path);
  const line = `${submit} ${shellWord(path)}`;
  sayJson({ path, submit: line });
  say(`${path}: submit it with ${line}`);
}
