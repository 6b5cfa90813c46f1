/**
 * Solves the edits of the studio's stack, keeps what was solved, and predicts how far prompts move.
 *
 * @module
 */

import type { EditingPipeline } from "../pipeline/editing_pipeline.ts";
import { encodeOnHost } from "../pipeline/editing/editable_model.ts";
import type { ModelEditOptions } from "../pipeline/editing/edit_options.ts";
import { ModelEdit } from "../pipeline/editing/model_edit.ts";
import { alignPrompts } from "../pipeline/editing/prompts/alignment.ts";
import { lastTokenPosition } from "../pipeline/editing/prompts/concepts.ts";
import { Tensor } from "../engine/tensor.ts";
import { lacks, tokensOf } from "./edit_methods.ts";
import { type EditSpec, PainterError, type PairSpec, type RowTokens } from "./painter.ts";

/** A solved edit and its strength, for a stack. */
export interface SolvedEdit {
  readonly edit: ModelEdit;
  readonly strength: number;
}

/** Systems that are kept: enough for a stack and some steps back. */
const maxKept = 12;

/** Solved edits by what their systems depend on. A change of λ reuses the system. */
export class EditSolver implements Disposable {
  readonly #pipe: EditingPipeline;
  readonly #kept = new Map<string, ModelEdit>();
  /** The length of a full move, ‖D − C‖ / ‖C‖ over all tokens of a pair, by {@linkcode keyOf}. */
  readonly #fullMoves = new Map<string, number>();

  constructor(pipe: EditingPipeline) {
    this.#pipe = pipe;
  }

