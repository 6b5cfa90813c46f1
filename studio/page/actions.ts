/**
 * Pure actions: each takes the state and returns the next one.
 *
 * @module
 */

import { maxEdits, maxPrompts } from "./recipe_schema.ts";
import { isComplete, methodOf } from "../edit_methods.ts";
import type {
  AlignmentView,
  DrawSettings,
  EditMethod,
  EditSpec,
  ModelFacts,
  PainterFailure,
  PairSpec,
  Pixels,
  Prediction,
} from "../painter.ts";
import type {
  Curves,
  EditItem,
  Group,
  HistoryEntry,
  Job,
  Notice,
  PairTokens,
  PicturePair,
  PromptItem,
  Recipe,
  State,
  Task,
  View,
} from "./state.ts";
import {
  emptyEdit,
  hasDraft,
  isActive,
  modelName,
  pairKey,
  recipeOf,
  requestKey,
  requestOf,
  specsOf,
} from "./state.ts";

const maxUndo = 100;
const maxAlignments = 200;

// ---------- edits ----------

function withEdits(state: State, edits: readonly EditItem[], gesture?: string): State {
  const joined = gesture !== undefined && gesture === state.gesture;
  return {
    ...state,
    edits,
    open: Math.max(0, Math.min(state.open, edits.length - 1)),
    past: joined ? state.past : [...state.past, state.edits].slice(-maxUndo),
    future: [],
    gesture,
    looking: undefined,
  };
}

function changeEdit(state: State, index: number, change: (edit: EditItem) => EditItem, gesture?: string): State {
  return withEdits(state, state.edits.map((edit, i) => i === index ? change(edit) : edit), gesture);
}

/** Changes values of an edit. One `gesture` is one step of undo. */
export function setEdit(
  state: State,
  index: number,
  change: Partial<Omit<EditSpec, "pairs" | "preserve">>,
  gesture?: string,
): State {
  return changeEdit(state, index, (edit) => ({ ...edit, spec: { ...edit.spec, ...change } }), gesture);
}

/**
 * Changes the editor of an edit, with its own λ and settings. A null space needs prompts that stay:
 * where none is preserved, those of the unrelated group are.
 */
export function setMethod(state: State, index: number, method: EditMethod): State {
  return changeEdit(state, index, ({ spec, ...item }) => {
    const { pairs, strength, withToK, enabled, preserve, withPooled } = spec;
    const unrelated = state.prompts.filter(({ group, text }) => group === "unrelated" && text.trim() !== "");
    const kept = method === "nullspace" && preserve.length === 0 ? unrelated.map(({ text }) => text) : preserve;
    const own = method === "time" ? {} : { method };
    const { lambda } = methodOf(own);
    const common = { pairs, lambda, strength, withToK, enabled, preserve: [...new Set(kept)] };
    return { ...item, spec: { ...common, ...own, ...(withPooled && { withPooled }) } };
  });
}

/** Ends a gesture: the next change is a step of undo of its own. */
export function endGesture(state: State): State {
  return state.gesture === undefined ? state : { ...state, gesture: undefined };
}

/** Types into a field of the open edit. Nothing is applied. */
export function typePair(state: State, pair: number, change: Partial<PairSpec>): State {
  const gesture = `type ${state.edits[state.open].id} ${pair}`;
  return {
    ...changeEdit(state, state.open, (edit) => ({
      ...edit,
      draft: edit.draft.map((old, i) => i === pair ? { ...old, ...change } : old),
    }), gesture),
    pair,
  };
}

/** Applies the fields of all edits. A source prompt on show follows the edit's source. */
export function applyDrafts(state: State): State {
  if (!state.edits.some(hasDraft)) return { ...state, gesture: undefined, looking: undefined };
  const edits = state.edits.map((edit) => ({ ...edit, spec: { ...edit.spec, pairs: edit.draft } }));
  const prompts = promptsFor(edits, state);
  return { ...state, edits, prompts, gesture: undefined, looking: undefined, editFailure: undefined };
}

/** The prompts when other edits apply: a source prompt on show follows its edit's source. */
function promptsFor(edits: readonly EditItem[], state: State): readonly PromptItem[] {
  return edits.reduce((prompts, { id, spec }) => {
    const before = state.edits.find((edit) => edit.id === id)?.spec.pairs ?? [];
    return spec.pairs.reduce((prompts, { source }, i) => {
      const old = before[i]?.source;
      if (old === undefined || old === source) return prompts;
      return prompts.map((prompt) =>
        prompt.group === "source" && prompt.text === old ? { ...prompt, text: source } : prompt
      );
    }, prompts);
  }, state.prompts);
}

