/** The page's state and its actions, without a browser. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import * as v from "valibot";
import * as actions from "../../studio/page/actions.ts";
import { cardsOf, isStale, readingOf, statusOf, summaryOf } from "../../studio/page/stage.ts";
import { defaultRecipe, initialState, lambdaText, recipeOf, type State } from "../../studio/page/state.ts";
import { recipeSchema } from "../../studio/page/recipe_schema.ts";
import { suggestDestination } from "../../studio/page/suggest.ts";
import { monotoneCurve } from "../../studio/page/curve.ts";
import { gridOf } from "../../studio/page/grid.ts";
import { facts } from "./fake_painter.ts";

const opened = (): State => actions.modelOpen(initialState(), facts);
const pixels = (shade: number) => ({ width: 1, height: 1, data: new Uint8ClampedArray([shade, 0, 0, 255]) });

/** A painter's answer for all prompts of a state. */
function answered(state: State, changes: readonly number[], ms: number): State {
  const edits = state.edits.map(({ spec }) => spec);
  return actions.setPrediction(state, { edits, prompts: state.prompts.map(({ text }) => text) }, { changes, ms });
}

/** Draws everything that the state asks for. */
function drawn(state: State): State {
  let next = actions.enqueue(state);
  while (next.jobs[0].done < next.jobs[0].tasks.length) next = actions.finishTask(next, pixels(next.jobs[0].done));
  return actions.finishJob(next, 1000, false);
}

Deno.test("the default recipe edits roses, with one source, three related and two unrelated prompts", () => {
  const state = initialState();
  assertEquals(recipeOf(state), defaultRecipe);
  assertEquals(state.prompts.map(({ group }) => group), [
    "source",
    "related",
    "related",
    "related",
    "unrelated",
    "unrelated",
  ]);
});

Deno.test("a model fills in its own sampler and size, and keeps those of a recipe that it knows", () => {
  const { sampler, width, height } = opened().settings;
  assertEquals({ sampler, width, height }, { sampler: "ddim", width: 64, height: 64 });
  const settings = { ...defaultRecipe.settings, sampler: "Euler", width: 131, height: 40 };
  const used = actions.useRecipe(opened(), { ...defaultRecipe, settings }).settings;
  assertEquals([used.sampler, used.width, used.height], ["euler", 128, 40]);
});

Deno.test("undo and redo restore the edits exactly; one gesture is one step", () => {
  const before = opened();
  let state = before;
  for (const lambda of [0.2, 0.3, 0.4]) state = actions.setEdit(state, 0, { lambda }, "lambda");
  state = actions.endGesture(state);
  state = actions.setEdit(state, 0, { strength: 0.5 }, "strength");
  assertEquals(state.past.length, 2);
  assertEquals(actions.undo(state).edits[0].spec.strength, 1);
  assertEquals(actions.undo(actions.undo(state)).edits, before.edits);
  assertEquals(actions.redo(actions.redo(actions.undo(actions.undo(state)))).edits, state.edits);
  assertEquals(actions.setEdit(actions.undo(state), 0, { withToK: false }).future, []);
});

Deno.test("typing changes nothing until it is applied; source cards follow the applied source", () => {
  const typed = actions.typePair(opened(), 0, { source: "A bunch of roses" });
  assertEquals(recipeOf(typed), recipeOf(opened()));
  const applied = actions.applyDrafts(typed);
  assertEquals(applied.edits[0].spec.pairs[0].source, "A bunch of roses");
  assertEquals(applied.prompts[0].text, "A bunch of roses");
});

Deno.test("edits are added, moved and removed, and the open one stays open", () => {
  let state = actions.addEdit(opened());
  assertEquals([state.edits.length, state.open], [2, 1]);
  state = actions.applyDrafts(actions.typePair(state, 0, { source: "A cat", destination: "A white cat" }));
  state = actions.moveEdit(state, 1, -1);
  assertEquals([state.open, state.edits[0].spec.pairs[0].source], [0, "A cat"]);
  state = actions.removeEdit(state, 1);
  assertEquals([state.open, state.edits.length, state.edits[0].spec.pairs[0].source], [0, 1, "A cat"]);
  state = actions.removeEdit(state, 0);
  assertEquals(recipeOf(state).edits, []);
  assertEquals(state.edits.length, 1);
});

Deno.test("a preserved prompt joins the edit, and stays in it when its text changes", () => {
  let state = actions.togglePreserve(opened(), "a lemon");
  assertEquals(state.edits[0].spec.preserve, ["a lemon"]);
  const { id } = state.prompts[4];
  state = actions.setPrompt(state, id, "a lime");
  assertEquals(state.edits[0].spec.preserve, ["a lime"]);
  assertEquals(actions.togglePreserve(state, "a lime").edits[0].spec.preserve, []);
});

