import { assert, assertEquals, assertRejects } from "@std/assert";
import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { CheckpointError, OptionError, PromptError } from "../../pipeline/errors.ts";
import { StableDiffusionPipeline } from "../../pipeline/stable_diffusion.ts";
import { DDIMScheduler, PNDMScheduler, schedulerFromConfig, TorchGenerator } from "../../schedulers/mod.ts";
import { type GoldenTensor, loadGoldens } from "../goldens.ts";
import { assertClose, gpuTest } from "../gpu.ts";
import { goldens } from "../paths.ts";

/**
 * After seven guided steps, the reference itself has a rounding error of about 5e-6 in f32. A
 * difference of 1e-4 is not visible.
 */
const tolerance = 1e-4;

const folder = (path: string) => `${goldens}/${path}`;
const upload = (gpu: Gpu, { data, shape }: GoldenTensor) => Tensor.from(gpu, Float32Array.from(data), shape);

for (const name of ["sd1-mini", "sd2-mini"]) {
  gpuTest(`${name}: seven guided steps of every sampler end in the golden latents`, async (gpu) => {
    const { tensors, note } = await loadGoldens(name);
    using pipe = await StableDiffusionPipeline.fromPretrained(folder(name), { gpu });
    using latents = upload(gpu, tensors.get("pipe.latents")!);
    for (
      const [sampler, { class: className, config }] of Object.entries<{ class: string; config: object }>(
        note.schedulers,
      )
    ) {
      pipe.scheduler = schedulerFromConfig({ ...config, _class_name: className });
      const { images } = await pipe.generate(note.prompts, {
        latents,
        numInferenceSteps: note.steps,
        guidanceScale: note.guidance,
        outputType: "latent",
      });
      using result = images;
      assertClose(await result.data(), tensors.get(`pipe.${sampler}.latent`)!.data, tolerance, sampler);
    }
  });

  gpuTest(`${name}: pictures, negative prompts, clip skip, seeds and eta equal the goldens`, async (gpu) => {
    const { tensors, note } = await loadGoldens(name);
    using pipe = await StableDiffusionPipeline.fromPretrained(folder(name), { gpu });
    using latents = upload(gpu, tensors.get("pipe.latents")!);
    pipe.scheduler = schedulerFromConfig({ ...note.schedulers.ddim.config, _class_name: "DDIMScheduler" });
    const common = { latents, numInferenceSteps: note.steps, guidanceScale: note.guidance };
    const drawn = await pipe.generate(note.prompts, { ...common, outputType: "array" });
    assertEquals(drawn.nsfwContentDetected, null);
    assertClose(drawn.images, tensors.get("pipe.ddim.image")!.data, tolerance, "image");
    const skipped = await pipe.generate(note.prompts, { ...common, clipSkip: 1, outputType: "latent" });
    using skippedLatents = skipped.images;
    assertClose(await skippedLatents.data(), tensors.get("pipe.ddim.clip_skip_1.latent")!.data, tolerance, "clip skip");
    const negativePrompt = ["blurry", "a red house"]; // found by search: the note does not tell
    const away = await pipe.generate(note.prompts, { ...common, negativePrompt, outputType: "array" });
    assertClose(away.images, tensors.get("pipe.ddim.negative.image")!.data, tolerance, "negative prompts");
    const { images: seeded } = await pipe.generate(note.prompts[0], {
      numImagesPerPrompt: 2,
      generator: new TorchGenerator(7),
      numInferenceSteps: 4,
      guidanceScale: 5,
      outputType: "array",
    });
    assertClose(seeded, tensors.get("pipe.seed7.image")!.data, tolerance, "seed 7");
    const noisy = await pipe.generate(note.prompts[0], {
      generator: new TorchGenerator(7),
      numInferenceSteps: 4,
      guidanceScale: 5,
      eta: 0.8,
      outputType: "latent",
    });
    using noisyLatents = noisy.images;
    assertClose(await noisyLatents.data(), tensors.get("pipe.seed7.eta.latent")!.data, tolerance, "eta");
  });
}

