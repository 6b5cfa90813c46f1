import { assert, assertEquals, assertRejects } from "@std/assert";
import type { GpuOptions } from "../../../engine/gpu.ts";
import { type EditableModel, encodeOnHost } from "../../../pipeline/editing/editable_model.ts";
import { LambdaError } from "../../../pipeline/editing/errors.ts";
import type { ModelEditOptions } from "../../../pipeline/editing/edit_options.ts";
import { ModelEdit } from "../../../pipeline/editing/model_edit.ts";
import { lastTokenPosition } from "../../../pipeline/editing/prompts/concepts.ts";
import { EditError, OptionError } from "../../../pipeline/errors.ts";
import { loadGoldens } from "../../goldens.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
import { type DenseEdit, denseNullSpace, denseUce } from "./dense_editors.ts";
import { openModel } from "./models.ts";

interface GoldenEdit {
  method: "uce" | "nullspace";
  pairs: [string, string][];
  preserve: string[];
  lamb: number;
  erase_scale: number;
  preserve_scale: number;
  threshold: number;
  retain_scale: number;
  condition: number;
  null_dimension: number;
  eigenvalues_about_threshold: [number, number];
  moved_retained: number;
  moved_erased: number;
}

function lessIdentity(e: Float64Array): Float64Array {
  const side = Math.sqrt(e.length);
  return e.map((value, i) => i % (side + 1) === 0 ? value - 1 : value);
}

function optionsOf(golden: GoldenEdit): ModelEditOptions {
  const { method, preserve, lamb } = golden;
  return method === "uce"
    ? { method, preserve, lamb, eraseScale: golden.erase_scale, preserveScale: golden.preserve_scale }
    : { method, preserve, lamb, threshold: golden.threshold, retainScale: golden.retain_scale };
}

/** The last tokens of prompts in float64, in the numbers that the model's encoder gives. */
async function lastTokens(model: EditableModel, texts: readonly string[]): Promise<number[][]> {
  const { embeddings, width } = await encodeOnHost(model, texts);
  return texts.map((text) => {
    const at = lastTokenPosition(text, model.tokenizer) * width;
    return Array.from(embeddings.get(text)!.subarray(at, at + width));
  });
}

/** What a dense float64 solution of the editors' formulas needs. */
async function denseEdit(model: EditableModel, golden: GoldenEdit): Promise<DenseEdit> {
  return {
    source: await lastTokens(model, golden.pairs.map(([source]) => source)),
    destination: await lastTokens(model, golden.pairs.map(([, destination]) => destination)),
    preserve: await lastTokens(model, golden.preserve),
    lamb: golden.lamb,
  };
}

const devices: [string, GpuOptions][] = [["", {}], [" in f32 alone", { withoutFeatures: ["wgpu-shader-f64"] }]];
for (const [where, options] of devices) {
  gpuTest(
    `UCE and null-space edits equal the goldens to 2e-4, and their formulas in dense float64 to 1e-5${where}`,
    async (gpu) => {
      using model = await openModel(gpu, "sd1-mini");
      const { tensors, note } = await loadGoldens("editors");
      // Each is met below.
      const names = ["nullspace.one", "nullspace.two", "uce.erase", "uce.preserve"];
      assertEquals([Object.keys(note).toSorted(), [...tensors.keys()].toSorted()], [names, names]);
      const [begin] = await lastTokens(model, [""]);
      for (const [name, golden] of Object.entries<GoldenEdit>(note)) {
        const pairs = golden.pairs.map(([source, destination]) => ({ source, destination }));
        using edit = await ModelEdit.solve(pairs, optionsOf(golden), model);
        const actual = lessIdentity(await edit.operator.dense());
        assertClose(actual, lessIdentity(Float64Array.from(tensors.get(name)!.data)), 2e-4, name);
        const given = await denseEdit(model, golden);
        const exact = golden.method === "uce"
          ? denseUce(given, { eraseScale: golden.erase_scale, preserveScale: golden.preserve_scale })
          : denseNullSpace(given, { threshold: golden.threshold, scale: golden.retain_scale, invariant: [begin] });
        assertClose(actual, exact, 1e-5, `${name}: dense`);
        const { report, rank } = edit;
        assertEquals([report.method, rank], [golden.method, pairs.length]);
        assert(report.residual < 1e-5, `${name}: residual ${report.residual}`);
        if (golden.method === "uce") {
          assertClose([report.conditionEstimate], [golden.condition], 0.05, `${name}: condition`);
          continue;
        }
        const { dimension, above, below, leftOut } = report.nullSpace!;
        assertEquals([dimension, leftOut], [golden.null_dimension, []]);
        assertClose([above[0], below[0]], golden.eigenvalues_about_threshold, 1e-4, `${name}: eigenvalues`);
        const { erased, mostMovedRetained } = report.moves!;
        assertClose([mostMovedRetained!.moved], [golden.moved_retained], 1e-3, `${name}: retained`);
        assertClose([erased[0].moved], [golden.moved_erased], 1e-3, `${name}: erased`);
      }
    },
    options,
  );
}

