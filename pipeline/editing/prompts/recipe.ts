/** The recipe of an edit: the prompts and options from which it can be solved again. */

import { EditError } from "../../errors.ts";
import { shown } from "../../options.ts";
import {
  type Alignment,
  type AlignmentTokenizer,
  alignPrompts,
  augmented,
  checkWordsAreRead,
  type PositionPair,
} from "./alignment.ts";
import { alignLastTokens } from "./concepts.ts";
import type { EditMethod, RowTokens } from "./method.ts";
import { recipeWords } from "./option_words.ts";

/** One of several destinations of a source prompt. */
export interface WeightedPrompt {
  /** The destination prompt. */
  readonly prompt: string;
  /** α in d = c + Σ α (dⱼ − c). Default: equal shares that sum to 1. */
  readonly weight?: number;
}

/** A source prompt and its destination. */
export interface EditPair {
  /** The prompt whose meaning changes. */
  readonly source: string;
  /**
   * The source with words added; or several such prompts, whose weighted mean becomes the
   * destination (debiasing). Where last tokens are paired, any prompt; "" erases the source.
   */
  readonly destination: string | readonly WeightedPrompt[];
  /** Weight of the pair relative to other pairs. Default: 1. */
  readonly weight?: number;
  /**
   * A manual token alignment, for a destination that does not contain the source's words in order.
   */
  readonly alignment?: readonly PositionPair[];
}

/** The prompts and options of an edit, as JSON values. */
export interface EditRecipe {
  /** The pairs that are solved together. */
  readonly pairs: readonly EditPair[];
  /** Prompts whose embeddings the edit should not change. */
  readonly preserve: readonly string[];
  /** Weight of each preserved prompt, relative to a pair of weight 1. */
  readonly preserveWeight: number;
  /** λ of eq. 5: larger values change the model less. */
  readonly lamb: number;
  /** Whether the key projections are edited in addition to the value projections. */
  readonly withToK: boolean;
  /** Prefixes that each give every pair another sentence. */
  readonly withAugs: readonly string[];
  /** Paths of the edited layers; null for all. */
  readonly layers: readonly string[] | null;
  /** Whether the pooled embedding is mapped, too; absent if not. */
  readonly withPooled?: boolean;
  /** The editor; absent for TIME. The settings that follow are those of other editors. */
  readonly method?: EditMethod;
  /** Which tokens are rows; absent for all of them. */
  readonly tokens?: RowTokens;
  /** Weight e of the pairs, of UCE. */
  readonly eraseScale?: number;
  /** Weight p of the preserved prompts, of UCE. */
  readonly preserveScale?: number;
  /** Eigenvalues below it span the null space. */
  readonly threshold?: number;
  /** Weight s of the penalty on changes, of null-space edits. */
  readonly retainScale?: number;
  /** Prompts whose states must not move, of null-space edits. */
  readonly invariant?: readonly string[];
  /** Whether retained prompts are filtered by their influence on the edit's layer. */
  readonly influenceFilter?: boolean;
  /** Perturbed copies of each retained prompt. */
  readonly augment?: number;
  /** Number of directions of their noise. */
  readonly augmentRank?: number;
}

/**
 * Copies the pairs of a caller, who may change them while the edit is solved.
 *
 * @throws {EditError} for a pair that is not of the form of {@linkcode EditPair}
 */
export function takePairs(pairs: readonly EditPair[]): EditPair[] {
  if (!Array.isArray(pairs)) throw new EditError(`Cannot edit by pairs that are no list: ${shown(pairs)}`);
  return pairs.map((pair, index) => {
    const refuse = (what: string, value: unknown) => {
      throw new EditError(`Cannot edit by pair ${index + 1} as ${what}: ${shown(value)}`);
    };
    if (typeof pair !== "object" || pair === null) {
      return refuse("it must be an object with source and destination", pair);
    }
    const { source, destination, weight, alignment } = pair;
    if (typeof source !== "string") refuse("its source must be a string", source);
    const isWeight = (value: unknown) => value === undefined || typeof value === "number";
    const isTarget = (target: unknown) =>
      typeof target === "object" && target !== null && typeof (target as WeightedPrompt).prompt === "string" &&
      isWeight((target as WeightedPrompt).weight);
    if (typeof destination !== "string" && !(Array.isArray(destination) && destination.every(isTarget))) {
      refuse("its destination must be a string or a list of { prompt, weight }", destination);
    }
    if (!isWeight(weight)) refuse("its weight must be a number", weight);
    const isPosition = (position: unknown) =>
      Array.isArray(position) && position.length === 2 && position.every(Number.isSafeInteger);
    if (alignment !== undefined && !(Array.isArray(alignment) && alignment.every(isPosition))) {
      refuse("its alignment must be a list of pairs of token positions", alignment);
    }
    return structuredClone({ ...pair });
  });
}