/** Adds an edit behind the others and opens it. */
export function addEdit(state: State, spec: EditSpec = emptyEdit): State {
  if (state.edits.length >= maxEdits) return state;
  // An edit that says nothing yet makes room.
  const others = state.edits.filter(({ spec, draft }) =>
    [...spec.pairs, ...draft].some((pair) => isComplete(pair, spec))
  );
  const edits = [...others, { id: state.nextId, spec, draft: spec.pairs }];
  return { ...withEdits(state, edits), open: edits.length - 1, pair: 0, nextId: state.nextId + 1 };
}

/** Removes an edit. An empty one takes the place of the last. */
export function removeEdit(state: State, index: number): State {
  if (state.edits.length === 1) {
    const item = { id: state.nextId, spec: emptyEdit, draft: emptyEdit.pairs };
    return { ...withEdits(state, [item]), open: 0, pair: 0, nextId: state.nextId + 1 };
  }
  const next = withEdits(state, state.edits.filter((_, i) => i !== index));
  const open = index < state.open ? state.open - 1 : next.open;
  return { ...next, open: Math.max(0, Math.min(open, next.edits.length - 1)), pair: 0 };
}

/** Moves an edit by one place, up or down. */
export function moveEdit(state: State, index: number, by: -1 | 1): State {
  const to = index + by;
  if (to < 0 || to >= state.edits.length) return state;
  const edits = [...state.edits];
  [edits[index], edits[to]] = [edits[to], edits[index]];
  const open = state.open === index ? to : state.open === to ? index : state.open;
  return { ...withEdits(state, edits), open };
}

/** Shows the fields of an edit. */
export function openEdit(state: State, index: number): State {
  return { ...state, open: index, pair: 0, gesture: undefined };
}

/** Shows the tokens of a pair of the open edit. */
export function openPair(state: State, pair: number): State {
  return { ...state, pair };
}

/** Adds an empty pair to the open edit's fields. */
export function addPair(state: State): State {
  const pair = state.edits[state.open].draft.length;
  const change = (edit: EditItem) => ({ ...edit, draft: [...edit.draft, { source: "", destination: "" }] });
  return { ...changeEdit(state, state.open, change), pair };
}

/** Removes a pair of the open edit, at once if it had been applied. */
export function removePair(state: State, pair: number): State {
  return {
    ...changeEdit(state, state.open, (edit) => {
      const draft = edit.draft.filter((_, i) => i !== pair);
      return { ...edit, draft, spec: { ...edit.spec, pairs: edit.spec.pairs.filter((_, i) => i !== pair) } };
    }),
    pair: 0,
  };
}

/** Preserves a prompt in the open edit, or no longer does. */
export function togglePreserve(state: State, prompt: string): State {
  return changeEdit(state, state.open, (edit) => {
    const { preserve } = edit.spec;
    const next = preserve.includes(prompt) ? preserve.filter((text) => text !== prompt) : [...preserve, prompt];
    return { ...edit, spec: { ...edit.spec, preserve: next } };
  });
}

/** Takes back the last change of the edits. */
export function undo(state: State): State {
  const edits = state.past.at(-1);
  if (edits === undefined) return state;
  return {
    ...state,
    edits,
    prompts: promptsFor(edits, state),
    open: Math.max(0, Math.min(state.open, edits.length - 1)),
    pair: 0,
    past: state.past.slice(0, -1),
    future: [state.edits, ...state.future],
    gesture: undefined,
    editFailure: undefined,
  };
}

/** Repeats the change that was taken back last. */
export function redo(state: State): State {
  const [edits, ...future] = state.future;
  if (edits === undefined) return state;
  return {
    ...state,
    edits,
    prompts: promptsFor(edits, state),
    open: Math.max(0, Math.min(state.open, edits.length - 1)),
    pair: 0,
    past: [...state.past, state.edits],
    future,
    gesture: undefined,
    editFailure: undefined,
  };
}

