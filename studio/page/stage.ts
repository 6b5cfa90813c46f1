/**
 * What the cards show: the prompts as they stand, or a history entry that is looked at.
 *
 * @module
 */

import { leftOut, methodOf } from "../edit_methods.ts";
import type { Drawn, Group, Running, State } from "./state.ts";
import { lambdaText, percent, recipeOf, solvableEdits } from "./state.ts";
import { missingTasks } from "./actions.ts";

/** Where a picture of a card is on its way. */
export type Pending = { readonly status: "waiting" } | { readonly status: "drawing"; readonly running: Running };

/** One card of the stage. */
export interface Card {
  readonly id: number;
  /** Its number on the page, from 1. */
  readonly number: number;
  readonly text: string;
  readonly group: Group;
  /** Predicted change; undefined until it is known. */
  readonly change?: number;
  /** The predicted change when the picture after the edit was drawn. */
  readonly drawnChange?: number;
  /** Whether an unrelated prompt would change by more than half. */
  readonly warn: boolean;
  readonly preserved: boolean;
  /** Whether the edit leaves this prompt out although it is preserved. */
  readonly leftOut: boolean;
  readonly before?: Drawn;
  readonly after?: Drawn;
  readonly pendingBefore?: Pending;
  readonly pendingAfter?: Pending;
}

/** An unrelated prompt past this predicted change is marked. */
const warnAt = 0.5;

/** The cards to show. Those of a history entry have negative ids and cannot be changed. */
export function cardsOf(state: State): Card[] {
  const entry = state.history.find(({ id }) => id === state.looking);
  if (entry !== undefined) {
    return entry.recipe.prompts.map(({ text, group }, i) => {
      const { before, after, change } = entry.pictures[i];
      const warn = group === "unrelated" && (change ?? 0) > warnAt;
      const preserving = entry.recipe.edits.filter(({ enabled, preserve }) => enabled && preserve.includes(text));
      return {
        id: -1 - i,
        number: i + 1,
        text,
        group,
        change,
        drawnChange: change,
        warn,
        preserved: preserving.length > 0,
        leftOut: preserving.some((edit) => leftOut(edit).includes(text)),
        before,
        after,
      };
    });
  }
  const [job] = state.jobs;
  const open = state.edits[state.open]?.spec;
  const omitted = open === undefined ? [] : leftOut(open);
  return state.prompts.map(({ id, text, group }, i) => {
    const pair = state.pictures[id] ?? {};
    const change = state.changes[text];
    const pending = (side: "before" | "after"): Pending | undefined => {
      const at = job?.tasks.findIndex((task, at) => at >= job.done && task.id === id && task.side === side) ?? -1;
      if (at < 0) return undefined;
      const running = at === job.done ? state.running : undefined;
      return running === undefined ? { status: "waiting" } : { status: "drawing", running };
    };
    return {
      id,
      number: i + 1,
      text,
      group,
      change,
      drawnChange: pair.change,
      warn: group === "unrelated" && (change ?? 0) > warnAt,
      preserved: open?.preserve.includes(text) ?? false,
      leftOut: omitted.includes(text),
      before: pair.before?.request.prompt === text ? pair.before : undefined,
      after: pair.after?.request.prompt === text ? pair.after : undefined,
      pendingBefore: pending("before"),
      pendingAfter: pending("after"),
    };
  });
}

/** Whether pictures are on show that the settings would draw differently. */
export function isStale(state: State): boolean {
  return missingTasks(state).some(({ id, side }) => state.pictures[id]?.[side] !== undefined);
}

/** What related prompts do against unrelated ones, from the predictions. */
export interface Reading {
  readonly related?: { readonly least: number; readonly most: number };
  readonly unrelated?: number;
}

