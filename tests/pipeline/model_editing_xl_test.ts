import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import type { Gpu, GpuOptions } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { type EditableModel, encodeOnHost, pooledEncoder } from "../../pipeline/editing/editable_model.ts";
import { ModelEdit } from "../../pipeline/editing/model_edit.ts";
import { bytesSource } from "../../pipeline/checkpoint/source/byte_source.ts";
import { AdapterError, CheckpointError, EditError } from "../../pipeline/errors.ts";
import { StableDiffusionModelEditingPipeline } from "../../pipeline/model_editing.ts";
import {
  StableDiffusionXLModelEditingPipeline,
  type XLEditingGenerateOptions,
} from "../../pipeline/model_editing_xl.ts";
import { openPipeline } from "../../pipeline/open_pipeline.ts";
import { loadGoldens } from "../goldens.ts";
import { assertClose, gpuTest } from "../gpu.ts";
import { goldens } from "../paths.ts";
import { denseNullSpace, denseUce } from "./editing/dense_editors.ts";

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

gpuTest(
  "sdxl-mini: a stack of all methods maps states and pooled embeddings in turn; leakage is that of E",
  async (gpu) => {
    using pipe = await open(gpu);
    using owned = new DisposableStack();
    const pairs = [roses, { source: "a banana", destination: "a blue banana" }, {
      source: "a cat",
      destination: "a dog",
    }];
    const strengths = [0.5, 1, 1.5];
    const edits: ModelEdit[] = [];
    for (const [i, method] of (["time", "uce", "nullspace"] as const).entries()) {
      const options = { method, preserve: ["a lemon"], withPooled: i > 0 };
      edits.push(owned.use(await ModelEdit.solve([pairs[i]], options, pipe)));
      pipe.edits.push(edits[i], { strength: strengths[i] });
    }
    const prompts = ["A pack of roses", "a banana", "a cat"];
    const states = owned.use(await pipe.encodeTexts(prompts)), pooled = owned.use(await pipe.encodePooled(prompts));
    const dense = async (edit: ModelEdit) => ({
      states: await edit.operator.dense(),
      pooled: await edit.pooledOperator?.dense(),
    });
    const operators = await Promise.all(edits.map(dense));
    const perPrompt = [[edits[0], edits[2]], [edits[1]], edits];
    for (const part of ["states", "pooled"] as const) {
      const x = part === "states" ? states : pooled;
      using edited = gpu.scope(() =>
        part === "states"
          ? pipe.edits.editedStates(x, { perPrompt })(pipe.crossAttentions[0].path).values
          : pipe.edits.editedPooled(x, { perPrompt })
      );
      const width = x.shape.at(-1)!, each = x.size / prompts.length;
      const expected = Float64Array.from(await x.data());
      perPrompt.forEach((chosen, prompt) => {
        for (let at = prompt * each; at < (prompt + 1) * each; at += width) {
          // W·E₁·E₂·x: the last edit is applied first.
          for (const [i, operator] of [...operators.entries()].toReversed()) {
            const e = operator[part];
            if (!chosen.includes(edits[i]) || e === undefined) continue;
            expected.set(movedBy(e, expected.subarray(at, at + width), strengths[i]), at);
          }
        }
      });
      assertClose(await edited.data(), expected, 1e-5, part);
    }
    const { embeddings, width } = await encodeOnHost(pipe, prompts);
    const { embeddings: pooledOf } = await encodeOnHost(pooledEncoder(pipe), prompts);
    for (const [i, edit] of edits.entries()) {
      const predicted = await edit.predictLeakage(prompts);
      prompts.forEach((prompt, p) => {
        const x = Float64Array.from(embeddings.get(prompt)!);
        let moved = 0, size = 0;
        for (let at = 0; at < x.length; at += width) {
          const row = x.subarray(at, at + width);
          movedBy(operators[i].states, row, 1).forEach((value, j) => {
            moved += (value - row[j]) ** 2;
            size += row[j] ** 2;
          });
        }
        assertClose([predicted[p].leakage], [Math.sqrt(moved / size)], 1e-4, `${edit.report.method}, ${prompt}`);
        const e = operators[i].pooled, own = Float64Array.from(pooledOf.get(prompt)!);
        if (e === undefined) return assertEquals(predicted[p].pooled, undefined);
        const change = movedBy(e, own, 1).map((value, j) => value - own[j]);
        assertClose([predicted[p].pooled!], [Math.hypot(...change) / Math.hypot(...own)], 1e-4, `pooled, ${prompt}`);
      });
    }
  },
);

