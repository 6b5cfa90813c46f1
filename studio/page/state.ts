/**
 * The page's whole state, and what is derived from it. Nothing here knows a browser.
 *
 * @module
 */

import type {
  AlignmentView,
  DrawSettings,
  EditSpec,
  ModelFacts,
  PainterFailure,
  PairSpec,
  PictureRequest,
  Pixels,
  RowTokens,
} from "../painter.ts";
import { isComplete, isWritten, tokensOf } from "../edit_methods.ts";

/** What the visitor expects of a prompt: to change with the edit, or to stay. */
export type Group = "source" | "related" | "unrelated";

/** All groups, in the order in which the page shows them. */
export const groups: readonly Group[] = ["source", "related", "unrelated"];

/** A prompt with the group that it belongs to. */
export interface PromptSpec {
  readonly text: string;
  readonly group: Group;
}

/** A prompt on the page. */
export interface PromptItem extends PromptSpec {
  readonly id: number;
}

/** An edit of the stack: as applied, and as its fields stand. */
export interface EditItem {
  readonly id: number;
  readonly spec: EditSpec;
  /** The pairs in the fields. They take effect when the edit is applied. */
  readonly draft: readonly PairSpec[];
}

/** All that a drawing depends on, apart from the model. */
export interface Recipe {
  readonly edits: readonly EditSpec[];
  readonly prompts: readonly PromptSpec[];
  readonly settings: DrawSettings;
}

/** Before the edit, or after it. */
export type Side = "before" | "after";

/** A finished picture and what drew it. */
export interface Drawn {
  readonly key: string;
  readonly request: PictureRequest;
  readonly pixels: Pixels;
}

/** The pictures of one prompt. */
export interface PicturePair {
  readonly before?: Drawn;
  readonly after?: Drawn;
  /** The predicted change when the picture after the edit was drawn. */
  readonly change?: number;
}

/** A picture that is still to be drawn, or just is. */
export interface Task {
  /** Index of the prompt in the job's recipe. */
  readonly prompt: number;
  /** The prompt on the page. */
  readonly id: number;
  readonly side: Side;
  readonly request: PictureRequest;
  readonly key: string;
}

/** One press of Draw. */
export interface Job {
  readonly id: number;
  readonly recipe: Recipe;
  /** Predicted changes of the recipe's prompts. */
  readonly changes: readonly (number | undefined)[];
  readonly tasks: readonly Task[];
  /** Number of finished tasks. */
  readonly done: number;
  /** When the first picture began, in milliseconds since the epoch. */
  readonly startedAt?: number;
}

/** The picture that is being drawn. */
export interface Running {
  readonly step: number;
  readonly steps: number;
  readonly preview?: Pixels;
  /** Pictures of other pages that are drawn first. */
  readonly waiting?: number;
}

/** A finished drawing, as history keeps it. */
export interface HistoryEntry {
  readonly id: number;
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly model: string;
  readonly recipe: Recipe;
  /** In the order of the recipe's prompts. */
  readonly pictures: readonly PicturePair[];
}

/** How before and after are shown. */
export type View = "divider" | "side" | "flicker" | "difference";

/** All views, in the order of their switch. */
export const views: readonly { readonly view: View; readonly label: string }[] = [
  { view: "divider", label: "Divider" },
  { view: "side", label: "Side by side" },
  { view: "flicker", label: "Flicker" },
  { view: "difference", label: "Difference" },
];

/** What a button in a notice does. */
export type NoticeAction = "reopen" | "use-server" | "choose-model";

/** A message to the visitor. */
export interface Notice {
  readonly id: number;
  /** Errors are announced at once, and stay until they are closed. */
  readonly tone: "error" | "calm";
  /** Whether a calm message stays, too. */
  readonly stays?: boolean;
  readonly title: string;
  readonly text: string;
  readonly actions: readonly { readonly label: string; readonly action: NoticeAction }[];
}

/** The model that the page draws with. */
export type ModelState =
  | { readonly status: "opening"; readonly name: string; readonly doneBytes: number; readonly totalBytes: number }
  | { readonly status: "open"; readonly facts: ModelFacts }
  | { readonly status: "failed"; readonly failure: PainterFailure };

/** The change of each prompt over λ, for one edit at full strength. */
export interface Curves {
  /** Id of the edit. */
  readonly edit: number;
  readonly lambdas: readonly number[];
  readonly changes: Readonly<Record<string, readonly number[]>>;
}

/** The page's state. */
export interface State {
  readonly edits: readonly EditItem[];
  /** Index of the edit whose fields are shown. */
  readonly open: number;
  /** Index of the pair whose tokens are shown. */
  readonly pair: number;
  readonly past: readonly (readonly EditItem[])[];
  readonly future: readonly (readonly EditItem[])[];
  /** Changes of one gesture, such as a drag, are undone together. */
  readonly gesture?: string;

  readonly prompts: readonly PromptItem[];
  readonly settings: DrawSettings;
  readonly model: ModelState;
  /** The model that was opened last, whose defaults the settings may hold. */
  readonly lastFacts?: ModelFacts;

  /** By {@linkcode pairKey}. */
  readonly alignments: Readonly<Record<string, AlignmentView>>;
  /** Predicted changes by prompt. */
  readonly changes: Readonly<Record<string, number>>;
  /** The edits that these changes are of, and how long the last of them took to solve. */
  readonly solved?: { readonly edits: readonly EditSpec[]; readonly ms: number };
  readonly curves?: Curves;
  /** Why the edits could not be solved. */
  readonly editFailure?: string;