/** A source sentence with its destinations: a pair's prompts, optionally with a prefix. */
export interface Sentence {
  readonly source: string;
  readonly weight: number;
  readonly destinations: readonly { readonly alignment: Alignment; readonly share: number }[];
}

/**
 * Aligns all sentences of the pairs: each pair's own prompts, and one sentence for each prefix.
 *
 * @param tokens "last" pairs the last subject tokens only
 * @throws {AlignmentError} when a source is not a subsequence of its destination
 * @throws {EditError} when there is no pair or no destination, or a weight is out of range
 */
export function alignedSentences(
  pairs: readonly EditPair[],
  withAugs: readonly string[],
  tokenizer: AlignmentTokenizer,
  tokens: RowTokens = "all",
): Sentence[] {
  if (pairs.length === 0) throw new EditError("Cannot edit without a pair of a source and a destination prompt");
  return pairs.flatMap((pair) => {
    const destinations = destinationsOf(pair);
    for (const { prompt } of destinations) checkWordsAreRead(pair.source, prompt, tokenizer);
    const weight = pair.weight ?? 1;
    if (!(Number.isFinite(weight) && weight > 0)) {
      throw new EditError(
        `Cannot weight the pair of ${JSON.stringify(pair.source)} by ${weight}: the weight must be above 0`,
      );
    }
    if (tokens === "last" && pair.alignment !== undefined) {
      throw new EditError(
        `Cannot align ${JSON.stringify(pair.source)} by hand as only last tokens are paired: ` +
          'leave its alignment out, or set tokens to "all"',
      );
    }
    return augmented(pair.source, withAugs).map((source, index) => ({
      source,
      weight,
      destinations: destinations.map(({ prompt, share }) => {
        const destination = augmented(prompt, withAugs)[index];
        if (tokens === "last") return { alignment: alignLastTokens(source, destination, tokenizer), share };
        const manual = pair.alignment &&
          shifted(pair.alignment, [pair.source, source], [prompt, destination], tokenizer);
        return { alignment: alignPrompts(source, destination, tokenizer, { manual }), share };
      }),
    }));
  });
}

function destinationsOf({ source, destination }: EditPair): { prompt: string; share: number }[] {
  if (typeof destination === "string") return [{ prompt: destination, share: 1 }];
  if (destination.length === 0) throw new EditError(`Cannot edit ${JSON.stringify(source)} as it has no destination`);
  return destination.map(({ prompt, weight }) => {
    const share = weight ?? 1 / destination.length;
    if (Number.isFinite(share)) return { prompt, share };
    throw new EditError(
      `Cannot weight the destination ${JSON.stringify(prompt)} by ${weight}: the weight must be finite`,
    );
  });
}

/** Shifts a manual alignment past a prefix, whose own tokens are paired one to one. */
function shifted(
  manual: readonly PositionPair[],
  [source, longSource]: readonly [string, string],
  [destination, longDestination]: readonly [string, string],
  tokenizer: AlignmentTokenizer,
): PositionPair[] {
  const moved = (short: string, long: string) => tokenizer.encode(long).length - tokenizer.encode(short).length;
  const [bySource, byDestination] = [moved(source, longSource), moved(destination, longDestination)];
  const prefix = Array.from({ length: Math.min(bySource, byDestination) }, (_, i): PositionPair => [i + 1, i + 1]);
  return [
    ...prefix,
    ...manual.map(([a, b]): PositionPair => [a === 0 ? 0 : a + bySource, b === 0 ? 0 : b + byDestination]),
  ];
}

/** The rows of an edit before merging, on the host. */
export interface HostRows {
  readonly width: number;
  readonly source: Float64Array<ArrayBuffer>;
  readonly destination: Float64Array<ArrayBuffer>;
  readonly weights: Float64Array<ArrayBuffer>;
}

/** Embeddings of the tokens that are rows. */
export interface TokenStates {
  readonly width: number;
  /** The positions of a prompt's tokens that are rows. */
  positions(text: string): readonly number[];
  /** The embedding [width] of one of them. */
  state(text: string, position: number): Float32Array;
}

