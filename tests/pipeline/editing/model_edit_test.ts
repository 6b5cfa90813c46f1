import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { GpuOptions } from "../../../engine/gpu.ts";
import { EditStack } from "../../../pipeline/editing/edit_stack.ts";
import { AlignmentError, LambdaError } from "../../../pipeline/editing/errors.ts";
import { suggestPreserve } from "../../../pipeline/editing/leakage.ts";
import { ModelEdit } from "../../../pipeline/editing/model_edit.ts";
import { EditError } from "../../../pipeline/errors.ts";
import { fileSource } from "../../../pipeline/checkpoint/source/disk.ts";
import { SafetensorsFile } from "../../../pipeline/checkpoint/safetensors/safetensors_file.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
import { product } from "../../../bench/oracles/matrices.ts";
import { openModel } from "./models.ts";
import { goldens, goldensOnDisk } from "../../paths.ts";
import { editGoldens } from "../golden_suite.ts";

const roses = { source: "A pack of roses", destination: "A pack of blue roses" };
const banana = { source: "A banana", destination: "A blue banana" };

async function inTemporaryFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const devices: [string, GpuOptions][] = [["", {}], [" in f32 alone", { withoutFeatures: ["wgpu-shader-f64"] }]];
for (const [where, options] of devices) {
  for (const golden of editGoldens) {
    gpuTest(`${golden.name}${where}`, (gpu) => golden.run(gpu, goldensOnDisk), options);
  }
}

gpuTest("an edit's report describes it", async (gpu) => {
  using model = await openModel(gpu, "pocket");
  using edit = await ModelEdit.solve([roses], { lamb: 0.1 }, model);
  const { report } = edit;
  assertEquals(report.rows, 308);
  assert(report.mergedRows < 308 && edit.rank <= report.mergedRows && report.residual < 1e-3);
  assertEquals(report.layers, model.crossAttentions.map(({ path }) => path));
  assertEquals(report.alignments.map(({ source }) => source).slice(0, 2), [
    "A pack of roses",
    "A photo of a pack of roses",
  ]);
  const texts = report.alignments[0].pairs.map(({ sourceToken, destinationToken }) => [sourceToken, destinationToken]);
  assert(texts.every(([a, b]) => a === b) && texts.length < 10);
});

gpuTest("resolve() equals a new solution for another λ; a loaded edit cannot be solved again", async (gpu) => {
  using model = await openModel(gpu, "pocket");
  using edit = await ModelEdit.solve([roses], { lamb: 0.1 }, model);
  using fresh = await ModelEdit.solve([roses], { lamb: 3 }, model);
  const report = await edit.resolve({ lamb: 3 });
  assertEquals([report.lamb, edit.recipe.lamb], [3, 3]);
  assertClose(await edit.operator.dense(), await fresh.operator.dense(), 1e-7);
  await assertRejects(() => edit.resolve({ lamb: 0 }), LambdaError);
});

gpuTest("preserved prompts change less, sources change most, and leakage is ‖(E − I)x‖ / ‖x‖", async (gpu) => {
  using model = await openModel(gpu, "pocket");
  const keep = ["a field of sunflowers", "a painting of a cat"];
  using plain = await ModelEdit.solve([roses], { lamb: 0.1 }, model);
  using careful = await ModelEdit.solve([roses], { lamb: 0.1, preserve: keep }, model);
  const before = await plain.leakage([roses.source, ...keep]);
  const after = await careful.leakage([roses.source, ...keep]);
  using x = await model.encodeTexts([roses.source]);
  using edited = plain.operator.apply(x);
  const [a, b] = [await x.float64(), await edited.float64()];
  assertClose([before[0]], [Math.hypot(...b.map((value, i) => value - a[i])) / Math.hypot(...a)], 1e-4);
  keep.forEach((_, i) => assert(after[i + 1] < before[i + 1] / 2, `${before} → ${after}`));
  assert(after[0] > 0.5 * before[0], `${before} → ${after}`);
  const predictions = await plain.predictLeakage([roses.source, "a bouquet of roses", "a cat"]);
  assertEquals(predictions.map(({ nearest }) => nearest.source), Array(3).fill(roses.source));
  assertClose([predictions[0].share, predictions[0].nearest.cosine], [1, 1], 1e-6);
  assert(predictions[0].warning && predictions[1].leakage > predictions[2].leakage);
  const suggested = await suggestPreserve(plain, [roses.source, "a cat", "a bouquet of roses"], { count: 1 });
  assertEquals(suggested.map(({ prompt }) => prompt), ["a bouquet of roses"]);
});

