import type { Gpu } from "../../engine/gpu.ts";
import { policyOf } from "../../kernels/policy.ts";
import { type KernelCase, kernelCases } from "../cases/cases.ts";
import { taskFlops } from "../cases/task.ts";
import { type Ceiling, measureCeiling } from "../measure/ceiling.ts";
import { measureKernel } from "../measure/kernels.ts";
import { waitingMs } from "../measure/timing.ts";
import type { KernelRecord } from "../report/report.ts";
import type { Pace } from "./budget.ts";

/** The limits of a device, and what kernels reach of them. */
export interface SpeedResult {
  readonly ceiling: Ceiling;
  readonly kernels: readonly KernelRecord[];
}

/**
 * A product, a convolution and an attention, each at sizes that fall: large enough for a GPU, short
 * on a CPU, and short on a device that is slow.
 */
const shapes = {
  gpu: [
    ["matmul square 4096³", "matmul square 1024³", "matmul square 512³"],
    ["conv2d 3×3 unet 2 × 64² 320→320", "conv2d 3×3 unet 2 × 16² 1280→1280"],
    ["attention unet 2 × 4096×4096 8 of 40", "attention unet 2 × 1024×1024 8 of 80"],
  ],
  software: [
    ["matmul square 1024³", "matmul square 512³"],
    ["conv2d 3×3 unet 2 × 16² 1280→1280", "conv2d 3×3 unet 2 × 8² 1280→1280"],
    ["attention unet 2 × 1024×1024 8 of 80", "attention unet 2 × 256×256 8 of 160"],
  ],
} as const;

/** Runs of a kernel that a measurement makes, at least. */
const runs = 4;

/** What {@linkcode measureSpeed} needs to stay within a budget. */
export interface SpeedOptions {
  readonly pace: Pace;
  /** Whether an expected time is left. */
  readonly allows: (ms: number) => boolean;
}

/**
 * Measures memory bandwidth, the arithmetic ceiling, and three kernels' share of them, each at the
 * largest of its sizes for which time is left.
 */
export async function measureSpeed(
  gpu: Gpu,
  { pace, allows }: SpeedOptions,
): Promise<{ speed?: SpeedResult; leftOut: string[] }> {
  const budgetMs = 100;
  // The ceilings compile and run half a dozen kernels.
  if (!allows(6 * (pace.pipelineMs + budgetMs))) return { leftOut: ["the measurement of speed"] };
  const waitMs = await waitingMs(() => gpu.finished());
  const ceiling = await measureCeiling(gpu, { budgetMs, waitMs });
  const kernels: KernelRecord[] = [];
  const leftOut: string[] = [];
  for (const sizes of shapes[policyOf(gpu).isSoftware ? "software" : "gpu"]) {
    const fits = sizes.map(caseOf).find((each) =>
      allows(2 * pace.pipelineMs + runs * taskFlops(each.task!) / pace.flopsPerMs)
    );
    if (!fits) leftOut.push(`the speed of ${sizes[0].split(" ")[0]}`);
    else kernels.push((await measureKernel(gpu, fits, { budgetMs, waitMs, ceiling })).record);
    gpu.trim();
  }
  return { speed: { ceiling, kernels }, leftOut };
}

function caseOf(wanted: string): KernelCase {
  const found = kernelCases.find(({ kernel, shape }) => `${kernel} ${shape}` === wanted);
  if (!found?.task) throw new RangeError(`Cannot measure ${wanted} as the bench has no such case`);
  return found;
}
