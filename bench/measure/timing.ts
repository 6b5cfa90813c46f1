/**
 * Reliable timing: many runs per wait, interleaved measurement of works that are compared, and
 * correction for the fixed time of a wait.
 *
 * @module
 */
import { cpuUsage } from "node:process";
import type { Gpu } from "../../engine/gpu.ts";

/** Work whose runs can be timed in bulk. */
export interface Work {
  /** Runs the work `count` times and returns the total time, the final wait included. */
  sample(count: number): Promise<Sample>;
}

/** The result of {@linkcode Work.sample}. */
export interface Sample {
  readonly ms: number;
  /** Time in which the host was recording. Default: 0. */
  readonly hostMs?: number;
}

/** Times of one run. */
export interface Timing {
  /** Of the fastest batch; the excess of the others is noise. */
  readonly minMs: number;
  readonly medianMs: number;
  /** Runs per batch. */
  readonly runs: number;
  readonly batches: number;
  /** Whether recording took longer than execution. The time is then the host's. */
  readonly hostBound: boolean;
}

/** Limits of a measurement. */
export interface TimingOptions {
  /** Total time of all batches of one work, unless a single run takes longer. Default: 300. */
  readonly budgetMs?: number;
  /** Whether each work has run before, so that no warm-up is needed. Default: false. */
  readonly isWarm?: boolean;
}

/** Milliseconds since any fixed time. */
export type Clock = () => number;

/** The time that passes. */
export const wallClock: Clock = () => performance.now();

/**
 * Processor time of all threads of this process, divided by the machine's number of threads. On an
 * idle machine, work that keeps all threads busy takes as long by the wall clock. Other processes
 * do not lengthen it, but for caches and memory that they share.
 */
export const processorClock: Clock = () => {
  const { user, system } = cpuUsage();
  return (user + system) / 1000 / navigator.hardwareConcurrency;
};

/** How work on a device is timed. */
export interface DeviceTiming {
  /** The fixed time of a wait by this clock, from {@linkcode waitingMs}. */
  readonly waitMs: number;
  /** Default: {@linkcode wallClock}. */
  readonly clock?: Clock;
}

/** Number of batches for short runs, and for runs that use up the budget. */
const batchesOfShort = 4, batchesOfLong = 2;
/** Runs that take this many budgets are timed once. */
const veryLong = 5;
const mostRuns = 2048;

/** Times one work; see {@linkcode timeInTurns}. */
export async function time(work: Work, options: TimingOptions = {}): Promise<Timing> {
  return (await timeInTurns([work], options))[0];
}

/**
 * Times several works in turns. Each is warmed up. Batches are then taken in the order A B C, C B
 * A, A B C …, so that drift of the machine's speed favors none.
 */
export async function timeInTurns(works: readonly Work[], options: TimingOptions = {}): Promise<Timing[]> {
  const { budgetMs = 300, isWarm = false } = options;
  const plans: ({ work: Work } & Plan)[] = [];
  for (const work of works) {
    if (!isWarm) await work.sample(1);
    plans.push({ work, ...await planned(work, budgetMs) });
  }
  const rounds = Math.max(...plans.map(({ batches, samples }) => batches - samples.length));
  // Planning may have taken a sample in the order A B C; the next round takes C B A.
  const firstReversed = plans.some(({ samples }) => samples.length > 0) ? 0 : 1;
  for (let round = 0; round < rounds; round++) {
    for (const plan of round % 2 === firstReversed ? plans.toReversed() : plans) {
      if (plan.samples.length < plan.batches) plan.samples.push(await plan.work.sample(plan.runs));
    }
  }
  return plans.map(({ samples, runs }) => summary(samples, runs));
}

interface Plan {
  /** Of a batch. */
  readonly runs: number;
  readonly batches: number;
  /** Batches that planning has taken already. */
  readonly samples: Sample[];
}

/** Determines the number of runs per batch. A run that is long enough is the first batch. */
async function planned(work: Work, budgetMs: number): Promise<Plan> {
  const batchMs = budgetMs / batchesOfShort;
  let runs = 1;
  for (;;) {
    const sample = await work.sample(runs);
    const { ms } = sample;
    if (runs === 1 && ms >= budgetMs / 2) {
      return { runs, batches: ms > veryLong * budgetMs ? 1 : batchesOfLong, samples: [sample] };
    }
    const wanted = Math.ceil(runs * batchMs / Math.max(ms, 0.01));
    if (ms >= batchMs / 2 || runs === mostRuns) {
      return { runs: Math.min(mostRuns, Math.max(1, wanted)), batches: batchesOfShort, samples: [] };
    }
    runs = Math.min(mostRuns, wanted, runs * 16); // short samples are imprecise: grow in steps
  }
}

/** Minimum and median time of a run, over samples of `runs` runs each. */
export function summary(samples: readonly Sample[], runs: number): Timing {
  const sorted = samples.map(({ ms }) => ms).sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const median = (sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2;
  const fastest = samples.find(({ ms }) => ms === sorted[0])!;
  return {
    minMs: sorted[0] / runs,
    medianMs: median / runs,
    runs,
    batches: samples.length,
    hostBound: runs > 1 && (fastest.hostMs ?? 0) > 0.8 * fastest.ms,
  };
}

/**
 * The fixed time of a wait. Deno polls once and then sleeps about 11 ms before it polls again. This
 * is subtracted from every batch.
 */
export async function waitingMs(wait: () => Promise<void>, clock: Clock = wallClock): Promise<number> {
  let least = Infinity;
  for (let i = 0; i < 6; i++) {
    const started = clock();
    await wait();
    least = Math.min(least, clock() - started);
  }
  return least;
}

/** Work that is recorded run by run and waited for once. */
export function recordedWork(
  record: () => void,
  wait: () => Promise<void>,
  { waitMs, clock = wallClock }: DeviceTiming,
): Work {
  return {
    async sample(count) {
      const started = clock();
      for (let i = 0; i < count; i++) record();
      // By processor time, what the device does meanwhile would count as the host's.
      const host = clock === wallClock ? { hostMs: clock() - started } : {};
      await wait();
      const ms = clock() - started;
      return { ms: Math.max(ms - waitMs, ms / 100), ...host };
    },
  };
}

/**
 * A kernel, a layer or a model as work, recorded in each run. `record` runs in a scope that frees
 * its tensors. Works that are timed in turns share the memory of their results.
 */
export function deviceWork(gpu: Gpu, record: () => void, options: DeviceTiming): Work {
  return recordedWork(() => gpu.scope(() => record()), () => gpu.finished(), options);
}

/**
 * A kernel as work: recorded once, and replayed in each run. So pipelines run their kernels, and
 * recording a small kernel takes the host longer than the device needs to run it. What `record`
 * reads must live as long as the work.
 */
export function replayedWork(gpu: Gpu, record: () => void, options: DeviceTiming): Work & Disposable {
  const program = gpu.capture(record);
  return {
    ...recordedWork(() => program.run(), () => gpu.finished(), options),
    [Symbol.dispose]: () => program[Symbol.dispose](),
  };
}

/**
 * Work that waits by itself, such as a solver that reads back its result. Timed one run at a time.
 */
export function hostWork(run: () => Promise<void>): Work {
  return {
    async sample(count) {
      const started = performance.now();
      for (let i = 0; i < count; i++) await run();
      return { ms: performance.now() - started };
    },
  };
}
