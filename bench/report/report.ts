/**
 * The report of a bench run: its JSON form, shares of the ceiling, tables, and the comparison with
 * another run. Needs neither a device nor a clock.
 *
 * @module
 */
import type { Ceiling } from "../measure/ceiling.ts";
import type { PeerTask } from "../cases/task.ts";

/** The device and what it can do. */
export interface DeviceRecord {
  /** The adapter's description. */
  readonly name: string;
  readonly deviceClass: string;
  readonly isFallbackAdapter: boolean;
  readonly subgroupSize: number;
  readonly features: readonly string[];
  /** Deno's version, which determines the WebGPU implementation. */
  readonly runtime: string;
  readonly system: string;
  /** Start of the run, ISO 8601. */
  readonly date: string;
  /**
   * What the times of ceiling and kernels are: processor time of the process, divided by the number
   * of threads. Default: time by the clock.
   */
  readonly times?: "processor time";
  /**
   * How ceiling and kernels were run: replayed from programs. Records of before 28 November 2026
   * lack it: there, the host recorded each run, which small kernels' times include.
   */
  readonly runs?: "replayed";
  readonly ceiling: Ceiling;
}

/** One kernel at one size. */
export interface KernelRecord {
  readonly kernel: string;
  readonly shape: string;
  readonly ms: number;
  readonly gflops: number;
  readonly gbps: number;
  /**
   * Share of the ceiling, 0…1: the larger of the arithmetic and the bandwidth share. Above 1 where
   * caches beat the copy.
   */
  readonly share: number;
  /**
   * Time of as many empty dispatches as the kernel consists of, divided by its own. See
   * {@linkcode netShare}.
   */
  readonly dispatchShare?: number;
  /** The same work for other engines. */
  readonly task?: PeerTask;
  /** Number of occurrences in a guided step of Stable Diffusion 1.4 at 512². */
  readonly perStep?: number;
  /** Times of other engines for the same work in the same run. */
  readonly peers?: Readonly<Record<string, { readonly ms: number }>>;
  /** Engines that failed or computed another result, with their messages. */
  readonly unable?: Readonly<Record<string, string>>;
}

/** An end-to-end stage. */
export interface StageRecord {
  readonly stage: string;
  readonly ms: number;
  /** Peak bytes in tensors beyond those that existed before. */
  readonly bytes?: number;
}

/** The compile cost of one pipeline of a model. */
export interface CompiledVariant {
  /** The component that uses it first. */
  readonly part: string;
  readonly kernel: string;
  /** Constants and storage dtypes. */
  readonly variant: string;
  /** Number of distinct parameter sets that it runs with. */
  readonly parameters: number;
  /** Time to create the pipeline. */
  readonly createMs: number;
  /** Extra time of the first runs over the second ones. */
  readonly firstRunMs: number;
}

/** The compile cost of all pipelines of a model. */
export interface CompilationRecord {
  readonly device: string;
  readonly model: string;
  readonly pipelines: number;
  readonly createMs: number;
  /** As the whole took longer the first time, not as the sum of the single ones. */
  readonly firstRunMs: number;
  /** Time to compile everything on all cores, as drawing does, where this was measured. */
  readonly aheadMs?: number;
  /** Most expensive first. */
  readonly variants: readonly CompiledVariant[];
}

/** A target and the verdict of a run. */
export interface TargetRecord {
  readonly target: string;
  readonly demanded: string;
  /** The measurement as text, or the reason why it is missing. */
  readonly measured: string;
  readonly verdict: "met" | "missed" | "not measured";
}

