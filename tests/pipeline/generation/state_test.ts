import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { GpuError } from "../../../engine/errors.ts";
import type { Gpu } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { drawPictures } from "../../../pipeline/evaluation/draw_pictures.ts";
import { ModelEdit } from "../../../pipeline/editing/model_edit.ts";
import { type EditingGenerateOptions, StableDiffusionModelEditingPipeline } from "../../../pipeline/model_editing.ts";
import {
  DDIMScheduler,
  EulerAncestralDiscreteScheduler,
  EulerDiscreteScheduler,
  TorchGenerator,
} from "../../../schedulers/mod.ts";
import { keptWork } from "../../../pipeline/models/unet.ts";
import { assertClose, gpuTest } from "../../gpu.ts";

const goldens = `${import.meta.dirname}/../../goldens`;
const lora = `${goldens}/lora_kohya.safetensors`;
const inversion = `${goldens}/textual_inversion_swirl.safetensors`;
const pairs = [{ source: "A pack of roses", destination: "A pack of blue roses" }];

type Pipe = StableDiffusionModelEditingPipeline;
type Options = EditingGenerateOptions<"array">;

const open = (gpu: Gpu): Promise<Pipe> =>
  StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });

const draw = (pipe: Pipe, prompt: string | string[] = "a field of <swirl> roses", options: Options = {}) =>
  pipe.generate(prompt, { numInferenceSteps: 2, generator: 3, outputType: "array", ...options });

gpuTest("components replaced during a call take effect only in the next call", async (gpu) => {
  using pipe = await open(gpu);
  using edit = await ModelEdit.solve(pairs, {}, pipe);
  using other = await ModelEdit.solve([{ source: "A cat", destination: "A white cat" }], {}, pipe);
  await pipe.loadTextualInversion(inversion);
  await pipe.loadLoraWeights(lora, { name: "ink", weight: 0.8 });
  pipe.edits.push(edit);
  const { images: before } = await draw(pipe);
  const original = pipe.scheduler;
  const swaps: Record<string, { swap: () => unknown; undo: () => unknown }> = {
    "scheduler": {
      swap: () => pipe.scheduler = EulerDiscreteScheduler.fromConfig(original.config),
      undo: () => pipe.scheduler = original,
    },
    "edit removed": { swap: () => pipe.edits.remove(edit), undo: () => pipe.edits.push(edit) },
    "edit added": { swap: () => pipe.edits.push(other), undo: () => pipe.edits.remove(other) },
    "edit's strength": { swap: () => pipe.edits.setStrength(edit, 0.3), undo: () => pipe.edits.setStrength(edit, 1) },
    "adapter's weight": { swap: () => pipe.setAdapters("ink", 0.1), undo: () => pipe.setAdapters("ink", 0.8) },
    "adapter unloaded": {
      swap: () => pipe.unloadLoraWeights("ink"),
      undo: () => pipe.loadLoraWeights(lora, { name: "ink", weight: 0.8 }),
    },
    "token unloaded": {
      swap: () => pipe.unloadTextualInversion(),
      undo: () => pipe.loadTextualInversion(inversion),
    },
    "activations": { swap: () => pipe.unet.activations = "f16", undo: () => pipe.unet.activations = "f32" },
  };
  for (const [what, { swap, undo }] of Object.entries(swaps)) {
    // a fresh key each time, so that nothing kept hides a late read
    const options = { negativePrompt: `not ${what}`, numInferenceSteps: 1 };
    const { images: expected } = await draw(pipe, undefined, options);
    keptWork(pipe.unet).context.clear(); // the run encodes again
    keptWork(pipe.unet).prediction.clear();
    const running = draw(pipe, undefined, options);
    swap();
    const { images } = await running;
    assertEquals(images, expected, what);
    const { images: next } = await draw(pipe, undefined, options);
    assertNotEquals(next, expected, `${what}, the next call`);
    await undo();
  }
  assertEquals((await draw(pipe)).images, before);
});

