import { slurmScript } from "../pipeline/evaluation/cluster/slurm.ts";
import { clusterFlags, clusterJob, giveJobFile, ownCommand } from "./cluster_flags.ts";
import { type Command, defineCommand } from "./command.ts";

/** `bluerose sweep slurm`: writes a batch script. */
export const command: Command = defineCommand({
  name: "sweep slurm",
  summary: "write a batch script for Slurm: an array with one task for each shard",
  usage: "PLAN [-o sweep.sbatch] [flags]",
  details:
    "Tasks that are killed, or stopped by a time limit or a preemption, are requeued and go on where they stopped. " +
    "Paths are those of the tasks; the folder of --results must exist when the script is submitted.",
  positionals: { placeholder: "PLAN", min: 1, max: 1, access: { kind: "read", purpose: "read the plan" } },
  flags: {
    ...clusterFlags,
    partition: { kind: "text", group: "Resources", defaultText: "the cluster's own", help: "partition" },
  },
  examples: [{ line: "sweep slurm plan.json --shards 32 --minutes 60 -o sweep.sbatch", says: "32 tasks of an hour" }],
  async run(values, { positionals: [planPath] }) {
    const job = await clusterJob(values, { planPath, command: ownCommand() });
    await giveJobFile(values.output, slurmScript(job, { partition: values.partition }), "sbatch");
  },
});
