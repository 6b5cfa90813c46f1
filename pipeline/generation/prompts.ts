import { ShapeError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { embedding } from "../../kernels/shape/embedding.ts";
import { PromptError } from "../errors.ts";
import type { CLIPTextModel } from "../models/clip_text.ts";
import { either, kinds, listOf, type OptionTable, shown, wholeFrom } from "../options.ts";
import type { CLIPTokenizer } from "../text/tokenizer.ts";
import { checkFinite, type HostTensor, takeTensor, tensorKind } from "./given_tensor.ts";

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
  /** In place of the prompt: [B, T, d]. They stay the caller's. */
  readonly promptEmbeds?: Tensor | HostTensor;
  /** In place of the negative prompt: [B, T, d]. They stay the caller's. */
  readonly negativePromptEmbeds?: Tensor | HostTensor;
}

/** The options of {@linkcode encodePrompts}: embeddings are on the device. */
export interface EncodingOptions extends EncodePromptOptions {
  /** In place of the prompt: [B, T, d]. */
  readonly promptEmbeds?: Tensor;
  /** In place of the negative prompt: [B, T, d]. */
  readonly negativePromptEmbeds?: Tensor;
}

/** The options of `encodePrompt` and their kinds. */
export const encodePromptTable: OptionTable<EncodePromptOptions> = {
  numImagesPerPrompt: wholeFrom(1),
  doClassifierFreeGuidance: kinds.flag,
  negativePrompt: either(kinds.text, listOf(kinds.text, "strings")),
  clipSkip: wholeFrom(0),
  loraScale: kinds.finite,
  promptEmbeds: tensorKind,
  negativePromptEmbeds: tensorKind,
};

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
  const batch = promptEmbeds ? rowsOf(promptEmbeds.shape) : prompts.length;
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
  options: EncodingOptions = {},
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
  if (negativePromptEmbeds && negativePromptEmbeds.shape[0] !== batch) {
    throw new ShapeError(
      `Cannot guide ${batch} prompts away from negativePromptEmbeds [${negativePromptEmbeds.shape.join(", ")}] ` +
        "as there must be one row for each prompt",
      [negativePromptEmbeds.shape],
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
 * Encodes prompts, or completes given embeddings, for a caller who owns the result. Everything is
 * read before the first wait.
 *
 * @throws {PromptError} for both a prompt and embeddings in its place
 * @throws {NonFiniteError} when given embeddings hold NaN or infinities
 */
export async function encodeGiven(
  { textEncoder, tokenizer }: { textEncoder: CLIPTextModel; tokenizer: CLIPTokenizer },
  prompt: string | readonly string[] | undefined,
  options: EncodePromptOptions,
): Promise<PromptEmbeddings> {
  const { gpu } = textEncoder;
  refuseBoth(prompt, options);
  const names = ["promptEmbeds", "negativePromptEmbeds"] as const;
  using copies = new DisposableStack();
  using made = new DisposableStack();
  const tokens = tokenizePrompts(tokenizer, prompt, options);
  const copied: { -readonly [Name in typeof names[number]]?: Tensor } = {};
  for (const name of names) {
    const given = options[name];
    if (given) copied[name] = copies.use(takeTensor(gpu, name, given));
  }
  const encoded = encodePrompts(textEncoder, tokens, { ...options, ...copied } as EncodingOptions);
  for (const tensor of Object.values(encoded)) if (tensor) made.use(tensor);
  for (const name of names) {
    const copy = copied[name];
    if (copy && options[name] instanceof Tensor) await checkFinite(name, copy);
  }
  await gpu.context.check();
  made.move(); // the caller's now
  return encoded;
}

/** @throws {PromptError} for both a text and embeddings in its place */
export function refuseBoth(
  prompt: string | readonly string[] | undefined,
  { promptEmbeds, negativePrompt, negativePromptEmbeds }: EncodePromptOptions,
): void {
  if (prompt !== undefined && promptEmbeds) {
    throw new PromptError("Cannot generate from both a prompt and promptEmbeds: give one of them");
  }
  if (negativePrompt !== undefined && negativePromptEmbeds) {
    throw new PromptError("Cannot guide away from both a negativePrompt and negativePromptEmbeds: give one of them");
  }
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

function rowsOf(shape: readonly number[]): number {
  if (shape.length === 3 && shape[0] > 0) return shape[0];
  throw new ShapeError(
    `Cannot use promptEmbeds [${shape.join(", ")}] as their shape must be [prompts, tokens, width]`,
    [shape],
  );
}

function asPrompts(prompt: string | readonly string[] | undefined): readonly string[] {
  const prompts = typeof prompt === "string" ? [prompt] : prompt;
  if (Array.isArray(prompts) && prompts.length > 0 && prompts.every((text) => typeof text === "string")) {
    return [...prompts];
  }
  throw new PromptError(
    `Cannot generate without a prompt: give a string, a list of strings, or promptEmbeds: ${shown(prompt)}`,
  );
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
