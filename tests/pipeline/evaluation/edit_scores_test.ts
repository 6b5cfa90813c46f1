import { assert, assertEquals } from "@std/assert";
import { harmonicMean, type JudgedPicture, scorePictures } from "../../../pipeline/evaluation/edit_scores.ts";

const picture = (measure: JudgedPicture["measure"], own: number, edited: number, kept = false) => ({
  measure,
  own,
  edited,
  kept,
});

Deno.test("efficacy and generality count pictures closer to the edited prompt, specificity those closer to their own", () => {
  const scores = scorePictures([
    picture("efficacy", 1, 3),
    picture("generality", 0, 2),
    picture("generality", 2, 0),
    picture("specificity", 2, 0),
    picture("specificity", 2, 1),
    picture("specificity", 0, 5, true),
    picture("specificity", 9, 1, true),
  ]);
  assertEquals(scores.efficacy.rate, 1);
  assertEquals(scores.generality.rate, 0.5);
  assertEquals(scores.specificity.rate, 0.75);
  assertEquals([scores.specificityUnseen.pictures, scores.specificityUnseen.rate], [2, 1]);
  assertEquals(scores.harmonicMean, 3 / (1 / 1 + 1 / 0.5 + 1 / 0.75));
});

Deno.test("belief is the mean softmax probability of the wanted prompt", () => {
  const share = (wanted: number, other: number) => Math.exp(wanted) / (Math.exp(wanted) + Math.exp(other));
  const { efficacy, specificity } = scorePictures([
    picture("efficacy", 1, 3),
    picture("efficacy", 2, 1.5),
    picture("specificity", 2, 0.5),
  ]);
  assert(Math.abs(efficacy.belief - (share(3, 1) + share(1.5, 2)) / 2) < 1e-12);
  assert(Math.abs(specificity.belief - share(2, 0.5)) < 1e-12);
});

Deno.test("a tie counts as a failure, and without pictures the rate is NaN", () => {
  const { efficacy, generality, specificity, harmonicMean } = scorePictures([
    picture("efficacy", 1, 1),
    picture("specificity", 1, 1),
  ]);
  assertEquals([efficacy.rate, efficacy.belief, specificity.rate], [0, 0.5, 0]);
  assertEquals(generality.pictures, 0);
  assert(Number.isNaN(generality.rate) && Number.isNaN(generality.belief) && Number.isNaN(harmonicMean));
});

Deno.test("harmonicMean() is n / Σ 1/x, and 0 when a value is 0", () => {
  assertEquals(harmonicMean([1, 1, 1]), 1);
  assertEquals(harmonicMean([1, 0.5]), 2 / 3);
  assertEquals(harmonicMean([1, 0, 1]), 0);
});
