import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ShapeError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { ModelEdit } from "../../pipeline/editing/model_edit.ts";
import { EditError, NonFiniteError, OptionError, OutputError, PromptError } from "../../pipeline/errors.ts";
import { StableDiffusionModelEditingPipeline } from "../../pipeline/model_editing.ts";
import { checkOptions, kinds, listOf, oneOf, wholeFrom } from "../../pipeline/options.ts";
import { TorchGenerator } from "../../schedulers/mod.ts";
import { gpuTest } from "../gpu.ts";
import { goldens } from "../paths.ts";

Deno.test("checkOptions() suggests names for snake_case, other libraries' names and misspellings", () => {
  const table = { numInferenceSteps: wholeFrom(1), guidanceScale: kinds.finite, generator: kinds.anything };
  const message = (options: object) => assertThrows(() => checkOptions("draw", options, table), OptionError).message;
  for (
    const [given, meant] of [
      ["num_inference_steps", "numInferenceSteps"],
      ["steps", "numInferenceSteps"],
      ["guidance_scale", "guidanceScale"],
      ["guidanceScael", "guidanceScale"],
      ["cfg_scale", "guidanceScale"],
      ["seed", "generator"],
      ["cfgScale", "guidanceScale"],
      ["guidance", "guidanceScale"],
    ]
  ) assert(message({ [given]: 1 }).endsWith(`"${given}" as there is none: did you mean ${meant}?`), given);
  for (
    const [given, advice] of [
      ["torch_dtype", 'activations: "f16"'],
      ["use_safetensors", "only safetensors are read"],
      ["guidance_rescale", "only pipelines of SDXL rescale predictions"],
      ["callbackOnStepEnd", "callback(step, timestep, latents)"],
      ["returnDict", "const { images }"],
      ["scheduler", "set pipe.scheduler"],
      ["strength", "img2img and inpainting are not supported"],
    ]
  ) assert(message({ [given]: 1 }).includes(`as there is none: `) && message({ [given]: 1 }).includes(advice), given);
  for (const name of ["constructor", "__proto__", "toString", "x".repeat(300)]) {
    const options = JSON.parse(`{${JSON.stringify(name)}: 1}`);
    assert(message(options).includes("the options are numInferenceSteps, guidanceScale, generator"), name);
  }
  checkOptions("draw", { numInferenceSteps: undefined, guidanceScale: 1 }, table);
  for (const options of [null, 5, "x", []]) {
    assertThrows(() => checkOptions("draw", options as object, table), OptionError, "must be an object");
  }
});

Deno.test("each kind of option accepts exactly its values", () => {
  const accepted = (kind: { accepts(value: unknown): boolean }, values: unknown[]) => values.map(kind.accepts);
  assertEquals(accepted(wholeFrom(1), [1, 0, 1.5, NaN, "1", 1n, null]), [true, ...Array(6).fill(false)]);
  assertEquals(accepted(kinds.finite, [0, -1.5, NaN, Infinity, "1"]), [true, true, false, false, false]);
  assertEquals(accepted(oneOf("a", "b"), ["a", "c", 5]), [true, false, false]);
  assertEquals(accepted(listOf(kinds.text, "strings"), [[], ["a"], ["a", 5], "a"]), [true, true, false, false]);
});

