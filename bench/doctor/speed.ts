import type { Gpu } from "../../engine/gpu.ts";
import { policyOf } from "../../kernels/policy.ts";
import { kernelCases } from "../cases/cases.ts";
import { type Ceiling, measureCeiling } from "../measure/ceiling.ts";
import { measureKernel } from "../measure/kernels.ts";
import { waitingMs } from "../measure/timing.ts";
import type { KernelRecord } from "../report/report.ts";

/** The limits of a device, and what kernels reach of them. */
export interface SpeedResult {
  readonly ceiling: Ceiling;
  readonly kernels: readonly KernelRecord[];
}

/** A product, a convolution and an attention: large enough for a GPU, or short on a CPU. */
const shapes = {
  gpu: ["matmul square 4096³", "conv2d 3×3 unet 2 × 64² 320→320", "attention unet 2 × 4096×4096 8 of 40"],
  software: ["matmul square 1024³", "conv2d 3×3 unet 2 × 16² 1280→1280", "attention unet 2 × 1024×1024 8 of 80"],
} as const;

/** Measures memory bandwidth, the arithmetic ceiling, and three kernels' share of them. */
export async function measureSpeed(gpu: Gpu): Promise<SpeedResult> {
  const budgetMs = 100;
  const waitMs = await waitingMs(() => gpu.finished());
  const ceiling = await measureCeiling(gpu, { budgetMs, waitMs });
  const kernels: KernelRecord[] = [];
  for (const wanted of shapes[policyOf(gpu).isSoftware ? "software" : "gpu"]) {
    const kernelCase = kernelCases.find(({ kernel, shape }) => `${kernel} ${shape}` === wanted);
    if (!kernelCase) throw new RangeError(`Cannot measure ${wanted} as the bench has no such case`);
    kernels.push((await measureKernel(gpu, kernelCase, { budgetMs, waitMs, ceiling })).record);
    gpu.trim();
  }
  return { ceiling, kernels };
}
