/**
 * Which destination token each source token becomes: TIME's first step (2303.08084, section 4).
 */

import { EditError } from "../../errors.ts";
import { AlignmentError } from "../errors.ts";

/** What alignment needs of a tokenizer; `CLIPTokenizer` fits. */
export interface AlignmentTokenizer {
  /** Tokens of a padded prompt, with start and end. */
  readonly modelMaxLength: number;
  /** Token ids of a text, with start and end. */
  encode(text: string, options?: { padding?: "max_length"; truncation?: boolean }): number[];
  /** The text of token ids. */
  decode(ids: Iterable<number>): string;
}

/** A source position and the destination position whose values it takes. */
export type PositionPair = readonly [source: number, destination: number];

/** A pair with the tokens as texts. */
export interface TokenPair {
  /** Position in the source prompt. */
  readonly source: number;
  /** Position in the destination prompt. */
  readonly destination: number;
  /** The source token as text. */
  readonly sourceToken: string;
  /** The destination token as text. */
  readonly destinationToken: string;
}

/** How two prompts correspond. */
export interface Alignment {
  /** The source prompt. */
  readonly source: string;
  /** The destination prompt. */
  readonly destination: string;
  /** All rows of the edit: padding included. */
  readonly positions: readonly PositionPair[];
  /** Those up to the source's end token, with the tokens as texts. */
  readonly pairs: readonly TokenPair[];
}

/**
 * The texts that TIME prepends to a prompt, as diffusers' `StableDiffusionModelEditingPipeline` has
 * them by default.
 */
export const defaultAugmentations: readonly string[] = ["A photo of ", "An image of ", "A picture of "];

/** A prompt, then the prompt behind each augmentation; a leading capital A is lowered there. */
export function augmented(prompt: string, augmentations: readonly string[] = defaultAugmentations): string[] {
  const base = prompt.startsWith("A") ? `a${prompt.slice(1)}` : prompt;
  return [prompt, ...augmentations.map((augmentation) => augmentation + base)];
}

/**
 * Aligns the tokens of two prompts, as the reference does: greedily, each source token with the
 * next equal destination token, "an" being equal to "a". Behind the source's last token the rest of
 * the destination follows; the tail takes the last position.
 *
 * A manual alignment lists pairs of positions (0 is the begin token) for prompts that differ
 * otherwise. Begin tokens, end tokens and padding are still paired by the rule; source tokens that
 * the list leaves out take no part in the edit.
 *
 * ```ts
 * const { pairs } = alignPrompts("a rose", "a blue rose", tokenizer);
 * pairs.map((pair) => pair.destination); // [0, 1, 3, 4]
 * ```
 *
 * @throws {AlignmentError} when the source is not a subsequence of the destination; it shows both
 *   token lists and the first token without a partner
 * @throws {EditError} when a manual pair lies outside the prompts
 */
export function alignPrompts(
  source: string,
  destination: string,
  tokenizer: AlignmentTokenizer,
  options: { manual?: readonly PositionPair[] } = {},
): Alignment {
  const { manual } = options;
  const length = tokenizer.modelMaxLength;
  const sourceIds = tokenizer.encode(source, { truncation: true });
  const destinationIds = tokenizer.encode(destination, { truncation: true });
  const textOf = (id: number) => tokenizer.decode([id]);
  const [sourceTokens, destinationTokens] = [sourceIds.map(textOf), destinationIds.map(textOf)];

  let words: PositionPair[];
  let next: number; // the first destination position that is still free
  if (manual === undefined) {
    words = alignGreedily();
    next = words.at(-1)![1] + 1;
  } else {
    checkManual(manual);
    const ends: PositionPair = [sourceIds.length - 1, destinationIds.length - 1];
    words = [[0, 0], ...manual.filter(([a, b]) => !(a === 0 && b === 0) && !(a === ends[0] && b === ends[1])), ends];
    next = destinationIds.length;
  }
  const tail: PositionPair[] = [];
  for (let position = sourceIds.length; position < length; position++) {
    tail.push([position, Math.min(next++, length - 1)]);
  }
  const pairs = words.map(([a, b]) => ({
    source: a,
    destination: b,
    sourceToken: sourceTokens[a],
    destinationToken: destinationTokens[b],
  }));
  return { source, destination, positions: [...words, ...tail], pairs };

  function alignGreedily(): PositionPair[] {
    const article = tokenizer.encode("a")[1];
    const canonical = (ids: number[], tokens: string[]) => ids.map((id, i) => tokens[i] === "an" ? article : id);
    const [from, to] = [canonical(sourceIds, sourceTokens), canonical(destinationIds, destinationTokens)];
    const found: PositionPair[] = [];
    let position = 0;
    for (let i = 0; i < from.length; i++) {
      const partner = to.indexOf(from[i], position);
      if (partner < 0) throw noPartner(i);
      found.push([i, partner]);
      position = partner + 1;
    }
    return found;
  }

  function noPartner(position: number): AlignmentError {
    const list = (tokens: string[]) => `[${tokens.join(" | ")}]`;
    return new AlignmentError(
      `Cannot align ${JSON.stringify(source)} with ${
        JSON.stringify(destination)
      } as every source token must occur in the destination, in order: ` +
        `${JSON.stringify(sourceTokens[position])} (position ${position}) has no partner in ${
          list(destinationTokens)
        } after the partners of ${
          list(sourceTokens.slice(0, position))
        }. Add words to the source to make the destination, or give the alignment by hand`,
      { sourceTokens, destinationTokens, position },
    );
  }

  function checkManual(pairs: readonly PositionPair[]): void {
    for (const [a, b] of pairs) {
      const inside = (position: number, ids: number[]) =>
        Number.isInteger(position) && position >= 0 && position < ids.length;
      if (!inside(a, sourceIds) || !inside(b, destinationIds)) {
        throw new EditError(
          `Cannot pair source token ${a} with destination token ${b} as the prompts have ${sourceIds.length} and ${destinationIds.length} tokens ` +
            `(0 is the begin token): ${JSON.stringify(source)}, ${JSON.stringify(destination)}`,
        );
      }
    }
  }
}