gpuTest(
  "pairs are solved jointly by weight, destinations can share a source, and manual alignments need no subsequence",
  async (gpu) => {
    using model = await openModel(gpu, "pocket");
    using one = await ModelEdit.solve([roses], { lamb: 1, withAugs: [] }, model);
    using both = await ModelEdit.solve([roses, { ...banana, weight: 2 }], { lamb: 1, withAugs: [] }, model);
    assertEquals([one.report.rows, both.report.rows], [77, 154]);
    // Two equal destinations act as one; shares that sum to 0 act as no edit.
    const twice = [{ prompt: roses.destination, weight: 0.25 }, { prompt: roses.destination, weight: 0.75 }];
    using shared = await ModelEdit.solve([{ ...roses, destination: twice }], { lamb: 1, withAugs: [] }, model);
    assertClose(await shared.operator.dense(), await one.operator.dense(), 1e-6);
    const opposed = [{ prompt: roses.destination, weight: 1 }, { prompt: roses.destination, weight: -1 }];
    using none = await ModelEdit.solve([{ ...roses, destination: opposed }], { lamb: 1, withAugs: [] }, model);
    assertEquals([none.rank, none.report.relativeSize], [0, 0]);
    const swap = { source: "a red rose", destination: "a blue rose" };
    await assertRejects(() => ModelEdit.solve([swap], {}, model), AlignmentError);
    using byHand = await ModelEdit.solve([{ ...swap, alignment: [[1, 1], [2, 2], [3, 3]] }], { lamb: 1 }, model);
    assert(byHand.rank > 0);
    assertEquals(
      byHand.report.alignments[1].pairs.map(({ source, destination }) => source - destination),
      Array(8).fill(0),
    );
  },
);

gpuTest("layers are selected by prefix or predicate; selecting none is an error that lists all layers", async (gpu) => {
  using model = await openModel(gpu, "sd1-mini");
  using edit = await ModelEdit.solve([roses], { layers: ["mid_block"], withToK: false }, model);
  const inside = edit.report.layers[0];
  assert(edit.report.layers.length === 1 && inside.startsWith("mid_block."));
  assertEquals([edit.edits(inside, "values"), edit.edits(inside, "keys"), edit.edits("up", "values")], [
    true,
    false,
    false,
  ]);
  const [change] = await edit.layerChanges();
  assertEquals([change.layer, change.toK], [inside, undefined]);
  const layer = model.crossAttentions.find(({ path }) => path === inside)!;
  using baked = new EditStack().push(edit).bake(layer.toV.weight, inside, "values");
  const [w, changed] = [await layer.toV.weight.data(), await baked.data()];
  assertClose([change.toV], [Math.hypot(...changed.map((value, i) => value - w[i])) / Math.hypot(...w)], 1e-4);
  await assertRejects(() => ModelEdit.solve([roses], { layers: ["mid"] }, model), EditError, "mid_block.attentions");
  await assertRejects(() => ModelEdit.solve([roses], { layers: () => false }, model), EditError, "no cross-attention");
  await assertRejects(() => ModelEdit.solve([], {}, model), EditError, "without a pair");
});

