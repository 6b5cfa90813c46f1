/** What an edit is made of, in words: enough to make it again, and what its file says of it. */

import { EditError } from "../../errors.ts";
import { type Alignment, type AlignmentTokenizer, alignPrompts, augmented, type PositionPair } from "./alignment.ts";

/** One of several destinations of a source, with its share. */
export interface WeightedPrompt {
  /** The destination prompt. */
  readonly prompt: string;
  /** α in d = c + Σ α (dⱼ − c). Default: equal shares that sum to 1. */
  readonly weight?: number;
}

/** A source prompt and what it is to mean. */
export interface EditPair {
  /** The prompt whose meaning changes. */
  readonly source: string;
  /** The source with words added; or several, which share the source between them (debiasing). */
  readonly destination: string | readonly WeightedPrompt[];
  /** How much the pair counts among others. Default: 1. */
  readonly weight?: number;
  /**
   * Token positions by hand, for a destination that does not contain the source's words in order.
   */
  readonly alignment?: readonly PositionPair[];
}

/** An edit in words. JSON carries it. */
export interface EditRecipe {
  /** The pairs that are solved together. */
  readonly pairs: readonly EditPair[];
  /** Prompts whose embeddings are to stay as they are. */
  readonly preserve: readonly string[];
  /** Weight of each preserved prompt, relative to a pair of weight 1. */
  readonly preserveWeight: number;
  /** λ of eq. 5: how strongly the edit is regularized toward no change. */
  readonly lamb: number;
  /** Whether keys are edited too, or values only. */
  readonly withToK: boolean;
  /** Texts put before the prompts of every pair. */
  readonly withAugs: readonly string[];
  /** Paths of the edited layers; null for all. */
  readonly layers: readonly string[] | null;
}

/** A sentence of a pair and its destinations. */
interface Sentence {
  readonly source: string;
  readonly weight: number;
  readonly destinations: readonly { readonly alignment: Alignment; readonly share: number }[];
}

/** All sentences of the pairs, prompts and augmentations, aligned. */
export function alignedSentences(
  pairs: readonly EditPair[],
  withAugs: readonly string[],
  tokenizer: AlignmentTokenizer,
): Sentence[] {
  if (pairs.length === 0) throw new EditError("Cannot edit without a pair of a source and a destination prompt");
  return pairs.flatMap((pair) => {
    const destinations = destinationsOf(pair);
    const weight = pair.weight ?? 1;
    if (!(Number.isFinite(weight) && weight > 0)) {
      throw new EditError(`Cannot weigh the edit of ${JSON.stringify(pair.source)} by ${weight}: it must be above 0`);
    }
    return augmented(pair.source, withAugs).map((source, index) => ({
      source,
      weight,
      destinations: destinations.map(({ prompt, share }) => {
        const destination = augmented(prompt, withAugs)[index];
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
      `Cannot mix the destination ${JSON.stringify(prompt)} with weight ${weight}: it must be finite`,
    );
  });
}

/** Pairs of positions moved behind an augmentation's tokens, which pair with themselves. */
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

/** Rows of an edit on the host. */
export interface HostRows {
  readonly width: number;
  readonly source: Float64Array<ArrayBuffer>;
  readonly destination: Float64Array<ArrayBuffer>;
  readonly weights: Float64Array<ArrayBuffer>;
}

/** C, D and weights [rows, width] of aligned sentences and preserved prompts. */
export function rowsOf(
  sentences: readonly Sentence[],
  preserved: { prompts: readonly string[]; weight: number },
  encoded: { embeddings: ReadonlyMap<string, Float32Array>; width: number },
): HostRows {
  const { embeddings, width } = encoded;
  const source: Float32Array[] = [], destination: Float64Array[] = [], weights: number[] = [];
  const rowOf = (text: string, position: number) =>
    embeddings.get(text)!.subarray(position * width, (position + 1) * width);
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
    const all = embeddings.get(text)!;
    for (let position = 0; position * width < all.length; position++) {
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
 * What each source position becomes: one target a destination. A position paired twice by hand is
 * shared between its partners.
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
