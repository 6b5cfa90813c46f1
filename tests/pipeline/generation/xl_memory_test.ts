import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { GpuError } from "../../../engine/errors.ts";
import { SafetensorsFile } from "../../../pipeline/checkpoint/safetensors/safetensors_file.ts";
import { streamedEntry } from "../../../pipeline/checkpoint/safetensors/tensor_stream.ts";
import { fileSource } from "../../../pipeline/checkpoint/source/disk.ts";
import { AdapterError, PromptError } from "../../../pipeline/errors.ts";
import { isTiled } from "../../../pipeline/generation/decoding.ts";
import { StableDiffusionXLModelEditingPipeline } from "../../../pipeline/model_editing_xl.ts";
import { StableDiffusionXLPipeline } from "../../../pipeline/stable_diffusion_xl.ts";
import { TorchGenerator } from "../../../schedulers/mod.ts";
import { gpuTest } from "../../gpu.ts";
import { goldens, referenceFolder } from "../../paths.ts";
import { fileOf } from "../checkpoint/ldm/ldm_files.ts";

const folder = `${goldens}/sdxl-mini`;
const settings = { numInferenceSteps: 2, height: 32, width: 32, outputType: "array" } as const;

gpuTest(
  "released text encoders free their weights, and the embeddings made before draw the same picture",
  async (gpu) => {
    using pipe = await StableDiffusionXLPipeline.fromPretrained(folder, { gpu });
    const prompt = "a rose", negativePrompt = "blue";
    const drawn = await pipe.generate(prompt, { ...settings, negativePrompt, generator: new TorchGenerator(7) });
    const encoded = await pipe.encodePrompt(prompt, { negativePrompt });
    using made = new DisposableStack();
    for (const tensor of Object.values(encoded)) made.use(tensor);
    const before = gpu.memory.live;
    pipe.releaseTextEncoders();
    const parameters = pipe.textEncoder.weights.parameters + pipe.textEncoder2.weights.parameters;
    assert(before - gpu.memory.live >= 4 * parameters, `${before - gpu.memory.live} bytes of ${parameters} parameters`);
    const again = await pipe.generate(undefined, { ...settings, ...encoded, generator: new TorchGenerator(7) });
    assertEquals(again.images, drawn.images);
    await assertRejects(() => pipe.generate(prompt, settings), PromptError, "have been released");
    const { promptEmbeds, pooledPromptEmbeds } = encoded;
    await assertRejects(
      () => pipe.generate(undefined, { ...settings, promptEmbeds, pooledPromptEmbeds, negativePrompt }),
      PromptError,
      "negative twins",
    );
  },
);

gpuTest("adapters of text encoders are refused after their release; those of the UNet are loaded", async (gpu) => {
  using pipe = await StableDiffusionXLPipeline.fromPretrained(folder, { gpu });
  const whole = `${referenceFolder}/sdxl_adapters/kohya.safetensors`;
  using file = await SafetensorsFile.open(await fileSource(whole));
  const isUNet = (name: string) => name.startsWith("lora_unet_");
  const entries = [...file.tensors.keys()].filter(isUNet).map((key) => streamedEntry(file, key));
  assert(entries.length > 0 && entries.length < file.tensors.size);
  const encoded = await pipe.encodePrompt("a rose");
  using made = new DisposableStack();
  for (const tensor of Object.values(encoded)) made.use(tensor);
  pipe.releaseTextEncoders();
  const live = gpu.memory.live;
  await assertRejects(() => pipe.loadLoraWeights(whole), AdapterError, "load it before releaseTextEncoders()");
  const swirl = `${referenceFolder}/sdxl_adapters/swirl.safetensors`;
  await assertRejects(() => pipe.loadTextualInversion(swirl), AdapterError, "load it before releaseTextEncoders()");
  assertEquals([[...pipe.loras], pipe.tokenizer.addedTokens, gpu.memory.live], [[], [], live]);
  const draw = () => pipe.generate(undefined, { ...settings, ...encoded, generator: new TorchGenerator(7) });
  const { images: plain } = await draw();
  await pipe.loadLoraWeights(await fileOf(entries), { name: "unet" });
  assertNotEquals((await draw()).images, plain);
  pipe.unloadLoraWeights("unet");
  assertEquals((await draw()).images, plain);
});

gpuTest("text encoders are not released during a call", async (gpu) => {
  using pipe = await StableDiffusionXLPipeline.fromPretrained(folder, { gpu });
  const call = pipe.generate("a rose", settings);
  assertThrows(() => pipe.releaseTextEncoders(), GpuError, "while 1 calls run");
  await call;
  pipe.releaseTextEncoders();
});

gpuTest("an edit is solved before the text encoders are released, and refused after", async (gpu) => {
  using pipe = await StableDiffusionXLModelEditingPipeline.fromPretrained(folder, { gpu });
  await pipe.editModel("a rose", "a blue rose");
  pipe.releaseTextEncoders();
  await assertRejects(() => pipe.editModel("a cat", "a red cat"), PromptError, "solve edits before the release");
  assertEquals(pipe.edits.length, 1);
});

Deno.test("tiling of large pictures begins beyond 1024² pixels, whatever the autoencoder was trained on", () => {
  const latents = (width: number, height: number) => ({ w: width / 8, h: height / 8 });
  for (const sampleSize of [512, 1024]) {
    const vae = { config: { sampleSize }, spatialScale: 8 };
    assertEquals(isTiled(vae, latents(1024, 1024), "large"), false);
    assertEquals(isTiled(vae, latents(1536, 640), "large"), false);
    assertEquals(isTiled(vae, latents(1032, 1024), "large"), true);
    assertEquals(isTiled(vae, latents(1032, 1024), false), false);
    assertEquals(isTiled(vae, latents(1024, 1024), true), sampleSize === 512);
  }
});