gpuTest(
  "a stack applies edits in order, with strengths and per prompt, and removes them exactly",
  async (gpu) => {
    using model = await openModel(gpu, "pocket");
    using first = await ModelEdit.solve([roses], {}, model);
    using second = await ModelEdit.solve([banana], { withToK: false }, model);
    using x = await model.encodeTexts(["a rose", "a banana", "a cat"]);
    const layer = model.crossAttentions[0].path;
    const stack = new EditStack<ModelEdit>();
    const read = async (role: "keys" | "values", options = {}) => {
      using tensor = gpu.scope(() => stack.editedStates(x, options)(layer)[role]);
      return await tensor.data();
    };
    const plain = await x.data();
    assertEquals(await read("values"), plain);
    stack.push(first).push(second, { strength: 0.5 });
    const [e1, e2] = [await first.operator.dense(), await second.operator.dense()];
    const width = first.operator.width;
    const half = e2.map((value, i) => i % (width + 1) === 0 ? (value + 1) / 2 : value / 2);
    const transpose = (m: Float64Array) => m.map((_, i) => m[(i % width) * width + Math.floor(i / width)]);
    const rows = plain.length / width;
    const values = product(plain, transpose(product(e1, half, width, width, width)), rows, width, width);
    assertClose(await read("values"), values, 1e-5, "values");
    assertClose(await read("keys"), product(plain, transpose(e1), rows, width, width), 1e-5, "keys");
    // Edits baked into the weights have the same effect.
    const { toV } = model.crossAttentions[0];
    using baked = stack.bake(toV.weight, layer, "values");
    const features = toV.weight.shape[0];
    const weight = await toV.weight.data();
    assertClose(
      await baked.data(),
      product(weight, product(e1, half, width, width, width), features, width, width),
      1e-5,
    );

    const perPrompt = [[first], [], [first, second]];
    const mixed = await read("keys", { perPrompt });
    const third = plain.length / 3;
    const keys = await read("keys");
    assertEquals(mixed.subarray(third, 2 * third), plain.subarray(third, 2 * third));
    assertClose(mixed.subarray(0, third), keys.subarray(0, third), 1e-6);

    stack.toggle(first);
    assertEquals(await read("keys"), plain);
    stack.toggle(first, true);
    stack.move(second, 0);
    assertEquals(stack.entries.map(({ edit }) => edit === second), [true, false]);
    const swapped = product(plain, transpose(product(half, e1, width, width, width)), rows, width, width);
    assertClose(await read("values"), swapped, 1e-5, "reordered");
    assertEquals(stack.records, [{ ...banana, lambda: 0.1, options: ["values only", "strength 0.5"] }, {
      ...roses,
      lambda: 0.1,
    }]);
    stack.setStrength(second, 2);
    assert(stack.describe()[0].includes("beyond"));
    assertEquals([stack.pop() === first, stack.length], [true, 1]);
    stack.remove(second);
    assertEquals(await read("values"), plain);
    assertThrows(() => stack.remove(second), EditError, "stack of 0 edits");
    assertThrows(() => stack.push(first, { strength: NaN }), EditError, "NaN");
    stack.push(first);
    assertThrows(() => stack.push(first), EditError, "already");
    assertThrows(() => stack.editedStates(x, { perPrompt: [[]] }), EditError, "1 list of");
  },
);

