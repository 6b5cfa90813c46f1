import type { Gpu } from "../engine/gpu.ts";
import type { FullSizeModel } from "./measure/random_checkpoint.ts";
import type { BenchReport } from "./report/report.ts";

/** The parts of the benchmark, in the order in which they run. */
export const benchParts = ["stages", "kernels", "edit", "compile", "full-size", "demo", "browser"] as const;
/** One part of the benchmark; see {@linkcode benchParts}. */
export type BenchPart = typeof benchParts[number];

/** Options of `runBench()`. */
export interface BenchOptions {
  readonly parts: ReadonlySet<BenchPart>;
  /** Opens the device. Called after the stages, which open devices of their own. */
  readonly openGpu: () => Promise<Gpu>;
  /** The model of the stages: a folder, and its name in the output. */
  readonly model: { readonly folder: string; readonly name: string };
  /** Denoising steps of the stages' picture. */
  readonly steps: number;
  /** Kernels whose name and shape match. Default: all. */
  readonly filter?: RegExp;
  /** Whether to measure small shapes and pictures only, for a third of the time each. */
  readonly quick: boolean;
  /**
   * Whether to time ceiling and kernels by processor time; see `processorClock`. For
   * software devices and without peers. Default: false.
   */
  readonly byProcessorTime?: boolean;
  /** Whether to measure tfjs, jax-js and, with `python`, PyTorch as well. */
  readonly peers: boolean;
  /** A Python with PyTorch, diffusers and transformers. Default: none. */
  readonly python?: string;
  /** The full-size model, in diffusers' layout. Default: random weights. */
  readonly checkpoint?: string;
  /** The model whose shapes the random weights have. */
  readonly shapes: FullSizeModel;
  /** Side of the full-size step's picture, a multiple of 8. Default: 256 and 512, for SDXL 512. */
  readonly pixels?: number;
  /** Receives the results as text, as soon as they are measured. */
  readonly print: (text: string) => void;
  /**
   * Called with what is measured so far, after each kernel and part that ran on the device, and
   * waited for. Default: nothing.
   */
  readonly onMeasured?: (report: BenchReport) => Promise<void>;
  /** Shows the progress of the kernels, of which there are `total`. Default: not shown. */
  readonly showProgress?: (total: number) => Disposable & { advance(by: number, note: string): void };
}

/** Total time of all batches of one work; see `timeInTurns()`. */
export function budgetOf({ quick }: { quick: boolean }): number {
  return quick ? 100 : 300;
}
