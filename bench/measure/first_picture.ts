/**
 * Draws twice in a process with empty shader caches and reports the time of each part up to the
 * first picture.
 *
 *     deno run -P=bench bench/measure/first_picture.ts MODEL STEPS
 *
 * @module
 */
import { Gpu } from "../../engine/gpu.ts";
import { openPipeline } from "../../pipeline/open_pipeline.ts";
import { TorchGenerator } from "../../schedulers/mod.ts";
import { askColdProcess } from "./cold_process.ts";

/** Times up to the first picture, in ms. */
export interface FirstPicture {
  /** Start of the process. */
  readonly startMs: number;
  readonly openMs: number;
  readonly loadMs: number;
  /** The first picture, compilation included. */
  readonly firstMs: number;
  /** Number of pipelines created until then, and the time that this took. */
  readonly pipelines: number;
  readonly createMs: number;
  /** The second picture. */
  readonly secondMs: number;
}

/** Measures in a process of its own with empty shader caches. */
export async function measureFirstPicture(model: string, { steps }: { steps: number }): Promise<FirstPicture> {
  return await askColdProcess(import.meta.filename!, [model, `${steps}`]);
}

if (import.meta.main) {
  const [model, steps] = Deno.args;
  const startMs = performance.now();
  const timed = async <T>(work: () => Promise<T>): Promise<[T, ms: number]> => {
    const started = performance.now();
    return [await work(), performance.now() - started];
  };
  const [device, openMs] = await timed(() => Gpu.request());
  using gpu = device;
  const [loaded, loadMs] = await timed(() => openPipeline(model, { gpu }));
  using pipe = loaded;
  const draw = async () => {
    const settings = { numInferenceSteps: Number(steps), generator: new TorchGenerator(7) };
    await pipe.generate("A pack of roses", { ...settings, outputType: "array" });
  };
  const [, firstMs] = await timed(draw);
  const kernels = gpu.context.pipelines.all;
  const [, secondMs] = await timed(draw);
  const first: FirstPicture = {
    startMs,
    openMs,
    loadMs,
    firstMs,
    pipelines: kernels.length,
    createMs: kernels.reduce((sum, { createMs }) => sum + createMs, 0),
    secondMs,
  };
  console.log(JSON.stringify(first));
}
