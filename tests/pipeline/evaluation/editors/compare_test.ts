import { assert, assertEquals, assertRejects } from "@std/assert";
import type { EditCase } from "../../../../pipeline/evaluation/edit_cases.ts";
import type { EditScores, Tally } from "../../../../pipeline/evaluation/edit_scores.ts";
import {
  compareEditors,
  type EditorResult,
  picturesOfComparison,
} from "../../../../pipeline/evaluation/editors/compare.ts";
import { groupsOf, isAbout, needsLastTokens, promptsOfGroup } from "../../../../pipeline/evaluation/editors/prompts.ts";
import { comparisonHead, comparisonLine, comparisonLosses } from "../../../../pipeline/evaluation/editors/table.ts";
import type { Judge } from "../../../../pipeline/evaluation/verdicts.ts";
import { settingsOfGrid } from "../../../../pipeline/evaluation/sweep/settings.ts";
import { StableDiffusionModelEditingPipeline } from "../../../../pipeline/model_editing.ts";
import { gpuTest } from "../../../gpu.ts";
import { pocket } from "../../../paths.ts";

const unrelated = (color: string) =>
  ["a cup", "a field of cats", "two lemons"].map((prompt) => ({
    prompt,
    edited: prompt.replace(/(\w+)$/, `${color} $1`),
  }));
const cases: EditCase[] = [["rose", "blue"], ["cat", "white"], ["car", "red"]].map(([name, color]) => ({
  source: `A ${name}`,
  destination: `A ${color} ${name}`,
  related: [{ prompt: `two ${name}s`, edited: `two ${color} ${name}s` }],
  unrelated: unrelated(color),
  preserve: ["a cup", "a tree", "a rose"].filter((text) => text !== `a ${name}`),
}));

Deno.test("groups hold successive cases; unrelated prompts are about nothing that is edited, with all edited forms", () => {
  assertEquals(groupsOf(cases, 2).map((group) => group.map(({ source }) => source)), [["A rose", "A cat"]]);
  assert(isAbout("a field of cats", ["A cat"]) && isAbout("A pack of roses", ["a rose"]));
  assert(!isAbout("a painting of a car", ["A cat", "a painting of a rose"]));
  const prompts = promptsOfGroup(cases.slice(0, 2), cases);
  assertEquals(prompts.map(({ measure, prompt }) => [measure, prompt]), [
    ["efficacy", "A rose"],
    ["efficacy", "A cat"],
    ["generality", "two roses"],
    ["generality", "two cats"],
    ["specificity", "a cup"],
    ["specificity", "two lemons"],
  ]);
  assertEquals(prompts[4].edited, ["a blue cup", "a white cup"]);
});

Deno.test("an erasure's source and related prompts count as edited in any of their forms, and pair last tokens", () => {
  const erase: EditCase = {
    source: "a rose",
    destination: "",
    also: ["a cup", "a hat"],
    related: [{ prompt: "two roses", edited: "two cups", also: ["two hats"] }],
    unrelated: [],
    preserve: [],
  };
  assertEquals(promptsOfGroup([erase], [erase]).map(({ edited }) => edited), [["a cup", "a hat"], [
    "two cups",
    "two hats",
  ]]);
  assert(needsLastTokens(erase) && needsLastTokens({ source: "a red rose", destination: "a rose red" }));
  assert(!needsLastTokens({ source: "A pack of roses", destination: "a pack of blue roses" }));
  assert(!needsLastTokens({ source: "An apple", destination: "A green apple" }));
});

const tally = (rate: number, pictures = 20): Tally => ({ rate, pictures, belief: rate });
const resultOf = (editor: string | undefined, concepts: number, efficacy: number, change: number): EditorResult => ({
  editor,
  concepts,
  scores: {
    efficacy: tally(efficacy),
    generality: tally(NaN, 0),
    specificity: tally(1),
    specificityUnseen: tally(1),
    harmonicMean: NaN,
  } satisfies EditScores,
  unrelatedChange: change,
  leakage: 0.5,
  solveMs: 12.3,
});

Deno.test("the table has the head's columns, and below it each figure's worst and best editor", () => {
  const results = [
    resultOf(undefined, 0, 0, 0),
    resultOf("a", 1, 1, 9),
    resultOf("b", 1, 0.4, 2),
    resultOf("c", 1, 0.9, 3),
  ];
  const head = comparisonHead(6), line = comparisonLine(results[2], 6);
  assertEquals(line.indexOf("40 %"), head.indexOf("efficacy"));
  assertEquals(line.indexOf("2.00"), head.indexOf("change"));
  assertEquals(comparisonLosses(results), [
    "1 concept, efficacy: worst 40 % [22, 61] (b), best 100 % [84, 100] (a)",
    "1 concept, change: worst 9.00 (a), best 2.00 (b)",
  ]);
  const [close] = comparisonLosses([results[1], results[3]]);
  assert(close.endsWith("; the intervals overlap"), close);
});

gpuTest("compareEditors() draws each editor's groups, and its figures grow with the number of edits", async (gpu) => {
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(pocket, { gpu });
  const judge: Judge = { score: (images, texts) => Promise.resolve(new Float32Array(images.length * texts.length)) };
  const editors = settingsOfGrid({ methods: ["time", "nullspace"] }).map(({ name, editor }) => ({
    name,
    editor: editor!,
  }));
  let drawn = 0;
  const options = { editors, concepts: [1, 3], steps: 1, onDrawn: (count: number) => drawn += count };
  const results = await compareEditors(pipe, judge, cases, options);
  assertEquals(drawn, picturesOfComparison(cases, { editors: 2, concepts: [1, 3] }));
  assertEquals(results.map(({ editor, concepts }) => [editor, concepts]), [
    [undefined, 0],
    ["time, lambda 0.1", 1],
    ["time, lambda 0.1", 3],
    ["nullspace, lambda 0", 1],
    ["nullspace, lambda 0", 3],
  ]);
  const [, one, three, freeOne, freeThree] = results;
  assert(three.leakage > one.leakage && three.unrelatedChange > one.unrelatedChange, JSON.stringify([one, three]));
  assert(freeOne.leakage < one.leakage && freeThree.leakage < three.leakage, "retained concepts stay");
  assertEquals(one.scores.efficacy, { pictures: 3, rate: 0, belief: 0.5 });
  assertEquals(pipe.edits.length, 0);
  await assertRejects(() => compareEditors(pipe, judge, [], options), RangeError, "0 cases");
});