/** Takes over a recipe: from history, a link or a file. Edits can be undone. */
export function useRecipe(state: State, recipe: Recipe): State {
  let { nextId } = state;
  // An edit of the same prompts keeps its id, and with it its curves.
  const known = [...state.edits];
  const edits = specsOf(recipe).map((spec): EditItem => {
    const at = known.findIndex((edit) => JSON.stringify(edit.spec.pairs) === JSON.stringify(spec.pairs));
    const id = at >= 0 ? known.splice(at, 1)[0].id : nextId++;
    return { id, spec, draft: spec.pairs };
  });
  // A prompt that stays keeps its id, and with it its pictures.
  const free = [...state.prompts];
  const prompts = recipe.prompts.map(({ text, group }): PromptItem => {
    const at = free.findIndex((prompt) => prompt.text === text);
    const id = at >= 0 ? free.splice(at, 1)[0].id : nextId++;
    return { id, text, group };
  });
  const next = withEdits(state, edits);
  return { ...withOwnSettings({ ...next, settings: recipe.settings }), prompts, nextId, open: 0, pair: 0 };
}

// ---------- answers of the painter ----------

/** Keeps how a pair's tokens correspond. */
export function setAlignment(state: State, { pair, tokens }: PairTokens, view: AlignmentView): State {
  const others = Object.entries(state.alignments).slice(-maxAlignments);
  return { ...state, alignments: { ...Object.fromEntries(others), [pairKey(pair, tokens)]: view } };
}

/** Keeps the answer to a question about edits and prompts. */
export function setPrediction(
  state: State,
  { edits, prompts }: { readonly edits: readonly EditSpec[]; readonly prompts: readonly string[] },
  { changes, ms }: Prediction,
): State {
  return {
    ...state,
    changes: Object.fromEntries(prompts.map((prompt, i) => [prompt, changes[i]])),
    solved: { edits, ms: ms > 0 ? ms : state.solved?.ms ?? 0 },
    editFailure: undefined,
  };
}

/** Keeps why the edits could not be solved. */
export function setEditFailure(state: State, message: string): State {
  return { ...state, editFailure: message };
}

/** Keeps the response curves. */
export function setCurves(state: State, curves: Curves): State {
  return { ...state, curves };
}

// ---------- prompts ----------

/** Adds a prompt to a group. */
export function addPrompt(state: State, group: Group, text = ""): State {
  if (state.prompts.length >= maxPrompts) return state;
  const prompts = [...state.prompts, { id: state.nextId, text, group }];
  return { ...state, prompts, nextId: state.nextId + 1, looking: undefined };
}

/** Changes a prompt's text. A preserved prompt stays preserved. */
export function setPrompt(state: State, id: number, text: string): State {
  const old = state.prompts.find((prompt) => prompt.id === id)?.text;
  if (old === undefined || old === text) return state;
  const shared = state.prompts.some((prompt) => prompt.id !== id && prompt.text === old);
  const edits = shared
    ? state.edits
    : state.edits.map((edit) =>
      edit.spec.preserve.includes(old)
        ? { ...edit, spec: { ...edit.spec, preserve: edit.spec.preserve.map((kept) => kept === old ? text : kept) } }
        : edit
    );
  const prompts = state.prompts.map((prompt) => prompt.id === id ? { ...prompt, text } : prompt);
  return { ...state, prompts, edits, looking: undefined };
}

/** Moves a prompt to another group. */
export function setGroup(state: State, id: number, group: Group): State {
  return { ...state, prompts: state.prompts.map((prompt) => prompt.id === id ? { ...prompt, group } : prompt) };
}

/** Removes a prompt with its pictures. */
export function removePrompt(state: State, id: number): State {
  const { [id]: _, ...pictures } = state.pictures;
  return { ...state, prompts: state.prompts.filter((prompt) => prompt.id !== id), pictures };
}

/** Changes how pictures are drawn. */
export function setSettings(state: State, change: Partial<DrawSettings>): State {
  return { ...state, settings: { ...state.settings, ...change }, looking: undefined };
}

// ---------- the model ----------

/** A model is being opened. */
export function modelOpening(state: State, name: string, doneBytes: number, totalBytes: number): State {
  return { ...state, model: { status: "opening", name, doneBytes, totalBytes } };
}

/** A model is open: what was known of another is forgotten. Pictures stay. */
export function modelOpen(state: State, facts: ModelFacts): State {
  return withOwnSettings({
    ...state,
    settings: unlessOwn(state, state.lastFacts),
    lastFacts: facts,
    model: { status: "open", facts },
    alignments: {},
    changes: {},
    curves: undefined,
    solved: undefined,
    editFailure: undefined,
    loras: [],
  });
}