/** x + strength · (E − I)x, for E [d, d] in row order. */
function movedBy(e: ArrayLike<number>, x: Float64Array, strength: number): Float64Array {
  return x.map((own, i) => {
    const moved = x.reduce((sum, value, j) => sum + e[i * x.length + j] * value, 0);
    return own + strength * (moved - own);
  });
}

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

/** The pooled embeddings of texts in float64, as the model's encoder gives them. */
async function pooledRows(pipe: StableDiffusionXLModelEditingPipeline, texts: readonly string[]): Promise<number[][]> {
  const { embeddings } = await encodeOnHost({ encodeTexts: (some) => pipe.encodePooled(some) }, texts);
  return texts.map((text) => Array.from(embeddings.get(text)!));
}

for (const [where, options] of devices) {
  gpuTest(`sdxl-mini: withPooled solves each method's equations on pooled embeddings, to 1e-5${where}`, async (gpu) => {
    using pipe = await open(gpu);
    const preserve = ["a cat", "a dog"];
    for (const method of ["time", "uce", "nullspace"] as const) {
      using plain = await ModelEdit.solve([roses], { method, preserve }, pipe);
      using edit = await ModelEdit.solve([roses], { method, preserve, withPooled: true }, pipe);
      assertEquals(await edit.operator.dense(), await plain.operator.dense(), "the states' operator is the same");
      assertEquals([plain.pooledOperator, edit.recipe.withPooled, plain.recipe.withPooled], [
        undefined,
        true,
        undefined,
      ]);
      const { alignments, pooled } = edit.report;
      assert(pooled!.residual < 1e-5, `${method}: residual ${pooled!.residual}`);
      const given = {
        source: await pooledRows(pipe, alignments.map(({ source }) => source)),
        destination: await pooledRows(pipe, alignments.map(({ destination }) => destination)),
        preserve: await pooledRows(pipe, preserve),
        lamb: edit.recipe.lamb,
      };
      const exact = method === "nullspace"
        ? denseNullSpace(given, { threshold: 0.1, scale: 1, invariant: await pooledRows(pipe, [""]) })
        : denseUce(given, { eraseScale: 1, preserveScale: 1 });
      assertClose(lessIdentity(await edit.pooledOperator!.dense()), exact, 1e-5, method);
    }
  }, options);
}

