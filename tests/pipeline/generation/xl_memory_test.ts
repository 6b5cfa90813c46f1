import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { GpuError } from "../../../engine/errors.ts";
import { PromptError } from "../../../pipeline/errors.ts";
import { isTiled } from "../../../pipeline/generation/decoding.ts";
import { StableDiffusionXLModelEditingPipeline } from "../../../pipeline/model_editing_xl.ts";
import { StableDiffusionXLPipeline } from "../../../pipeline/stable_diffusion_xl.ts";
import { TorchGenerator } from "../../../schedulers/mod.ts";
import { gpuTest } from "../../gpu.ts";
import { goldens } from "../../paths.ts";

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
