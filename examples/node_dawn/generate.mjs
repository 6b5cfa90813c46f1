/**
 * Generates a picture in Node, on Dawn: the WebGPU of Chromium, from the package `webgpu`.
 * From the root of the checkout, with Node 24 (it knows `using`):
 *
 *     deno bundle --platform deno --output examples/node_dawn/bluerose.mjs mod.ts
 *     cd examples/node_dawn && npm install && node generate.mjs
 */
import { openAsBlob } from "node:fs";
import { readdir, writeFile } from "node:fs/promises";

// Names that only Node resolves, so that Deno does not look for them when it checks this folder.
const [dawn, bundle] = ["webgpu", "./bluerose.mjs"];
const { create, globals } = await import(dawn);
Object.assign(globalThis, globals); // GPUBufferUsage and the like
const { encodePicture, fromJimp, Gpu, memoryTree, StableDiffusionPipeline, TorchGenerator } = await import(bundle);

const model = new URL("../../models/pocket/", import.meta.url);
const paths = ["model_index.json"];
for (const part of ["scheduler", "text_encoder", "tokenizer", "unet", "vae"]) {
  for (const name of await readdir(new URL(`${part}/`, model))) paths.push(`${part}/${name}`);
}
const blobs = await Promise.all(paths.map(async (path) => [path, await openAsBlob(new URL(path, model))]));

const gpu = await Gpu.request({ gpu: create([]) });
const pipe = await StableDiffusionPipeline.fromPretrained(memoryTree(Object.fromEntries(blobs), "pocket"), { gpu });
const { images } = await pipe.generate("a field of roses", {
  numInferenceSteps: 12,
  guidanceScale: 5,
  generator: new TorchGenerator(7),
});
await writeFile("roses.png", await encodePicture(fromJimp(images[0]), "png"));
console.log(`wrote roses.png, generated on ${gpu.info.name}`);
pipe[Symbol.dispose]();
gpu[Symbol.dispose]();