const words =
  ("banana car cat dog hat house lemon tree tulip balloon bird boat book bottle box bridge bus chair church city " +
    "cloud clock coat cow cup desk door duck fish forest fox garden glass goat guitar hill horse island jacket lake " +
    "lamp leaf map moon mountain mouse nest ocean owl painting piano pig plane pond rabbit river road sheep ship shoe")
    .split(" ");
const things = words.map((word) => `a ${word}`);
const rose = { source: "a rose", destination: "a flower" };

gpuTest("a UCE edit with TIME's rows equals TIME, with all tokens and with last ones, by any scale", async (gpu) => {
  using model = await openModel(gpu, "sd1-mini");
  const pair = { source: "a rose", destination: "a blue rose" }, preserve = things.slice(0, 3);
  for (const tokens of ["all", "last"] as const) {
    const common = { tokens, preserve, withAugs: ["A photo of "] };
    using time = await ModelEdit.solve([pair], { ...common, lamb: 0.2, preserveWeight: 3 }, model);
    using uce = await ModelEdit.solve([pair], { ...common, method: "uce", lamb: 0.2, preserveWeight: 3 }, model);
    // Only the ratios of λ, e and p matter.
    const scales = { lamb: 0.4, eraseScale: 2, preserveScale: 6 };
    using scaled = await ModelEdit.solve([pair], { ...common, method: "uce", ...scales }, model);
    assertEquals(uce.report.rows, time.report.rows);
    for (const edit of [uce, scaled]) {
      assertClose(await edit.operator.dense(), await time.operator.dense(), 1e-6, tokens);
    }
  }
});

gpuTest("UCE keeps E − I thin and equals its formula with more preserved prompts than channels", async (gpu) => {
  for (const precision of ["f64", "f32"] as const) {
    if (precision === "f64" && !gpu.info.f64) continue;
    using model = await openModel(gpu, "sd1-mini");
    const options = { method: "uce", preserve: things, preserveScale: 0.5, lamb: 0.5, precision } as const;
    using edit = await ModelEdit.solve([rose], options, model);
    assert(things.length > edit.operator.width);
    assertEquals([edit.rank, edit.report.rows], [1, things.length + 1]);
    const golden = { pairs: [["a rose", "a flower"]], preserve: things, lamb: 0.5 } as unknown as GoldenEdit;
    const exact = denseUce(await denseEdit(model, golden), { eraseScale: 1, preserveScale: 0.5 });
    assertClose(lessIdentity(await edit.operator.dense()), exact, 1e-5, precision);
  }
});

gpuTest("UCE erases to the empty prompt, and weighs several destinations and pairs", async (gpu) => {
  using model = await openModel(gpu, "sd1-mini");
  const [c, begin, female, male] = await lastTokens(model, ["a doctor", "", "a female doctor", "a male doctor"]);
  const solvedFor = (target: number[], weight: number) => {
    const norm = c.reduce((sum, value) => sum + value * value, 0);
    // (E − I)c = (g − c) · w‖c‖²/(λ + w‖c‖²) for one row of weight w.
    return target.map((value, j) => (value - c[j]) * weight * norm / (0.5 + weight * norm));
  };
  const shares = [{ prompt: "a female doctor", weight: 0.25 }, { prompt: "a male doctor", weight: 0.75 }];
  const cases: [string | typeof shares, number, number[]][] = [
    ["", 1, begin],
    [shares, 1, female.map((value, j) => 0.25 * value + 0.75 * male[j])],
    ["a female doctor", 0.01, female],
  ];
  for (const [destination, weight, target] of cases) {
    using edit = await ModelEdit.solve([{ source: "a doctor", destination, weight }], { method: "uce" }, model);
    const change = lessIdentity(await edit.operator.dense());
    const actual = c.map((_, i) => c.reduce((sum, value, j) => sum + change[i * c.length + j] * value, 0));
    assertClose(actual, solvedFor(target, weight), 1e-5, JSON.stringify(destination));
  }
});

