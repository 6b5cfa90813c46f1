import { type Gpu, StableDiffusionModelEditingPipeline, TorchGenerator } from "../mod.ts";

/** The pocket model's folder. */
export const pocket = new URL("../models/pocket/", import.meta.url);

/** The numbers of a picture before and after an edit, and the device that drew them. */
export interface Drawing {
  readonly device: string;
  readonly plain: number[];
  readonly edited: number[];
}

/**
 * A picture of the pocket model in three steps, before and after an edit: the same on every WebGPU.
 * Runs in browsers too.
 */
export async function drawPocket(source: string | URL, gpu?: Gpu): Promise<Drawing> {
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(source, { gpu });
  const draw = async () => {
    const generator = new TorchGenerator(7);
    const { images } = await pipe.generate("a red circle", { generator, numInferenceSteps: 3, outputType: "array" });
    return [...images];
  };
  const plain = await draw();
  await pipe.editModel("a circle", "a blue circle");
  return { device: pipe.gpu.info.name, plain, edited: await draw() };
}
