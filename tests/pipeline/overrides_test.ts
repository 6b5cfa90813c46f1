import { assert, assertEquals, assertMatch, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { openWeights } from "../../pipeline/checkpoint/safetensors/weight_files.ts";
import { streamedEntry } from "../../pipeline/checkpoint/safetensors/tensor_stream.ts";
import { directoryTree } from "../../pipeline/checkpoint/source/disk.ts";
import { memoryTree } from "../../pipeline/checkpoint/source/file_tree.ts";
import type { XLPipelineComponents } from "../../pipeline/components.ts";
import { CheckpointError, ConfigError, OptionError } from "../../pipeline/errors.ts";
import { CLIPTextModel } from "../../pipeline/models/clip_text.ts";
import { loadAutoencoder } from "../../pipeline/models/autoencoder.ts";
import { AutoencoderTiny } from "../../pipeline/models/tiny_vae.ts";
import { previewFromLatents } from "../../pipeline/image/preview.ts";
import { StableDiffusionPipeline } from "../../pipeline/stable_diffusion.ts";
import { StableDiffusionXLPipeline } from "../../pipeline/stable_diffusion_xl.ts";
import { Tensor } from "../../engine/tensor.ts";
import { TorchGenerator } from "../../schedulers/mod.ts";
import { loadGoldens } from "../goldens.ts";
import { assertClose, gpuTest } from "../gpu.ts";
import { fileOf, ldmEntries, miniConfig, zeros } from "./checkpoint/ldm/ldm_files.ts";
import { goldens } from "../paths.ts";

const mini = `${goldens}/sd1-mini`;

async function draw(pipe: StableDiffusionPipeline): Promise<Float32Array> {
  const options = { numInferenceSteps: 2, generator: new TorchGenerator(3), outputType: "array" as const };
  return (await pipe.generate("a field of roses", options)).images;
}

gpuTest("given components are used, not loaded, and stay the caller's", async (gpu) => {
  using owner = await StableDiffusionPipeline.fromPretrained(mini, { gpu });
  const expected = await draw(owner);
  const { vae, textEncoder, tokenizer, unet, scheduler } = owner.components;
  // A checkpoint without any part: whatever were loaded would fail.
  const index = await Deno.readFile(`${mini}/model_index.json`);
  const bare = memoryTree({ "model_index.json": index }, "bare");
  {
    using pipe = await StableDiffusionPipeline.fromPretrained(bare, { vae, textEncoder, tokenizer, unet, scheduler });
    for (const key of ["vae", "textEncoder", "tokenizer", "unet", "scheduler"] as const) {
      assertStrictEquals(pipe[key], owner[key]);
    }
    assertEquals(await draw(pipe), expected);
  }
  assertEquals(await draw(owner), expected); // nothing was disposed of
  await assertRejects(
    () => StableDiffusionPipeline.fromPretrained(bare, { vae, textEncoder, tokenizer, scheduler }),
    CheckpointError,
    "unet",
  );
});

gpuTest("a component that does not fit is refused with both numbers, and nothing leaks", async (gpu) => {
  using textEncoder = await CLIPTextModel.fromPretrained(`${goldens}/sd2-mini/text_encoder`, { gpu });
  const error = await assertRejects(
    () => StableDiffusionPipeline.fromPretrained(mini, { gpu, textEncoder }),
    ConfigError,
    "cross_attention_dim",
  );
  assert(error.message.includes("48 ≠ 64"), error.message);
});

gpuTest("a component of another class is refused by its option, before anything is loaded", async (gpu) => {
  using pipe = await StableDiffusionPipeline.fromPretrained(mini, { gpu });
  const { components } = pipe;
  // What a check of members alone would take for components.
  const wrong: unknown[] = [{}, { config: {} }, { encode: () => [], padTokenId: 0 }, 5, []];
  for (const option of Object.keys(components) as (keyof typeof components)[]) {
    for (const value of option === "safetyChecker" ? [...wrong, pipe.unet] : wrong) {
      const given = { [option]: value };
      const calls = [
        () => StableDiffusionPipeline.fromPretrained("nowhere", given),
        () => StableDiffusionPipeline.fromSingleFile("nowhere", given),
        () => Promise.resolve(new StableDiffusionPipeline({ ...components, ...given })),
      ];
      for (const call of calls) {
        const error = await assertRejects(async () => await call(), OptionError, "an instance of");
        assertEquals(error.option, option);
      }
    }
  }
  const xl = { ...components, textEncoder2: pipe.textEncoder, tokenizer2: pipe.tokenizer };
  assertThrows(
    () => new StableDiffusionXLPipeline(xl as unknown as XLPipelineComponents),
    OptionError,
    "textEncoder2 must be an instance of CLIPTextModelWithProjection: an object of class CLIPTextModel",
  );
  pipe.scheduler = {} as typeof pipe.scheduler;
  await assertRejects(() => draw(pipe), OptionError, "scheduler must be an instance of Scheduler: an object");
});

gpuTest("an autoencoder of its own: a single file without one draws with LDM's, the same bits", async (gpu) => {
  using folder = await StableDiffusionPipeline.fromPretrained(mini, { gpu });
  const expected = await draw(folder);
  const entries = await ldmEntries("sd1-mini");
  const prefix = "first_stage_model.";
  const model = await fileOf(entries.filter(({ name }) => !name.startsWith(prefix)));
  const only = entries.filter(({ name }) => name.startsWith(prefix));
  const layouts = [only, only.map((entry) => ({ ...entry, name: entry.name.slice(prefix.length) }))];
  for (const layout of layouts) {
    using pipe = await StableDiffusionPipeline.fromSingleFile(model, {
      gpu,
      tokenizer: folder.tokenizer,
      scheduler: folder.scheduler,
      config: miniConfig["sd1-mini"],
      vae: await fileOf(layout, "vae.safetensors"),
    });
    assertEquals(await draw(pipe), expected);
  }
});

gpuTest(
  "TAESD decodes as the reference from every layout: a folder, diffusers' file, and as published",
  async (gpu) => {
    const { tensors } = await loadGoldens("small_models");
    const latents = tensors.get("tiny.latents")!;
    using folder = await openWeights(await directoryTree(`${goldens}/tiny-vae`), "diffusion_pytorch_model");
    const entries = [...folder.tensors.keys()].map((key) => streamedEntry(folder, key));
    const published = (half: string, prefix: string) =>
      entries.filter(({ name }) => name.startsWith(half)).map((entry) => ({
        ...entry,
        name: entry.name.replace(/^\w+\.layers\.(\d+)/, (_, n) => `${prefix}${half === "decoder" ? Number(n) + 1 : n}`),
      }));
    const layouts = {
      "folder": `${goldens}/tiny-vae`,
      "diffusers' file": await fileOf(entries),
      "decoder as published": await fileOf(published("decoder", "")),
      "both halves as published": await fileOf([
        ...published("decoder", "decoder."),
        ...published("encoder", "encoder."),
      ]),
    };
    for (const [layout, source] of Object.entries(layouts)) {
      using vae = await loadAutoencoder(source, { gpu });
      assert(vae instanceof AutoencoderTiny);
      using x = Tensor.from(gpu, Float32Array.from(latents.data), latents.shape);
      using decoded = vae.decode(x);
      assertClose(await decoded.data(), tensors.get("tiny.decoded")!.data, 2e-5, layout);
    }
  },
);

gpuTest("a pipeline draws with TAESD, saves it, and loads it again", async (gpu) => {
  const place = await Deno.makeTempDir();
  try {
    using pipe = await StableDiffusionPipeline.fromPretrained(mini, { gpu, vae: `${goldens}/tiny-vae` });
    assert(pipe.vae instanceof AutoencoderTiny);
    const drawn = await draw(pipe);
    assertEquals(drawn.length, 3 * 64 * 64); // 16 latent pixels, times four
    using latents = Tensor.from(gpu, new TorchGenerator(1).randn([1, 4, 6, 8]), [1, 4, 6, 8]);
    const [{ width, height, data }] = await previewFromLatents(latents, { vae: pipe.vae });
    using decoded = pipe.vae.decode(latents);
    const planes = await decoded.data();
    const byte = (value: number) => Math.round(255 * Math.min(Math.max(value / 2 + 0.5, 0), 1));
    assertEquals([width, height], [32, 24]);
    for (const [c, at] of [[0, 0], [1, 100], [2, 767]]) {
      assert(Math.abs(data[3 * at + c] - byte(planes[c * 768 + at])) <= 1);
    }
    await pipe.savePretrained(`${place}/saved`);
    using again = await StableDiffusionPipeline.fromPretrained(`${place}/saved`, { gpu });
    assert(again.vae instanceof AutoencoderTiny);
    assertEquals(await draw(again), drawn);
    await assertRejects(() => pipe.saveSingleFile(`${place}/one.safetensors`), CheckpointError, "AutoencoderTiny");
  } finally {
    await Deno.remove(place, { recursive: true });
  }
});

gpuTest("what is no autoencoder is refused as what it is", async (gpu) => {
  const lora = await fileOf([zeros("lora_unet_down.lora_up.weight", [4, 4])], "style.safetensors");
  await assertRejects(() => loadAutoencoder(lora, { gpu }), CheckpointError, "a LoRA");
  await assertRejects(() => loadAutoencoder("nowhere/vae.safetensors", { gpu }), CheckpointError, "no such file");
});

gpuTest("f16 arithmetic belongs to the device: a given one of f32 is refused, with what to do", async (gpu) => {
  const error = await assertRejects(
    () => StableDiffusionPipeline.fromPretrained(mini, { gpu, arithmetic: "f16" }),
    ConfigError,
  );
  assertMatch(error.message, /opened with "f32": open it with Gpu\.request\(\{ arithmetic: "f16" \}\)/);
});
