/** Weighted prompts in chunks of the text encoder's length, as in AUTOMATIC1111's web UI. */

import type { CLIPTokenizer } from "../tokenizer.ts";
import type { WeightedPart } from "./attention.ts";

/** Token ids of one pass through the text encoder, with begin and end, and the weight of each. */
export interface TokenChunk {
  readonly ids: readonly number[];
  readonly weights: readonly number[];
}

/** How far back a comma may lie for a chunk to end there rather than inside a phrase, in tokens. */
const commaBacktrack = 20;

/**
 * Splits the tokens of parts into chunks of at most `modelMaxLength − 2` tokens. A chunk that is
 * full ends after its last comma, if that lies within the last 20 tokens; the tokens behind it move
 * to the next chunk. The vectors of a textual inversion stay in one chunk. Chunks are padded as
 * plain prompts are; begin, end and padding weigh 1. An empty prompt is one chunk.
 */
export function chunkPrompt(parts: readonly WeightedPart[], tokenizer: CLIPTokenizer): TokenChunk[] {
  const room = tokenizer.modelMaxLength - 2;
  const comma = tokenizer.idOf(",</w>");
  const chunks: TokenChunk[] = [];
  let ids: number[] = [], weights: number[] = [], lastComma = -1;
  const endChunk = (keep = ids.length) => {
    const [movedIds, movedWeights] = [ids.slice(keep), weights.slice(keep)];
    chunks.push(paddedChunk(ids.slice(0, keep), weights.slice(0, keep), tokenizer));
    ids = movedIds;
    weights = movedWeights;
    lastComma = -1;
  };
  for (const part of parts) {
    if (part === "break") {
      endChunk();
      continue;
    }
    for (const group of tokenGroups(tokenizer.tokens(part.text), tokenizer)) {
      if (group[0] === comma) lastComma = ids.length;
      else if (ids.length === room && lastComma >= 0 && ids.length - lastComma <= commaBacktrack) {
        endChunk(lastComma + 1);
      }
      if (ids.length === room || (group.length > 1 && ids.length + group.length > room && ids.length > 0)) endChunk();
      for (const id of group) {
        if (ids.length === room) endChunk(); // an inversion of more vectors than a chunk holds
        ids.push(id);
        weights.push(part.weight);
      }
    }
  }
  if (ids.length > 0 || chunks.length === 0) endChunk();
  return chunks;
}

/** Begin, tokens, end and padding. */
export function paddedChunk(ids: readonly number[], weights: readonly number[], tokenizer: CLIPTokenizer): TokenChunk {
  const { bosTokenId, eosTokenId, padTokenId, modelMaxLength } = tokenizer;
  const padding = modelMaxLength - 2 - ids.length;
  return {
    ids: [bosTokenId, ...ids, eosTokenId, ...Array<number>(padding).fill(padTokenId)],
    weights: [1, ...weights, 1, ...Array<number>(padding).fill(1)],
  };
}

/** Token ids, those of an added token together with its further vectors. */
function tokenGroups(tokens: readonly string[], tokenizer: CLIPTokenizer): number[][] {
  const added = new Set(tokenizer.addedTokens);
  const groups: number[][] = [];
  for (let i = 0; i < tokens.length;) {
    let length = 1;
    if (added.has(tokens[i])) { while (tokens[i + length] === `${tokens[i]}_${length}`) length++; }
    groups.push(tokens.slice(i, i + length).map((token) => tokenizer.idOf(token)!));
    i += length;
  }
  return groups;
}
