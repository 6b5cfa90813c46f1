/**
 * What the browser test runs inside the page: draws with the pocket model from files fetched over HTTP, and edits it.
 *
 * @module
 */
import { memoryTree, StableDiffusionModelEditingPipeline, TorchGenerator } from "../../mod.ts";

/** What to draw, and the files of the model by path. */
export interface Job {
  readonly files: readonly string[];
  readonly prompt: string;
  readonly edit: readonly [string, string];
  readonly seed: number;
  readonly steps: number;
}

/** The pictures' numbers before and after the edit, and the device that drew them. */
export interface Drawn {
  readonly device: string;
  readonly plain: number[];
  readonly edited: number[];
}

async function draw({ files, prompt, edit, seed, steps }: Job): Promise<Drawn> {
  const blobs = await Promise.all(files.map(async (path) => [path, await (await fetch(`/model/${path}`)).blob()]));
  const tree = memoryTree(Object.fromEntries(blobs), "pocket");
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(tree);
  const picture = async () => {
    const { images } = await pipe.generate(prompt, {
      generator: new TorchGenerator(seed),
      numInferenceSteps: steps,
      outputType: "array",
    });
    return [...images];
  };
  const plain = await picture();
  await pipe.editModel(...edit);
  return { device: pipe.gpu.info.name, plain, edited: await picture() };
}

Object.assign(globalThis, { draw });