  /**
   * Solves the enabled edits, in order.
   *
   * @param options.signal stops between the parts of the work, with its reason
   * @returns the edits and the milliseconds that solving took: 0 where all were known
   */
  async solve(
    specs: readonly EditSpec[],
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<{ solved: SolvedEdit[]; ms: number }> {
    const solved: SolvedEdit[] = [];
    const used = new Map<string, number>();
    let ms = 0;
    for (const spec of specs) {
      if (!spec.enabled || spec.strength === 0) continue;
      const { lambda: _, strength, enabled: __, ...rest } = spec;
      const system = JSON.stringify(Object.entries(rest).sort());
      // The same edit may stand twice on a stack, with λs of its own.
      const nth = used.get(system) ?? 0;
      used.set(system, nth + 1);
      const key = `${nth} ${system}`;
      let edit = this.#kept.get(key);
      if (edit === undefined) {
        const timed = await this.#timed(() => ModelEdit.solve(spec.pairs, { ...optionsOf(spec), signal }, this.#pipe));
        edit = timed.value;
        ms += timed.ms;
      } else if (edit.recipe.lamb !== spec.lambda) {
        const known = edit;
        ms += (await this.#timed(() => known.resolve({ lamb: spec.lambda, signal }))).ms;
      }
      this.#kept.delete(key); // the last used stands last
      this.#kept.set(key, edit);
      solved.push({ edit, strength });
    }
    this.#forgetOld(solved);
    return { solved, ms };
  }

  /** Compiles the kernels of edits and predictions, so that the visitor's first edit is quick. */
  async warmUp(): Promise<void> {
    const pairs = [{ source: "a rose", destination: "a blue rose" }];
    const spec = { pairs, lambda: 0.1, strength: 1, withToK: true, enabled: true, preserve: [] };
    const { solved } = await this.solve([spec]);
    await this.changes([spec], solved, ["a rose"]);
    this.clear();
  }

  /**
   * For each prompt with embeddings X: ‖X(E − I)ᵀ‖ / ‖X‖ of the whole stack, over the mean full
   * move of the edits' pairs.
   *
   * @param options.signal stops between batches of prompts, with its reason
   */
  async changes(
    specs: readonly EditSpec[],
    solved: readonly SolvedEdit[],
    prompts: readonly string[],
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<number[]> {
    if (solved.length === 0 || prompts.length === 0) return prompts.map(() => 0);
    const { embeddings, width } = await encodeOnHost(this.#pipe, prompts, { signal });
    const tokens = embeddings.get(prompts[0])!.length / width;
    const before = new Float32Array(prompts.length * tokens * width);
    prompts.forEach((prompt, i) => before.set(embeddings.get(prompt)!, i * tokens * width));
    const { gpu } = this.#pipe;
    using edited = gpu.scope(() => {
      const x = Tensor.from(gpu, before, [prompts.length, tokens, width]);
      // W·E₁·E₂·x: the last edit is applied first.
      return solved.toReversed().reduce((x, { edit, strength }) => edit.operator.apply(x, { strength }), x);
    });
    const after = await edited.data();
    const full = await this.#fullMove(specs, signal);
    return prompts.map((_, i) => {
      const [from, to] = [i * tokens * width, (i + 1) * tokens * width];
      return relativeDistance(before.subarray(from, to), after.subarray(from, to)) / full;
    });
  }

  /** Forgets what was solved and measured, because the text encoder has changed. */
  clear(): void {
    for (const edit of this.#kept.values()) edit[Symbol.dispose]();
    this.#kept.clear();
    this.#fullMoves.clear();
  }

  /** Frees all edits. */
  [Symbol.dispose](): void {
    this.clear();
  }

  /**
   * Runs `body`, and once more where kernels were compiled meanwhile.
   *
   * @returns the milliseconds of the last run: what the edit took, without compilation
   */
  async #timed<T extends object>(body: () => Promise<T>): Promise<{ value: T; ms: number }> {
    let isCompiling = false;
    using _listener = this.#pipe.gpu.onCompile(() => isCompiling = true);
    const run = async (): Promise<{ value: T; ms: number }> => {
      const start = performance.now();
      const value = await body();
      return { value, ms: performance.now() - start };
    };
    const first = await run();
    if (!isCompiling) return first;
    if (Symbol.dispose in first.value) (first.value as Disposable)[Symbol.dispose]();
    return await run();
  }

  #forgetOld(inUse: readonly SolvedEdit[]): void {
    for (const [key, edit] of this.#kept) {
      if (this.#kept.size <= maxKept) return;
      if (inUse.some((entry) => entry.edit === edit)) continue;
      this.#kept.delete(key);
      edit[Symbol.dispose]();
    }
  }

  async #fullMove(specs: readonly EditSpec[], signal: AbortSignal | undefined): Promise<number> {
    const pairs = specs.filter(({ enabled }) => enabled).flatMap((spec) =>
      spec.pairs.map((pair) => ({ pair, tokens: tokensOf(spec) }))
    );
    const unknown = pairs.filter((entry) => !this.#fullMoves.has(keyOf(entry)));
    if (unknown.length > 0) {
      const texts = unknown.flatMap(({ pair: { source, destination } }) => [source, destination]);
      const { embeddings, width } = await encodeOnHost(this.#pipe, texts, { signal });
      for (const entry of unknown) {
        const { source, destination } = entry.pair;
        const [c, d] = [embeddings.get(source)!, embeddings.get(destination)!];
        const moved = c.slice();
        for (const [from, to] of this.#positionsOf(entry, c.length / width)) {
          moved.set(d.subarray(to * width, (to + 1) * width), from * width);
        }
        this.#fullMoves.set(keyOf(entry), relativeDistance(c, moved));
      }
    }
    const moves = pairs.map((entry) => this.#fullMoves.get(keyOf(entry))!);
    return moves.reduce((sum, move) => sum + move, 0) / moves.length || 1;
  }

  /**
   * The destination's position for each source position that a full move replaces. Of last tokens:
   * the last subject tokens, and all that follow them, because these carry the whole meaning.
   */
  #positionsOf({ pair, tokens }: PairTokens, length: number): readonly (readonly [number, number])[] {
    const { tokenizer } = this.#pipe;
    if (tokens === "all") return alignPrompts(pair.source, pair.destination, tokenizer).positions;
    const [from, to] = [pair.source, pair.destination].map((text) => lastTokenPosition(text, tokenizer));
    return Array.from({ length: length - from }, (_, i) => [from + i, Math.min(length - 1, to + i)]);
  }
}

interface PairTokens {
  readonly pair: PairSpec;
  readonly tokens: RowTokens;
}

function keyOf({ pair: { source, destination }, tokens }: PairTokens): string {
  return JSON.stringify([source, destination, tokens]);
}

/** The library's options for an edit. */
function optionsOf(spec: EditSpec): ModelEditOptions {
  const { lambda: lamb, withToK, preserve, method, eraseScale, preserveScale, threshold, withPooled } = spec;
  const lacking = lacks(spec);
  if (lacking !== undefined) throw new PainterError({ kind: "input", message: lacking });
  const common = { lamb, withToK, preserve, ...(withPooled && { withPooled }) };
  if (method === undefined) return common;
  return method === "uce" ? { ...common, method, eraseScale, preserveScale } : { ...common, method, threshold };
}

/** ‖b − a‖ / ‖a‖ */
function relativeDistance(a: Float32Array, b: Float32Array): number {
  let difference = 0, size = 0;
  for (let i = 0; i < a.length; i++) {
    difference += (b[i] - a[i]) ** 2;
    size += a[i] ** 2;
  }
  return Math.sqrt(difference / size);
}