/** A guided step of a full-size UNet. */
export interface FullSizeRecord {
  /** The model. Default: Stable Diffusion 1.4. */
  readonly model?: "SDXL";
  /** Side of the picture. */
  readonly pixels: number;
  /** The storage dtype of the UNet's activations, where it is not f32. */
  readonly activations?: "f16";
  readonly ms: number;
  /** Number of timed batches; the figure is the minimum. */
  readonly batches: number;
  readonly loadMs: number;
  readonly weightsBytes: number;
  /**
   * Peak bytes in tensors, and in all buffers with those kept for reuse. Both include the weights.
   */
  readonly peakBytes: number;
  readonly peakReservedBytes: number;
  /**
   * Other engines' times in the same run (or those of our f32 activations), and ‖ours − theirs‖ /
   * ‖theirs‖ of the noise, where an engine tells it.
   */
  readonly peers?: Readonly<Record<string, { readonly ms: number; readonly difference?: number }>>;
}

/** A run, as `--json` writes it. */
export interface BenchReport {
  readonly device: DeviceRecord;
  readonly kernels: readonly KernelRecord[];
  readonly stages: readonly StageRecord[];
  /** Compile cost of the full-size model. */
  readonly compilation?: CompilationRecord;
  readonly fullSize?: readonly FullSizeRecord[];
  readonly targets?: readonly TargetRecord[];
}

/**
 * The rates of a kernel and its share of the ceiling. `real` selects the arithmetic ceiling, `runs`
 * is the number of dispatches.
 */
export function kernelRecord(
  { kernel, shape, ms, cost, real = "f32" }: {
    kernel: string;
    shape: string;
    ms: number;
    cost: { flops: number; bytes: number; runs?: number };
    real?: "f32" | "f64";
  },
  ceiling: Ceiling,
): KernelRecord {
  const gflops = cost.flops / ms / 1e6, gbps = cost.bytes / ms / 1e6;
  const peak = real === "f64" ? ceiling.gflopsF64 ?? ceiling.gflops : ceiling.gflops;
  const dispatchMs = (ceiling.dispatchMs ?? 0) * (cost.runs ?? 0);
  return {
    kernel,
    shape,
    ms,
    gflops,
    gbps,
    share: Math.max(gflops / peak, gbps / ceiling.gbps),
    ...(dispatchMs > 0 ? { dispatchShare: dispatchMs / ms } : {}),
  };
}

/** Dispatches count from this share of a kernel's time on. */
export const leastDispatchShare = 0.05;
/** Where dispatches take more of a kernel's time, the rest is within the noise of a measurement. */
export const mostDispatchShare = 0.8;

/**
 * A kernel's share of the ceiling in the time that its dispatches leave: share / (1 −
 * dispatchShare). Undefined where dispatches do not count, NaN where next to nothing is left.
 */
export function netShare({ share, dispatchShare = 0 }: KernelRecord): number | undefined {
  if (dispatchShare < leastDispatchShare) return undefined;
  return dispatchShare > mostDispatchShare ? NaN : share / (1 - dispatchShare);
}

/** Time to create a pipeline and to run it for the first time. */
export function compileMs({ createMs, firstRunMs }: { createMs: number; firstRunMs: number }): number {
  return createMs + firstRunMs;
}

/** A peer's result over all shapes that it supports. */
export interface PeerSummary {
  readonly peer: string;
  readonly shapes: number;
  /** Geometric mean of its time divided by ours. */
  readonly meanRatio: number;
  /** The shape with the lowest ratio. */
  readonly worst: { readonly kernel: string; readonly shape: string; readonly ratio: number };
}

/** Summarizes the peers over all kernels. */
export function summarizePeers(kernels: readonly KernelRecord[]): PeerSummary[] {
  const rows = kernels.flatMap(({ kernel, shape, ms, peers = {} }) =>
    Object.entries(peers).map(([peer, { ms: peerMs }]) => ({ peer, kernel, shape, ratio: peerMs / ms }))
  );
  return [...Map.groupBy(rows, ({ peer }) => peer)].map(([peer, group]) => ({
    peer,
    shapes: group.length,
    meanRatio: Math.exp(group.reduce((sum, { ratio }) => sum + Math.log(ratio), 0) / group.length),
    worst: group.reduce((least, row) => row.ratio < least.ratio ? row : least),
  }));
}