gpuTest("a null-space edit moves no retained concept beyond the threshold, and no invariant state", async (gpu) => {
  using model = await openModel(gpu, "pocket");
  const preserve = things.slice(0, 30), invariant = ["a red car"];
  for (const threshold of [0.3, 0.1, 0.01]) {
    const options = { method: "nullspace", preserve, threshold, invariant } as const;
    using edit = await ModelEdit.solve([rose], options, model);
    const { width } = edit.operator, change = lessIdentity(await edit.operator.dense());
    const size = Math.hypot(...change);
    const movedBy = (state: ArrayLike<number>) => {
      let total = 0;
      for (let i = 0; i < width; i++) {
        let sum = 0;
        for (let j = 0; j < width; j++) sum += change[i * width + j] * state[j];
        total += sum * sum;
      }
      return Math.sqrt(total);
    };
    const retained = await lastTokens(model, preserve), moves = retained.map(movedBy);
    // Δ = ΔP, and no eigenvalue of P(mean of r rᵀ)P is above the threshold.
    const rms = Math.sqrt(moves.reduce((sum, move) => sum + move * move, 0) / moves.length);
    assert(rms <= 1.0001 * Math.sqrt(threshold) * size, `${threshold}: ${rms} of ${size}`);
    moves.forEach((move) => assert(move <= 1.0001 * Math.sqrt(threshold * moves.length) * size, `${move}`));
    const { embeddings } = await encodeOnHost(model, ["", ...invariant]);
    for (const [text, states] of embeddings) {
      for (let at = 0; at < (text === "" ? width : states.length); at += width) {
        const state = states.subarray(at, at + width);
        const moved = movedBy(state) / (size * Math.hypot(...state));
        assert(moved <= 1e-5, `${threshold}: state ${at / width} of ${JSON.stringify(text)} moves by ${moved}`);
      }
    }
    const { moves: { erased: [erased], mostMovedRetained } = {} as never } = edit.report;
    const most = Math.max(...moves.map((move, i) => move / Math.hypot(...retained[i])));
    assertClose([mostMovedRetained!.moved], [most], 1e-3);
    assert(erased.moved > most, `${threshold}: ${erased.moved} and ${most}`);
  }
});

gpuTest("retained prompts with an erased concept's words are left out, whatever their order and case", async (gpu) => {
  using model = await openModel(gpu, "sd1-mini");
  const pairs = [{ source: "the red rose", destination: "a flower" }];
  const contained = ["A Rose, red", "red roses and a rose", "the red rose"], kept = ["a red car", "a roses", "a cat"];
  using edit = await ModelEdit.solve(pairs, { method: "nullspace", preserve: [...contained, ...kept] }, model);
  using alone = await ModelEdit.solve(pairs, { method: "nullspace", preserve: kept }, model);
  assertEquals([edit.report.nullSpace!.leftOut, alone.report.nullSpace!.leftOut], [contained, []]);
  assertEquals(edit.recipe.preserve, [...contained, ...kept]);
  assertEquals(await edit.operator.dense(), await alone.operator.dense());
});

gpuTest("edits of every method are saved, loaded, solved again, stacked and exported alike", async (gpu) => {
  using model = await openModel(gpu, "sd1-mini");
  const preserve = things.slice(0, 8);
  const methods: ModelEditOptions[] = [
    { method: "time", tokens: "all", preserve, withAugs: [] },
    { method: "time", tokens: "last", preserve },
    { method: "uce", preserve, eraseScale: 2 },
    { method: "nullspace", preserve, threshold: 0.05, lamb: 0.1, invariant: ["a lamp"] },
  ];
  for (const options of methods) {
    const pair = options.tokens === "all" ? { source: "a rose", destination: "a blue rose" } : rose;
    using edit = await ModelEdit.solve([pair], options, model);
    const parts: Uint8Array<ArrayBuffer>[] = [];
    await edit.save((chunk) => void parts.push(chunk.slice()));
    const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
    using loaded = await ModelEdit.load(bytes, model);
    assertEquals(JSON.stringify(loaded.recipe), JSON.stringify(edit.recipe), "also in the order of keys");
    const { moves, nullSpace, method } = edit.report;
    const saved = edit.recipe.method === undefined ? undefined : moves; // files of TIME hold none
    assertEquals([loaded.report.moves, loaded.report.nullSpace, loaded.report.method], [saved, nullSpace, method]);
    assertEquals(await loaded.operator.dense(), await edit.operator.dense());
    const { pairs, layers, ...how } = loaded.recipe;
    using again = await ModelEdit.solve(pairs, { ...how, layers: layers ?? undefined }, model);
    assertEquals(await again.operator.dense(), await edit.operator.dense());
    assertEquals(again.recipe, edit.recipe);
    const { rank } = await edit.exportLora(() => {}, {}, model);
    assert(rank > 0 && rank <= edit.rank, `rank ${rank}`);
    using fresh = await ModelEdit.solve([pair], { ...options, lamb: 2 }, model);
    await edit.resolve({ lamb: 2 });
    assertEquals(await edit.operator.dense(), await fresh.operator.dense());
    assertEquals(edit.report.moves, fresh.report.moves);
    const [prediction] = await edit.predictLeakage(["a rose"]);
    assert(prediction.leakage > 0 && Math.abs(prediction.share - 1) < 1e-6);
  }
  // Files of TIME hold what they held before there were other methods.
  using time = await ModelEdit.solve([{ source: "a rose", destination: "a blue rose" }], { preserve }, model);
  assertEquals(Object.keys(time.recipe), [
    "pairs",
    "preserve",
    "preserveWeight",
    "lamb",
    "withToK",
    "withAugs",
    "layers",
  ]);
  const header: Uint8Array[] = [];
  await time.save((chunk) => void header.push(chunk.slice()));
  const text = new TextDecoder().decode(header[0]);
  assert(text.includes("blue-rose-edit-1") && !text.includes("moves") && !text.includes("method"));
});

