import { assert, assertEquals, assertThrows } from "@std/assert";
import { encodeOnHost } from "../../../pipeline/editing/editable_model.ts";
import { EditStack } from "../../../pipeline/editing/edit_stack.ts";
import { LayerEdits, solveLayerEdits } from "../../../pipeline/editing/layer_edits.ts";
import { ModelEdit } from "../../../pipeline/editing/model_edit.ts";
import { lastTokenPosition } from "../../../pipeline/editing/prompts/concepts.ts";
import { hostMatrix } from "../../../pipeline/editing/solve/host_matrix.ts";
import { influentialConcepts } from "../../../pipeline/editing/solve/influence.ts";
import { EditError } from "../../../pipeline/errors.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
import { denseNullSpace, densePriorShift } from "./dense_editors.ts";
import { openModel } from "./models.ts";

const preserve = "banana car cat dog hat house lemon tree tulip balloon bird boat".split(" ").map((word) =>
  `a ${word}`
);
const pair = { source: "a rose", destination: "a flower" };

gpuTest(
  "each layer's operator equals the float64 formula with the concepts of more than mean influence",
  async (gpu) => {
    using model = await openModel(gpu, "sd1-mini");
    const options = { method: "nullspace", preserve, influenceFilter: true, threshold: 0.05 } as const;
    // By one pair Δ has rank one, and all layers would keep the same concepts.
    const pairs = [pair, { source: "a piano", destination: "" }, { source: "a fish", destination: "a box" }];
    using set = await solveLayerEdits(pairs, options, model);
    assertEquals(set.edits.flatMap(({ report }) => report.layers), model.crossAttentions.map(({ path }) => path));
    const { embeddings, width } = await encodeOnHost(model, [
      ...pairs.flatMap(({ source, destination }) => [source, destination]),
      ...preserve,
    ]);
    const last = (text: string) => {
      const at = lastTokenPosition(text, model.tokenizer) * width;
      return Array.from(embeddings.get(text)!.subarray(at, at + width));
    };
    const source = pairs.map(({ source }) => last(source)),
      destination = pairs.map(({ destination }) => last(destination));
    const concepts = preserve.map(last);
    const exact = new Map<string, Float64Array>(); // by the concepts that were kept

    for (const [i, edit] of set.edits.entries()) {
      const { toK, toV } = model.crossAttentions[i];
      const weight = (await Promise.all([toK, toV].map(({ weight }) => weight.float64()))).flatMap((values) =>
        Array.from({ length: values.length / width }, (_, row) => [...values.subarray(row * width, (row + 1) * width)])
      );
      const shifts = densePriorShift({ source, destination }, { weight, concepts });
      const mean = shifts.reduce((a, b) => a + b) / shifts.length;
      const kept = preserve.filter((_, i) => shifts[i] > mean);
      assert(kept.length > 0 && kept.length < preserve.length);
      assertEquals(edit.report.nullSpace!.influential, kept);
      if (!exact.has(kept.join())) {
        const given = { source, destination, preserve: kept.map(last), lamb: 0 };
        exact.set(kept.join(), denseNullSpace(given, { threshold: 0.05, scale: 1, invariant: [last("")] }));
      }
      const change = (await edit.operator.dense()).map((value, i) => i % (width + 1) === 0 ? value - 1 : value);
      assertClose(change, exact.get(kept.join())!, 1e-5, edit.report.layers[0]);
    }
    assert(exact.size > 1, "the layers differ");
  },
);

Deno.test("the augmentation perturbs concepts along the directions that the weight shrinks most, alike in every run", () => {
  const width = 4, weight = hostMatrix(Float64Array.from([3, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0.01, 0, 0, 0, 0, 1]), width);
  const pairs = {
    width,
    source: Float64Array.from([1, 0, 0, 0]),
    destination: Float64Array.from([0, 1, 0, 0]),
    weights: Float64Array.from([1]),
  };
  const retained = Float64Array.from([0.1, 0, 0, 1, 2, 0, 0, 0, 3, 0, 1, 0]);
  const options = { filter: true, augment: 3, augmentRank: 1 };
  const refined = influentialConcepts({ pairs, retained, weight }, options);
  assertEquals(refined, influentialConcepts({ pairs, retained, weight }, options));
  // Δ = W(G − C)ᵀ(1 + 1)⁻¹C, so the influence is half of the first element, times ‖W(g − c)‖.
  assertEquals(refined.kept, [1, 2]);
  const rows = Array.from(
    { length: refined.rows.length / width },
    (_, i) => [...refined.rows.slice(i * width, (i + 1) * width)],
  );
  assertEquals([rows.length, refined.augmented, rows.slice(0, 2)], [5, 3, [[2, 0, 0, 0], [3, 0, 1, 0]]]);
  for (const [first, second, third, fourth] of rows.slice(2)) {
    assert(
      Math.abs(first - 3) < 1e-12 && second === 0 && Math.abs(fourth) < 1e-12,
      "of the copies, those of the third",
    );
    assert(third !== 1 && Math.abs(third - 1) < 6);
  }
});

gpuTest("a set of operators is stacked, exported, saved, loaded, solved again and undone exactly", async (gpu) => {
  using model = await openModel(gpu, "sd1-mini");
  const layers = model.crossAttentions.slice(0, 2).map(({ path }) => path);
  const options = {
    method: "nullspace",
    preserve,
    influenceFilter: true,
    augment: 2,
    threshold: 0.05,
    layers,
  } as const;
  using set = await solveLayerEdits([pair], options, model);
  const stack = new EditStack<ModelEdit>();
  set.pushOn(stack, { strength: 0.5 });
  assertEquals(stack.length, 2);
  const [{ toV, path }] = model.crossAttentions;
  using baked = stack.bake(toV.weight, path, "values");
  using other = new EditStack<ModelEdit>().push(set.edits[1]).bake(toV.weight, path, "values");
  assertEquals(await other.data(), await toV.weight.data(), "an edit of another layer does nothing");
  const original = await toV.weight.data();
  assert((await baked.data()).some((value, i) => value !== original[i]));
  set.removeFrom(stack);
  using undone = stack.bake(toV.weight, path, "values");
  assertEquals([stack.length, await undone.data()], [0, await toV.weight.data()]);
  const { matrices } = await set.exportLora(() => {});
  assertEquals(matrices, 4);
  for (const edit of set.edits) {
    const parts: Uint8Array<ArrayBuffer>[] = [];
    await edit.save((chunk) => void parts.push(chunk.slice()));
    using loaded = await ModelEdit.load(new Uint8Array(await new Blob(parts).arrayBuffer()), model);
    assertEquals(JSON.stringify(loaded.recipe), JSON.stringify(edit.recipe));
    assertEquals(loaded.report.nullSpace, edit.report.nullSpace);
    assert(edit.report.nullSpace!.augmented! > 0);
    const { pairs, layers, ...how } = loaded.recipe;
    using again = await ModelEdit.solve(pairs, { ...how, layers: layers ?? undefined }, model);
    assertEquals(await again.operator.dense(), await loaded.operator.dense());
  }
  assertThrows(() => new LayerEdits([]), EditError, "one or more");
  assertThrows(() => new LayerEdits([set.edits[0], set.edits[0]]), EditError, "of different layers");
});