Deno.test("drawing asks for what is missing only, and for everything if nothing is", () => {
  let state = drawn(opened());
  assertEquals(actions.missingTasks(state).length, 0);
  assertEquals(actions.enqueue(state).jobs[0].tasks.length, 12);
  state = actions.setEdit(state, 0, { lambda: 1 });
  const [job] = actions.enqueue(state).jobs;
  assertEquals(new Set(job.tasks.map(({ side }) => side)), new Set(["after"]));
  assertEquals(job.tasks.length, 6);
  assert(isStale(state));
  assert(!isStale(actions.undo(state)));
});

Deno.test("an edit that is off draws the same before and after", () => {
  const state = actions.setEdit(opened(), 0, { enabled: false });
  const [before, after] = actions.tasksOf(state);
  assertEquals(before.key, after.key);
  const [b, a] = actions.tasksOf(opened());
  assertNotEquals(b.key, a.key);
});

Deno.test("stopping keeps the finished pictures, in the cards and in history", () => {
  let state = actions.enqueue(opened());
  state = actions.finishTask(actions.finishTask(actions.finishTask(state, pixels(1)), pixels(2)), pixels(3));
  state = actions.finishJob(state, 5000, true);
  const cards = cardsOf(state);
  assertEquals(cards.map(({ before, after }) => [before, after].filter(Boolean).length), [2, 1, 0, 0, 0, 0]);
  assertEquals(state.history.length, 1);
  assertEquals(state.history[0].pictures[0].after?.pixels.data[0], 2);
  assertEquals(statusOf(answered(state, [], 20), 0).small, "Stopped, 3 finished");
});

Deno.test("the status claims no edit after a LoRA, until predictions are there again", () => {
  const state = answered(opened(), [1], 20);
  const changed = actions.setLoras(state, ["a.safetensors"]);
  assertEquals([changed.changes, statusOf(changed, 0).strong], [{}, "Solving the edit"]);
  assertEquals(statusOf(answered(changed, [1], 30), 0).strong, "edited in 30 ms");
});

Deno.test("nothing goes into history when nothing was finished", () => {
  const state = actions.finishJob(actions.enqueue(opened()), 1, true);
  assertEquals(state.history, []);
});

Deno.test("the status says N of M while drawing, and how long the edit took otherwise", () => {
  let state = answered(opened(), [1], 20.4);
  assertEquals(statusOf(state, 0).strong, "edited in 20 ms");
  assertEquals(statusOf(answered(state, [1], 0), 0).strong, "edited in 20 ms");
  state = actions.setRunning(actions.enqueue(state), { step: 0, steps: 4 }, 1000);
  assertEquals(statusOf(state, 1000).strong, "0 of 12");
  state = actions.finishTask(state, pixels(1));
  assertEquals(statusOf(state, 3000), { strong: "1 of 12", small: "about 22 s left" });
  state = actions.enqueue(actions.setSettings(state, { seed: "9" }));
  assertEquals(statusOf(state, 3000).small, "about 22 s left, 1 queued");
});

Deno.test("looking at history changes nothing; using it restores settings and pictures", () => {
  const first = drawn(opened());
  const changed = actions.setSettings(actions.setEdit(first, 0, { lambda: 10 }), { seed: "99" });
  const [entry] = changed.history;
  const looking = actions.look(changed, entry.id);
  assertEquals(recipeOf(looking), recipeOf(changed));
  assertEquals(cardsOf(looking)[0].after, entry.pictures[0].after);
  const used = actions.useEntry(looking, entry.id);
  assertEquals(recipeOf(used), recipeOf(first));
  assertEquals(used.pictures[used.prompts[0].id].after, entry.pictures[0].after);
  assertEquals(actions.missingTasks(used), []);
  assertEquals(recipeOf(actions.undo(used)).edits[0].lambda, 10);
});

Deno.test("clearing history can be taken back", () => {
  const state = drawn(opened());
  const cleared = actions.clearHistory(state);
  assertEquals([cleared.history.length, cleared.cleared.length], [0, 1]);
  assertEquals(actions.restoreHistory(cleared).history, state.history);
});

Deno.test("entries of earlier visits stand behind those of this one", () => {
  const state = drawn(opened());
  const old = { ...state.history[0], id: 5 };
  assertEquals(actions.addHistory(state, [old]).history.map(({ id }) => id), [state.history[0].id, 5]);
  assertEquals(actions.addHistory(state, state.history).history.length, 1);
});

Deno.test("pictures of another text are not shown under a changed prompt", () => {
  const state = drawn(opened());
  const { id } = state.prompts[1];
  const card = cardsOf(actions.setPrompt(state, id, "a tulip"))[1];
  assertEquals([card.before, card.after, card.change], [undefined, undefined, undefined]);
});

Deno.test("an unrelated prompt past half is marked, and the reading says the extremes", () => {
  const state = answered(opened(), [1.2, 0.9, 0.8, 0.7, 0.6, 0.1], 5);
  const cards = cardsOf(state);
  assertEquals(cards.map(({ warn }) => warn), [false, false, false, false, true, false]);
  assertEquals(readingOf(cards), { related: { least: 0.7, most: 1 }, unrelated: 0.6 });
});

