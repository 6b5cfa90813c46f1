/**
 * Job files for HyperQueue.
 *
 * @module
 */
import { type ClusterJob, exitCodes, shellWord, taskArguments, unwritable } from "./job.ts";
import { shardsVariable } from "./shard.ts";

/**
 * A script for `hq submit`, with its options as `#HQ` directives: an array with one task for each
 * shard. HyperQueue tries a task again only when its worker is lost (`--crash-limit`), so the
 * script itself repeats a command that was killed, which then goes on where it stopped.
 *
 * @throws {OptionError} for an output folder whose name `hq submit` cannot be given: with quotes,
 *   backslashes, colons, line breaks, spaces at its beginning, or `%{`
 */
export function hyperQueueScript(job: ClusterJob): string {
  const { name, output, shards, retries, cpus, memoryGib, gpus, minutes } = job;
  const log = logsIn(output);
  return `#!/bin/bash
#HQ --name ${name}
#HQ --array 0-${shards - 1}
#HQ --cpus ${cpus}
#HQ --resource mem=${memoryGib * 1024}
${gpus > 0 ? `#HQ --resource gpus/nvidia=${gpus}\n` : ""}#HQ --time-limit ${minutes}m
#HQ --time-request ${minutes}m
#HQ --crash-limit ${retries + 1}
#HQ --stdout ${log}
#HQ --stderr ${log}

export ${shardsVariable}=${shards}

attempt=0
while true; do
  ${taskArguments(job).map(shellWord).join(" ")}
  code=$?
  # ${exitCodes.killed}: killed. Other codes would only come again, or ask for another worker (${exitCodes.requeue}).
  if [ "$code" -ne ${exitCodes.killed} ] || [ "$attempt" -ge ${retries} ]; then
    exit "$code"
  fi
  attempt=$((attempt + 1))
done
`;
}

/**
 * The pattern of the logs in a folder, for a directive. HyperQueue reads double quotes there, but
 * nothing that escapes: neither in them, nor the colon before a stream's options, nor placeholders.
 */
function logsIn(folder: string): string {
  if (/^\s|["\\:\r\n]|%\{/.test(folder)) {
    const reason = 'HyperQueue takes no quotes, backslashes, colons, line breaks, leading spaces or "%{" there';
    throw unwritable(folder, { option: "output", directive: "#HQ --stdout", reason });
  }
  const pattern = `${folder}/hq_%{JOB_ID}_%{TASK_ID}.log`;
  return /\s/.test(folder) ? `"${pattern}"` : pattern;
}
