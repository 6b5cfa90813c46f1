/**
 * LoRAs and textual inversions of SDXL, as diffusers 0.23.1 draws with them
 * (`tests/reference/sdxl_adapters.py`).
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Gpu } from "../../../engine/gpu.ts";
import { SafetensorsFile } from "../../../pipeline/checkpoint/safetensors/safetensors_file.ts";
import { fileSource } from "../../../pipeline/checkpoint/source/disk.ts";
import { AdapterError } from "../../../pipeline/errors.ts";
import type { XLGenerateOptions } from "../../../pipeline/generation/xl_options.ts";
import { StableDiffusionXLPipeline } from "../../../pipeline/stable_diffusion_xl.ts";
import { TorchGenerator } from "../../../schedulers/mod.ts";
import { readGoldens, relativeError } from "../../goldens.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
import { goldens, referenceFolder } from "../../paths.ts";
import { type FileTensor, golden, memoryFile, random } from "./sd1_mini.ts";

/** Largest relative errors of latents, and of embeddings. */
const tolerance = 1e-4, embeddingTolerance = 2e-5;

const folder = `${referenceFolder}/sdxl_adapters`;
const open = async (gpu: Gpu) => await StableDiffusionXLPipeline.fromPretrained(`${goldens}/sdxl-mini`, { gpu });

async function draw(
  pipe: StableDiffusionXLPipeline,
  options: XLGenerateOptions<"latent"> & { prompt?: string } = {},
): Promise<Float32Array> {
  const { prompt = "a rose in a vase", ...rest } = options;
  const { images } = await pipe.generate(prompt, {
    negativePrompt: "blue",
    numInferenceSteps: 3,
    height: 32,
    width: 32,
    generator: new TorchGenerator(7),
    ...rest,
    outputType: "latent",
  });
  using latents = images;
  return await latents.data();
}

/** The golden LoRA with other keys. */
async function respelled(rename: (key: string) => string) {
  using file = await SafetensorsFile.open(await fileSource(`${folder}/kohya.safetensors`));
  const tensors: Record<string, FileTensor> = {};
  for (const [key, { shape }] of file.tensors) {
    tensors[rename(key)] = { shape: [...shape], data: await file.float32(key) };
  }
  return await memoryFile("respelled.safetensors", tensors);
}

gpuTest("sdxl-mini draws with a LoRA of all three networks as diffusers does, whoever named its keys", async (gpu) => {
  const { tensors: expected } = await readGoldens(`${folder}/expected.safetensors`);
  using pipe = await open(gpu);
  const plain = await draw(pipe);
  assertClose(plain, expected.get("plain")!.data, tolerance, "plain");
  const sources = {
    kohya: `${folder}/kohya.safetensors`,
    kohya_sgm: `${folder}/kohya_sgm.safetensors`,
    diffusers: `${folder}/diffusers.safetensors`,
    PEFT: await respelled((key) =>
      key.replace(/^lora_unet_/, "unet.base_model.model.").replace(
        /^lora_te(\d)_/,
        (_, n) => n === "1" ? "text_encoder." : "text_encoder_2.",
      )
        .replace("lora_down", "lora_A").replace("lora_up", "lora_B")
    ),
    ComfyUI: await respelled((key) =>
      key.replace(/^lora_unet_/, "diffusion_model.").replace(/^lora_te1_/, "text_encoders.clip_l.transformer.")
        .replace(/^lora_te2_/, "text_encoders.clip_g.transformer.")
    ),
  };
  for (const [name, source] of Object.entries(sources)) {
    const loaded = await pipe.loadLoraWeights(source);
    const golden = expected.get(name) ?? expected.get("kohya")!, half = expected.get(`${name}.half`);
    assert(relativeError(golden.data, plain) > 0.1, "the LoRA hardly changes the picture");
    assertClose(await draw(pipe), golden.data, tolerance, name);
    if (half) {
      const drawn = await draw(pipe, { crossAttentionKwargs: { scale: 0.5 } });
      assertClose(drawn, half.data, tolerance, `${name} at half strength`);
    }
    pipe.unloadLoraWeights(loaded);
  }
  assertEquals(await draw(pipe), plain);
});

gpuTest("sdxl-mini: a LoRA changes the states and the pooled embedding as in diffusers", async (gpu) => {
  const { tensors: expected } = await readGoldens(`${folder}/expected.safetensors`);
  using pipe = await open(gpu);
  await pipe.loadLoraWeights(`${folder}/kohya.safetensors`, { name: "three", weight: 0.5 });
  pipe.setAdapters("three", 1);
  assertEquals([...pipe.loras], [["three", 1]]);
  const encoded = await pipe.encodePrompt("a rose in a vase", { doClassifierFreeGuidance: false });
  using states = encoded.promptEmbeds;
  using pooled = encoded.pooledPromptEmbeds;
  assertClose(await states.data(), expected.get("kohya.prompt_embeds")!.data, embeddingTolerance, "states");
  assertClose(await pooled.data(), expected.get("kohya.pooled_prompt_embeds")!.data, embeddingTolerance, "pooled");
});

gpuTest("sdxl-mini: both text encoders learn a textual inversion, and forget it exactly", async (gpu) => {
  const { tensors: expected } = await readGoldens(`${folder}/expected.safetensors`);
  using pipe = await open(gpu);
  const prompt = "a swirl rose";
  const plain = await draw(pipe, { prompt });
  assertEquals(await pipe.loadTextualInversion(`${folder}/swirl.safetensors`), "swirl");
  const encoded = await pipe.encodePrompt(prompt, { doClassifierFreeGuidance: false });
  using states = encoded.promptEmbeds;
  using pooled = encoded.pooledPromptEmbeds;
  assertClose(await states.data(), expected.get("swirl.prompt_embeds")!.data, embeddingTolerance, "states");
  assertClose(await pooled.data(), expected.get("swirl.pooled_prompt_embeds")!.data, embeddingTolerance, "pooled");
  assertClose(await draw(pipe, { prompt }), expected.get("swirl")!.data, tolerance, "latents");
  pipe.unloadTextualInversion("swirl");
  assertEquals(await draw(pipe, { prompt }), plain);
});

gpuTest("adapters that do not fit SDXL are refused by what they are for, and change nothing", async (gpu) => {
  using pipe = await open(gpu);
  const plain = await draw(pipe);
  await assertRejects(
    () => pipe.loadLoraWeights(golden("lora_kohya.safetensors")),
    AdapterError,
    "the model has no layers for these keys",
  );
  const refused = async (tensors: Record<string, FileTensor>, part: string) => {
    const source = await memoryFile("bad.safetensors", tensors);
    await assertRejects(() => pipe.loadTextualInversion(source), AdapterError, part);
  };
  await refused({ "<a>": random([32], 1) }, "clip_l and clip_g");
  await refused({ clip_l: random([32], 1) }, "clip_l and clip_g");
  await refused({ clip_l: random([32], 1), clip_g: random([32], 2) }, "48 wide");
  await refused({ clip_l: random([2, 32], 1), clip_g: random([48], 2) }, "2 and 1 vectors");
  assertEquals([pipe.tokenizer.addedTokens, pipe.tokenizer2.addedTokens], [[], []]);
  assertEquals(await draw(pipe), plain);
});