Deno.test("actions return new states and leave the old one as it was", () => {
  const state = drawn(opened());
  const before = structuredClone(state);
  actions.useRecipe(actions.addPrompt(actions.setEdit(state, 0, { lambda: 3 }), "related"), defaultRecipe);
  actions.clearHistory(actions.enqueue(actions.togglePreserve(state, "a lemon")));
  assertEquals(state, before);
});

Deno.test("a suggested destination keeps the source's words and what was added", () => {
  assertEquals(suggestDestination("A pack of roses", "A bunch of blue roses"), "A pack of blue roses");
  assertEquals(suggestDestination("a cat", "a white dog"), undefined);
  assertEquals(suggestDestination("a cat on a mat", "A black cat on the mat"), "a black cat on a mat");
  assertEquals(suggestDestination("a cat", ""), undefined);
});

Deno.test("curves go through their points and do not overshoot", () => {
  const curve = monotoneCurve([0, 1, 2, 3], [1, 1, 0, 0]);
  assertEquals([0, 1, 2, 3, 9].map(curve), [1, 1, 0, 0, 0]);
  for (let x = 0; x <= 3; x += 0.05) assert(curve(x) >= 0 && curve(x) <= 1 + 1e-12);
  assert(Math.abs(curve(1.5) - 0.5) < 1e-12);
});

Deno.test("the next model's own size, sampler and guidance replace those of the model before", () => {
  const next = { ...facts, name: "xl", size: 1024, guidance: 5, isXL: true, samplers: ["euler", "ddim"] };
  const own = (state: State) => {
    const { width, height, guidance, sampler } = state.settings;
    return [width, height, guidance, sampler];
  };
  const first = actions.setSettings(opened(), { guidance: facts.guidance });
  assertEquals(own(first), [64, 64, 7.5, "ddim"]);
  assertEquals(own(actions.modelOpen(first, next)), [1024, 1024, 5, "euler"]);
  const chosen = actions.setSettings(first, { width: 96, guidance: 3, sampler: "euler" });
  assertEquals(own(actions.modelOpen(chosen, next)), [96, 64, 3, "euler"], "what the visitor chose stays");
});

Deno.test("second prompts and the pooled embedding are kept by links' recipes; models without them drop the prompts", () => {
  const isXL = { ...facts, isXL: true };
  const recipe = {
    ...defaultRecipe,
    edits: [{ ...defaultRecipe.edits[0], withPooled: true }],
    settings: { ...defaultRecipe.settings, prompt2: "in oil", negativePrompt2: "fog" },
  };
  const xl = actions.useRecipe(actions.modelOpen(initialState(), isXL), recipe);
  assertEquals([xl.settings.prompt2, xl.settings.negativePrompt2], ["in oil", "fog"]);
  assertEquals(v.parse(recipeSchema, recipeOf(xl)), recipeOf(xl));
  const pooled = actions.setMethod(xl, 0, "uce").edits[0].spec;
  assertEquals([pooled.method, pooled.withPooled], ["uce", true]);
  const other = actions.modelOpen(xl, facts);
  assertEquals([other.settings.prompt2, other.settings.negativePrompt2], [undefined, undefined]);
});

Deno.test("grids vary λ and strength, seeds or samplers, and leave the rest", () => {
  const recipe = recipeOf(opened());
  const options = { prompt: "a rose in a vase", recipe, open: 0, samplers: ["ddim", "euler"] };
  const lambda = gridOf("lambda", options);
  assertEquals([lambda.rows.length, lambda.columns.length], [4, 7]);
  assertEquals(lambda.cells[1][2].request.edits[0].strength, 0.75);
  assertEquals(lambda.cells[1][2].request.edits[0].lambda, 0.1);
  const seeds = gridOf("seeds", {
    ...options,
    recipe: { ...recipe, settings: { ...recipe.settings, seed: "18446744073709551615" } },
  });
  assertEquals(seeds.cells[0].slice(0, 2).map(({ request }) => request.settings.seed), ["18446744073709551615", "0"]);
  assertEquals(seeds.cells[0][0].request.edits, []);
  assertEquals(gridOf("samplers", options).columns, ["ddim", "euler"]);
});

Deno.test("λ and recipes are written for people", () => {
  assertEquals([0.1, 0.105, 0.0001, 1, 12.3, 100, 1000].map(lambdaText), [
    "0.1",
    "0.1",
    "0.0001",
    "1",
    "12",
    "100",
    "1000",
  ]);
  assertEquals(summaryOf(defaultRecipe), { title: "A pack of blue roses", details: "λ 0.1, seed 2, 6 prompts" });
});

Deno.test("a source prompt follows its edit, and comes back by undo", () => {
  const typed = actions.typePair(opened(), 0, { source: "a rose", destination: "a blue rose" });
  const sourceOf = ({ prompts }: State) => prompts[0].text;
  const applied = actions.applyDrafts(typed);
  assertEquals(sourceOf(applied), "a rose");
  const undone = actions.undo(applied);
  assertEquals(sourceOf(undone), "A pack of roses");
  assertEquals(undone.edits[0].spec.pairs[0].source, "A pack of roses");
  assertEquals(undone.edits[0].draft[0].source, "A pack of roses");
});
