import { hyperQueueScript } from "../pipeline/evaluation/cluster/hyperqueue.ts";
import { clusterFlags, clusterJob, giveJobFile, ownCommand } from "./cluster_flags.ts";
import { type Command, defineCommand } from "./command.ts";

/** `bluerose sweep hyperqueue`: writes a script for `hq submit`. */
export const command: Command = defineCommand({
  name: "sweep hyperqueue",
  summary: "write a script for HyperQueue: an array with one task for each shard",
  usage: "PLAN [-o sweep.sh] [flags]",
  details: "Tasks that are killed are run again and go on where they stopped. Paths are those of the tasks.",
  positionals: { placeholder: "PLAN", min: 1, max: 1, access: { kind: "read", purpose: "read the plan" } },
  flags: clusterFlags,
  examples: [{ line: "sweep hyperqueue plan.json --shards 32 -o sweep.sh", says: "32 tasks" }],
  async run(values, { positionals: [planPath] }) {
    const job = await clusterJob(values, { planPath, command: ownCommand() });
    await giveJobFile(values.output, hyperQueueScript(job), "hq submit");
  },
});