/** All tokens of encoded texts. */
export function allTokens(
  { embeddings, width }: { embeddings: ReadonlyMap<string, Float32Array>; width: number },
): TokenStates {
  return {
    width,
    positions: (text) => Array.from({ length: embeddings.get(text)!.length / width }, (_, position) => position),
    state: (text, position) => embeddings.get(text)!.subarray(position * width, (position + 1) * width),
  };
}

/** Builds C, D [rows, width] and the weights [rows] of aligned sentences and preserved prompts. */
export function rowsOf(
  sentences: readonly Sentence[],
  preserved: { prompts: readonly string[]; weight: number },
  states: TokenStates,
): HostRows {
  const { width } = states;
  const source: Float32Array[] = [], destination: Float64Array[] = [], weights: number[] = [];
  const rowOf = (text: string, position: number) => states.state(text, position);
  for (const sentence of sentences) {
    for (const [position, targets] of targetsByPosition(sentence)) {
      const c = rowOf(sentence.source, position), d = Float64Array.from(c);
      for (const { text, at, share } of targets) {
        const target = rowOf(text, at);
        for (let j = 0; j < width; j++) d[j] += share * (target[j] - c[j]);
      }
      source.push(c);
      destination.push(d);
      weights.push(sentence.weight);
    }
  }
  for (const text of preserved.prompts) {
    for (const position of states.positions(text)) {
      const c = rowOf(text, position);
      source.push(c);
      destination.push(Float64Array.from(c));
      weights.push(preserved.weight);
    }
  }
  const joined = (rows: readonly (Float32Array | Float64Array)[]) => {
    const whole = new Float64Array(rows.length * width);
    rows.forEach((row, i) => whole.set(row, i * width));
    return whole;
  };
  return { width, source: joined(source), destination: joined(destination), weights: Float64Array.from(weights) };
}

/**
 * The targets of each source position, one or more for each destination. A position that a manual
 * alignment pairs several times shares its weight equally among its targets.
 */
function targetsByPosition({ destinations }: Sentence): Map<number, { text: string; at: number; share: number }[]> {
  const targets = new Map<number, { text: string; at: number; share: number }[]>();
  for (const { alignment, share } of destinations) {
    const partners = Map.groupBy(alignment.positions, ([position]) => position);
    for (const [position, pairs] of partners) {
      const list = targets.get(position) ?? [];
      for (const [, at] of pairs) list.push({ text: alignment.destination, at, share: share / pairs.length });
      targets.set(position, list);
    }
  }
  return targets;
}

/** A pair of a recipe as pictures record it. */
export interface PairRecord {
  /** The source prompt. */
  readonly source: string;
  /** The destination prompt; several are joined. */
  readonly destination: string;
  /** λ. */
  readonly lambda: number;
  /** The editor; absent for TIME. */
  readonly method?: EditMethod;
  /**
   * What else differs from the editor's defaults, in words: "erase scale 2", "13 preserved",
   * "strength 0.5".
   */
  readonly options?: readonly string[];
}

/** The pairs of an edit as pictures record them. */
export function pairRecords({ recipe, strength }: { recipe: EditRecipe; strength: number }): PairRecord[] {
  const { pairs, lamb, method } = recipe;
  const options = [...recipeWords(recipe), ...strength === 1 ? [] : [`strength ${strength}`]];
  return pairs.map(({ source, destination }) => ({
    source,
    destination: destinationText(destination),
    lambda: lamb,
    ...(method === undefined ? {} : { method }),
    ...(options.length === 0 ? {} : { options }),
  }));
}

function destinationText(destination: EditRecipe["pairs"][number]["destination"]): string {
  return typeof destination === "string" ? destination : destination.map(({ prompt }) => prompt).join(" / ");
}

/**
 * The pairs of a recipe in short: `"A rose" -> "A blue rose" and 2 more, lambda 0.1`. A method
 * other than TIME is named, as is what differs from its defaults: `"a rose" -> "", uce, lambda 0.5,
 * erase scale 2`.
 */
export function pairText(recipe: EditRecipe): string {
  const { pairs: [pair, ...others], lamb, method = "time" } = recipe;
  const { source, destination } = pair;
  const to = destinationText(destination);
  const more = others.length === 0 ? "" : ` and ${others.length} more`;
  const settings = [...method === "time" ? [] : [method], `lambda ${lamb}`, ...recipeWords(recipe)];
  return `${JSON.stringify(source)} -> ${JSON.stringify(to)}${more}, ${settings.join(", ")}`;
}
