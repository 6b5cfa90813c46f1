import { ShapeError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { embedding } from "../../kernels/shape/embedding.ts";
import { PromptError } from "../errors.ts";
import type { CLIPTextModel } from "../models/clip_text.ts";
import type { CLIPTokenizer } from "../text/tokenizer.ts";

/** Options of {@linkcode StableDiffusionPipeline.encodePrompt}, with diffusers' meaning. */
export interface EncodePromptOptions {
  /** Copies of each prompt's embeddings, next to each other. Default: 1. */
  readonly numImagesPerPrompt?: number;
  /** Whether to encode the negative prompts too. Default: true. */
  readonly doClassifierFreeGuidance?: boolean;
  /** One for all prompts, or one for each. Default: "". */
  readonly negativePrompt?: string | readonly string[];
  /** Layers of the text encoder to leave out at the end. Default: 0. */
  readonly clipSkip?: number;
  /** Factor of the text encoder's LoRAs. Default: 1. */
  readonly loraScale?: number;
  /** In place of the prompt: [B, T, d]. */
  readonly promptEmbeds?: Tensor;
  /** In place of the negative prompt: [B, T, d]. */
  readonly negativePromptEmbeds?: Tensor;
}

/**
 * Embeddings [B · numImagesPerPrompt, T, d]; the negative ones only under classifier-free guidance.
 */
export interface PromptEmbeddings {
  /** Embeddings of the prompts. */
  readonly promptEmbeds: Tensor;
  /** Embeddings of the negative prompts; undefined without guidance. */
  readonly negativePromptEmbeds: Tensor | undefined;
}

/** Token ids of prompts, padded and truncated to the tokenizer's length. */
export interface TokenizedPrompts {
  /** One row for each prompt; none where `promptEmbeds` takes their place. */
  readonly prompts: readonly (readonly number[])[];
  /**
   * One row for each prompt under classifier-free guidance, unless `negativePromptEmbeds` is given.
   */
  readonly negatives: readonly (readonly number[])[];
  /** The number of prompts, or of rows in `promptEmbeds`. */
  readonly batch: number;
}

/**
 * Tokenizes prompts and negative prompts. Truncated text is reported by a warning.
 *
 * @throws {PromptError} without prompts, or when negative prompts and prompts do not pair
 */
export function tokenizePrompts(
  tokenizer: CLIPTokenizer,
  prompt: string | readonly string[] | undefined,
  options: EncodePromptOptions = {},
): TokenizedPrompts {
  const { doClassifierFreeGuidance = true, negativePrompt, promptEmbeds, negativePromptEmbeds } = options;
  const prompts = promptEmbeds ? [] : asPrompts(prompt);
  const batch = promptEmbeds ? promptEmbeds.dims(3)[0] : prompts.length;
  const negatives = doClassifierFreeGuidance && !negativePromptEmbeds ? asNegatives(negativePrompt, batch) : [];
  return { prompts: tokenizeTexts(tokenizer, prompts), negatives: tokenizeTexts(tokenizer, negatives), batch };
}

/**
 * Encodes tokenized prompts. Prompts and negative prompts go through the encoder as one batch,
 * unless layers are skipped: diffusers skips them for the prompts alone.
 *
 * @throws {ShapeError} when the given embeddings differ in shape
 */
export function encodePrompts(
  textEncoder: CLIPTextModel,
  { prompts, negatives, batch }: TokenizedPrompts,
  options: EncodePromptOptions = {},
): PromptEmbeddings {
  const {
    numImagesPerPrompt = 1,
    doClassifierFreeGuidance = true,
    clipSkip = 0,
    loraScale,
    promptEmbeds,
    negativePromptEmbeds,
  } = options;
  const { gpu } = textEncoder;
  if (negativePromptEmbeds && promptEmbeds && negativePromptEmbeds.shape.join() !== promptEmbeds.shape.join()) {
    throw new ShapeError(
      `Cannot guide embeddings [${promptEmbeds.shape.join(", ")}] away from [${
        negativePromptEmbeds.shape.join(", ")
      }] as the shapes must agree`,
      [promptEmbeds.shape, negativePromptEmbeds.shape],
    );
  }
  return gpu.scope(() => {
    const encode = (rows: TokenizedPrompts["prompts"], clipSkip: number) =>
      rows.length === 0 ? undefined : textEncoder.forward(rows, { clipSkip, loraScale }).lastHiddenState;
    const together = clipSkip === 0 ? encode([...negatives, ...prompts], 0) : undefined;
    const rows = (source: Tensor | undefined, first = 0) => repeatRows(source!, first, batch, numImagesPerPrompt);
    return {
      promptEmbeds: promptEmbeds
        ? rows(promptEmbeds)
        : together
        ? rows(together, negatives.length)
        : rows(encode(prompts, clipSkip)),
      negativePromptEmbeds: doClassifierFreeGuidance
        ? rows(negativePromptEmbeds ?? together ?? encode(negatives, 0))
        : undefined,
    };
  });
}

/**
 * Texts to hidden states [texts, 77, d], padded and cut to the tokenizer's length; what is cut is
 * warned of.
 */
export function encodeTexts(
  tokenizer: CLIPTokenizer,
  textEncoder: CLIPTextModel,
  texts: readonly string[],
  options: { clipSkip?: number; loraScale?: number } = {},
): Tensor {
  const ids = tokenizeTexts(tokenizer, texts);
  return textEncoder.gpu.scope(() => textEncoder.forward(ids, options).lastHiddenState);
}

function tokenizeTexts(tokenizer: CLIPTokenizer, texts: readonly string[]): number[][] {
  return texts.map((text) => {
    const cut = tokenizer.cut(text);
    if (cut !== "") {
      console.warn(
        `The prompt ${
          JSON.stringify(text)
        } is longer than the ${tokenizer.modelMaxLength} tokens that CLIP takes; this was left out: ${
          JSON.stringify(cut)
        }`,
      );
    }
    return tokenizer.encode(text, { padding: "max_length", truncation: true });
  });
}

/**
 * Rows first … first+count of [rows, T, d], each `copies` times. A row lookup with whole embeddings
 * as rows.
 */
function repeatRows(source: Tensor, first: number, count: number, copies: number): Tensor {
  const [rows, tokens, width] = source.dims(3);
  const ids = Int32Array.from({ length: count * copies }, (_, i) => first + Math.floor(i / copies));
  const table = source.reshape([rows, tokens * width]);
  return embedding(table, Tensor.from(source.gpu, ids, [ids.length])).reshape([ids.length, tokens, width]);
}

function asPrompts(prompt: string | readonly string[] | undefined): readonly string[] {
  const prompts = typeof prompt === "string" ? [prompt] : prompt ?? [];
  if (prompts.length === 0 || prompts.some((text) => typeof text !== "string")) {
    throw new PromptError(
      `Cannot generate without a prompt: give a string, a list of strings, or promptEmbeds: ${JSON.stringify(prompt)}`,
    );
  }
  return prompts;
}

function asNegatives(negative: string | readonly string[] | undefined, batch: number): readonly string[] {
  if (negative === undefined || typeof negative === "string") return Array(batch).fill(negative ?? "");
  if (negative.length !== batch) {
    throw new PromptError(
      `Cannot pair ${negative.length} negative prompts with ${batch} prompts: give one, or as many`,
    );
  }
  return negative;
}
