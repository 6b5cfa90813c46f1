/** Prompts as token ids, by one of two syntaxes. */

import { countText } from "../../engine/inspect.ts";
import { ShapeError } from "../../engine/errors.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { PromptError } from "../errors.ts";
import { shown } from "../options.ts";
import { parseAttention } from "../text/prompt_syntax/attention.ts";
import { chunkPrompt, paddedChunk, type TokenChunk } from "../text/prompt_syntax/chunks.ts";
import { type LoraTag, splitLoraTags } from "../text/prompt_syntax/lora_tags.ts";
import { hintAtSyntax } from "../text/prompt_syntax/plain_hints.ts";
import type { CLIPTokenizer } from "../text/tokenizer.ts";
import type { HostTensor } from "./given_tensor.ts";
import { warn } from "../safe_text.ts";

/**
 * How prompts are read. "plain" takes them as text, cut to the text encoder's length, as diffusers
 * does. "a1111" reads them as AUTOMATIC1111's web UI does: `(word:1.3)` and `[word]` weight words,
 * `BREAK` splits, `<lora:name:0.8>` loads LoRAs, and long prompts are encoded in chunks.
 */
export type PromptSyntax = "plain" | "a1111";

/** Token ids of prompts, in chunks of the text encoder's length. All have as many chunks. */
export interface TokenizedPrompts {
  /** The chunks of each prompt; none where `promptEmbeds` takes their place. */
  readonly prompts: readonly (readonly TokenChunk[])[];
  /**
   * The chunks of each negative prompt under classifier-free guidance, unless
   * `negativePromptEmbeds` is given.
   */
  readonly negatives: readonly (readonly TokenChunk[])[];
  /** The number of prompts, or of rows in `promptEmbeds`. */
  readonly batch: number;
  /** LoRAs that the prompts name. */
  readonly loras: readonly LoraTag[];
}

/** The options that tokenization depends on. */
export interface TokenizingOptions {
  readonly promptSyntax?: PromptSyntax;
  readonly doClassifierFreeGuidance?: boolean;
  readonly negativePrompt?: string | readonly string[];
  readonly promptEmbeds?: Tensor | HostTensor;
  readonly negativePromptEmbeds?: Tensor | HostTensor;
}

/**
 * Tokenizes prompts and negative prompts. In plain syntax, text that is cut, and text of another
 * syntax, are reported by a warning.
 *
 * @throws {PromptError} without prompts, when negative prompts and prompts do not pair, or for
 *   syntax that is not supported
 */
export function tokenizePrompts(
  tokenizer: CLIPTokenizer,
  prompt: string | readonly string[] | undefined,
  options: TokenizingOptions = {},
): TokenizedPrompts {
  const { doClassifierFreeGuidance = true, negativePrompt, promptEmbeds, negativePromptEmbeds } = options;
  const texts = promptEmbeds ? [] : asPrompts(prompt);
  const batch = promptEmbeds ? rowsOf(promptEmbeds.shape) : texts.length;
  const negativeTexts = doClassifierFreeGuidance && !negativePromptEmbeds ? asNegatives(negativePrompt, batch) : [];
  if (options.promptSyntax !== "a1111") {
    const plain = (text: string) => tokenizePlain(tokenizer, text);
    return { prompts: texts.map(plain), negatives: negativeTexts.map(plain), batch, loras: [] };
  }
  const split = texts.map(splitLoraTags);
  refuseTags(negativeTexts);
  const chunked = (text: string) => chunkPrompt(parseAttention(text), tokenizer);
  const prompts = split.map(({ text }) => chunked(text)), negatives = negativeTexts.map(chunked);
  const given = [promptEmbeds, negativePromptEmbeds].map((embeds) =>
    Math.ceil((embeds?.shape[1] ?? 0) / tokenizer.modelMaxLength)
  );
  const most = [...given, ...[...prompts, ...negatives].map(({ length }) => length)].reduce((a, b) => Math.max(a, b));
  const padded = (chunks: readonly TokenChunk[]) => [
    ...chunks,
    ...Array.from({ length: most - chunks.length }, () => paddedChunk([], [], tokenizer)),
  ];
  return { prompts: prompts.map(padded), negatives: negatives.map(padded), batch, loras: commonTags(split) };
}

/** Texts whose cut has been reported, by tokenizer. */
const reported = new WeakMap<CLIPTokenizer, Set<string>>();

/** A plain text as one chunk. What is cut is warned of, once for each text. */
export function tokenizePlain(tokenizer: CLIPTokenizer, text: string): TokenChunk[] {
  hintAtSyntax(text, tokenizer);
  const cut = tokenizer.cut(text);
  const known = reported.get(tokenizer) ?? new Set<string>();
  reported.set(tokenizer, known);
  if (cut !== "" && !known.has(text)) {
    if (known.size < 1000) known.add(text);
    warn(
      `The prompt ${
        JSON.stringify(text)
      } is longer than the ${tokenizer.modelMaxLength} tokens that CLIP takes; this was left out: ${
        JSON.stringify(cut)
      }`,
    );
  }
  const ids = tokenizer.encode(text, { padding: "max_length", truncation: true });
  return [{ ids, weights: ids.map(() => 1) }];
}

/**
 * The LoRAs that all prompts of a call name.
 *
 * @throws {PromptError} when they name different LoRAs
 */
export function commonTags(prompts: readonly { text: string; loras: readonly LoraTag[] }[]): readonly LoraTag[] {
  const [first, ...others] = prompts.map(({ loras }) => loras);
  const other = others.find((loras) => JSON.stringify(loras) !== JSON.stringify(first));
  if (other === undefined) return first ?? [];
  const names = (loras: readonly LoraTag[]) => loras.map(({ name }) => name).join(", ") || "none";
  throw new PromptError(
    `Cannot draw prompts with different LoRAs in one call as a LoRA acts on the whole batch: ${names(first)}, and ` +
      `${names(other)}. Generate them one by one`,
  );
}

/** @throws {PromptError} when negative or second prompts name LoRAs */
export function refuseTags(others: readonly string[]): void {
  const tagged = others.find((text) => splitLoraTags(text).loras.length > 0);
  if (tagged === undefined) return;
  throw new PromptError(
    `Cannot load LoRAs of the negative or second prompt ${
      shown(tagged)
    } as they act on the whole picture: name them in the prompt`,
  );
}

export function rowsOf(shape: readonly number[]): number {
  if (shape.length === 3 && shape[0] > 0) return shape[0];
  throw new ShapeError(
    `Cannot use promptEmbeds [${shape.join(", ")}] as their shape must be [prompts, tokens, width]`,
    [shape],
  );
}

export function asPrompts(prompt: string | readonly string[] | undefined): readonly string[] {
  const prompts = typeof prompt === "string" ? [prompt] : prompt;
  if (Array.isArray(prompts) && prompts.length > 0 && prompts.every((text) => typeof text === "string")) {
    return [...prompts];
  }
  throw new PromptError(
    `Cannot generate without a prompt: give a string, a list of strings, or promptEmbeds: ${shown(prompt)}`,
  );
}

export function asNegatives(negative: string | readonly string[] | undefined, batch: number): readonly string[] {
  if (negative === undefined || typeof negative === "string") return Array(batch).fill(negative ?? "");
  if (negative.length !== batch) {
    throw new PromptError(
      `Cannot pair ${countText(negative.length, "negative prompt")} with ${
        countText(batch, "prompt")
      }: give one, or as many`,
    );
  }
  return negative;
}