/** The sentence beside λ, as numbers from 0 to 1. */
export function readingOf(cards: readonly Card[]): Reading {
  const known = cards.flatMap(({ group, change }) => change === undefined ? [] : [{ group, change: clamp(change) }]);
  const moving = known.filter(({ group }) => group !== "unrelated").map(({ change }) => change);
  const staying = known.filter(({ group }) => group === "unrelated").map(({ change }) => change);
  return {
    ...(moving.length > 0 ? { related: { least: Math.min(...moving), most: Math.max(...moving) } } : {}),
    ...(staying.length > 0 ? { unrelated: Math.max(...staying) } : {}),
  };
}

/** The two lines of the status. */
export function statusOf(state: State, now: number): { strong: string; small: string } {
  const { model, jobs: [job, ...queued] } = state;
  if (model.status === "opening") {
    const { doneBytes, totalBytes } = model;
    const progress = totalBytes === 0
      ? "Reading its files"
      : doneBytes < totalBytes
      ? `${megabytes(doneBytes)} of ${megabytes(totalBytes)} MB`
      : "Preparing the device";
    return { strong: "Loading the model", small: progress };
  }
  if (model.status === "failed") return { strong: "No model is open", small: "See the message" };
  if (job !== undefined) {
    const more = queued.length > 0 ? `${queued.length} queued` : "";
    const waiting = state.running?.waiting ? `Another page draws first` : "";
    const small = [waiting || timeLeft(job.startedAt, job.done, job.tasks.length, now), more].filter(Boolean).join(
      ", ",
    );
    return { strong: `${job.done} of ${job.tasks.length}`, small };
  }
  if (state.editFailure !== undefined) return { strong: "The edit cannot be solved", small: "Its message says why" };
  return { strong: solvedText(state), small: idleText(state) };
}

/** Claims that the edits are made only when the meters show them. */
function solvedText(state: State): string {
  const { solved, gesture } = state;
  const isCurrent = solved !== undefined && JSON.stringify(solved.edits) === JSON.stringify(solvableEdits(state));
  if (isCurrent) return `edited in ${millisecondsText(solved.ms)}`;
  // While a slider moves, the words stay and only the number goes.
  return solved === undefined || gesture === undefined ? "Solving the edit" : "edited in … ms";
}

function idleText(state: State): string {
  const { lastDrawing } = state;
  if (state.looking !== undefined) return "Looking at history";
  if (Object.keys(state.pictures).length === 0) return "Nothing is drawn yet";
  if (lastDrawing?.stopped && JSON.stringify(lastDrawing.recipe) === JSON.stringify(recipeOf(state))) {
    return lastDrawing.pictures === 0 ? "Stopped" : `Stopped, ${lastDrawing.pictures} finished`;
  }
  return missingTasks(state).length > 0 ? "Draw to see these settings" : "Pictures are up to date";
}

function timeLeft(startedAt: number | undefined, done: number, all: number, now: number): string {
  if (startedAt === undefined || done === 0) return "Drawing";
  const seconds = (now - startedAt) / 1000 / done * (all - done);
  return seconds > 90
    ? `about ${Math.round(seconds / 60)} min left`
    : `about ${Math.max(1, Math.round(seconds))} s left`;
}

/** Whole milliseconds, at least one. */
export function millisecondsText(ms: number): string {
  return `${Math.max(1, Math.round(ms))} ms`;
}

/** Bytes in megabytes with one digit. */
export function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}

/** One line about a recipe: λ and strength of its first active edit, seed, number of prompts. */
export function summaryOf(
  { edits, prompts, settings }: State["history"][number]["recipe"],
): { title: string; details: string } {
  const edit = edits.find(({ enabled }) => enabled);
  const strength = edit && edit.strength !== 1 ? `, ${percent(edit.strength)}` : "";
  const parts = [
    ...(edit?.method === undefined ? [] : [methodOf(edit).label]),
    ...(edit ? [`λ ${lambdaText(edit.lambda)}${strength}`] : []),
    `seed ${settings.seed}`,
    `${prompts.length} prompt${prompts.length === 1 ? "" : "s"}`,
  ];
  return { title: edit?.pairs[0].destination ?? prompts[0]?.text ?? "", details: parts.join(", ") };
}

function clamp(share: number): number {
  return Math.min(1, Math.max(0, share));
}