gpuTest("a saved edit loads unchanged, and only with its own text encoder", async (gpu) => {
  using model = await openModel(gpu, "sd1-mini");
  await inTemporaryFolder(async (folder) => {
    const path = `${folder}/edit.safetensors`;
    using edit = await ModelEdit.solve([roses], { lamb: 0.5, preserve: ["a cat"], withToK: false }, model);
    await edit.save(path);
    const parts: Uint8Array<ArrayBuffer>[] = [];
    await edit.save((chunk) => void parts.push(chunk.slice()));
    assertEquals(new Uint8Array(await new Blob(parts).arrayBuffer()), await Deno.readFile(path));
    using loaded = await ModelEdit.load(path, model);
    assertEquals(loaded.recipe, edit.recipe);
    assertEquals(await loaded.operator.dense(), await edit.operator.dense());
    assertEquals([loaded.report.lamb, loaded.report.layers], [0.5, edit.report.layers]);
    await assertRejects(() => loaded.resolve({ lamb: 1 }), EditError, "a loaded edit");
    using bytes = await ModelEdit.load(await Deno.readFile(path), model);
    assertEquals(bytes.rank, edit.rank);
    using wide = await openModel(gpu, "sd2-mini");
    await assertRejects(() => ModelEdit.load(path, wide), EditError, "embeddings of width 48");
    await assertRejects(() => ModelEdit.load(path, wide, { anyModel: true }), EditError, "embeddings of width 48");
    const otherEncoder = {
      ...model,
      encodeTexts: (texts: readonly string[]) => model.encodeTexts(texts.map((text) => `not ${text}`)),
    };
    await assertRejects(() => ModelEdit.load(path, otherEncoder), EditError, "another text encoder");
    using anyway = await ModelEdit.load(path, otherEncoder, { anyModel: true });
    assertEquals(anyway.rank, edit.rank);
    const split = { ...otherEncoder, encoderWidths: [24, 24] }; // embeddings of the same width
    using ofSplit = await ModelEdit.solve([roses], {}, split);
    await ofSplit.save(path);
    const differs = "width 24 + 24, and the model's have width 48. Set anyModel: true";
    await assertRejects(() => ModelEdit.load(path, model), EditError, differs);
    using ofOne = await ModelEdit.load(path, model, { anyModel: true });
    assertEquals(await ofOne.operator.dense(), await ofSplit.operator.dense());
    using misstated = await ModelEdit.solve([roses], {}, { ...split, encoderWidths: [16, 16] });
    await assertRejects(() => misstated.save(path), EditError, "encoderWidths has [16,16]");
    await edit.save(path);
    await assertRejects(() => ModelEdit.load(path, split), EditError, "width 48, and the model's have width 24 + 24");
    (await ModelEdit.load(path, split, { anyModel: true }))[Symbol.dispose]();
    const smaller = { ...model, crossAttentions: model.crossAttentions.slice(1) };
    smaller.encodeTexts = (texts) => model.encodeTexts(texts);
    using all = await ModelEdit.load(path, smaller);
    assertEquals(all.report.layers.length, smaller.crossAttentions.length);
    using chosen = await ModelEdit.solve(
      [roses],
      { layers: model.crossAttentions.slice(0, 2).map(({ path }) => path) },
      model,
    );
    await chosen.save(path);
    await assertRejects(
      () => ModelEdit.load(path, smaller),
      EditError,
      "1 of the 2 layers that it edits is not there",
    );
    const other = `${goldens}/lora_kohya.safetensors`;
    await assertRejects(() => ModelEdit.load(other, model), EditError, "as an edit as it is a LoRA");
  });
});

gpuTest("edits that change nothing, or the empty prompt, are saved and loaded as such", async (gpu) => {
  using model = await openModel(gpu, "sd1-mini");
  const blue = "a blue rose";
  for (const [source, destination, ranks] of [[blue, blue, [0, 0]], ["", blue, [48, 48]], ["", "", [0, 0]]] as const) {
    using edit = await ModelEdit.solve([{ source, destination }], {}, model);
    const parts: Uint8Array<ArrayBuffer>[] = [];
    await edit.save((chunk) => void parts.push(chunk.slice()));
    using loaded = await ModelEdit.load(new Uint8Array(await new Blob(parts).arrayBuffer()), model);
    assertEquals([[edit.rank, loaded.rank], loaded.recipe], [[...ranks], edit.recipe]);
  }
});

/** Module names and ΔW = up · down · alpha / rank of a LoRA file. */
async function readLora(path: string): Promise<Map<string, { change: Float64Array; rank: number }>> {
  using file = await SafetensorsFile.open(await fileSource(path));
  const modules = new Map<string, { change: Float64Array; rank: number }>();
  for (const key of file.tensors.keys()) {
    const kohya = key.endsWith(".lora_down.weight");
    if (!kohya && !key.endsWith(".lora.down.weight")) continue;
    const module = key.replace(/\.lora[._]down\.weight$/, "");
    const [rank, width] = file.tensors.get(key)!.shape;
    const up = `${module}.${kohya ? "lora_up" : "lora.up"}.weight`;
    const features = file.tensors.get(up)!.shape[0];
    const alpha = kohya ? (await file.float32(`${module}.alpha`))[0] : rank;
    const change = product(await file.float32(up), await file.float32(key), features, rank, width);
    modules.set(module, { change: change.map((value) => value * alpha / rank), rank });
  }
  return modules;
}