gpuTest("tiling is read when the call starts", async (gpu) => {
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
  const size = { height: 48, width: 80 };
  const { images: whole } = await draw(pipe, "a rose", size);
  const running = draw(pipe, "a rose", size);
  pipe.enableVaeTiling();
  assertEquals((await running).images, whole);
  assertNotEquals((await draw(pipe, "a rose", size)).images, whole);
});

gpuTest("changes to options, arrays and tensors after the call has started do not affect it", async (gpu) => {
  using pipe = await open(gpu);
  using edit = await ModelEdit.solve(pairs, {}, pipe);
  pipe.edits.push(edit);
  const shape = [2, 4, 16, 16];
  const values = () => new Float32Array(new TorchGenerator(5).randn(shape));
  const fresh = () => ({ latents: { data: values(), shape: [...shape] }, negativePrompt: ["blurry", "dark"] });
  const prompts = ["a rose", "a field of roses"];
  const { images: expected } = await draw(pipe, prompts, {
    ...fresh(),
    editsPerPrompt: [[edit], []],
    guidanceScale: 4,
    crossAttentionKwargs: { scale: 1 },
  });

  const options = { ...fresh(), editsPerPrompt: [[edit], []] as ModelEdit[][], guidanceScale: 4, numInferenceSteps: 2 };
  const mutable = [...prompts];
  const running = pipe.generate(mutable, { ...options, outputType: "array", generator: 3 });
  options.latents.data.fill(0);
  options.latents.shape[0] = 1;
  options.negativePrompt[0] = "a cat";
  options.editsPerPrompt[1].push(edit);
  options.editsPerPrompt.pop();
  mutable[0] = "a cat";
  assertEquals((await running).images, expected, "host arrays");

  using latents = Tensor.from(gpu, values(), shape);
  const second = draw(pipe, prompts, { ...options, ...fresh(), latents, editsPerPrompt: [[edit], []] });
  latents.write(new Uint8Array(latents.bytes));
  assertEquals((await second).images, expected, "a tensor that is overwritten");

  const { promptEmbeds } = await pipe.encodePrompt("a rose", { doClassifierFreeGuidance: false });
  const { images: rose } = await draw(pipe, "a rose");
  const third = pipe.generate(undefined, {
    promptEmbeds,
    numInferenceSteps: 2,
    generator: 3,
    outputType: "array",
  });
  promptEmbeds[Symbol.dispose]();
  assertEquals((await third).images, rose, "embeddings that are disposed of");
});

gpuTest("an edit that is solved again or disposed of during a call acts as at its start", async (gpu) => {
  using pipe = await open(gpu);
  const edit = await ModelEdit.solve(pairs, { lamb: 0.1 }, pipe);
  pipe.edits.push(edit);
  const { images: expected } = await draw(pipe, "a field of roses");
  await draw(pipe, "a cat");
  const running = draw(pipe, "a field of roses");
  await edit.resolve({ lamb: 100 });
  assertEquals((await running).images, expected);
  await edit.resolve({ lamb: 0.1 });
  await draw(pipe, "a cat");
  const last = draw(pipe, "a field of roses");
  pipe.edits.clear();
  edit[Symbol.dispose]();
  assertEquals((await last).images, expected);
});

gpuTest("overlapping calls draw from a shared generator as successive calls do, with ancestral noise", async (gpu) => {
  using pipe = await open(gpu);
  pipe.scheduler = EulerAncestralDiscreteScheduler.fromConfig(pipe.scheduler.config);
  const inTurn = new TorchGenerator(9), shared = new TorchGenerator(9);
  const options = (generator: TorchGenerator) => ({ generator, numInferenceSteps: 3 });
  const first = (await draw(pipe, "a rose", options(inTurn))).images;
  const second = (await draw(pipe, "a cat", options(inTurn))).images;
  const both = [draw(pipe, "a rose", options(shared)), draw(pipe, "a cat", options(shared))];
  const drawn = await Promise.all(both);
  assertEquals(drawn.map(({ images }) => images), [first, second]);
  assertEquals(shared.randn([4]), inTurn.randn([4]), "the generator has advanced as far");
});

