/**
 * Edits a model and generates a picture in Node, on Dawn: the WebGPU of Chromium, from the package
 * `webgpu`. From the root of the checkout, with Node 24 or later:
 *
 *     deno bundle --platform browser --output examples/node_dawn/bluerose.mjs mod.ts
 *     cd examples/node_dawn && npm install && node generate.mjs
 */
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

// Names that only Node resolves, so that Deno does not look for them when it checks this folder.
const [dawn, bundle] = ["webgpu", "./bluerose.mjs"];
const { create, globals } = await import(dawn);
Object.assign(globalThis, globals); // GPUBufferUsage and the like
const { encodePicture, fromJimp, Gpu, StableDiffusionModelEditingPipeline, TorchGenerator } = await import(bundle);

const model = fileURLToPath(new URL("../../models/pocket/", import.meta.url));
using gpu = await Gpu.request({ gpu: create([]) });
using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(model, { gpu });
await pipe.editModel("A pack of roses", "A pack of blue roses");
const { images } = await pipe.generate("a field of roses", {
  numInferenceSteps: 12,
  guidanceScale: 5,
  generator: new TorchGenerator(7),
});
await writeFile("roses.png", await encodePicture(fromJimp(images[0]), "png"));
console.log(`wrote roses.png, generated on ${gpu.info.name}`);
