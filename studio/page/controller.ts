/**
 * Between the store and a painter: keeps predictions, curves and alignments up to date, draws what
 * is queued, and opens models. The answer to the last question wins; the next question waits for
 * the painter's answer, so that a slider never asks faster than a painter answers.
 *
 * @module
 */

import { effect } from "@preact/signals";
import {
  type DrawnPicture,
  type DrawProgress,
  type EditSpec,
  type ModelChoice,
  type Painter,
  PainterError,
  type PainterFailure,
  type PictureRequest,
  type Pixels,
} from "../painter.ts";
import * as actions from "./actions.ts";
import { Latest } from "./latest.ts";
import { isComplete, isWritten, tokensOf } from "../edit_methods.ts";
import { draftedPairs, modelName, pairKey, type PairTokens, solvableEdits, type State } from "./state.ts";
import type { Store } from "./store.ts";

/** λ of the response curves: two a decade from 10⁻⁴ to 10³. */
export const curveLambdas: readonly number[] = Array.from({ length: 15 }, (_, i) => 10 ** (-4 + i / 2));

/** Runs the page's painter. */
export class Controller implements Disposable {
  readonly store: Store;
  #painter: Painter;
  #choice: ModelChoice;
  /** The painter whose model is open. */
  #opener: Painter | undefined;
  /** The painter whose other pages the visitor knows of. */
  #toldOfOthers: Painter | undefined;
  #drawing: Promise<void> | undefined;
  #stopped = false;
  #curvesCall = 0;
  #turn: Promise<unknown> = Promise.resolve();
  readonly #disposers: (() => void)[] = [];

