/** Concepts: prompts that an editor reads by their last subject token. @module */

import { EditError } from "../../errors.ts";
import type { Alignment, AlignmentTokenizer } from "./alignment.ts";

/**
 * Position of the last subject token: the one before the end token. The empty prompt has none, and
 * its begin token stands in.
 */
export function lastTokenPosition(text: string, tokenizer: AlignmentTokenizer): number {
  return tokenizer.encode(text, { truncation: true }).length - 2;
}

/**
 * Pairs the last subject tokens of two prompts, which need no words in common.
 *
 * @throws {EditError} for a source without a token: the begin token stands in every prompt
 */
export function alignLastTokens(source: string, destination: string, tokenizer: AlignmentTokenizer): Alignment {
  const [from, to] = [source, destination].map((text) => {
    const position = lastTokenPosition(text, tokenizer);
    const id = tokenizer.encode(text, { truncation: true })[position];
    return { position, token: tokenizer.decode([id]) };
  });
  if (from.position < 1) {
    throw new EditError(
      `Cannot edit the source ${JSON.stringify(source)} as it has no token; ` +
        "the begin token, which every prompt has, must not change: name a concept",
    );
  }
  const pair = {
    source: from.position,
    destination: to.position,
    sourceToken: from.token,
    destinationToken: to.token,
  };
  return { source, destination, positions: [[from.position, to.position]], pairs: [pair] };
}
