import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { ModelEdit } from "../../pipeline/editing/model_edit.ts";
import { EditError } from "../../pipeline/errors.ts";
import { StableDiffusionModelEditingPipeline } from "../../pipeline/model_editing.ts";
import { schedulerFromConfig, TorchGenerator } from "../../schedulers/mod.ts";
import { type GoldenTensor, loadGoldens } from "../goldens.ts";
import { assertClose, gpuTest } from "../gpu.ts";
import { goldens } from "../paths.ts";

const folder = (path: string) => `${goldens}/${path}`;
const upload = (gpu: Gpu, { data, shape }: GoldenTensor) => Tensor.from(gpu, Float32Array.from(data), shape);
const open = (path: string, gpu: Gpu, options = {}) =>
  StableDiffusionModelEditingPipeline.fromPretrained(folder(path), { gpu, ...options });
const draw = async (
  pipe: StableDiffusionModelEditingPipeline,
  prompts: string[] = ["A field of roses"],
  options = {},
) => {
  const generator = prompts.map(() => new TorchGenerator(3));
  return (await pipe.generate(prompts, { numInferenceSteps: 3, generator, outputType: "array", ...options })).images;
};

for (const name of ["sd1-mini", "sd2-mini"]) {
  for (const withToK of [true, false]) {
    gpuTest(
      `${name}: the edited model draws the golden latents${withToK ? " and pictures" : ", values only"}`,
      async (gpu) => {
        const { tensors, note } = await loadGoldens(name);
        using pipe = await open(name, gpu, { withToK });
        pipe.scheduler = schedulerFromConfig({ ...note.schedulers.ddim.config, _class_name: "DDIMScheduler" });
        await pipe.editModel(...note.pairs[0] as [string, string]);
        using latents = upload(gpu, tensors.get("pipe.latents")!);
        const settings = { latents, numInferenceSteps: note.steps, guidanceScale: note.guidance };
        const { images } = await pipe.generate(note.prompts, { ...settings, outputType: "latent" });
        using result = images;
        const key = withToK ? "edited" : "edited_values_only";
        assertClose(await result.data(), tensors.get(`pipe.ddim.${key}.latent`)!.data, 1e-4, key);
        if (!withToK) return;
        const drawn = await pipe.generate(note.prompts, { ...settings, outputType: "array" });
        assertClose(drawn.images, tensors.get("pipe.ddim.edited.image")!.data, 1e-4, "image");
      },
    );
  }
}

gpuTest("the pocket model's edited pictures equal the goldens to 5e-4", async (gpu) => {
  const { tensors, note } = await loadGoldens("pocket");
  using pipe = await open("../../models/pocket", gpu);
  const report = await pipe.editModel(note.edit[0], note.edit[1], { lamb: note.lamb });
  const { images } = await pipe.generate(note.prompts, {
    generator: note.seeds.map((seed: number) => new TorchGenerator(seed)),
    numInferenceSteps: 20,
    guidanceScale: note.guidance,
    outputType: "array",
  });
  assertClose(images, tensors.get("ddim20.edited.image")!.data, 5e-4);
  assertEquals(report.layers.length, pipe.crossAttentions.length);
  assertEquals(report.alignments[0].pairs.map((pair) => pair.destination), [0, 1, 2, 3, 5, 6]);
});

gpuTest("a seed gives another picture after editModel, and the original bytes after resetModel", async (gpu) => {
  using pipe = await open("sd1-mini", gpu);
  const before = await draw(pipe);
  await pipe.editModel("A pack of roses", "A pack of blue roses");
  assertNotEquals(await draw(pipe), before);
  pipe.resetModel();
  assertEquals(await draw(pipe), before);
});

