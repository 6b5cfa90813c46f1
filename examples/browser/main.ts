/**
 * The page's script: loads the embedded model over HTTP, and generates before and after an edit.
 *
 * @module
 */
import { fromJimp, StableDiffusionModelEditingPipeline, TorchGenerator } from "@bluerose/bluerose";

// deno-lint-ignore no-explicit-any -- Deno's types lack the page's
const { document, ImageData, location } = globalThis as any;
const say = (text: string) => document.getElementById("status").textContent = text;

async function generate(pipe: StableDiffusionModelEditingPipeline, canvasId: string): Promise<void> {
  const { images: [image] } = await pipe.generate("a field of roses", {
    numInferenceSteps: 12,
    guidanceScale: 5,
    generator: new TorchGenerator(2),
  });
  const { width, height } = fromJimp(image);
  const canvas = Object.assign(document.getElementById(canvasId), { width, height });
  canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(image.bitmap.data), width, height), 0, 0);
}

try {
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(new URL("model/", location.href));
  say(`Generating on ${pipe.gpu.info.name} …`);
  await generate(pipe, "before");
  const { ms } = await pipe.editModel("A pack of roses", "A pack of blue roses");
  await generate(pipe, "after");
  say(`Before and after an edit that took ${ms.toFixed(0)} ms`);
} catch (error) {
  say(String(error));
}
