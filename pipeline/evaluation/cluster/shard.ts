/**
 * The shard that a task of an array job draws, from the variables of its scheduler.
 *
 * @module
 */

/** Shard `index` of `count`, counted from 1. */
export interface Shard {
  /** From 1 to `count`. */
  readonly index: number;
  /** The number of shards. */
  readonly count: number;
}

/** The variable by which a job file tells the number of shards. */
export const shardsVariable = "BLUEROSE_SHARDS";

/** A scheduler's variables: the task's number, and those that say which tasks there are. */
interface Scheduler {
  readonly name: string;
  readonly task: string;
  /** Number of tasks, where the scheduler tells it. */
  readonly count?: string;
  /** Number of the first task. Default: tasks are counted from 0. */
  readonly min?: string;
  /** Distance between the numbers of tasks. */
  readonly step?: string;
}

/**
 * Inner schedulers come first: HyperQueue's workers may themselves run in an array of Slurm, whose
 * variables their tasks inherit.
 */
const schedulers: readonly Scheduler[] = [
  { name: "HyperQueue", task: "HQ_TASK_ID" },
  { name: "AWS Batch", task: "AWS_BATCH_JOB_ARRAY_INDEX", count: "AWS_BATCH_JOB_ARRAY_SIZE" },
  { name: "Kubernetes", task: "JOB_COMPLETION_INDEX" },
  {
    name: "Slurm",
    task: "SLURM_ARRAY_TASK_ID",
    count: "SLURM_ARRAY_TASK_COUNT",
    min: "SLURM_ARRAY_TASK_MIN",
    step: "SLURM_ARRAY_TASK_STEP",
  },
];

/** All variables that {@linkcode shardOfEnvironment} reads. */
export const shardVariables: readonly string[] = [
  shardsVariable,
  ...schedulers.flatMap(({ task, count, min, step }) => [task, count, min, step].filter((name) => name !== undefined)),
];

/** The variables of a task contradict each other, or do not say how many shards there are. */
export class ShardError extends Error {
  /** The name of the class. */
  override name = "ShardError";
  /** The variable that the error is about. */
  readonly variable: string;

  /** Keeps the details as fields. */
  constructor(message: string, details: { variable: string }) {
    super(message);
    this.variable = details.variable;
  }
}

/**
 * The shard of this task, by the variables of Slurm, Kubernetes (Indexed Jobs), HyperQueue or AWS
 * Batch.
 *
 * With the number of shards given, by `shards` or by BLUEROSE_SHARDS, task i draws shard i + 1
 * whichever other tasks there are, so that some of an array can be submitted again. Otherwise the
 * scheduler's own variables tell the number, and tasks are counted from the array's first.
 *
 * @param variable returns a variable's value; undefined where it is not set
 * @param options.shards the number of shards. Default: BLUEROSE_SHARDS, or the scheduler's number
 * @returns undefined outside of array jobs
 * @throws {ShardError} where a value is no number, the number of shards is not known, or the task
 *   lies outside of it
 */
export function shardOfEnvironment(
  variable: (name: string) => string | undefined,
  options: { shards?: number } = {},
): Shard | undefined {
  const scheduler = schedulers.find(({ task }) => isSet(variable(task)));
  if (scheduler === undefined) return undefined;
  const read = (name: string | undefined) => name === undefined ? undefined : wholeOf(variable(name), name);
  const { task: name } = scheduler;
  const task = read(name)!;
  const given = options.shards ?? read(shardsVariable);
  const count = given ?? read(scheduler.count);
  if (count === undefined) {
    throw new ShardError(
      `Cannot choose a shard as ${scheduler.name} says that this is task ${task} (${name}), but not of how many: ` +
        `set ${shardsVariable}, or name the number of shards`,
      { variable: name },
    );
  }
  const index = given !== undefined
    ? task + 1
    : (task - (read(scheduler.min) ?? 0)) / Math.max(1, read(scheduler.step) ?? 1) + 1;
  if (Number.isInteger(index) && index >= 1 && index <= count) return { index, count };
  throw new ShardError(
    `Cannot choose a shard as task ${task} (${name}) is not among ${count} tasks` +
      `${given !== undefined ? " counted from 0" : ""}: submit an array with one task for each shard`,
    { variable: name },
  );
}

/** AWS Batch and Slurm leave variables empty outside of arrays. */
function isSet(value: string | undefined): value is string {
  return value !== undefined && value !== "";
}

function wholeOf(value: string | undefined, name: string): number | undefined {
  if (!isSet(value)) return undefined;
  if (/^\d{1,9}$/.test(value)) return Number(value);
  throw new ShardError(`Cannot choose a shard as ${name} must be a whole number, not ${JSON.stringify(value)}`, {
    variable: name,
  });
}
