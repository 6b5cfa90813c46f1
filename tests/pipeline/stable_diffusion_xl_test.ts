import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { ConfigError, OptionError, PromptError } from "../../pipeline/errors.ts";
import type { XLGenerateOptions, XLPromptEmbeddings } from "../../pipeline/generation/xl_options.ts";
import { directoryTree } from "../../pipeline/checkpoint/source/disk.ts";
import { SafetensorsFile } from "../../pipeline/checkpoint/safetensors/safetensors_file.ts";
import { computedEntry, streamedEntry } from "../../pipeline/checkpoint/safetensors/tensor_stream.ts";
import { openWeights } from "../../pipeline/checkpoint/safetensors/weight_files.ts";
import { UNet2DConditionModel } from "../../pipeline/models/unet.ts";
import { StableDiffusionPipeline } from "../../pipeline/stable_diffusion.ts";
import { StableDiffusionXLPipeline } from "../../pipeline/stable_diffusion_xl.ts";
import {
  DDIMScheduler,
  DPMSolverMultistepScheduler,
  schedulerFromConfig,
  TorchGenerator,
} from "../../schedulers/mod.ts";
import { type GoldenTensor, loadGoldens, readGoldens } from "../goldens.ts";
import { assertClose, gpuTest } from "../gpu.ts";
import { goldens, referenceFolder } from "../paths.ts";
import { warningsOfAsync } from "../warnings.ts";
import { fileOf } from "./checkpoint/ldm/ldm_files.ts";

/** Largest relative error of latents and pictures, as that of the other models. */
const tolerance = 1e-4;
/** Largest relative error of embeddings: f32 rounding of a few layers. */
const embeddingTolerance = 2e-5;

const folder = `${goldens}/sdxl-mini`;
const upload = (gpu: Gpu, { data, shape }: GoldenTensor) => Tensor.from(gpu, Float32Array.from(data), shape);

async function assertEmbeddings(
  encoded: XLPromptEmbeddings,
  tensors: Map<string, GoldenTensor>,
  prefix: string,
): Promise<void> {
  const names = {
    promptEmbeds: "prompt_embeds",
    negativePromptEmbeds: "negative_prompt_embeds",
    pooledPromptEmbeds: "pooled_prompt_embeds",
    negativePooledPromptEmbeds: "negative_pooled_prompt_embeds",
  } as const;
  for (const [key, name] of Object.entries(names) as [keyof typeof names, string][]) {
    using made = encoded[key]!;
    const { data, shape } = tensors.get(`${prefix}.${name}`)!;
    assertEquals(made.shape, shape, name);
    const values = await made.data();
    if (data.every((value) => value === 0)) assert(values.every((value) => value === 0), name);
    else assertClose(values, data, embeddingTolerance, `${prefix}.${name}`);
  }
}

gpuTest("sdxl-mini: encodePrompt gives the golden states and pooled embeddings of both encoders", async (gpu) => {
  const { tensors, note } = await loadGoldens("sdxl-mini");
  using pipe = await StableDiffusionXLPipeline.fromPretrained(folder, { gpu });
  await assertEmbeddings(await pipe.encodePrompt(note.prompts), tensors, "encode");
  await assertEmbeddings(
    await pipe.encodePrompt(note.prompts, {
      prompt2: note.prompt_2,
      numImagesPerPrompt: 2,
      negativePrompt: note.negative_prompt,
      negativePrompt2: note.negative_prompt_2,
    }),
    tensors,
    "encode2",
  );
});

gpuTest("sdxl-mini: six guided steps end in the golden latents, by every option and sampler", async (gpu) => {
  const { tensors, note } = await loadGoldens("sdxl-mini");
  using pipe = await StableDiffusionXLPipeline.fromPretrained(folder, { gpu });
  using latents = upload(gpu, tensors.get("pipe.latents")!);
  const euler = pipe.scheduler;
  const draw = async (options: XLGenerateOptions<"latent"> = {}) => {
    const { images } = await pipe.generate(note.prompts, {
      latents,
      numInferenceSteps: note.steps,
      outputType: "latent",
      ...options,
    });
    using drawn = images;
    return await drawn.data();
  };
  const cases: [name: string, options: XLGenerateOptions<"latent">][] = [
    ["euler", {}],
    ["euler.prompt2", {
      prompt2: note.prompt_2,
      negativePrompt: note.negative_prompt,
      negativePrompt2: note.negative_prompt_2,
    }],
    ["euler.sizes", {
      originalSize: [64, 48],
      cropsCoordsTopLeft: [4, 2],
      targetSize: [32, 32],
      negativeOriginalSize: [16, 16],
      negativeCropsCoordsTopLeft: [1, 1],
      negativeTargetSize: [32, 16],
    }],
    ["euler.rescale", { guidanceRescale: 0.7 }],
    ["euler.end", { denoisingEnd: 0.7 }],
    ["euler.clip_skip_1", { clipSkip: 1 }],
    ["euler.unguided", { guidanceScale: 1 }],
  ];
  for (const [name, options] of cases) {
    assertClose(await draw(options), tensors.get(`pipe.${name}.latent`)!.data, tolerance, name);
  }
  pipe.scheduler = DDIMScheduler.fromConfig(note.schedulers.ddim);
  assertClose(await draw(), tensors.get("pipe.ddim.latent")!.data, tolerance, "ddim");
  pipe.scheduler = DPMSolverMultistepScheduler.fromConfig({ ...euler.config, use_karras_sigmas: true });
  assertClose(await draw(), tensors.get("pipe.dpmpp_2m_karras.latent")!.data, tolerance, "dpmpp_2m_karras");
});