/** Another model could not be opened: the one before is still open. */
export function modelKept(state: State, facts: ModelFacts): State {
  return { ...state, model: { status: "open", facts } };
}

/** A model could not be opened. */
export function modelFailed(state: State, failure: PainterFailure): State {
  return { ...state, model: { status: "failed", failure } };
}

/** Keeps the names of the LoRAs that are in use. */
export function setLoras(state: State, loras: readonly string[]): State {
  return { ...state, loras, changes: {}, solved: undefined, curves: undefined };
}

/** The settings without the defaults of the model before: the next one has its own. */
function unlessOwn({ settings }: State, before: ModelFacts | undefined): DrawSettings {
  if (before === undefined) return settings;
  const { width, height, guidance } = settings;
  const isOwnSize = width === before.size && height === before.size;
  return {
    ...settings,
    ...(isOwnSize && { width: 0, height: 0 }),
    ...(guidance === before.guidance && { guidance: 0 }),
    ...(settings.sampler === before.samplers[0] && { sampler: "" }),
  };
}

/**
 * Fills in the model's own sampler, size and guidance, and drops what it does not know: a sampler,
 * or second prompts.
 */
function withOwnSettings(state: State): State {
  if (state.model.status !== "open") return state;
  const { facts } = state.model;
  const { prompt2, negativePrompt2, ...settings } = state.settings;
  const fitting = (side: number) => Math.max(facts.sizeStep, Math.round(side / facts.sizeStep) * facts.sizeStep);
  return {
    ...state,
    settings: {
      ...settings,
      sampler: facts.samplers.find((name) => sameName(name, settings.sampler)) ?? facts.samplers[0],
      width: settings.width > 0 ? fitting(settings.width) : facts.size,
      height: settings.height > 0 ? fitting(settings.height) : facts.size,
      guidance: settings.guidance > 0 ? settings.guidance : facts.guidance,
      clipSkip: Math.min(settings.clipSkip, facts.textLayers - 1),
      ...(facts.isXL && prompt2 && { prompt2 }),
      ...(facts.isXL && negativePrompt2 && { negativePrompt2 }),
    },
  };
}

