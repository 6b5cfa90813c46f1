/**
 * Timing that can be believed: many runs a wait, what is compared taken in turns, the wait's own
 * price taken out.
 *
 * @module
 */
import type { Gpu } from "../../engine/gpu.ts";

/** Something whose runs can be timed in bulk. */
export interface Work {
  /** Does `count` runs and says how long they took, waiting for the last included. */
  sample(count: number): Promise<Sample>;
}

/** What {@linkcode Work.sample} measured. */
export interface Sample {
  readonly ms: number;
  /** The part in which the host was busy recording. Default: 0. */
  readonly hostMs?: number;
}

/** Times of one run. */
export interface Timing {
  /** Of the fastest batch: what the others add is noise. */
  readonly minMs: number;
  readonly medianMs: number;
  /** Runs of a batch. */
  readonly runs: number;
  readonly batches: number;
  /**
   * Whether the host took longer to record the runs than the device to do them: then the time is
   * the host's.
   */
  readonly hostBound: boolean;
}

/** How long measuring may take. */
export interface TimingOptions {
  /** Of all batches of one work, where one run is not longer. Default: 300. */
  readonly budgetMs?: number;
  /**
   * Whether each work has run before, so that no first run is wasted on warming up. Default: false.
   */
  readonly isWarm?: boolean;
}

/** Batches of a work whose runs are short, and of one whose single run takes all the budget. */
const batchesOfShort = 4, batchesOfLong = 2;
/** A run that takes as many budgets is timed once. */
const veryLong = 5;
const mostRuns = 2048;

/** Times one work; see {@linkcode timeInTurns}. */
export async function time(work: Work, options: TimingOptions = {}): Promise<Timing> {
  return (await timeInTurns([work], options))[0];
}

/**
 * Times several works against each other: each is warmed up, then batches are taken in the order A
 * B C, C B A, A B C …, so that a machine that slows down or speeds up meanwhile favours none.
 */
export async function timeInTurns(works: readonly Work[], options: TimingOptions = {}): Promise<Timing[]> {
  const { budgetMs = 300, isWarm = false } = options;
  const plans: ({ work: Work } & Plan)[] = [];
  for (const work of works) {
    if (!isWarm) await work.sample(1);
    plans.push({ work, ...await planned(work, budgetMs) });
  }
  const rounds = Math.max(...plans.map(({ batches, samples }) => batches - samples.length));
  // Where planning gave a sample, in the order A B C, the next round takes C B A.
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

/** Finds how many runs fill a batch. A run that is long enough is the first batch itself. */
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
    runs = Math.min(mostRuns, wanted, runs * 16); // short samples are imprecise: step by step
  }
}

/** Minimum and median of a run's time over samples of `runs` runs each. */
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
 * The price of waiting for nothing: Deno polls once, then sleeps some 11 ms before it looks again,
 * however little there was to do. It comes on top of every batch, so it is taken out of it.
 */
export async function waitingMs(wait: () => Promise<void>): Promise<number> {
  let least = Infinity;
  for (let i = 0; i < 6; i++) {
    const started = performance.now();
    await wait();
    least = Math.min(least, performance.now() - started);
  }
  return least;
}

/**
 * Work that is recorded run by run and waited for once. `waitMs` is the wait's own price, from
 * {@linkcode waitingMs}.
 */
export function recordedWork(record: () => void, wait: () => Promise<void>, { waitMs }: { waitMs: number }): Work {
  return {
    async sample(count) {
      const started = performance.now();
      for (let i = 0; i < count; i++) record();
      const hostMs = performance.now() - started;
      await wait();
      const ms = performance.now() - started;
      return { ms: Math.max(ms - waitMs, ms / 100), hostMs };
    },
  };
}

/**
 * A kernel, a layer or a model as work: `record` runs in a scope of its own, which frees what it
 * makes.
 */
export function deviceWork(gpu: Gpu, record: () => void, options: { waitMs: number }): Work {
  return recordedWork(() => gpu.scope(() => record()), () => gpu.finished(), options);
}

/**
 * Work that waits by itself, such as a solver that reads its result back. Timed whole, one run
 * after the other.
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