gpuTest("sdxl-mini: pictures, seeds, oblong sizes and embeddings that were given equal the goldens", async (gpu) => {
  const { tensors, note } = await loadGoldens("sdxl-mini");
  using pipe = await StableDiffusionXLPipeline.fromPretrained(folder, { gpu });
  using latents = upload(gpu, tensors.get("pipe.latents")!);
  const common = { latents, numInferenceSteps: note.steps, outputType: "array" } as const;
  const golden = tensors.get("pipe.euler.image")!.data;
  const { images, nsfwContentDetected } = await pipe.generate(note.prompts, common);
  assertEquals(nsfwContentDetected, null);
  assertClose(images, golden, tolerance, "image");
  const { promptEmbeds, pooledPromptEmbeds } = await pipe.encodePrompt(note.prompts, {
    doClassifierFreeGuidance: false,
  });
  using states = promptEmbeds;
  using pooled = pooledPromptEmbeds;
  const given = await pipe.generate(undefined, { ...common, promptEmbeds: states, pooledPromptEmbeds: pooled });
  assertClose(given.images, golden, tolerance, "of embeddings");
  const seeded = await pipe.generate(note.prompts[0], {
    numImagesPerPrompt: 2,
    generator: new TorchGenerator(7),
    numInferenceSteps: 4,
    height: 32,
    width: 48,
    outputType: "array",
  });
  assertEquals(seeded.images.shape, [2, 32, 48, 3]);
  assertClose(seeded.images, tensors.get("pipe.seed7.image")!.data, tolerance, "seed 7");
});

gpuTest("sdxl-mini: one to four unguided steps with trailing timesteps end in diffusers' latents", async (gpu) => {
  const { tensors, note } = await readGoldens(`${referenceFolder}/sdxl_few_steps.safetensors`);
  using pipe = await StableDiffusionXLPipeline.fromPretrained(folder, { gpu });
  for (const [name, config] of Object.entries<Record<string, unknown>>(note.schedulers)) {
    pipe.scheduler = schedulerFromConfig(config);
    for (const numInferenceSteps of [1, 2, 4]) {
      const { images } = await pipe.generate(
        "a rose",
        {
          ...{ numInferenceSteps, guidanceScale: 0, height: 32, width: 32, generator: 7, outputType: "latent" },
        } as const,
      );
      using latents = images;
      const key = `${name}.${numInferenceSteps}`;
      assertClose(await latents.data(), tensors.get(key)!.data, tolerance, key);
    }
  }
});

gpuTest("a UNet of latent consistency draws diffusers' latents, conditioned on the guidance scale", async (gpu) => {
  const { tensors, note } = await readGoldens(`${referenceFolder}/sdxl_few_steps.safetensors`);
  using plain = await StableDiffusionXLPipeline.fromPretrained(folder, { gpu });
  const key = "time_embedding.cond_proj.weight";
  const { data, shape } = tensors.get(key)!;
  using own = await openWeights(await directoryTree(`${folder}/unet`), "diffusion_pytorch_model");
  const condition = computedEntry(key, shape, "f32", () => Promise.resolve(Float32Array.from(data)));
  const file = await fileOf([...[...own.tensors.keys()].map((name) => streamedEntry(own, name)), condition]);
  using weights = await SafetensorsFile.open(file);
  using unet = await UNet2DConditionModel.fromWeights({ ...plain.unet.config, timeCondProjDim: shape[1] }, weights, {
    gpu,
  });
  using pipe = new StableDiffusionXLPipeline({ ...plain.components, unet });
  pipe.scheduler = schedulerFromConfig(note.schedulers.lcm);
  for (const numInferenceSteps of [1, 2, 4]) {
    const { images } = await pipe.generate(
      "a rose",
      {
        ...{ numInferenceSteps, guidanceScale: 8, height: 32, width: 32, generator: 7, outputType: "latent" },
      } as const,
    );
    using latents = images;
    const golden = tensors.get(`distilled.${numInferenceSteps}`)!.data;
    assertClose(await latents.data(), golden, tolerance, `${numInferenceSteps} steps`);
  }
});