gpuTest("restartParams: false edits the edited model; true starts from the original", async (gpu) => {
  using pipe = await open("sd1-mini", gpu);
  await pipe.editModel("A banana", "A blue banana");
  const banana = await draw(pipe);
  await pipe.editModel("A pack of roses", "A pack of blue roses", { restartParams: false });
  assertEquals(pipe.edits.length, 2);
  assertNotEquals(await draw(pipe), banana);
  await pipe.editModel("A banana", "A blue banana");
  assertEquals(pipe.edits.length, 1);
  assertEquals(await draw(pipe), banana);
});

gpuTest("baked weights generate the same as the operator, to 1e-4", async (gpu) => {
  using pipe = await open("sd1-mini", gpu);
  await pipe.editModel("A pack of roses", "A pack of blue roses");
  const byOperator = await draw(pipe);
  const directory = await Deno.makeTempDir();
  try {
    await pipe.savePretrained(`${directory}/baked`);
    using baked = await StableDiffusionModelEditingPipeline.fromPretrained(`${directory}/baked`, { gpu });
    assertClose(await draw(baked), byOperator, 1e-4);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

gpuTest(
  "an edit exported as a LoRA in either format generates the same as the edited model, to 2e-4",
  async (gpu) => {
    using pipe = await open("sd1-mini", gpu);
    const plain = await draw(pipe);
    using edit = await ModelEdit.solve([{ source: "A pack of roses", destination: "A pack of blue roses" }], {}, pipe);
    pipe.edits.push(edit);
    const edited = await draw(pipe);
    pipe.edits.clear();
    const directory = await Deno.makeTempDir();
    try {
      for (const format of ["kohya", "diffusers"] as const) {
        const path = `${directory}/${format}.safetensors`;
        await edit.exportLora(path, { format });
        await pipe.loadLoraWeights(path);
        assertClose(await draw(pipe), edited, 2e-4, format);
        pipe.unloadLoraWeights();
        assertEquals(await draw(pipe), plain, "unloaded");
      }
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
);

gpuTest("two prompts of one batch can have different edits", async (gpu) => {
  using pipe = await open("sd1-mini", gpu);
  const prompts = ["A field of roses", "A field of roses"];
  const plain = await draw(pipe, prompts);
  using edit = await ModelEdit.solve([{ source: "A pack of roses", destination: "A pack of blue roses" }], {}, pipe);
  pipe.edits.push(edit);
  const both = await draw(pipe, prompts);
  const second = await draw(pipe, prompts, { editsPerPrompt: [[], [edit]] });
  const half = plain.length / 2;
  assertClose(second.subarray(0, half), plain.subarray(0, half), 1e-6, "first");
  assertClose(second.subarray(half), both.subarray(half), 1e-6, "second");
  await assertRejects(
    () => draw(pipe, prompts, { editsPerPrompt: [[edit]] }),
    EditError,
    "one list of edits for each prompt",
  );
});

gpuTest("an edit of selected layers does not change others; one that matches no layer is rejected", async (gpu) => {
  using pipe = await open("sd1-mini", gpu);
  const before = await draw(pipe);
  const { layers } = await pipe.editModel("A pack of roses", "A pack of blue roses", { layers: ["mid_block"] });
  assertEquals(layers, ["mid_block.attentions.0.transformer_blocks.0.attn2"]);
  const middle = await draw(pipe);
  assertNotEquals(middle, before);
  await assertRejects(
    () => pipe.editModel("A pack of roses", "A pack of blue roses", { layers: ["attn9"] }),
    EditError,
    "no cross-attention layer matches",
  );
  assertEquals(await draw(pipe), middle, "a refused edit changes nothing");
});

gpuTest(
  "a source that is not part of its destination, and an invalid lambda, are rejected with advice",
  async (gpu) => {
    using pipe = await open("sd1-mini", gpu);
    const error = await assertRejects(() => pipe.editModel("A pack of roses", "A blue rose"), EditError);
    assert(error.message.includes("pack") && error.message.includes("blue"), error.message);
    for (const lamb of [0, -1, NaN, Infinity]) {
      await assertRejects(() => pipe.editModel("A rose", "A blue rose", { lamb }), EditError, `${lamb}`);
    }
  },
);