gpuTest("every function with options rejects unknown names and wrong kinds with a typed error", async (gpu) => {
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
  // deno-lint-ignore no-explicit-any
  const any = (value: unknown): any => value;
  const generate = (options: object) => () => pipe.generate("a rose", any(options));
  const refused: [() => Promise<unknown>, typeof OptionError | typeof PromptError | typeof EditError, string][] = [
    [generate({ num_inference_steps: 2 }), OptionError, "did you mean numInferenceSteps?"],
    [generate({ prompt2: "a" }), OptionError, "only pipelines of SDXL take it"],
    [generate({ crossAttentionKwargs: { weight: 1 } }), OptionError, 'the option "crossAttentionKwargs.weight"'],
    [
      () => pipe.editModel("a", "b", any({ method: "uce" })),
      OptionError,
      "ModelEdit.solve(pairs, { method, … }, pipe)",
    ],
    [() => ModelEdit.solve([], any(pipe), any({})), OptionError, "model must be a pipeline"],
    [generate({ numInferenceSteps: "20" }), OptionError, 'numInferenceSteps must be a whole number: "20"'],
    [generate({ guidanceScale: NaN }), OptionError, "guidanceScale must be a finite number: NaN"],
    [generate({ numImagesPerPrompt: 0 }), OptionError, "a whole number from 1: 0"],
    [generate({ clipSkip: 1.5 }), OptionError, "clipSkip"],
    [generate({ generator: 1.5 }), OptionError, "a seed"],
    [generate({ generator: -2 }), OptionError, "a seed"],
    [generate({ generator: 2n ** 64n }), OptionError, "a seed"],
    [generate({ generator: [1, "2"] }), OptionError, "a list of them"],
    [generate({ generator: {} }), OptionError, "an object"],
    [generate({ outputType: "pil" }), OptionError, '"image", the default, gives pictures'],
    [generate({ outputType: "np" }), OptionError, '"array" gives a Float32Array'],
    [generate({ outputType: "pt" }), OptionError, '"latent" a Tensor'],
    [generate({ outputType: "constructor" }), OptionError, 'must be "image", "array" or "latent"'],
    [generate({ callback: 5 }), OptionError, "callback must be a function"],
    [generate({ signal: {} }), OptionError, "an AbortSignal"],
    [generate({ latents: [1, 2] }), OptionError, "a Tensor or { data, shape }"],
    [generate({ negativePrompt: 5 }), OptionError, "negativePrompt"],
    [generate({ crossAttentionKwargs: { scael: 1 } }), OptionError, "did you mean scale?"],
    [generate({ editsPerPrompt: [{}] }), OptionError, "lists of edits"],
    [() => pipe.generate(any(5)), PromptError, "without a prompt"],
    [() => pipe.generate(any([5])), PromptError, "without a prompt"],
    [() => pipe.generate(any(null)), PromptError, "null"],
    [() => pipe.generate(any({})), PromptError, "without a prompt"],
    [() => pipe.generate(any({ prompt: "a" }), any({})), OptionError, "only one"],
    [() => pipe.encodePrompt("a", any({ clip_skip: 1 })), OptionError, "did you mean clipSkip?"],
    [() => pipe.editModel("a", "a b", any({ lambda: 1 })), OptionError, "did you mean lamb?"],
    [() => ModelEdit.solve([], any({ strength: 1 }), pipe), OptionError, "pipe.edits.push(edit, { strength })"],
    [() => ModelEdit.solve([], any({ with_to_k: true }), pipe), OptionError, "did you mean withToK?"],
    [() => ModelEdit.solve(any("a rose"), {}, pipe), EditError, "no list"],
    [() => ModelEdit.solve(any([null]), {}, pipe), EditError, "pair 1"],
    [() => ModelEdit.solve(any([{ source: 5, destination: "a" }]), {}, pipe), EditError, "source must be a string: 5"],
    [() => ModelEdit.solve(any([{ source: "a", destination: [5] }]), {}, pipe), EditError, "destination"],
    [
      () => ModelEdit.solve(any([{ source: "a", destination: "b", alignment: [[0]] }]), {}, pipe),
      EditError,
      "alignment",
    ],
    [() => pipe.loadLoraWeights("x.safetensors", any({ adapter_name: "a" })), OptionError, "did you mean name?"],
    [() => pipe.loadTextualInversion("x.safetensors", any({ tokens: "a" })), OptionError, "did you mean token?"],
    [() => pipe.savePretrained("nowhere", any({ dtype: "fp16" })), OptionError, '"f32" or "f16": "fp16"'],
    [() => pipe.saveSingleFile("nowhere", any({ overwrite: true })), OptionError, '"overwrite"'],
    [
      () => StableDiffusionModelEditingPipeline.fromPretrained("nowhere", any({ safety_checker: null })),
      OptionError,
      "did you mean safetyChecker?",
    ],
    [
      () => StableDiffusionModelEditingPipeline.fromSingleFile("nowhere", any({ tokeniser: "x" })),
      OptionError,
      "did you mean tokenizer?",
    ],
  ];
  for (const [call, Expected, message] of refused) await assertRejects(call, Expected, message);
});

gpuTest("a prompt among the options, seeds and host tensors give the same as their other forms", async (gpu) => {
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
  const common = { numInferenceSteps: 2, outputType: "array" as const };
  const prompts = ["a rose", "a cat"];
  const generator = [new TorchGenerator(3), new TorchGenerator(2n ** 64n - 1n)];
  const expected = await pipe.generate(prompts, { ...common, generator });
  assertEquals(expected.seeds, [3, 2n ** 64n - 1n]);
  assertEquals(expected.images.shape, [2, 32, 32, 3]);
  const seeded = await pipe.generate({ prompt: prompts, ...common, generator: [3, 2n ** 64n - 1n] });
  assertEquals(seeded.images, expected.images);

  const shape = [1, 4, 16, 16];
  const data = new TorchGenerator(3).randn(shape);
  const { promptEmbeds, negativePromptEmbeds } = await pipe.encodePrompt("a rose");
  using positive = promptEmbeds;
  using negative = negativePromptEmbeds!;
  const host = async (tensor: Tensor) => ({ data: await tensor.data(), shape: tensor.shape });
  const single = await pipe.generate("a rose", { ...common, generator: 3 });
  const fromHost = await pipe.generate(undefined, {
    ...common,
    latents: { data: [...data], shape },
    promptEmbeds: await host(positive),
    negativePromptEmbeds: await host(negative),
  });
  assertEquals(fromHost.images, single.images);
  const again = await pipe.encodePrompt(undefined, { promptEmbeds: positive, numImagesPerPrompt: 2 });
  using twice = again.promptEmbeds;
  using empty = again.negativePromptEmbeds!;
  const values = await positive.data();
  assertEquals([...await twice.data()], [...values, ...values]);
  assertEquals(empty.shape, [2, 77, 48]);

  const random = await pipe.generate("a rose", { ...common, generator: -1 });
  const repeated = await pipe.generate("a rose", { ...common, generator: random.seeds[0] });
  assertEquals(repeated.images, random.images);
});

