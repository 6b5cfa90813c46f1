/**
 * Aligns source tokens with destination tokens, the first step of TIME (arXiv 2303.08084, section
 * 4).
 */

import { EditError } from "../../errors.ts";
import { AlignmentError } from "../errors.ts";

/** The tokenizer methods that alignment uses; `CLIPTokenizer` has them. */
export interface AlignmentTokenizer {
  /** Number of tokens of a padded prompt, including the start and end tokens. */
  readonly modelMaxLength: number;
  /** Token ids of a text, including the start and end tokens. */
  encode(text: string, options?: { padding?: "max_length"; truncation?: boolean }): number[];
  /** The text of token ids. */
  decode(ids: Iterable<number>): string;
}

/** A source position and its destination position. */
export type PositionPair = readonly [source: number, destination: number];

/** A pair of positions with the text of their tokens. */
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

/** The alignment of two prompts. */
export interface Alignment {
  /** The source prompt. */
  readonly source: string;
  /** The destination prompt. */
  readonly destination: string;
  /** The pair of each row of the edit, including padding. */
  readonly positions: readonly PositionPair[];
  /** The pairs up to the source's end token, with the text of their tokens. */
  readonly pairs: readonly TokenPair[];
}

/**
 * The texts that TIME prepends to a prompt: the default of diffusers'
 * `StableDiffusionModelEditingPipeline`.
 */
export const defaultAugmentations: readonly string[] = ["A photo of ", "An image of ", "A picture of "];

/** A prompt, followed by the prompt after each augmentation, with a leading "A" in lower case. */
export function augmented(prompt: string, augmentations: readonly string[] = defaultAugmentations): string[] {
  const base = prompt.startsWith("A") ? `a${prompt.slice(1)}` : prompt;
  return [prompt, ...augmentations.map((augmentation) => augmentation + base)];
}

/**
 * Aligns the tokens of two prompts as diffusers does. Each source token is matched greedily with
 * the next equal destination token; "an" equals "a". The padding positions after the source's end
 * token are matched with the positions after the destination's end token, in order; when these run
 * out, with the last position.
 *
 * A manual alignment lists pairs of positions (0 is the start token), for prompts that cannot be
 * aligned by this rule. Start tokens, end tokens and padding are still aligned automatically.
 * Source tokens that the list omits do not take part in the edit.
 *
 * ```ts
 * const { pairs } = alignPrompts("a rose", "a blue rose", tokenizer);
 * pairs.map((pair) => pair.destination); // [0, 1, 3, 4]
 * ```
 *
 * @throws {AlignmentError} when the source is not a subsequence of the destination; the message
 *   shows both token lists and the first token without a match
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
  const cut = [source, destination].filter((text) => tokenizer.encode(text).length > length);
  const [sourceTokens, destinationTokens] = [sourceIds.map(textOf), destinationIds.map(textOf)];

  let words: PositionPair[];
  let next: number; // the first unused destination position
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
        } after the partners of ${list(sourceTokens.slice(0, position))}. ${
          cut.length > 0
            ? `Only the first ${length} tokens of a prompt are read, and ${
              cut.map((text) => JSON.stringify(text)).join(" and ")
            } ${cut.length === 1 ? "is" : "are"} longer: shorten the prompts`
            : "The destination must be the source with words added; otherwise pair last tokens " +
              '(ModelEdit.solve() with tokens: "last" or method: "uce"), or set the pair\'s alignment'
        }`,
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

/**
 * Checks that the text encoder reads the words in which a destination differs from its source.
 *
 * @throws {AlignmentError} when both prompts are the same up to the cut, so that an edit would
 *   change nothing
 */
export function checkWordsAreRead(source: string, destination: string, tokenizer: AlignmentTokenizer): void {
  const length = tokenizer.modelMaxLength;
  const [from, to] = [source, destination].map((text) => tokenizer.encode(text));
  if (from.length <= length && to.length <= length) return;
  const [sourceIds, destinationIds] = [source, destination].map((text) => tokenizer.encode(text, { truncation: true }));
  if (from.join() === to.join() || sourceIds.join() !== destinationIds.join()) return;
  const sourceTokens = sourceIds.map((id) => tokenizer.decode([id]));
  throw new AlignmentError(
    `Cannot edit ${JSON.stringify(source)} to ${JSON.stringify(destination)}: the words in which they differ lie ` +
      `beyond the ${length} tokens that the text encoder reads. Shorten the prompts`,
    { sourceTokens, destinationTokens: sourceTokens, position: sourceTokens.length - 1 },
  );
}
