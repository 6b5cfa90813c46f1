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

gpuTest("drawPictures() applies each picture's own edit within a batch and restores the stack", async (gpu) => {
  using pipe = await open(gpu);
  using edit = await ModelEdit.solve([roses], { lamb: 0.1 }, pipe);
  const plain = { prompt: "a field of roses", seed: 3 };
  const options = { steps: 2, batchSize: 3 };
  const batch = await drawPictures(pipe, [plain, { ...plain, edit }, plain], options);
  assertEquals(batch[0], batch[2]);
  assert(pixelDifference(batch[0], batch[1]) > 1);
  assertEquals(pipe.edits.length, 0);
  const [alone] = await drawPictures(pipe, [{ ...plain, edit }], options);
  assert(pixelDifference(alone, batch[1]) < 1, "equal up to rounding");
  await assertRejects(() => drawPictures(pipe, [{ ...plain, edit }], { ...options, signal: AbortSignal.abort() }));
  assertEquals(pipe.edits.length, 0);
});

gpuTest(
  "evaluateEdits() scores every condition on the same prompts and seeds",
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
    assert(plain.efficacy.belief !== before.efficacy.belief, "the edit changes the picture of the source prompt");
    assert(careful.specificity.belief !== plain.specificity.belief, "preserving changes the edit");
  },
);

gpuTest("evaluateLeakage() ranks a source prompt above an unrelated one, both predicted and drawn", async (gpu) => {
  using pipe = await open(gpu);
  using edit = await ModelEdit.solve([roses], { lamb: 0.1 }, pipe);
  const prompts = ["a pack of roses", "a cup"];
  const { changes, rankCorrelation, seedAgreement } = await evaluateLeakage(pipe, edit, prompts, {
    steps: 2,
    seeds: 2,
  });
  const [source, unrelated] = changes;
  assertEquals([source.predicted, unrelated.predicted], await edit.leakage(prompts));
  assert(source.predicted > unrelated.predicted && source.drawn > unrelated.drawn, JSON.stringify(changes));
  assertEquals([rankCorrelation, seedAgreement], [1, 1]);
});
