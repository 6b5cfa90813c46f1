import { assert, assertEquals, assertNotEquals } from "@std/assert";
import type { Gpu, GpuOptions } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { encodeOnHost } from "../../pipeline/editing/editable_model.ts";
import { ModelEdit } from "../../pipeline/editing/model_edit.ts";
import {
  StableDiffusionXLModelEditingPipeline,
  type XLEditingGenerateOptions,
} from "../../pipeline/model_editing_xl.ts";
import { loadGoldens } from "../goldens.ts";
import { assertClose, gpuTest } from "../gpu.ts";
import { goldens } from "../paths.ts";
import { denseUce } from "./editing/dense_editors.ts";

const folder = `${goldens}/sdxl-mini`;
const roses = { source: "A pack of roses", destination: "A pack of blue roses" };
const open = (gpu: Gpu) => StableDiffusionXLModelEditingPipeline.fromPretrained(folder, { gpu });
const draw = async (
  pipe: StableDiffusionXLModelEditingPipeline,
  prompts: string[] = ["A field of roses"],
  options: XLEditingGenerateOptions<"array"> = {},
) => {
  const generator = prompts.map(() => 3);
  const { images } = await pipe.generate(prompts, { numInferenceSteps: 2, generator, outputType: "array", ...options });
  return images;
};

function lessIdentity(e: Float64Array): Float64Array {
  const side = Math.sqrt(e.length);
  return e.map((value, i) => i % (side + 1) === 0 ? value - 1 : value);
}

gpuTest("sdxl-mini: the edited model draws the golden latents and pictures", async (gpu) => {
  const { tensors, note } = await loadGoldens("sdxl-mini");
  using pipe = await open(gpu);
  const report = await pipe.editModel(...note.pair as [string, string]);
  assertEquals(report.layers.length, pipe.crossAttentions.length);
  const start = tensors.get("pipe.latents")!;
  using latents = Tensor.from(gpu, Float32Array.from(start.data), start.shape);
  const settings = { latents, numInferenceSteps: note.steps };
  const { images } = await pipe.generate(note.prompts, { ...settings, outputType: "latent" });
  using result = images;
  assertClose(await result.data(), tensors.get("pipe.euler.edited.latent")!.data, 1e-4, "latent");
  const drawn = await pipe.generate(note.prompts, { ...settings, outputType: "array" });
  assertClose(drawn.images, tensors.get("pipe.euler.edited.image")!.data, 1e-4, "image");
});

const devices: [string, GpuOptions][] = [["", {}], [" in f32 alone", { withoutFeatures: ["wgpu-shader-f64"] }]];
for (const [where, options] of devices) {
  gpuTest(
    `sdxl-mini: E − I equals the golden to 2e-4, and eq. 5 on equal states to 1e-5${where}`,
    async (gpu) => {
      const { tensors } = await loadGoldens("sdxl-mini");
      using pipe = await open(gpu);
      for (const lamb of [0.1, 10]) {
        using edit = await ModelEdit.solve([roses], { lamb }, pipe);
        const actual = lessIdentity(await edit.operator.dense());
        const golden = tensors.get(`edit.${lamb.toFixed(1)}.operator`)!.data;
        assertClose(actual, lessIdentity(Float64Array.from(golden)), 2e-4, `lambda ${lamb}`);
        const { alignments } = edit.report;
        const texts = alignments.flatMap(({ source, destination }) => [source, destination]);
        const { embeddings, width } = await encodeOnHost(pipe, texts);
        const row = (text: string, at: number) =>
          Array.from(embeddings.get(text)!.subarray(at * width, (at + 1) * width));
        const dense = denseUce({
          source: alignments.flatMap(({ source, positions }) => positions.map(([at]) => row(source, at))),
          destination: alignments.flatMap(({ destination, positions }) =>
            positions.map(([, at]) => row(destination, at))
          ),
          preserve: [],
          lamb,
        }, { eraseScale: 1, preserveScale: 1 });
        assertClose(actual, dense, 1e-5, `lambda ${lamb}: dense`);
      }
    },
    options,
  );
}

gpuTest("sdxl-mini: edits of every method act by strength and by prompt, and come off exactly", async (gpu) => {
  using pipe = await open(gpu);
  const prompts = ["A field of roses", "A field of roses"];
  const plain = await draw(pipe, prompts);
  for (const method of ["time", "uce", "nullspace"] as const) {
    using edit = await ModelEdit.solve([roses], { method, preserve: ["a cat"] }, pipe);
    assertEquals([edit.report.method, edit.operator.width], [method, 80]);
    const [source, cat] = await edit.leakage([roses.source, "a cat"]);
    assert(cat < source, `${method}: ${cat} < ${source}`);
    pipe.edits.push(edit);
    const both = await draw(pipe, prompts);
    assertNotEquals(both, plain, method);
    const second = await draw(pipe, prompts, { editsPerPrompt: [[], [edit]] });
    const half = plain.length / 2;
    assertClose(second.subarray(0, half), plain.subarray(0, half), 1e-6, `${method}: first`);
    assertClose(second.subarray(half), both.subarray(half), 1e-6, `${method}: second`);
    pipe.edits.setStrength(edit, 0);
    assertEquals(await draw(pipe, prompts), plain, `${method}: strength 0`);
    pipe.edits.clear();
  }
  await pipe.editModel(roses.source, roses.destination);
  assertNotEquals(await draw(pipe, prompts), plain);
  pipe.resetModel();
  assertEquals(await draw(pipe, prompts), plain);
});

gpuTest("sdxl-mini: baked weights draw as the operator does, to 1e-4", async (gpu) => {
  using pipe = await open(gpu);
  await pipe.editModel(roses.source, roses.destination);
  const byOperator = await draw(pipe);
  const directory = await Deno.makeTempDir();
  try {
    await pipe.savePretrained(`${directory}/baked`);
    using baked = await StableDiffusionXLModelEditingPipeline.fromPretrained(`${directory}/baked`, { gpu });
    assertClose(await draw(baked), byOperator, 1e-4);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