gpuTest(
  "values that are not finite are rejected when they are given, or after the step that computed them",
  async (gpu) => {
    using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
    const shape = [1, 4, 16, 16], embedsShape = [1, 77, 48];
    const broken = (size: number) => Float32Array.from({ length: size }, (_, i) => i === 7 ? NaN : 0.1);
    await assertRejects(
      () => pipe.generate("a rose", { latents: { data: broken(1024), shape } }),
      NonFiniteError,
      "latents as all elements must be finite numbers: element 7 is NaN",
    );
    await assertRejects(
      () => pipe.generate("a rose", { latents: { data: [1], shape } }),
      ShapeError,
      "1024 elements: 1",
    );
    using latents = Tensor.from(gpu, broken(1024), shape);
    await assertRejects(() => pipe.generate("a rose", { latents }), NonFiniteError, "element 7");
    using promptEmbeds = Tensor.from(gpu, broken(77 * 48), embedsShape);
    await assertRejects(() => pipe.generate(undefined, { promptEmbeds }), NonFiniteError, "promptEmbeds");
    await assertRejects(() => pipe.encodePrompt(undefined, { promptEmbeds }), NonFiniteError, "promptEmbeds");

    const steps: number[] = [];
    using large = Tensor.from(gpu, new Float32Array(77 * 48).fill(3e38), embedsShape);
    for (const outputType of ["latent", "array", "image"] as const) {
      const error = await assertRejects(
        () =>
          pipe.generate(undefined, {
            promptEmbeds: large,
            numInferenceSteps: 6,
            outputType,
            callback: (step) => void steps.push(step),
          }),
        NonFiniteError,
        "NaN or infinities after step 1",
      );
      assertEquals(error.step, 0);
    }
    assert(steps.every((step) => step < 2), "the run ends after the first step that gives NaN");
  },
);

gpuTest("arguments and components of the wrong kind are refused by name before anything is done", async (gpu) => {
  const folder = `${goldens}/sd1-mini`;
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(folder, { gpu });
  const pair = { source: "roses", destination: "blue roses" };
  using edit = await ModelEdit.solve([pair], {}, pipe);
  pipe.edits.push(edit);
  const wrong = <T>(value: unknown) => value as T;
  const calls: [option: string, () => unknown][] = [
    ["gpu", () => StableDiffusionModelEditingPipeline.fromPretrained(folder, { gpu: wrong({}) })],
    ["options", () => StableDiffusionModelEditingPipeline.fromPretrained(folder, wrong(null))],
    ...(["scheduler", "unet", "textEncoder", "safetyChecker"] as const).map((part): [string, () => unknown] => [
      part,
      () => StableDiffusionModelEditingPipeline.fromPretrained(folder, { gpu, [part]: {} }),
    ]),
    ["directory", () => pipe.savePretrained(wrong(5))],
    ["options", () => pipe.savePretrained("never", wrong(null))],
    ["maxShardBytes", () => pipe.savePretrained("never", { maxShardBytes: NaN })],
    ["path", () => pipe.saveSingleFile(wrong(null))],
    ["options", () => pipe.saveSingleFile("never.safetensors", wrong([]))],
    ["options", () => pipe.encodePrompt("a rose", wrong(3))],
    ["model", () => ModelEdit.solve([pair], {}, wrong({}))],
    ["model", () => ModelEdit.load(new Uint8Array(8), wrong(null))],
    ["source", () => ModelEdit.load(wrong(null), pipe)],
    ["prompts", () => edit.leakage(wrong([5]))],
    ["enabled", () => pipe.edits.toggle(edit, wrong("no"))],
  ];
  for (const [option, call] of calls) {
    const error = await assertRejects(() => Promise.resolve().then(call), OptionError, undefined, `${call}`);
    assertEquals(error.option, option, `${call}`);
  }
  await assertRejects(() => edit.save(wrong(null)), OutputError, "a path, or a function");
  await assertRejects(() => ModelEdit.solve([pair], { preserveWeight: -1 }, pipe), EditError, "preserveWeight -1");
  assertThrows(() => pipe.edits.setStrength(edit, wrong(Symbol("s"))), EditError, "strength");
});
