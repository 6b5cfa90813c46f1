/**
 * Job files for Slurm.
 *
 * @module
 */
import { type ClusterJob, exitCodes, graceSeconds, shellWord, taskArguments, unwritable } from "./job.ts";
import { shardsVariable } from "./shard.ts";

/**
 * A batch script for `sbatch`: an array with one task for each shard. A task that was stopped by
 * SIGTERM (time limit, preemption) or killed is requeued up to `retries` times; it then goes on
 * where it stopped.
 *
 * @param options.partition the partition. Default: the cluster's own
 * @throws {OptionError} for an output folder whose name holds a backslash or a line break, which
 *   `sbatch` cannot be given
 */
export function slurmScript(job: ClusterJob, { partition }: { partition?: string } = {}): string {
  const { name, output, shards, retries, cpus, memoryGib, gpus, minutes } = job;
  const hours = String(Math.floor(minutes / 60)).padStart(2, "0"), rest = String(minutes % 60).padStart(2, "0");
  return `#!/bin/bash
#SBATCH --job-name=${name}
#SBATCH --array=0-${shards - 1}
#SBATCH --time=${hours}:${rest}:00
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=${cpus}
#SBATCH --mem=${memoryGib}G
${gpus > 0 ? `#SBATCH --gres=gpu:${gpus}\n` : ""}${
    partition === undefined ? "" : `#SBATCH --partition=${directiveWord(partition, "partition")}\n`
  }#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@${graceSeconds}
#SBATCH --output=${directiveWord(`${withoutPatterns(output)}/slurm_%A_%a.log`, "output")}

# The number of shards. It stays the same when only some tasks are submitted again:
# sbatch --array=3,7 FILE
export ${shardsVariable}=${shards}

# SIGTERM is passed on: the batch is finished and the command exits with ${exitCodes.requeue}.
${taskArguments(job).map(shellWord).join(" ")} &
child=$!
trap 'kill -TERM "$child" 2>/dev/null' TERM
wait "$child"
code=$?
while kill -0 "$child" 2>/dev/null; do
  wait "$child"
  code=$?
done

# ${exitCodes.requeue}: stopped by SIGTERM. ${exitCodes.killed}: killed. Other codes would only come again.
if [ "$code" -eq ${exitCodes.requeue} ] || [ "$code" -eq ${exitCodes.killed} ]; then
  if [ "\${SLURM_RESTART_COUNT:-0}" -lt ${retries} ]; then
    scontrol requeue "\${SLURM_ARRAY_JOB_ID}_\${SLURM_ARRAY_TASK_ID}" && sleep 60
  fi
fi
exit "$code"
`;
}

/** A folder in a filename pattern of Slurm, where `%` begins a replacement symbol. */
function withoutPatterns(folder: string): string {
  if (!folder.includes("\\")) return folder.replaceAll("%", "%%");
  const reason = "a backslash in a file name makes Slurm give all tasks the same log";
  throw unwritable(folder, { option: "output", directive: "#SBATCH --output", reason });
}

/** A value of a directive; Slurm reads quotes there, and backslashes before them. */
function directiveWord(word: string, option: "output" | "partition"): string {
  if (/[\r\n]/.test(word)) {
    throw unwritable(word, { option, directive: `#SBATCH --${option}`, reason: "a directive is one line" });
  }
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `"${word.replace(/["\\]/g, "\\$&")}"`;
}