gpuTest("overlapping calls with a scheduler that runs on the host do not share its history", async (gpu) => {
  using pipe = await open(gpu);
  pipe.scheduler = DDIMScheduler.fromConfig(pipe.scheduler.config, { clip_sample: true });
  pipe.scheduler.setTimesteps(7);
  const rose = (await draw(pipe, "a rose")).images, cat = (await draw(pipe, "a cat", { numInferenceSteps: 3 })).images;
  const drawn = await Promise.all([draw(pipe, "a rose"), draw(pipe, "a cat", { numInferenceSteps: 3 })]);
  assertEquals(drawn.map(({ images }) => images), [rose, cat]);
  assertEquals(pipe.scheduler.timesteps.length, 7, "a run of the caller's own goes on");
});

gpuTest("pictures drawn with edits of their own leave the stack and other calls alone", async (gpu) => {
  using pipe = await open(gpu);
  using edit = await ModelEdit.solve(pairs, {}, pipe);
  const plain = (await draw(pipe, "a rose")).images;
  const request = { prompt: "a rose", seed: 3 };
  const drawing = drawPictures(pipe, [request, { ...request, edit }], { steps: 2, batchSize: 1 });
  assertEquals(pipe.edits.length, 0);
  assertEquals((await draw(pipe, "a rose")).images, plain);
  const [without, edited] = await drawing;
  assertNotEquals(edited.data, without.data);
  assertEquals(pipe.edits.length, 0);
});

gpuTest("a pipeline disposed of during a call completes it, frees its memory and rejects new calls", async (gpu) => {
  const live = gpu.memory.live;
  const pipe = await open(gpu);
  const { images: expected } = await draw(pipe, "a rose");
  const running = draw(pipe, "a rose");
  pipe[Symbol.dispose]();
  assertEquals((await running).images, expected);
  assertEquals(gpu.memory.live, live);
  await assertRejects(() => draw(pipe, "a rose"), GpuError, "after it was disposed");
});

gpuTest("solving, saving and exporting an edit read pairs, options and operators when they are called", async (gpu) => {
  using pipe = await open(gpu);
  const folder = await Deno.makeTempDir();
  try {
    using expected = await ModelEdit.solve(pairs, { preserve: ["a cat"] }, pipe);
    const given = structuredClone(pairs), preserve = ["a cat"], options = { preserve, lamb: 0.1 };
    const solving = ModelEdit.solve(given, options, pipe);
    given[0].destination = "A pack of white roses";
    preserve.push("a field of roses");
    options.lamb = 5;
    await pipe.loadLoraWeights(lora, { name: "late" });
    pipe.unloadLoraWeights();
    const edit = await solving;
    assertEquals(edit.recipe, expected.recipe);
    assertClose(await edit.operator.dense(), await expected.operator.dense(), 1e-6);

    pipe.edits.push(edit);
    const leakage = await edit.leakage(["a tulip"]);
    await pipe.savePretrained(`${folder}/first`);
    await edit.exportLora(`${folder}/first.safetensors`);
    const work = [
      pipe.savePretrained(`${folder}/second`),
      edit.exportLora(`${folder}/second.safetensors`),
      edit.save(`${folder}/edit.safetensors`),
    ];
    const predicting = edit.leakage(["a tulip"]);
    pipe.edits.clear();
    edit[Symbol.dispose]();
    for (const { reason } of await Promise.allSettled(work) as PromiseRejectedResult[]) assertEquals(reason, undefined);
    assertEquals(await predicting, leakage);
    const unet = "unet/diffusion_pytorch_model.safetensors";
    assertEquals(await Deno.readFile(`${folder}/second/${unet}`), await Deno.readFile(`${folder}/first/${unet}`));
    assertEquals(
      await Deno.readFile(`${folder}/second.safetensors`),
      await Deno.readFile(`${folder}/first.safetensors`),
    );
    using loaded = await ModelEdit.load(`${folder}/edit.safetensors`, pipe);
    assertClose(await loaded.operator.dense(), await expected.operator.dense(), 1e-6);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