/** Whether two names mean one sampler: programs write "DDIM" and "ddim". */
function sameName(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

// ---------- drawing ----------

/** The pictures that the state asks for. */
export function tasksOf(state: State): Task[] {
  const recipe = recipeOf(state);
  const model = modelName(state);
  return state.prompts.flatMap(({ id, text }, prompt) =>
    text.trim() === "" ? [] : (["before", "after"] as const).map((side) => {
      const request = requestOf(text, side, recipe);
      return { prompt, id, side, request, key: requestKey(request, model) };
    })
  );
}

/** Of these, the pictures that are not there yet. */
export function missingTasks(state: State): Task[] {
  return tasksOf(state).filter(({ id, side, key }) => state.pictures[id]?.[side]?.key !== key);
}

/**
 * Queues a drawing of what is missing, or of everything if nothing is. Pictures that are there
 * already count for the drawing's history.
 */
export function enqueue(state: State): State {
  const missing = missingTasks(state);
  const tasks = missing.length > 0 ? missing : tasksOf(state);
  if (tasks.length === 0) return state;
  const job: Job = {
    id: state.nextId,
    recipe: recipeOf(state),
    changes: state.prompts.map(({ text }) => state.changes[text]),
    tasks,
    done: 0,
  };
  return { ...state, jobs: [...state.jobs, job], nextId: state.nextId + 1, looking: undefined, gesture: undefined };
}

/** A picture begins, or one more step of it is done. */
export function setRunning(
  state: State,
  running: { step: number; steps: number; preview?: Pixels; waiting?: number },
  now: number,
): State {
  const [job, ...others] = state.jobs;
  if (job === undefined) return state;
  const preview = running.preview ?? (running.step === 0 ? undefined : state.running?.preview);
  return { ...state, running: { ...running, preview }, jobs: [{ ...job, startedAt: job.startedAt ?? now }, ...others] };
}

/** The first task of the first job is done. */
export function finishTask(state: State, pixels: Pixels): State {
  const [job, ...others] = state.jobs;
  const task = job?.tasks[job.done];
  if (task === undefined) return state;
  const { id, side, key, request } = task;
  const pair: PicturePair = {
    ...state.pictures[id],
    [side]: { key, request, pixels },
    ...(side === "after" ? { change: job.changes[task.prompt] } : {}),
  };
  // A prompt that was removed meanwhile keeps its picture for history only.
  return {
    ...state,
    pictures: { ...state.pictures, [id]: pair },
    jobs: [{ ...job, done: job.done + 1 }, ...others],
    running: undefined,
  };
}

/** The first job ends. What is finished goes into history. */
export function finishJob(state: State, now: number, stopped: boolean): State {
  const [job, ...jobs] = state.jobs;
  if (job === undefined) return state;
  const next: State = {
    ...state,
    jobs,
    running: undefined,
    lastDrawing: { pictures: job.done, recipe: job.recipe, stopped },
  };
  if (job.done === 0) return next;
  const entry: HistoryEntry = {
    // Unique among the entries of other visits too.
    id: Math.max(now, (state.history[0]?.id ?? 0) + 1),
    time: now,
    model: modelName(state),
    recipe: job.recipe,
    pictures: picturesOf(job, state),
  };
  return { ...next, history: [entry, ...state.history], cleared: [] };
}

/** The pictures of a job's recipe that are there, by prompt. */
function picturesOf(job: Job, state: State): PicturePair[] {
  const model = modelName(state);
  const all = Object.values(state.pictures);
  return job.recipe.prompts.map(({ text }, i) => {
    const pictureOf = (side: "before" | "after") => {
      const key = requestKey(requestOf(text, side, job.recipe), model);
      return all.find((pair) => pair[side]?.key === key)?.[side];
    };
    return { before: pictureOf("before"), after: pictureOf("after"), change: job.changes[i] };
  });
}

/** Drops the jobs behind the one that is being drawn, or all of them. */
export function dropJobs(state: State, keepFirst: boolean): State {
  return { ...state, jobs: keepFirst ? state.jobs.slice(0, 1) : [], running: keepFirst ? state.running : undefined };
}

// ---------- history ----------

/** Puts kept entries behind those of this visit. */
export function addHistory(state: State, entries: readonly HistoryEntry[]): State {
  const known = new Set(state.history.map(({ id }) => id));
  return { ...state, history: [...state.history, ...entries.filter(({ id }) => !known.has(id))] };
}

/** Shows an entry of history, or what stands now. Nothing else changes. */
export function look(state: State, id: number | undefined): State {
  return { ...state, looking: id };
}

/** Takes over the settings of an entry of history, with its pictures. */
export function useEntry(state: State, id: number): State {
  const entry = state.history.find((entry) => entry.id === id);
  if (entry === undefined) return state;
  const next = useRecipe(state, entry.recipe);
  const pictures = { ...next.pictures };
  next.prompts.forEach(({ id }, i) => pictures[id] = entry.pictures[i]);
  return { ...next, pictures, looking: undefined };
}

/** Empties history. {@linkcode restoreHistory} brings it back. */
export function clearHistory(state: State): State {
  return { ...state, history: [], cleared: state.history, looking: undefined };
}

/** Takes back the last clearing. */
export function restoreHistory(state: State): State {
  return { ...state, history: [...state.history, ...state.cleared], cleared: [] };
}

// ---------- looks and messages ----------

/** Chooses how before and after are shown. */
export function setView(state: State, view: View): State {
  return { ...state, view };
}

/** Moves the divider of all cards, or of one. */
export function setDivider(state: State, divider: number, only?: number): State {
  if (only === undefined) return { ...state, divider, dividers: {} };
  return { ...state, dividers: { ...state.dividers, [only]: divider } };
}

/** Notes which card Save picture means. */
export function focusPrompt(state: State, id: number): State {
  return state.focused === id ? state : { ...state, focused: id };
}

/** Whether saved pictures carry their settings as text. */
export function setTextInPictures(state: State, textInPictures: boolean): State {
  return { ...state, textInPictures };
}

/** Shows a message. One of the same title is replaced. */
export function notify(state: State, notice: Omit<Notice, "id" | "actions"> & Partial<Pick<Notice, "actions">>): State {
  const others = state.notices.filter(({ title }) => title !== notice.title).slice(-2);
  return {
    ...state,
    notices: [...others, { actions: [], ...notice, id: state.nextId }],
    nextId: state.nextId + 1,
  };
}

/** Takes a message away. */
export function dismiss(state: State, id: number): State {
  return { ...state, notices: state.notices.filter((notice) => notice.id !== id) };
}

/** Whether anything is switched on that could be saved. */
export function hasActiveEdit(state: State): boolean {
  return state.edits.some(({ spec }) => isActive(spec));
}
