/** Prompts of SDXL: two text encoders side by side, and pooled prompts. */

import { countText } from "../../engine/inspect.ts";
import { ShapeError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { embedding } from "../../kernels/shape/embedding.ts";
import { slice } from "../../kernels/shape/slice.ts";
import type { XLPipelineComponents } from "../components.ts";
import { OptionError, PromptError } from "../errors.ts";
import { shown } from "../shown.ts";
import { GivenEmbeddings } from "./call_prompts.ts";
import { joinChunks, refuseLoras, repeatRows } from "./prompts.ts";
import { type ChunkPair, plainPair, type TextPair, tokenizeXL, type XLTokenizers, type XLTokens } from "./xl_tokens.ts";
import type { HeldTexts } from "../editing/encode_batches.ts";
import { asNegatives, asPrompts, rowsOf, tokenizePlain } from "./tokenized_prompts.ts";
import type { XLEncodePromptOptions, XLPromptEmbeddings, XLPromptOptions } from "./xl_options.ts";
import { warn } from "../safe_text.ts";

/** The models that read prompts. */
export type XLEncoders = Pick<XLPipelineComponents, "textEncoder" | "textEncoder2" | "tokenizer" | "tokenizer2">;

const embeddingNames = [
  "promptEmbeds",
  "negativePromptEmbeds",
  "pooledPromptEmbeds",
  "negativePooledPromptEmbeds",
] as const;

/** What SDXL encodes in one call. */
export interface XLPrompts extends Disposable {
  readonly batch: number;
  readonly tokens: XLTokens;
  /** Reads the prompts again, by tokenizers that have learned more. */
  readonly read: (tokenizers: XLTokenizers) => XLTokens;
  readonly given: GivenEmbeddings<typeof embeddingNames[number]>;
}

/**
 * Tokenizes the prompts of a call, and copies given embeddings, before anything waits.
 *
 * @param zeros whether missing negative prompts are zeros
 * @throws {PromptError} without prompts, when prompts and embeddings do not fit each other, or for
 *   embeddings without their pooled ones
 * @throws {ShapeError} when given embeddings differ in shape
 */
export function takeXLPrompts(
  encoders: XLEncoders,
  prompt: string | readonly string[] | undefined,
  options: XLPromptOptions,
  { guided, zeros }: { guided: boolean; zeros: boolean },
): XLPrompts {
  refuseConflicts(prompt, options);
  const { prompt2, negativePrompt, negativePrompt2, promptEmbeds, negativePromptEmbeds } = options;
  const pairs = (texts: readonly string[], texts2: readonly string[]): TextPair[] =>
    texts.map((text, i) => [text, texts2[i]]);
  const texts = promptEmbeds ? [] : asPrompts(prompt);
  const batch = promptEmbeds ? rowsOf(promptEmbeds.shape) : texts.length;
  const matched = (second: string | readonly string[], what: string): readonly string[] => {
    const list = typeof second === "string" ? Array<string>(batch).fill(second) : [...second];
    if (list.length === batch) return list;
    throw new PromptError(
      `Cannot pair ${list.length} ${what} with ${countText(batch, "prompt")}: give one text, or as many`,
    );
  };
  // As in diffusers, an empty second text stands for the first.
  const texts2 = promptEmbeds || !prompt2 ? texts : matched(prompt2, "prompt2");
  const isZero = negativePrompt === undefined && zeros;
  if (guided && isZero && negativePrompt2 !== undefined) {
    warn(
      "negativePrompt2 is not used, as diffusers reads it with negativePrompt only: give that, too, such as an empty text",
    );
  }
  const hasNegatives = guided && !negativePromptEmbeds && !isZero;
  if (texts.length > 0 || hasNegatives) refuseReleased(encoders);
  const away = hasNegatives ? asNegatives(negativePrompt, batch) : [];
  const away2 = !hasNegatives || !negativePrompt2 ? away : matched(negativePrompt2, "negativePrompt2");
  const pairsOfTexts = { prompts: pairs(texts, texts2), negatives: pairs(away, away2) };
  const { promptSyntax } = options;
  const count = Math.max(...[promptEmbeds, negativePromptEmbeds].map((embeds) => embeds?.shape[1] ?? 0));
  const read = (tokenizers: XLTokenizers) => tokenizeXL(tokenizers, pairsOfTexts, { promptSyntax, tokens: count });
  const tokens = read(encoders);
  const given = new GivenEmbeddings(encoders.textEncoder.gpu, {
    promptEmbeds,
    pooledPromptEmbeds: options.pooledPromptEmbeds,
    ...(guided ? { negativePromptEmbeds, negativePooledPromptEmbeds: options.negativePooledPromptEmbeds } : {}),
  });
  return { batch, tokens, read, given, [Symbol.dispose]: () => given[Symbol.dispose]() };
}

/** @throws {PromptError} without text encoders */
function refuseReleased({ textEncoder, textEncoder2 }: Pick<XLEncoders, "textEncoder" | "textEncoder2">): void {
  if (!textEncoder.isDisposed && !textEncoder2.isDisposed) return;
  throw new PromptError(
    "Cannot encode prompts as the text encoders have been released: give promptEmbeds and pooledPromptEmbeds, and " +
      "under guidance their negative twins, as encodePrompt() returned them before; solve edits before the release",
  );
}

function refuseConflicts(prompt: string | readonly string[] | undefined, options: XLPromptOptions): void {
  const both = (a: string, b: string) => {
    throw new PromptError(`Cannot generate from both ${a} and ${b}: give one of them`);
  };
  const { promptEmbeds, negativePromptEmbeds } = options;
  if (prompt !== undefined && promptEmbeds) both("a prompt", "promptEmbeds");
  if (options.prompt2 !== undefined && promptEmbeds) both("a prompt2", "promptEmbeds");
  if (options.negativePrompt !== undefined && negativePromptEmbeds) both("a negativePrompt", "negativePromptEmbeds");
  if (options.negativePrompt2 !== undefined && negativePromptEmbeds) both("a negativePrompt2", "negativePromptEmbeds");
  for (const [states, pooled] of [embeddingNames.slice(0, 3), embeddingNames.slice(1)].map(([a, , b]) => [a, b])) {
    const [hasStates, hasPooled] = [options[states] !== undefined, options[pooled] !== undefined];
    if (hasStates && hasPooled) refuseOtherRows(states, options[states]!.shape, pooled, options[pooled]!.shape);
    if (hasStates === hasPooled) continue;
    const [there, lacking] = hasStates ? [states, pooled] : [pooled, states];
    throw new PromptError(
      `Cannot generate from ${there} without ${lacking}: give both, as encodePrompt() returns them`,
    );
  }
  for (const [a, b] of [embeddingNames.slice(0, 2), embeddingNames.slice(2)]) {
    const [shape, other] = [options[a]?.shape, options[b]?.shape];
    if (shape === undefined || other === undefined || shape.join() === other.join()) continue;
    throw new ShapeError(
      `Cannot guide ${a} [${shape.join(", ")}] away from ${b} [${other.join(", ")}] as the shapes must agree`,
      [shape, other],
    );
  }
}

/** @throws {ShapeError} unless pooled embeddings are [B, projection], one for each row of states */
function refuseOtherRows(states: string, shape: readonly number[], pooled: string, other: readonly number[]): void {
  const [rows] = shape;
  if (other.length === 2 && other[0] === rows) return;
  throw new ShapeError(
    `Cannot use ${pooled} [${other.join(", ")}] with ${states} [${shape.join(", ")}] as its shape must be ` +
      `[${rows}, width]: give both, as encodePrompt() returns them`,
    [shape, other],
  );
}

/** States [B, T, h1 + h2] without the final norms, and pooled embeddings [B, projection]. */
interface Encoded {
  readonly states: Tensor;
  readonly pooled: Tensor;
}

/**
 * The penultimate states of both encoders side by side, and the pooled output of the second for
 * each prompt's first chunk; within the caller's scope.
 */
function encodeTokens(
  { textEncoder, textEncoder2 }: Pick<XLEncoders, "textEncoder" | "textEncoder2">,
  rows: readonly ChunkPair[],
  { clipSkip = 0, loraScale }: { clipSkip?: number; loraScale?: number } = {},
): Encoded {
  const last = Math.min(textEncoder.config.numHiddenLayers, textEncoder2.config.numHiddenLayers) - 1;
  if (!Number.isInteger(clipSkip) || clipSkip < 0 || clipSkip > last) {
    throw new OptionError(
      `Cannot skip ${shown(clipSkip)} layers beside the last one, which SDXL never reads: clipSkip must be a whole ` +
        `number from 0 to ${last}`,
      { option: "clipSkip", value: clipSkip },
    );
  }
  const settings = { clipSkip: clipSkip + 1, finalNorm: false, loraScale };
  const [chunks, chunks2] = [rows.map(([first]) => first), rows.map(([, second]) => second)];
  const idsOf = (prompts: readonly ChunkPair[0][]) => prompts.flat().map(({ ids }) => ids);
  const first = textEncoder.forward(idsOf(chunks), settings);
  const second = textEncoder2.forward(idsOf(chunks2), settings);
  const states = [joinChunks(first.lastHiddenState, chunks), joinChunks(second.lastHiddenState, chunks2)];
  return { states: concat(states, 2), pooled: firstOfEach(second.textEmbeds, rows.length) };
}

/** The first of the rows that each of `count` prompts has. */
function firstOfEach(pooled: Tensor, count: number): Tensor {
  const [rows] = pooled.dims(2);
  if (rows === count) return pooled;
  const ids = Int32Array.from({ length: count }, (_, i) => i * rows / count);
  return embedding(pooled, Tensor.from(pooled.gpu, ids, [count]));
}

/** States [texts, T, h1 + h2] of texts, as the UNet reads them; the caller's to dispose of. */
export function encodeXLTexts(encoders: XLEncoders, texts: readonly string[]): Tensor {
  refuseReleased(encoders);
  return encoders.textEncoder.gpu.scope(() =>
    encodeTokens(encoders, texts.map((text) => plainPair(encoders, [text, text]))).states
  );
}

/** Holds texts as {@linkcode encodeXLTexts} would encode them now. */
export function holdXLTexts(encoders: XLEncoders, texts: readonly string[]): HeldTexts {
  refuseReleased(encoders);
  const { textEncoder, textEncoder2 } = encoders;
  const rows = texts.map((text) => plainPair(encoders, [text, text]));
  const first = textEncoder.snapshot(), second = textEncoder2.snapshot();
  const encode = (from: number, to: number) =>
    textEncoder.gpu.scope(() => encodeTokens(encoders, rows.slice(from, to)).states);
  return {
    encode: (from, to) => first.record(() => second.record(() => encode(from, to))),
    [Symbol.dispose]() {
      first[Symbol.dispose]();
      second[Symbol.dispose]();
    },
  };
}

/** Pooled embeddings [texts, projection] of texts; the caller's to dispose of. */
export function encodeXLPooled(encoders: XLEncoders, texts: readonly string[]): Tensor {
  refuseReleased(encoders);
  const { textEncoder2, tokenizer2 } = encoders;
  const ids = texts.map((text) => tokenizePlain(tokenizer2, text)[0].ids);
  return textEncoder2.gpu.scope(() => textEncoder2.forward(ids).textEmbeds);
}

/**
 * Encodes taken prompts as diffusers' `encode_prompt`: the penultimate states of both encoders side
 * by side, and the pooled, projected output of the second.
 *
 * @returns embeddings of each prompt, `numImagesPerPrompt` times; the caller's scope owns them
 */
export function encodeXLPrompts(
  encoders: Pick<XLEncoders, "textEncoder" | "textEncoder2">,
  { batch, tokens: { prompts, negatives }, given }: Pick<XLPrompts, "batch" | "tokens" | "given">,
  options: { numImagesPerPrompt: number; clipSkip: number; loraScale: number; guided: boolean },
): XLPromptEmbeddings {
  const { numImagesPerPrompt: copies, clipSkip, loraScale, guided } = options;
  const { gpu } = encoders.textEncoder;
  const encode = (rows: readonly ChunkPair[], clipSkip: number): Encoded | undefined =>
    rows.length === 0 ? undefined : encodeTokens(encoders, rows, { clipSkip, loraScale });
  const part = ({ states, pooled }: Encoded, from: number, to: number): Encoded => ({
    states: slice(states, 0, from, to),
    pooled: slice(pooled, 0, from, to),
  });
  return gpu.scope(() => {
    // In one batch, unless layers are skipped: diffusers skips them for the prompts alone.
    const together = clipSkip === 0 && negatives.length > 0 && prompts.length > 0
      ? encode([...negatives, ...prompts], 0)
      : undefined;
    const count = negatives.length;
    const positive: Encoded = together ? part(together, count, count + prompts.length) : encode(prompts, clipSkip) ??
      { states: given.get("promptEmbeds")!, pooled: given.get("pooledPromptEmbeds")! };
    const zerosLike = ({ shape }: Tensor) =>
      Tensor.from(gpu, new Float32Array(shape.reduce((product, length) => product * length, 1)), shape);
    const negativeStates = given.get("negativePromptEmbeds");
    const negative: Encoded = negativeStates
      ? { states: negativeStates, pooled: given.get("negativePooledPromptEmbeds")! }
      : together
      ? part(together, 0, count)
      : encode(negatives, 0) ?? { states: zerosLike(positive.states), pooled: zerosLike(positive.pooled) };
    const repeated = (source: Tensor) => repeatRows(source, 0, batch, copies);
    const repeatedPooled = (source: Tensor) => {
      const [rows, width] = source.dims(2);
      return repeated(source.reshape([rows, 1, width])).reshape([batch * copies, width]);
    };
    return {
      promptEmbeds: repeated(positive.states),
      negativePromptEmbeds: guided ? repeated(negative.states) : undefined,
      pooledPromptEmbeds: repeatedPooled(positive.pooled),
      negativePooledPromptEmbeds: guided ? repeatedPooled(negative.pooled) : undefined,
    };
  });
}

/**
 * Encodes prompts, or completes given embeddings, for a caller who owns the result. Everything is
 * read before the first wait.
 */
export async function encodeXLGiven(
  encoders: XLEncoders,
  prompt: string | readonly string[] | undefined,
  options: XLEncodePromptOptions,
  zeros: boolean,
): Promise<XLPromptEmbeddings> {
  const { numImagesPerPrompt = 1, clipSkip = 0, loraScale = 1, doClassifierFreeGuidance: guided = true } = options;
  using taken = takeXLPrompts(encoders, prompt, options, { guided, zeros });
  refuseLoras(taken.tokens.loras);
  using made = new DisposableStack();
  const encoded = encodeXLPrompts(encoders, taken, { numImagesPerPrompt, clipSkip, loraScale, guided });
  for (const tensor of Object.values(encoded)) if (tensor) made.use(tensor as Tensor);
  await taken.given.check();
  await encoders.textEncoder.gpu.context.check();
  made.move(); // the caller's now
  return encoded;
}
