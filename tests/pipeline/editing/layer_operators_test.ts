import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { encodeOnHost } from "../../../pipeline/editing/editable_model.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { EditSnapshot } from "../../../pipeline/editing/edit_snapshot.ts";
import { EditStack } from "../../../pipeline/editing/edit_stack.ts";
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
    using edit = await ModelEdit.solve(pairs, options, model);
    const paths = model.crossAttentions.map(({ path }) => path);
    assertEquals(edit.report.layers, paths);
    assertEquals(edit.operators.flatMap(({ layers }) => layers).toSorted(), paths.toSorted());
    assertThrows(() => edit.operator, EditError, "read edit.operators");
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

    for (const { path, toK, toV } of model.crossAttentions) {
      const group = edit.operators.findIndex(({ layers }) => layers.includes(path));
      const weight = (await Promise.all([toK, toV].map(({ weight }) => weight.float64()))).flatMap((values) =>
        Array.from({ length: values.length / width }, (_, row) => [...values.subarray(row * width, (row + 1) * width)])
      );
      const shifts = densePriorShift({ source, destination }, { weight, concepts });
      const mean = shifts.reduce((a, b) => a + b) / shifts.length;
      const kept = preserve.filter((_, i) => shifts[i] > mean);
      assert(kept.length > 0 && kept.length < preserve.length);
      assertEquals(edit.report.byLayer![group].nullSpace!.influential, kept);
      if (!exact.has(kept.join())) {
        const given = { source, destination, preserve: kept.map(last), lamb: 0 };
        exact.set(kept.join(), denseNullSpace(given, { threshold: 0.05, scale: 1, invariant: [last("")] }));
      }
      const change = (await edit.operators[group].operator.dense()).map((value, i) =>
        i % (width + 1) === 0 ? value - 1 : value
      );
      assertClose(change, exact.get(kept.join())!, 1e-5, path);
    }
    assert(exact.size > 1, "the layers differ");
    assertEquals(edit.operators.length, exact.size, "layers that retain the same share an operator");
    const { byLayer, ...whole } = edit.report;
    assertEquals(whole.residual, Math.max(...byLayer!.map(({ residual }) => residual)));
    assertEquals(whole.moves!.erased[0].moved, Math.max(...byLayer!.map(({ moves }) => moves!.erased[0].moved)));
    assertEquals(whole.nullSpace!.dimension, Math.min(...byLayer!.map(({ nullSpace }) => nullSpace!.dimension)));
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

async function bytesOf(edit: ModelEdit): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  await edit.save((chunk) => void parts.push(chunk.slice()));
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

gpuTest("an edit with an operator per layer is stacked, exported, saved, loaded and undone exactly", async (gpu) => {
  using model = await openModel(gpu, "sd1-mini");
  const [first, second] = model.crossAttentions;
  const layers = [first.path, second.path];
  const options = { method: "nullspace", preserve, influenceFilter: true, augment: 2, threshold: 0.05 } as const;
  using edit = await ModelEdit.solve([pair], { ...options, layers }, model);
  assertEquals(edit.operators.map(({ layers }) => layers), [[first.path], [second.path]]);
  assert(edit.report.byLayer!.every(({ nullSpace }) => nullSpace!.augmented! > 0));

  const stack = new EditStack<ModelEdit>().push(edit, { strength: 0.5 });
  for (const { path, toV } of [first, second]) {
    const { operator } = edit.operators.find(({ layers }) => layers.includes(path))!;
    using baked = stack.bake(toV.weight, path, "values");
    using half = operator.scaled(0.5);
    const [weight, e, actual] = await Promise.all([toV.weight.float64(), half.dense(), baked.data()]);
    const { width } = operator;
    const exact = Float64Array.from(actual, (_, at) => {
      const row = Math.floor(at / width), column = at % width;
      let sum = 0;
      for (let k = 0; k < width; k++) sum += weight[row * width + k] * e[k * width + column];
      return sum;
    });
    assertClose(actual, exact, 1e-5, `${path}: W E of its own operator`);
  }
  const { embeddings, width } = await encodeOnHost(model, ["a rose"]);
  using states = Tensor.from(gpu, embeddings.get("a rose")!, [1, embeddings.get("a rose")!.length / width, width]);
  const read = gpu.scope(() => [first, second].map(({ path }) => stack.editedStates(states)(path).values));
  using held = new DisposableStack();
  const [ofFirst, ofSecond] = await Promise.all(read.map((tensor) => held.use(tensor).data()));
  assert(ofFirst.some((value, i) => value !== ofSecond[i]), "each layer reads states of its own operator");

  const { matrices } = await edit.exportLora(() => {});
  assertEquals([matrices, (await edit.layerChanges()).map(({ layer }) => layer)], [4, layers]);
  using snapshot = new EditSnapshot(stack);
  assertEquals(snapshot.key.length, 4, "two operators, that of the pooled embedding, and the strength");
  stack.remove(edit);
  using undone = stack.bake(first.toV.weight, first.path, "values");
  assertEquals([stack.length, await undone.data()], [0, await first.toV.weight.data()]);

  const file = await bytesOf(edit);
  using loaded = await ModelEdit.load(file, model);
  assertEquals(JSON.stringify(loaded.recipe), JSON.stringify(edit.recipe));
  assertEquals([loaded.report.byLayer, loaded.report.nullSpace], [edit.report.byLayer, edit.report.nullSpace]);
  for (const [i, { layers, operator }] of loaded.operators.entries()) {
    assertEquals(layers, edit.operators[i].layers);
    assertEquals(await operator.dense(), await edit.operators[i].operator.dense());
  }
  const { pairs, layers: edited, ...how } = loaded.recipe;
  using again = await ModelEdit.solve(pairs, { ...how, layers: edited ?? undefined }, model);
  for (const [i, { operator }] of again.operators.entries()) {
    assertEquals(await operator.dense(), await loaded.operators[i].operator.dense());
  }
  const [before] = await loaded.leakage(["a rose"]);
  await again.resolve({ lamb: 0.1 });
  assertEquals([again.report.byLayer!.map(({ lamb }) => lamb), again.recipe.lamb], [[0.1, 0.1], 0.1]);
  assert((await again.leakage(["a rose"]))[0] !== before);
});

gpuTest("a file whose operators do not edit each layer once is refused", async (gpu) => {
  using model = await openModel(gpu, "sd1-mini");
  const [first, second] = model.crossAttentions.map(({ path }) => path);
  const options = { method: "nullspace", preserve, augment: 1, threshold: 0.05, layers: [first, second] } as const;
  using edit = await ModelEdit.solve([pair], options, model);
  const text = Array.from(await bytesOf(edit), (byte) => String.fromCharCode(byte)).join("");
  const groups = JSON.stringify(JSON.stringify([[first], [second]])).slice(1, -1);
  assert(text.includes(groups));
  const withGroups = (other: string) =>
    Uint8Array.from(text.replace(groups, other.padEnd(groups.length)), (char) => char.charCodeAt(0));
  const json = (value: unknown) => JSON.stringify(JSON.stringify(value)).slice(1, -1);
  await assertRejects(
    () => ModelEdit.load(withGroups(json([[first], [first]])), model),
    EditError,
    "each of 2 layers once",
  );
  await assertRejects(() => ModelEdit.load(withGroups(json([[first]])), model), EditError, "its layers are malformed");
  await assertRejects(
    () => ModelEdit.load(withGroups(json([[first], []])), model),
    EditError,
    "its layers are malformed",
  );
});
