/** Prompts of SDXL as tokens, which each of the two text encoders reads by its own tokenizer. */

import { chunkPrompt, paddedChunk, type TokenChunk } from "../text/prompt_syntax/chunks.ts";
import { parseAttention } from "../text/prompt_syntax/attention.ts";
import { type LoraTag, splitLoraTags } from "../text/prompt_syntax/lora_tags.ts";
import type { CLIPTokenizer } from "../text/tokenizer.ts";
import { commonTags, type PromptSyntax, refuseTags, tokenizePlain } from "./tokenized_prompts.ts";

/** Splits prompts into the tokens of each text encoder. */
export interface XLTokenizers {
  readonly tokenizer: CLIPTokenizer;
  readonly tokenizer2: CLIPTokenizer;
}

/** The chunks of one prompt or negative prompt, for each of the two encoders. */
export type ChunkPair = readonly [first: readonly TokenChunk[], second: readonly TokenChunk[]];

/** The prompts of a call as tokens. All have as many chunks. */
export interface XLTokens {
  /** None where embeddings take their place. */
  readonly prompts: readonly ChunkPair[];
  /** None without guidance, with embeddings, or for zeros. */
  readonly negatives: readonly ChunkPair[];
  /** LoRAs that the prompts name. */
  readonly loras: readonly LoraTag[];
}

/** Texts of prompts, or of negative prompts: what the first and the second encoder read. */
export type TextPair = readonly [text: string, text2: string];

/** A plain text as one chunk for each encoder. What is cut is warned of. */
export function plainPair({ tokenizer, tokenizer2 }: XLTokenizers, [text, text2]: TextPair): ChunkPair {
  return [tokenizePlain(tokenizer, text), tokenizePlain(tokenizer2, text2)];
}

/**
 * Tokenizes prompts and negative prompts.
 *
 * @param options.tokens the number of tokens that given embeddings have, which chunks are padded to
 * @throws {PromptError} for syntax that is not supported, prompts that name different LoRAs, and
 *   LoRAs in other texts than the first encoder's prompts
 */
export function tokenizeXL(
  tokenizers: XLTokenizers,
  { prompts, negatives }: { prompts: readonly TextPair[]; negatives: readonly TextPair[] },
  options: { promptSyntax?: PromptSyntax; tokens: number },
): XLTokens {
  if (options.promptSyntax !== "a1111") {
    const plain = (texts: TextPair) => plainPair(tokenizers, texts);
    return { prompts: prompts.map(plain), negatives: negatives.map(plain), loras: [] };
  }
  const { tokenizer, tokenizer2 } = tokenizers;
  const split = prompts.map(([text]) => splitLoraTags(text));
  // An own second prompt names none: LoRAs act on the whole picture.
  refuseTags([...prompts.flatMap(([text, text2]) => text === text2 ? [] : [text2]), ...negatives.flat()]);
  const chunked = ([text, text2]: TextPair): ChunkPair => [
    chunkPrompt(parseAttention(text), tokenizer),
    chunkPrompt(parseAttention(text2), tokenizer2),
  ];
  const positive = prompts.map(([text, text2], i) => chunked([split[i].text, text === text2 ? split[i].text : text2]));
  const negative = negatives.map(chunked);
  const lengths = [...positive, ...negative].flat().map(({ length }) => length);
  const most = Math.max(Math.ceil(options.tokens / tokenizer.modelMaxLength), ...lengths);
  const padded = ([first, second]: ChunkPair): ChunkPair => [
    filledUp(first, most, tokenizer),
    filledUp(second, most, tokenizer2),
  ];
  return { prompts: positive.map(padded), negatives: negative.map(padded), loras: commonTags(split) };
}

/** Adds empty chunks up to `count`. */
function filledUp(chunks: readonly TokenChunk[], count: number, tokenizer: CLIPTokenizer): readonly TokenChunk[] {
  const empty = Array.from({ length: count - chunks.length }, () => paddedChunk([], [], tokenizer));
  return [...chunks, ...empty];
}
