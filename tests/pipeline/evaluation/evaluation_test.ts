import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { Gpu } from "../../../engine/gpu.ts";
import { ModelEdit } from "../../../pipeline/editing/model_edit.ts";
import { drawPictures } from "../../../pipeline/evaluation/draw_pictures.ts";
import { evaluateEdits } from "../../../pipeline/evaluation/evaluate_edits.ts";
import { evaluateLeakage, pixelDifference } from "../../../pipeline/evaluation/evaluate_leakage.ts";
import { StableDiffusionModelEditingPipeline } from "../../../pipeline/model_editing.ts";
import { CLIPModel } from "../../../pipeline/models/clip.ts";
import { gpuTest } from "../../gpu.ts";
import { pocket } from "../../paths.ts";

const open = (gpu: Gpu) => StableDiffusionModelEditingPipeline.fromPretrained(pocket, { gpu });
const roses = { source: "A pack of roses", destination: "A pack of blue roses" };
const picture = (...data: number[]) => ({ data: Uint8Array.from(data), width: data.length / 3, height: 1 });

Deno.test("pixelDifference() is the root mean square of the bytes' differences", () => {
  assertEquals(pixelDifference(picture(0, 0, 0, 9, 9, 9), picture(0, 0, 0, 9, 9, 9)), 0);
  assertEquals(pixelDifference(picture(255, 0, 3), picture(0, 255, 3)), Math.sqrt(2 * 255 ** 2 / 3));
  assertThrows(() => pixelDifference(picture(0, 0, 0), picture(0, 0, 0, 0, 0, 0)), RangeError, "1 × 1");
});

gpuTest("pictures of one batch are each drawn under their own edit, and the stack is left as it was", async (gpu) => {
  using pipe = await open(gpu);
  using edit = await ModelEdit.solve([roses], { lamb: 0.1 }, pipe);
  const plain = { prompt: "a field of roses", seed: 3 };
  const options = { steps: 2, batchSize: 3 };
  const together = await drawPictures(pipe, [plain, { ...plain, edit }, plain], options);
  assertEquals(together[0], together[2]);
  assert(pixelDifference(together[0], together[1]) > 1);
  assertEquals(pipe.edits.length, 0);
  const [alone] = await drawPictures(pipe, [{ ...plain, edit }], options);
  assert(pixelDifference(alone, together[1]) < 1, "the same picture but for rounding");
  await assertRejects(() => drawPictures(pipe, [{ ...plain, edit }], { ...options, signal: AbortSignal.abort() }));
  assertEquals(pipe.edits.length, 0);
});

gpuTest(
  "evaluateEdits() judges every condition on the same prompts and seeds: 2 steps, 1 seed, 2 prompts",
  async (gpu) => {
    using pipe = await open(gpu);
    using clip = await CLIPModel.fromPretrained(`${pocket}/clip`, { gpu });
    const unrelated = [{ prompt: "a lemon", edited: "a blue lemon" }];
    const seen: (number | null)[] = [];
    let drawn = 0;
    const evaluations = await evaluateEdits(pipe, clip, [{ ...roses, related: [], unrelated, preserve: ["a lemon"] }], {
      lambdas: [0.1],
      steps: 2,
      onDrawn: (count) => drawn += count,
      onEvaluation: ({ lamb }) => seen.push(lamb),
    });
    assertEquals([seen, drawn], [[null, 0.1, 0.1], 6]);
    assertEquals(evaluations.map(({ preserve }) => preserve), [false, false, true]);
    for (const { scores, perEdit } of evaluations) {
      assertEquals([scores.efficacy.pictures, scores.generality.pictures, scores.specificity.pictures], [1, 0, 1]);
      assertEquals(scores.specificityUnseen.pictures, 0);
      assertEquals(perEdit, [scores]);
    }
    const [before, plain, careful] = evaluations.map(({ scores }) => scores);
    assert(plain.efficacy.belief !== before.efficacy.belief, "the edit changes the source's picture");
    assert(careful.specificity.belief !== plain.specificity.belief, "preserving changes the edit");
  },
);

gpuTest("evaluateLeakage() ranks a source above a stranger, foretold and drawn", async (gpu) => {
  using pipe = await open(gpu);
  using edit = await ModelEdit.solve([roses], { lamb: 0.1 }, pipe);
  const prompts = ["a pack of roses", "a cup"];
  const { changes, rankCorrelation, seedAgreement } = await evaluateLeakage(pipe, edit, prompts, {
    steps: 2,
    seeds: 2,
  });
  const [source, stranger] = changes;
  assertEquals([source.foretold, stranger.foretold], await edit.leakage(prompts));
  assert(source.foretold > stranger.foretold && source.drawn > stranger.drawn, JSON.stringify(changes));
  assertEquals([rankCorrelation, seedAgreement], [1, 1]);
});