  constructor(store: Store, painter: Painter, choice: ModelChoice = { kind: "pocket" }) {
    this.store = store;
    this.#painter = painter;
    this.#choice = choice;
    this.#disposers.push(
      this.#follow(predictionQuestion, (question) => this.#predictions.want(question)),
      this.#follow(curvesQuestion, (question) => void this.#askCurves(question)),
      this.#follow(alignmentQuestion, (question) => this.#alignments.want(question)),
    );
  }

  /** The painter in use. */
  get painter(): Painter {
    return this.#painter;
  }

  [Symbol.dispose](): void {
    for (const dispose of this.#disposers) dispose();
  }

  /** Opens a model; the state says how that goes. */
  async open(choice: ModelChoice): Promise<void> {
    const name = "name" in choice ? choice.name : choice.kind === "pocket" ? "pocket" : "the server's model";
    await this.stop();
    const before = this.store.now.model;
    const previous = this.#choice;
    this.#choice = choice;
    this.store.dispatch(actions.modelOpening, name, 0, 0);
    const painter = this.#painter;
    try {
      const facts = await painter.open(choice, (done, total) => {
        if (this.store.now.model.status === "opening") this.store.dispatch(actions.modelOpening, name, done, total);
      });
      if (painter !== this.#painter) return;
      this.#opener = painter;
      this.store.dispatch(actions.modelOpen, facts);
      if (facts.otherPages > 0) this.#tellOfOthers();
    } catch (error) {
      if (painter !== this.#painter) return;
      if (before.status !== "open" || painter !== this.#opener) {
        this.store.dispatch(actions.modelFailed, failureOf(error));
        return;
      }
      // A painter keeps its model open when another one cannot be opened.
      this.#choice = previous;
      this.store.dispatch(actions.modelKept, before.facts);
      this.report(`${name} cannot be opened`, error);
    }
  }

  /** Opens the model again that was open last, or was to be. */
  reopen(): Promise<void> {
    return this.open(this.#choice);
  }

  /** Draws with another painter from now on, which opens a model first. */
  async usePainter(painter: Painter, choice: ModelChoice): Promise<void> {
    const old = this.#painter;
    await this.stop();
    this.#painter = painter;
    void old.close().catch(() => {});
    await this.open(choice);
  }

  /**
   * Applies what the fields of the edits say.
   *
   * @returns whether it could be applied
   */
  async apply(): Promise<boolean> {
    const { edits } = this.store.now;
    for (const [index, { spec, draft }] of edits.entries()) {
      for (const [i, pair] of draft.entries()) {
        if (!isComplete(pair, spec)) continue;
        if (spec.pairs[i] && pairKey(spec.pairs[i]) === pairKey(pair) && index !== this.store.now.open) continue;
        if (!await this.#fits({ pair, tokens: tokensOf(spec) })) {
          this.store.dispatch(actions.openEdit, index);
          this.store.dispatch(actions.openPair, i);
          return false;
        }
      }
    }
    this.store.dispatch(actions.applyDrafts);
    return true;
  }

  /** Applies the edits' fields and draws; behind what is being drawn, if anything is. */
  async draw(): Promise<void> {
    if (this.store.now.model.status !== "open" || !await this.apply()) return;
    await this.#predictions.idle;
    this.store.dispatch(actions.enqueue);
    this.#drawing ??= this.#drawAll().finally(() => this.#drawing = undefined);
    await this.#drawing;
  }

  /** Stops drawing and drops what is queued. What is finished stays. */
  async stop(): Promise<void> {
    if (this.store.now.jobs.length === 0) return;
    this.#stopped = true;
    this.store.dispatch(actions.dropJobs, true);
    await this.#painter.stop().catch(() => {});
  }

  /** Draws a picture behind those that are being drawn. The signal stops this picture only. */
  drawInTurn(
    request: PictureRequest,
    onProgress: (progress: DrawProgress) => void = () => {},
    signal?: AbortSignal,
  ): Promise<DrawnPicture> {
    const drawn = this.#turn.then(async () => {
      signal?.throwIfAborted();
      const painter = this.#painter;
      const stop = () => void painter.stop().catch(() => {});
      signal?.addEventListener("abort", stop);
      try {
        return await painter.draw(request, onProgress);
      } finally {
        signal?.removeEventListener("abort", stop);
      }
    });
    this.#turn = drawn.catch(() => {});
    return drawn;
  }

  /** Shows an error of a painter to the visitor. Stopping is no error. */
  report(title: string, error: unknown): void {
    const failure = failureOf(error);
    if (failure.kind === "aborted") return;
    const offers = failure.kind === "device" || failure.kind === "network"
      ? [{ label: "Open the model again", action: "reopen" as const }]
      : [];
    this.store.dispatch(actions.notify, { tone: "error" as const, title, text: failure.message, actions: offers });
  }

  /** Says once for each painter that other pages draw on its device. */
  #tellOfOthers(): void {
    if (this.#toldOfOthers === this.#opener) return;
    this.#toldOfOthers = this.#opener;
    this.store.dispatch(actions.notify, {
      tone: "calm" as const,
      title: "Other pages draw on the same device",
      text: "Their pictures and yours take turns.",
    });
  }

  async #fits({ pair, tokens }: PairTokens): Promise<boolean> {
    const known = this.store.now.alignments[pairKey(pair, tokens)];
    if (known !== undefined) return known.ok;
    try {
      const view = await this.#painter.align(pair, tokens);
      this.store.dispatch(actions.setAlignment, { pair, tokens }, view);
      return view.ok;
    } catch (error) {
      this.report("The tokens cannot be aligned", error);
      return false;
    }
  }

  async #drawAll(): Promise<void> {
    const { store } = this;
    while (store.now.jobs.length > 0) {
      this.#stopped = false;
      await this.#drawJob();
      store.dispatch(actions.finishJob, Date.now(), this.#stopped);
      if (this.#stopped) store.dispatch(actions.dropJobs, false);
    }
  }

  /** Draws the first job's pictures, until all are there or the visitor stops. */
  async #drawJob(): Promise<void> {
    const { store } = this;
    for (let [job] = store.now.jobs; job !== undefined && job.done < job.tasks.length; [job] = store.now.jobs) {
      if (this.#stopped) return;
      const { request, key } = job.tasks[job.done];
      const twin = pictureWith(store.now, key);
      if (twin !== undefined && job.tasks.slice(0, job.done).some((task) => task.key === key)) {
        store.dispatch(actions.finishTask, twin);
        continue;
      }
      const { steps } = request.settings;
      store.dispatch(actions.setRunning, { step: 0, steps }, Date.now());
      try {
        const { pixels } = await this.drawInTurn(request, (progress) => {
          if (this.#stopped) return;
          store.dispatch(actions.setRunning, progress, Date.now());
          // A page that was open before the others learns of them here.
          if (progress.waiting) this.#tellOfOthers();
        });
        store.dispatch(actions.finishTask, pixels);
      } catch (error) {
        if (!this.#stopped) this.report("The picture cannot be drawn", error);
        this.#stopped = true;
        return;
      }
    }
  }

  /** Meters follow a moving slider by earlier answers, too: the status tells them from the last. */
  readonly #predictions = new Latest<PredictionQuestion>(async ({ model, edits, prompts }, isLatest) => {
    const { store } = this;
    try {
      const prediction = await this.#painter.predict(edits, prompts);
      if (model === modelName(store.now)) store.dispatch(actions.setPrediction, { edits, prompts }, prediction);
    } catch (error) {
      const failure = failureOf(error);
      if (failure.kind !== "input") this.report("The edit cannot be solved", error);
      else if (isLatest()) store.dispatch(actions.setEditFailure, failure.message);
    }
  });

  /** A later call aborts the earlier one, so that these do not wait for each other. */
  async #askCurves({ edits, open, id, prompts }: CurvesQuestion): Promise<void> {
    const call = ++this.#curvesCall;
    await this.#predictions.idle; // the needle's own answer comes first
    if (call !== this.#curvesCall) return;
    try {
      const { lambdas, changes } = await this.#painter.curves(edits, { open, prompts, lambdas: curveLambdas });
      if (call !== this.#curvesCall) return;
      const byPrompt = Object.fromEntries(prompts.map((prompt, i) => [prompt, changes[i]]));
      this.store.dispatch(actions.setCurves, { edit: id, lambdas, changes: byPrompt });
    } catch {
      // The prediction reports what is wrong with an edit.
    }
  }

  readonly #alignments = new Latest<{ pairs: readonly PairTokens[] }>(async ({ pairs }, isLatest) => {
    for (const { pair, tokens } of pairs) {
      if (!isLatest()) return;
      if (this.store.now.alignments[pairKey(pair, tokens)] !== undefined) continue;
      try {
        this.store.dispatch(actions.setAlignment, { pair, tokens }, await this.#painter.align(pair, tokens));
      } catch (error) {
        this.report("The tokens cannot be aligned", error);
      }
    }
  });

  /** Asks whenever the question changes that `read` takes from the state. */
  #follow<T>(read: (state: State) => T | undefined, ask: (question: T) => void): () => void {
    let last = "";
    return effect(() => {
      const question = read(this.store.state.value);
      const key = question === undefined ? "" : JSON.stringify(question);
      if (key === last) return;
      last = key;
      if (question !== undefined) ask(question);
    });
  }
}

