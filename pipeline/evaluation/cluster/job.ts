/**
 * What a cluster needs to know of a sweep, whichever scheduler runs it.
 *
 * @module
 */
import { OptionError } from "../../errors.ts";

/** Exit codes of `bluerose sweep run` that a job file acts on. */
export const exitCodes = {
  /** The results cannot come from another attempt either: wrong input or arguments. */
  failed: 1,
  /** As `failed`, for arguments. */
  misused: 2,
  /** SIGTERM came; the batch is finished, and the rest waits for another attempt (EX_TEMPFAIL). */
  requeue: 75,
  /** The process was killed, as by the system when memory is short (128 + SIGKILL). */
  killed: 137,
} as const;

/** A sweep as an array job. */
export interface ClusterJob {
  /** Name of the job: lower-case letters, digits and dashes. */
  readonly name: string;
  /** The plan's path, as tasks see it. */
  readonly plan: string;
  /** Folder for the results and logs, as tasks see it. */
  readonly output: string;
  /** Folder for the pictures, as tasks see it. Default: pictures are not kept. */
  readonly pictures?: string;
  /** The program and its first arguments, before `sweep run`. */
  readonly command: readonly string[];
  /** Number of shards, and of tasks. */
  readonly shards: number;
  /** How often a task that was killed or preempted is tried again. */
  readonly retries: number;
  /** Pictures per batch. */
  readonly batchSize: number;
  /** Cores of a task. */
  readonly cpus: number;
  /** Memory of a task in GiB. */
  readonly memoryGib: number;
  /** GPUs of a task; 0 for none. */
  readonly gpus: number;
  /** Time limit of a task in minutes. */
  readonly minutes: number;
}

/** Seconds between SIGTERM and SIGKILL: a batch is finished within it. */
export const graceSeconds = 120;

/** The command line of a task. `shard` replaces the shard's number in names, as tasks expand it. */
export function taskArguments(job: ClusterJob): string[] {
  const { command, plan, output, pictures, batchSize } = job;
  return [
    ...command,
    "sweep",
    "run",
    plan,
    "-o",
    `${output}/results_{shard}.jsonl`,
    "--batch-size",
    String(batchSize),
    ...pictures === undefined ? [] : ["--pictures", pictures],
  ];
}

/** A word for a shell, in single quotes where it needs them. */
export function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** A value of the job that a scheduler's directive cannot hold. */
export function unwritable(value: string, { option, directive, reason }: {
  option: string;
  directive: string;
  reason: string;
}): OptionError {
  return new OptionError(
    `Cannot write the directive ${directive} for ${
      JSON.stringify(value)
    }: ${reason}; choose another name for ${option}`,
    { option, value },
  );
}
