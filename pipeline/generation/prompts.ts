import { ShapeError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { embedding } from "../../kernels/shape/embedding.ts";
import { weightRows } from "../../kernels/shape/weight_rows.ts";
import { PromptError } from "../errors.ts";
import type { CLIPTextModel } from "../models/clip_text.ts";
import { either, kinds, listOf, oneOf, type OptionTable, wholeFrom } from "../options.ts";
import type { CLIPTokenizer } from "../text/tokenizer.ts";
import { checkFinite, type HostTensor, takeTensor, tensorKind } from "./given_tensor.ts";
import type { HeldTexts } from "../editing/encode_batches.ts";
import { type PromptSyntax, type TokenizedPrompts, tokenizePlain, tokenizePrompts } from "./tokenized_prompts.ts";

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
  /** How prompts are read. Default: "plain". */
  readonly promptSyntax?: PromptSyntax;
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
  promptSyntax: oneOf("plain", "a1111"),
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
      rows.length === 0 ? undefined : encodeChunks(textEncoder, rows, { clipSkip, loraScale });
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
  refuseLoras(tokens.loras);
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
  return encodeChunks(textEncoder, texts.map((text) => tokenizePlain(tokenizer, text)), options);
}

/** Holds texts as {@linkcode encodeTexts} would encode them now. */
export function holdTexts(tokenizer: CLIPTokenizer, textEncoder: CLIPTextModel, texts: readonly string[]): HeldTexts {
  const prompts = texts.map((text) => tokenizePlain(tokenizer, text));
  const snapshot = textEncoder.snapshot();
  return {
    encode: (from, to) => snapshot.record(() => encodeChunks(textEncoder, prompts.slice(from, to), {})),
    [Symbol.dispose]: () => snapshot[Symbol.dispose](),
  };
}

/**
 * States [prompts, chunks · tokens, d]. Each chunk is encoded by itself and weighted; those of a
 * prompt stand one behind the other.
 */
function encodeChunks(
  textEncoder: CLIPTextModel,
  prompts: TokenizedPrompts["prompts"],
  options: { clipSkip?: number; loraScale?: number },
): Tensor {
  return textEncoder.gpu.scope(() =>
    joinChunks(textEncoder.forward(prompts.flat().map(({ ids }) => ids), options).lastHiddenState, prompts)
  );
}

/**
 * States [chunks, tokens, d] of all chunks, weighted and joined to those of prompts [prompts,
 * chunks · tokens, d]; within the caller's scope.
 */
export function joinChunks(states: Tensor, prompts: TokenizedPrompts["prompts"]): Tensor {
  const [count, tokens, width] = states.dims(3);
  const weights = Float32Array.from(prompts.flat().flatMap(({ weights }) => weights));
  const weighted = weights.every((weight) => weight === 1)
    ? states
    : weightRows(states, Tensor.from(states.gpu, weights, [count, tokens]));
  return weighted.reshape([prompts.length, count / prompts.length * tokens, width]);
}

/** @throws {PromptError} for LoRA tags in prompts that are only encoded */
export function refuseLoras([lora]: readonly { readonly name: string }[]): void {
  if (lora === undefined) return;
  throw new PromptError(
    `Cannot load the LoRA ${JSON.stringify(lora.name)} of a prompt as prompts are only encoded: ` +
      "load it with loadLoraWeights(), or generate() from the prompt",
  );
}

/**
 * Rows first … first+count of [rows, T, d], each `copies` times. A row lookup with whole embeddings
 * as rows.
 */
export function repeatRows(source: Tensor, first: number, count: number, copies: number): Tensor {
  const [rows, tokens, width] = source.dims(3);
  const ids = Int32Array.from({ length: count * copies }, (_, i) => first + Math.floor(i / copies));
  const table = source.reshape([rows, tokens * width]);
  return embedding(table, Tensor.from(source.gpu, ids, [ids.length])).reshape([ids.length, tokens, width]);
}