gpuTest("the pocket model generates the golden pictures with DDIM and PNDM", async (gpu) => {
  const { tensors, note } = await loadGoldens("pocket");
  using pipe = await StableDiffusionPipeline.fromPretrained(folder("../../models/pocket"), { gpu });
  const generators = () => note.seeds.map((seed: number) => new TorchGenerator(seed));
  const { images } = await pipe.generate(note.prompts, {
    generator: generators(),
    numInferenceSteps: 20,
    guidanceScale: note.guidance,
    outputType: "array",
  });
  assertClose(images, tensors.get("ddim20.image")!.data, tolerance, "DDIM");
  pipe.scheduler = PNDMScheduler.fromConfig(pipe.scheduler.config, { skip_prk_steps: true });
  const { images: plms } = await pipe.generate(note.prompts, {
    generator: generators(),
    numInferenceSteps: 12,
    guidanceScale: note.guidance,
    outputType: "array",
  });
  assertClose(plms, tensors.get("pndm12.image")!.data, tolerance, "PNDM");
});

gpuTest(
  "embeddings from encodePrompt generate the same as their prompts, and the images of a prompt are adjacent",
  async (gpu) => {
    using pipe = await StableDiffusionPipeline.fromPretrained(folder("sd1-mini"), { gpu });
    const prompts = ["A field of roses", "a painting of a cat"];
    const options = { numInferenceSteps: 2, numImagesPerPrompt: 2, outputType: "array" as const };
    const generators = () => [1, 2, 3, 4].map((seed) => new TorchGenerator(seed));
    const direct = await pipe.generate(prompts, { ...options, negativePrompt: "blurry", generator: generators() });
    const { promptEmbeds, negativePromptEmbeds } = await pipe.encodePrompt(prompts, { negativePrompt: "blurry" });
    using positive = promptEmbeds;
    using negative = negativePromptEmbeds!;
    const fromEmbeds = await pipe.generate(undefined, {
      ...options,
      promptEmbeds: positive,
      negativePromptEmbeds: negative,
      generator: generators(),
    });
    assertEquals(fromEmbeds.images, direct.images);
    const single = await pipe.generate(prompts[1], {
      numInferenceSteps: 2,
      outputType: "array",
      negativePrompt: "blurry",
      generator: new TorchGenerator(3),
    });
    assertClose(
      direct.images.subarray(2 * single.images.length, 3 * single.images.length),
      single.images,
      1e-5,
      "third of four",
    );
  },
);

gpuTest(
  "VAE slicing changes no byte; tiling does not change small pictures or the size of large ones",
  async (gpu) => {
    using pipe = await StableDiffusionPipeline.fromPretrained(folder("sd1-mini"), { gpu });
    const draw = async (size: { height?: number; width?: number } = {}) =>
      (await pipe.generate(["a rose", "a cat"], {
        ...size,
        numInferenceSteps: 1,
        generator: new TorchGenerator(5),
        outputType: "array",
      })).images;
    const whole = await draw();
    pipe.enableVaeSlicing();
    assertEquals(await draw(), whole);
    pipe.disableVaeSlicing();
    pipe.enableVaeTiling();
    assertEquals(await draw(), whole, "a picture no larger than a tile is decoded whole");
    const tiled = await draw({ height: 48, width: 80 });
    pipe.disableVaeTiling();
    const untiled = await draw({ height: 48, width: 80 });
    assertEquals(tiled.length, untiled.length);
    assert(tiled.every(Number.isFinite));
  },
);

gpuTest("an aborted call frees its memory, and the pipeline can generate again", async (gpu) => {
  using pipe = await StableDiffusionPipeline.fromPretrained(folder("sd1-mini"), { gpu });
  const before = gpu.memory.live;
  const controller = new AbortController();
  const seen: number[] = [];
  await assertRejects(
    () =>
      pipe.generate("a rose", {
        numInferenceSteps: 10,
        signal: controller.signal,
        callback: (step) => {
          seen.push(step);
          if (step === 3) controller.abort(new DOMException("enough", "AbortError"));
        },
      }),
    DOMException,
    "enough",
  );
  assertEquals(seen, [0, 1, 2, 3]);
  assertEquals(gpu.memory.live, before);
  const { images } = await pipe.generate("a rose", { numInferenceSteps: 1 });
  assertEquals([images[0].width, images[0].height], [32, 32]);
});

gpuTest("peak memory does not grow with the number of steps", async (gpu) => {
  using pipe = await StableDiffusionPipeline.fromPretrained(folder("sd1-mini"), { gpu });
  const peakOf = async (numInferenceSteps: number) => {
    gpu.resetPeak();
    await pipe.generate("a rose", { numInferenceSteps });
    return gpu.memory.peak - gpu.memory.live;
  };
  const few = await peakOf(4);
  const many = await peakOf(24);
  // Only the time projections of all steps grow: one row per step. An eighth is slack.
  using row = pipe.unet.embedTimesteps([0]);
  assert(many - few <= 20 * row.bytes * 9 / 8, `${few} bytes at 4 steps, ${many} at 24`);
});