gpuTest("sdxl-mini: an edit withPooled acts by strength and by prompt, and is baked and saved whole", async (gpu) => {
  using pipe = await open(gpu);
  const prompts = ["A field of roses", "A field of roses"];
  const plain = await draw(pipe, prompts);
  using states = await ModelEdit.solve([roses], {}, pipe);
  using edit = await ModelEdit.solve([roses], { withPooled: true, lamb: 1 }, pipe);
  const { lamb } = await edit.resolve({ lamb: 0.1 });
  assertEquals([lamb, edit.report.pooled!.lamb], [0.1, 0.1]);
  pipe.edits.push(states);
  const statesAlone = await draw(pipe, prompts);
  pipe.edits.clear();
  pipe.edits.push(edit, { strength: 0.5 });
  const half = await draw(pipe, prompts);
  pipe.edits.setStrength(edit, 1);
  const whole = await draw(pipe, prompts);
  assertNotEquals(whole, statesAlone);
  assertNotEquals(whole, half);
  const second = await draw(pipe, prompts, { editsPerPrompt: [[], [edit]] });
  const middle = plain.length / 2;
  assertClose(second.subarray(0, middle), plain.subarray(0, middle), 1e-6, "first");
  assertClose(second.subarray(middle), whole.subarray(middle), 1e-6, "second");
  const directory = await Deno.makeTempDir();
  try {
    const perLayer = { method: "nullspace", preserve: ["a cat"], influenceFilter: true, withPooled: true } as const;
    await assertRejects(() => ModelEdit.solve([roses], perLayer, pipe), EditError, "belongs to no layer");
    await pipe.savePretrained(`${directory}/baked`);
    using baked = await StableDiffusionXLModelEditingPipeline.fromPretrained(`${directory}/baked`, { gpu });
    assertClose(await draw(baked, prompts), whole, 1e-4, "baked");
    await edit.save(`${directory}/edit.safetensors`);
    using loaded = await ModelEdit.load(`${directory}/edit.safetensors`, pipe);
    assertEquals(await loaded.pooledOperator!.dense(), await edit.pooledOperator!.dense());
    assertEquals(loaded.recipe, edit.recipe);
    pipe.edits.clear();
    pipe.edits.push(loaded);
    assertEquals(await draw(pipe, prompts), whole, "loaded");
    await assertRejects(
      () => ModelEdit.load(`${directory}/edit.safetensors`, { ...asModel(pipe), encodePooled: undefined }),
      EditError,
      "reads none",
    );
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

/** The pipeline as an edit reads it, to replace parts of. */
function asModel(pipe: StableDiffusionXLModelEditingPipeline): EditableModel {
  return {
    gpu: pipe.gpu,
    tokenizer: pipe.tokenizer,
    crossAttentions: pipe.crossAttentions,
    encoderWidths: pipe.encoderWidths,
    encodeTexts: (texts) => pipe.encodeTexts(texts),
    encodePooled: (texts) => pipe.encodePooled(texts),
  };
}

gpuTest("an edit of SDXL is refused for another pair of text encoders, each told by itself", async (gpu) => {
  using pipe = await open(gpu);
  using edit = await ModelEdit.solve([roses], {}, pipe);
  const parts: Uint8Array<ArrayBuffer>[] = [];
  await edit.save((chunk) => void parts.push(chunk.slice()));
  const file = new Uint8Array(await new Blob(parts).arrayBuffer());
  const model = asModel(pipe);
  using loaded = await ModelEdit.load(file, pipe);
  assertEquals(loaded.rank, edit.rank);
  const refused = async (other: EditableModel, message: string) => {
    await assertRejects(() => ModelEdit.load(file, other), EditError, message);
  };
  await refused(
    { ...model, encoderWidths: [48, 32] },
    "embeddings of width 32 + 48, and the model's have width 48 + 32",
  );
  // One of the encoders reads another text.
  const withStates = (change: (states: Float32Array, other: Float32Array) => void): EditableModel => ({
    ...model,
    encodeTexts: async (texts) => {
      using states = pipe.encodeTexts(texts);
      using other = pipe.encodeTexts(texts.map((text) => `not ${text}`));
      const [values, others] = [await states.data(), await other.data()];
      change(values, others);
      return Tensor.from(gpu, values, states.shape);
    },
  });
  const exchanged = (from: number, to: number) =>
    withStates((values, others) => {
      for (let i = 0; i < values.length; i++) if (i % 80 >= from && i % 80 < to) values[i] = others[i];
    });
  await refused(exchanged(0, 32), "another first text encoder");
  await refused(exchanged(32, 80), "another second text encoder");
  using sd = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
  await refused(sd, "embeddings of width 32 + 48, and the model's have width 48");
  await assertRejects(
    () => edit.exportLora(() => {}, {}, sd),
    EditError,
    "width 48, and the edit was solved for width 80",
  );
  // A file of one kind in place of another's is named, with its own use.
  const memory = (bytes: Uint8Array<ArrayBuffer>) => bytesSource(bytes, "rose.safetensors");
  await assertRejects(
    () => openPipeline(memory(file), { gpu }),
    CheckpointError,
    "an edit of Blue Rose; load the model",
  );
  await assertRejects(
    () => pipe.loadLoraWeights(memory(file)),
    AdapterError,
    "It is an edit of Blue Rose: load the model",
  );
  const lora: Uint8Array<ArrayBuffer>[] = [];
  await edit.exportLora((chunk) => void lora.push(chunk.slice()));
  const exported = new Uint8Array(await new Blob(lora).arrayBuffer());
  await assertRejects(() => ModelEdit.load(exported, pipe), EditError, "as it is a LoRA; load the model");
  await assertRejects(
    () => sd.editModel(roses.source, roses.destination, { withPooled: true }),
    EditError,
    "reads none",
  );
});