gpuTest("thousands of retained prompts are encoded in batches whose states do not stay on the device", async (gpu) => {
  using model = await openModel(gpu, "sd1-mini");
  const preserve = Array.from({ length: 600 }, (_, i) => `a ${words[i % words.length]} ${i}`);
  let encoded = 0;
  const counting = {
    ...model,
    encodeTexts: (texts: readonly string[]) => {
      encoded = Math.max(encoded, texts.length);
      return model.encodeTexts(texts);
    },
  };
  const before = gpu.memory.live;
  using edit = await ModelEdit.solve([rose], { method: "nullspace", preserve, threshold: 1 }, counting);
  assert(encoded <= 64, `${encoded} texts in a batch`);
  assertEquals(edit.report.rows, 601);
  assert(gpu.memory.live - before < 10_000, "only the factors stay");
});

gpuTest("bad input of an editor is a typed error that says what to do", async (gpu) => {
  using model = await openModel(gpu, "sd1-mini");
  const fails = (options: object, type: typeof EditError | typeof OptionError | typeof LambdaError, message: string) =>
    assertRejects(() => ModelEdit.solve([rose], options as ModelEditOptions, model), type, message);
  const preserve = things;
  await fails({ method: "nulspace" }, OptionError, 'did you mean "nullspace"?');
  await fails({ method: "SPEED" }, OptionError, 'did you mean "nullspace"?');
  await fails({ method: "UCE" }, OptionError, 'did you mean "uce"?');
  await fails({ method: "quantum" }, OptionError, '"time", "uce", "nullspace"');
  await fails({ method: 5 }, OptionError, "method");
  await fails({ method: "nullspace" }, EditError, "without retained prompts: set preserve");
  await fails({ method: "nullspace", preserve: ["a red rose", "rose"] }, EditError, "no retained prompt is left");
  await fails({ method: "nullspace", preserve, threshold: 1e-12 }, EditError, "leaves no null space");
  for (const threshold of [0, -1, Infinity]) {
    await fails({ method: "nullspace", preserve, threshold }, EditError, `threshold ${threshold}: it must be`);
  }
  await fails({ method: "nullspace", preserve, retainScale: 0 }, EditError, "retainScale 0: it must be");
  await fails(
    { method: "nullspace", preserve, retainScale: 1e-14 },
    EditError,
    "with retainScale 1e-14: the condition",
  );
  await fails({ method: "nullspace", preserve, lamb: -1 }, LambdaError, "a finite number from 0");
  await fails({ method: "nullspace", preserve, tokens: "all" }, OptionError, '"last"');
  await fails({ method: "nullspace", preserve, preserveWeight: 2 }, OptionError, "preserveWeight 2");
  await fails({ method: "nullspace", preserve, augment: 0.5 }, EditError, "augment 0.5: it must be a whole number");
  await fails({ method: "nullspace", preserve, augment: 2.5 }, EditError, "augment 2.5: it must be a whole number");
  await fails({ method: "uce", influenceFilter: true }, OptionError, 'an option of the method "nullspace"');
  const wholePrompts = { invariant: ["a lamp"], preserve: things.slice(0, 8) }; // 77 states of 48 channels
  await fails({ method: "nullspace", ...wholePrompts }, EditError, "span the whole null space");
  await fails({ method: "uce", threshold: 0.1 }, OptionError, 'an option of the method "nullspace"');
  await fails({ threshold: 0.1 }, OptionError, 'by the method "time" with threshold');
  await fails({ method: "uce", lamb: 0 }, LambdaError, "above 0");
  await fails({ method: "uce", eraseScale: NaN }, OptionError, "eraseScale must be a number");
  await fails(
    { method: "uce", preserve: ["a".repeat(100_001)] },
    EditError,
    "preserve[0] must be a string of at most 100000",
  );
  await fails({ method: "uce", withAugs: Array(1001).fill("") }, EditError, "withAugs must be a list of at most 1000");
  const last = (pair: { source: string; destination: string; alignment?: [number, number][] }, message: string) =>
    assertRejects(() => ModelEdit.solve([pair], { method: "uce" }, model), EditError, message);
  await last({ source: "", destination: "a flower" }, "as it has no token");
  await last({ ...rose, alignment: [[1, 1]] }, "by hand as only last tokens are paired");
});