gpuTest(
  "exportLora() writes ΔW of every edited matrix, exact, truncated or in f16, and reports the errors",
  async (gpu) => {
    using model = await openModel(gpu, "pocket");
    using edit = await ModelEdit.solve([roses], {}, model);
    using values = await ModelEdit.solve([banana], { withToK: false, layers: ["mid_block"] }, model);
    await inTemporaryFolder(async (folder) => {
      const path = `${folder}/lora.safetensors`;
      const changes = new Map<string, Float64Array>(),
        stacked = new EditStack<ModelEdit>().push(edit).push(values, { strength: 0.5 });
      const single = new EditStack<ModelEdit>().push(edit);
      const collect = async (stack: EditStack<ModelEdit>) => {
        for (const { path, toK, toV } of model.crossAttentions) {
          for (const [name, role, { weight }] of [["to_k", "keys", toK], ["to_v", "values", toV]] as const) {
            using baked = stack.bake(weight, path, role);
            const [after, before] = [await baked.float64(), await weight.data()];
            changes.set(`${path}.${name}`, after.map((value, i) => value - before[i]));
          }
        }
      };
      const relative = (found: Map<string, { change: Float64Array }>, nameOf: (module: string) => string) => {
        assertEquals([...found.keys()].sort(), [...changes.keys()].map(nameOf).sort());
        let difference = 0, norm = 0;
        for (const [module, change] of changes) {
          const other = found.get(nameOf(module))!.change;
          change.forEach((value, i) => {
            difference += (value - other[i]) ** 2;
            norm += value ** 2;
          });
        }
        return Math.sqrt(difference / norm);
      };
      const kohya = (module: string) => `lora_unet_${module.replaceAll(".", "_")}`;
      const diffusers = (module: string) => `unet.${module}`;

      await collect(single);
      const exact = await edit.exportLora(path);
      const parts: Uint8Array<ArrayBuffer>[] = [];
      assertEquals({ ...await edit.exportLora((chunk) => void parts.push(chunk.slice())), path }, exact);
      assertEquals(new Uint8Array(await new Blob(parts).arrayBuffer()), await Deno.readFile(path));
      assertEquals([exact.truncationError, exact.roundingError, exact.matrices], [0, 0, changes.size]);
      // W + ΔW was rounded to f32 in the baked weights, so that their difference has fewer digits
      // than ΔW itself.
      assert(relative(await readLora(path), kohya) < 1e-5);
      await edit.exportLora(path, { format: "diffusers" });
      assert(relative(await readLora(path), diffusers) < 1e-5);

      let before = Infinity;
      for (const rank of [1, 4, 16, 64]) {
        const truncated = await edit.exportLora(path, { rank, format: "diffusers" });
        const found = await readLora(path);
        assert([...found.values()].every((update) => update.rank === Math.min(rank, edit.rank)));
        assertClose([relative(found, diffusers)], [truncated.truncationError], 1e-2, `rank ${rank}`);
        assert(truncated.truncationError < before);
        before = truncated.truncationError;
      }
      const half = await edit.exportLora(path, { dtype: "f16" });
      const error = relative(await readLora(path), kohya);
      assert(half.roundingError > 1e-5 && half.roundingError < 2e-3, `${half.roundingError}`);
      assertClose([error], [half.roundingError], 0.05);

      await collect(stacked);
      await stacked.exportLora(path, { model });
      assert(relative(await readLora(path), kohya) < 1e-5);
      await assertRejects(() => edit.exportLora(path, { rank: 0 }), EditError, "rank 0");
      stacked.clear();
      await assertRejects(() => stacked.exportLora(path, { model }), EditError, "no matrix");
    });
  },
);

gpuTest("an edit whose solution fails leaves no memory allocated", async (gpu) => {
  using model = await openModel(gpu, "sd1-mini");
  const live = gpu.memory.live;
  await assertRejects(() => ModelEdit.solve([roses], { lamb: -1 }, model), LambdaError);
  await assertRejects(() => ModelEdit.solve([roses], { lamb: 1e300 }, model), LambdaError, "at most 1e+100");
  await assertRejects(() => ModelEdit.solve([{ source: "b", destination: "a" }], {}, model), AlignmentError);
  assertEquals(gpu.memory.live, live);
});