gpuTest("sdxl-mini: prompts and embeddings that do not fit each other are refused", async (gpu) => {
  using pipe = await StableDiffusionXLPipeline.fromPretrained(folder, { gpu });
  const zeros = (...shape: number[]) => ({
    data: new Float32Array(shape.reduce((product, length) => product * length)),
    shape,
  });
  const promptEmbeds = zeros(1, 77, 80), pooledPromptEmbeds = zeros(1, 40);
  const refused = async (
    prompt: string | undefined,
    options: XLGenerateOptions<"latent">,
    kind: new (...rest: never[]) => Error,
    message: string,
  ) => {
    await assertRejects(() => pipe.generate(prompt, { numInferenceSteps: 1, ...options }), kind, message);
  };
  await refused(undefined, { promptEmbeds }, PromptError, "without pooledPromptEmbeds");
  await refused(undefined, { promptEmbeds, pooledPromptEmbeds, prompt2: "a" }, PromptError, "a prompt2");
  await refused("a", { promptEmbeds, pooledPromptEmbeds }, PromptError, "a prompt");
  await refused("a", { negativePromptEmbeds: promptEmbeds }, PromptError, "without negativePooledPromptEmbeds");
  await refused("a", { prompt2: ["a", "b"] }, PromptError, "2 prompt2 with 1 prompt");
  for (const wrong of [zeros(2, 40), zeros(1, 1, 40)]) {
    await refused(undefined, { promptEmbeds, pooledPromptEmbeds: wrong }, ShapeError, "must be [1, width]");
  }
  const { warnings } = await warningsOfAsync(() =>
    pipe.generate("a", { numInferenceSteps: 1, outputType: "array", negativeOriginalSize: [16, 16] })
  );
  assert(warnings.some((text) => text.startsWith("negativeOriginalSize is not used")), warnings.join());
  await refused("a", { originalSize: [32] as unknown as [number, number] }, OptionError, "originalSize");
  await refused("a", { clipSkip: 9 }, OptionError, "Cannot skip 9 layers beside the last one");
  await refused("a", { denoisingEnd: 1.5 }, OptionError, "denoisingEnd must be a number from 0 to 1");
  await refused("a", { promptSyntax: "comfy" } as never, OptionError, "promptSyntax");
  await refused(
    undefined,
    {
      promptEmbeds,
      pooledPromptEmbeds,
      negativePromptEmbeds: zeros(1, 77, 81),
      negativePooledPromptEmbeds: pooledPromptEmbeds,
    },
    ShapeError,
    "the shapes must agree",
  );
});

gpuTest("an SDXL folder and a Stable Diffusion folder name the class that loads them", async (gpu) => {
  await assertRejects(
    () => StableDiffusionPipeline.fromPretrained(folder, { gpu }),
    ConfigError,
    "this is SDXL: load it with StableDiffusionXLPipeline",
  );
  await assertRejects(
    () => StableDiffusionXLPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu }),
    ConfigError,
    "load it with StableDiffusionPipeline",
  );
  using xl = await StableDiffusionXLPipeline.fromPretrained(folder, { gpu });
  using sd = await StableDiffusionPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
  assertThrows(
    () => new StableDiffusionPipeline({ ...sd.components, unet: xl.unet }),
    ConfigError,
    "StableDiffusionXLPipeline",
  );
  assertThrows(
    () => new StableDiffusionXLPipeline({ ...xl.components, unet: sd.unet }),
    ConfigError,
    "StableDiffusionPipeline",
  );
});

gpuTest("a saved SDXL folder draws the same bytes, and keeps forceZerosForEmptyPrompt", async (gpu) => {
  const directory = await Deno.makeTempDir();
  try {
    using pipe = await StableDiffusionXLPipeline.fromPretrained(folder, { gpu, forceZerosForEmptyPrompt: false });
    await pipe.savePretrained(`${directory}/saved`);
    using saved = await StableDiffusionXLPipeline.fromPretrained(`${directory}/saved`, { gpu });
    assertEquals(saved.forceZerosForEmptyPrompt, false);
    const options = { generator: 7, numInferenceSteps: 2, outputType: "array" } as const;
    const [before, after] = [await pipe.generate("a rose", options), await saved.generate("a rose", options)];
    assertEquals(after.images, before.images);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

gpuTest("SDXL draws the same from shards and from an fp16 variant, both in half precision", async (gpu) => {
  const directory = await Deno.makeTempDir();
  try {
    using pipe = await StableDiffusionXLPipeline.fromPretrained(folder, { gpu });
    const draw = async (pipe: StableDiffusionXLPipeline) =>
      (await pipe.generate("a rose", { generator: 7, numInferenceSteps: 2, outputType: "array" })).images;
    await pipe.savePretrained(`${directory}/shards`, { dtype: "f16", maxShardBytes: 1e6 });
    await pipe.savePretrained(`${directory}/variant`, { dtype: "f16" });
    for (const part of ["unet", "vae", "text_encoder", "text_encoder_2"]) {
      const path = `${directory}/variant/${part}/${part.startsWith("text") ? "model" : "diffusion_pytorch_model"}`;
      await Deno.rename(`${path}.safetensors`, `${path}.fp16.safetensors`);
    }
    using shards = await StableDiffusionXLPipeline.fromPretrained(`${directory}/shards`, { gpu });
    using variant = await StableDiffusionXLPipeline.fromPretrained(`${directory}/variant`, { gpu, variant: "fp16" });
    const half = await draw(shards);
    assertEquals(await draw(variant), half);
    assertClose(half, await draw(pipe), 1e-2, "half precision");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
