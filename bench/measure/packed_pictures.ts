/**
 * What packing the embedded model for the studio's static build costs: bytes of each part, and the
 * peak signal-to-noise ratio of pictures drawn with the packed weights, against the model itself.
 *
 *     deno run -P=bench bench/measure/packed_pictures.ts [STEPS_OF_RMS…]
 *
 * 8-bit rounding alone is 59 dB.
 *
 * @module
 */
import { Gpu } from "../../engine/gpu.ts";
import { directoryTree } from "../../pipeline/checkpoint/source/disk.ts";
import { readAll } from "../../pipeline/checkpoint/source/byte_source.ts";
import { type FileTree, memoryTree } from "../../pipeline/checkpoint/source/file_tree.ts";
import { StableDiffusionPipeline } from "../../pipeline/stable_diffusion.ts";
import { TorchGenerator } from "../../schedulers/mod.ts";
import { keepsExactly, packWeights, stepsOfRms } from "../../studio/pack_weights.ts";
import { packedSuffix, unpackedTree } from "../../studio/packed_weights.ts";
import { psnr } from "../oracles/numbers.ts";

/** Sources, related and unrelated prompts; the seed of each is its position. */
const prompts = [
  "A pack of roses",
  "a field of roses",
  "a rose in a vase",
  "a painting of a rose",
  "a lemon",
  "a cat on the beach",
  "a red car on a road",
  "a blue house in the snow",
  "a yellow sunflower",
  "a photo of a dog",
];

const weightFiles: readonly (readonly [folder: string, path: string])[] = [
  ["text_encoder", "text_encoder/model.safetensors"],
  ["unet", "unet/diffusion_pytorch_model.safetensors"],
  ["vae", "vae/diffusion_pytorch_model.safetensors"],
];

if (import.meta.main) {
  const model = await directoryTree(new URL("../../models/pocket/", import.meta.url).pathname);
  using gpu = await Gpu.request();
  const exact = await pictures(model, gpu);
  const choices = Deno.args.length > 0 ? Deno.args.map(Number) : [stepsOfRms];
  for (const steps of choices) {
    const { tree, bytes } = await packed(model, steps);
    const ratios = (await pictures(tree, gpu)).map((picture, i) => psnr(picture, exact[i])).sort((a, b) => a - b);
    const sizes = Object.entries(bytes).map(([part, size]) => `${part} ${(size / 1e6).toFixed(2)} MB`).join(", ");
    const [least, median] = [ratios[0], ratios[ratios.length >> 1]].map((value) => value.toFixed(1));
    console.log(`${steps} steps: ${sizes}; PSNR of ${ratios.length} pictures: least ${least} dB, median ${median} dB`);
  }
}

async function packed(model: FileTree, steps: number): Promise<{ tree: FileTree; bytes: Record<string, number> }> {
  const files: Record<string, Uint8Array> = {}, bytes: Record<string, number> = {};
  for (const [folder, path] of weightFiles) {
    const content = await readAll(await model.open(path));
    const file = await packWeights(content, path, { isExact: (tensor) => keepsExactly(folder, tensor), steps });
    files[`${path}${packedSuffix}`] = file;
    bytes[folder] = file.length;
  }
  for (const folder of [undefined, "scheduler", "text_encoder", "tokenizer", "unet", "vae"]) {
    for (const name of await model.list(folder)) {
      if (!/\.(json|txt)$/.test(name)) continue;
      const path = folder === undefined ? name : `${folder}/${name}`;
      files[path] = await readAll(await model.open(path));
    }
  }
  return { tree: unpackedTree(memoryTree(files, "packed")), bytes };
}

async function pictures(model: FileTree, gpu: Gpu): Promise<Float32Array[]> {
  using pipe = await StableDiffusionPipeline.fromPretrained(model, { gpu });
  const drawn: Float32Array[] = [];
  for (const [seed, prompt] of prompts.entries()) {
    const settings = { generator: new TorchGenerator(seed), numInferenceSteps: 20 };
    drawn.push((await pipe.generate(prompt, { ...settings, outputType: "array" })).images);
  }
  return drawn;
}
