/**
 * What an examination does in which order, and what it leaves out where the device is slow.
 *
 * @module
 */
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";
import type { Check } from "./check.ts";

/** The seconds of an examination, unless another budget is given. */
export const defaultBudget = 60;

/**
 * The time that an examination may take. Work on a device cannot be stopped, so what would not end
 * in time is not begun.
 */
export class Budget {
  readonly seconds: number;
  readonly #now: () => number;
  readonly #started: number;

  /** @param options.now a clock in ms, for tests. Default: the system's. */
  constructor(seconds: number = defaultBudget, { now = () => performance.now() }: { now?: () => number } = {}) {
    this.seconds = seconds;
    this.#now = now;
    this.#started = now();
  }

  /** Since the budget was opened. */
  get elapsedMs(): number {
    return this.#now() - this.#started;
  }

  /** Whether work of an expected time would end within the budget. */
  allows(expectedMs: number): boolean {
    return this.elapsedMs + expectedMs <= 1000 * this.seconds;
  }
}

/** How fast a device is, by one small product. */
export interface Pace {
  /** Time to compile a kernel: what the first run took longer than the second. */
  readonly pipelineMs: number;
  /** Operations per ms of a product that is large enough to tell. */
  readonly flopsPerMs: number;
}

/** What is assumed of a device on which the product fails; a check will tell. */
const unknownPace: Pace = { pipelineMs: 500, flopsPerMs: 1e6 };

/** Measures the {@linkcode Pace}, with which sizes are chosen. */
export async function measurePace(gpu: Gpu): Promise<Pace> {
  const side = 256, flops = 2 * side ** 3;
  const run = async () => {
    const started = performance.now();
    gpu.scope(() => {
      const a = Tensor.from(gpu, new Float32Array(side * side).fill(1), [side, side]);
      matmul(a, a);
    });
    await gpu.finished();
    return performance.now() - started;
  };
  try {
    const first = await run(), second = await run();
    return { pipelineMs: Math.max(0, first - second), flopsPerMs: flops / second };
  } catch {
    await gpu.finished().catch(() => {}); // further errors of the same cause
    return unknownPace;
  }
}

/** Pipelines and operations of the embedded model's picture, both rounded up. */
const pictureCost = { pipelines: 60, flops: 25e9 };

/** The time that the picture is expected to take. */
export function pictureMs({ pipelineMs, flopsPerMs }: Pace): number {
  return pictureCost.pipelines * pipelineMs + pictureCost.flops / flopsPerMs;
}

/**
 * Checks by importance: the first of each operation, which together run almost every kernel, and
 * the others, which vary sizes and precisions.
 */
export function byImportance(checks: readonly Check[]): { essential: readonly Check[]; others: readonly Check[] } {
  const seen = new Set<string>();
  const essential = checks.filter(({ operation }) => !seen.has(operation) && seen.add(operation));
  return { essential, others: checks.filter((check) => !essential.includes(check)) };
}