gpuTest("callbackSteps selects the steps at which the callback receives the latents", async (gpu) => {
  using pipe = await StableDiffusionPipeline.fromPretrained(folder("sd1-mini"), { gpu });
  const steps: [number, number][] = [];
  await pipe.generate("a rose", {
    numInferenceSteps: 5,
    callbackSteps: 2,
    callback: async (step, timestep, latents) => {
      steps.push([step, timestep]);
      assert((await latents.data()).every(Number.isFinite));
    },
  });
  assertEquals(steps.map(([step]) => step), [0, 2, 4]);
});

gpuTest("two pipelines can share components without a second copy of the weights", async (gpu) => {
  using pipe = await StableDiffusionPipeline.fromPretrained(folder("sd1-mini"), { gpu });
  const before = gpu.memory.live;
  const other = new StableDiffusionPipeline({ ...pipe.components, scheduler: DDIMScheduler.fromConfig({}) });
  assertEquals(gpu.memory.live, before);
  const draw = async (p: StableDiffusionPipeline) =>
    (await p.generate("a rose", { numInferenceSteps: 2, generator: new TorchGenerator(1), outputType: "array" }))
      .images;
  const first = await draw(other); // clips its samples: the host's way
  other[Symbol.dispose]();
  assertEquals((await draw(pipe)).length, first.length);
});

gpuTest("a prompt of more than 77 tokens is truncated, and the warning shows the part left out", async (gpu) => {
  using pipe = await StableDiffusionPipeline.fromPretrained(folder("sd1-mini"), { gpu });
  const warnings: string[] = [];
  const { warn } = console;
  console.warn = (message: string) => warnings.push(message);
  try {
    const { promptEmbeds } = await pipe.encodePrompt("a red rose ".repeat(30) + "beside a lemon", {
      doClassifierFreeGuidance: false,
    });
    using embeds = promptEmbeds;
    assertEquals(embeds.shape, [1, 77, 48]);
  } finally {
    console.warn = warn;
  }
  assertEquals(warnings.length, 1);
  assert(/77 tokens.*"[^"]*beside a lemon"/.test(warnings[0]), warnings[0]);
});

gpuTest("generate rejects invalid calls, and the error says what is valid", async (gpu) => {
  using pipe = await StableDiffusionPipeline.fromPretrained(folder("sd1-mini"), { gpu });
  using latents = Tensor.from(gpu, new Float32Array(4 * 8 * 8), [1, 4, 8, 8]);
  using embeds = Tensor.from(gpu, new Float32Array(77 * 48), [1, 77, 48]);
  using narrow = Tensor.from(gpu, new Float32Array(77 * 32), [1, 77, 32]);
  await assertRejects(
    () => pipe.generate("a rose", { height: 33 }),
    ShapeError,
    "height must be a multiple of 2 above 0: 33",
  );
  await assertRejects(() => pipe.generate("a rose", { width: 1e9 }), ShapeError, "a side has at most 16384 pixels");
  const many = { numImagesPerPrompt: 1e9 };
  await assertRejects(() => pipe.generate("a rose", many), OptionError, "Generate fewer at a time");
  await assertRejects(() => pipe.generate("a rose", { latents }), ShapeError, "[1, 4, 16, 16] are wanted");
  await assertRejects(() => pipe.generate([]), PromptError, "without a prompt");
  await assertRejects(() => pipe.generate("a rose", { promptEmbeds: embeds }), PromptError, "give one of them");
  await assertRejects(
    () => pipe.generate(["a", "b"], { negativePrompt: ["c"] }),
    PromptError,
    "1 negative prompt with 2 prompts",
  );
  await assertRejects(() => pipe.generate(undefined, { promptEmbeds: narrow, guidanceScale: 1 }), ShapeError, "48");
  await assertRejects(() => pipe.generate("a rose", { numInferenceSteps: 0 }), RangeError, "steps");
  await assertRejects(() => pipe.generate("a rose", { numInferenceSteps: 2, eta: -1 }), RangeError, "eta");
  await assertRejects(
    () => pipe.generate(["a", "b"], { generator: [new TorchGenerator(1)] }),
    RangeError,
    "1 generator",
  );
  await assertRejects(() => StableDiffusionPipeline.fromPretrained(folder("no-such-model"), { gpu }), CheckpointError);
});