  /** By prompt id. */
  readonly pictures: Readonly<Record<number, PicturePair>>;
  readonly jobs: readonly Job[];
  readonly running?: Running;
  /** What the last finished job drew. */
  readonly lastDrawing?: { readonly pictures: number; readonly recipe: Recipe; readonly stopped: boolean };

  readonly history: readonly HistoryEntry[];
  /** Entries that were cleared, until the next drawing. */
  readonly cleared: readonly HistoryEntry[];
  /** Id of the history entry on show. */
  readonly looking?: number;

  readonly view: View;
  /** The divider of all cards, in percent from the left. */
  readonly divider: number;
  /** Dividers that were moved alone, by prompt id. */
  readonly dividers: Readonly<Record<number, number>>;
  /** Id of the prompt that Save picture saves. */
  readonly focused?: number;
  readonly textInPictures: boolean;
  readonly loras: readonly string[];
  readonly notices: readonly Notice[];
  readonly nextId: number;
}

/** The recipe that a visitor finds. */
export const defaultRecipe: Recipe = {
  edits: [{
    pairs: [{ source: "A pack of roses", destination: "A pack of blue roses" }],
    lambda: 0.1,
    strength: 1,
    withToK: true,
    enabled: true,
    preserve: [],
  }],
  prompts: [
    { text: "A pack of roses", group: "source" },
    { text: "a field of roses", group: "related" },
    { text: "a rose in a vase", group: "related" },
    { text: "a painting of a rose", group: "related" },
    { text: "a lemon", group: "unrelated" },
    { text: "a cat on the beach", group: "unrelated" },
  ],
  settings: {
    seed: "2",
    steps: 20,
    guidance: 5,
    sampler: "",
    width: 0,
    height: 0,
    negativePrompt: "",
    clipSkip: 0,
  },
};

/** The state at load. Size, sampler and a guidance of 0 stand for the model's own. */
export function initialState(recipe: Recipe = defaultRecipe): State {
  let nextId = 1;
  return {
    edits: specsOf(recipe).map((spec) => ({ id: nextId++, spec, draft: spec.pairs })),
    open: 0,
    pair: 0,
    past: [],
    future: [],
    prompts: recipe.prompts.map((prompt) => ({ id: nextId++, ...prompt })),
    settings: recipe.settings,
    model: { status: "opening", name: "pocket", doneBytes: 0, totalBytes: 0 },
    alignments: {},
    changes: {},
    pictures: {},
    jobs: [],
    history: [],
    cleared: [],
    view: "divider",
    divider: 50,
    dividers: {},
    textInPictures: true,
    loras: [],
    notices: [],
    nextId,
  };
}

/** An edit that says nothing yet. */
export const emptyEdit: EditSpec = {
  pairs: [{ source: "", destination: "" }],
  lambda: 0.1,
  strength: 1,
  withToK: true,
  enabled: true,
  preserve: [],
};

/** The edits of a recipe; an empty one where there is none, so that the page has fields. */
export function specsOf({ edits }: Recipe): readonly EditSpec[] {
  return edits.length > 0 ? edits : [emptyEdit];
}

/** The recipe of a state, with the edits as applied, without those that are not written yet. */
export function recipeOf({ edits, prompts, settings }: State): Recipe {
  return {
    edits: edits.map(({ spec }) => spec).filter(isWritten),
    prompts: prompts.map(({ text, group }) => ({ text, group })),
    settings,
  };
}

/** The edits to solve: as applied; one that is not written yet is off. */
export function solvableEdits({ edits }: State): EditSpec[] {
  return edits.map(({ spec }) => isWritten(spec) ? spec : { ...spec, enabled: false });
}

/** Names a pair of prompts in {@linkcode State.alignments}. */
export function pairKey({ source, destination }: PairSpec, tokens: RowTokens = "all"): string {
  return JSON.stringify([source, destination, tokens]);
}

/** A pair of an edit, and how its tokens correspond. */
export interface PairTokens {
  readonly pair: PairSpec;
  readonly tokens: RowTokens;
}

/** The pairs in an edit's fields that say something. */
export function draftedPairs({ draft, spec }: EditItem): PairTokens[] {
  return draft.filter((pair) => isComplete(pair, spec)).map((pair) => ({ pair, tokens: tokensOf(spec) }));
}

/** Whether an edit changes anything: it is on, and its pairs are written. */
export function isActive(edit: EditSpec): boolean {
  return edit.enabled && edit.strength !== 0 && isWritten(edit);
}

/** What one picture needs. Edits that change nothing are left out. */
export function requestOf(
  prompt: string,
  side: Side,
  { edits, settings }: Pick<Recipe, "edits" | "settings">,
): PictureRequest {
  return { prompt, settings, edits: side === "before" ? [] : edits.filter(isActive) };
}

/** Equal for requests that draw the same picture. */
export function requestKey({ prompt, settings, edits }: PictureRequest, model: string): string {
  return JSON.stringify([model, prompt, Object.entries(settings).sort(), edits]);
}

/** Whether the fields of an edit differ from what is applied. */
export function hasDraft({ spec, draft }: EditItem): boolean {
  return draft.length !== spec.pairs.length || draft.some((pair, i) => pairKey(pair) !== pairKey(spec.pairs[i]));
}

/** Names the model with its LoRAs: pictures of another are not the same. */
export function modelName({ model, loras }: State): string {
  const name = model.status === "open" ? model.facts.name : "";
  return [name, ...loras].join(" + ");
}

/** A number of λ for people: one digit below 1, two above. */
export function lambdaText(lambda: number): string {
  if (lambda >= 100) return lambda.toFixed(0);
  return String(Number(lambda.toPrecision(lambda >= 1 ? 2 : 1)));
}

/** A share for people. */
export function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}