interface PredictionQuestion {
  readonly model: string;
  readonly edits: readonly EditSpec[];
  readonly prompts: readonly string[];
}

interface CurvesQuestion extends PredictionQuestion {
  readonly open: number;
  /** Id of the open edit. */
  readonly id: number;
}

function predictionQuestion(state: State): PredictionQuestion | undefined {
  if (state.model.status !== "open") return undefined;
  const texts = state.prompts.map(({ text }) => text).filter((text) => text.trim() !== "");
  return { model: modelName(state), edits: solvableEdits(state), prompts: [...new Set(texts)] };
}

/** Curves do not depend on the open edit's λ and strength: moving these asks nothing. */
function curvesQuestion(state: State): CurvesQuestion | undefined {
  const question = predictionQuestion(state);
  const edit = state.edits[state.open];
  if (question === undefined || edit === undefined || !isWritten(edit.spec)) return undefined;
  const edits = question.edits.map((spec, i) =>
    i === state.open ? { ...spec, lambda: 1, strength: 1, enabled: true } : spec
  );
  return { ...question, edits, open: state.open, id: edit.id };
}

function alignmentQuestion(state: State): { model: string; pairs: readonly PairTokens[] } | undefined {
  if (state.model.status !== "open") return undefined;
  const edit = state.edits[state.open];
  return { model: modelName(state), pairs: edit === undefined ? [] : draftedPairs(edit) };
}

/** A finished picture, whichever prompt it belongs to. */
function pictureWith({ pictures }: State, key: string): Pixels | undefined {
  return Object.values(pictures).flatMap(({ before, after }) => [before, after]).find((drawn) => drawn?.key === key)
    ?.pixels;
}

/** What went wrong, for the visitor. */
export function failureOf(error: unknown): PainterFailure {
  if (error instanceof PainterError) return error.failure;
  return { kind: "unexpected", message: error instanceof Error ? error.message : String(error) };
}
