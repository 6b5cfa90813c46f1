/** The options of `generate` and `encodePrompt` of SDXL. */

import type { Tensor } from "../../engine/tensor.ts";
import { kind, kinds, type OptionTable } from "../options.ts";
import { type HostTensor, tensorKind } from "./given_tensor.ts";
import { type GenerateOptions, generateTable, type OutputTypes } from "./options.ts";
import type { PromptSyntax } from "./tokenized_prompts.ts";
import { type EncodePromptOptions, encodePromptTable, type PromptEmbeddings } from "./prompts.ts";

/** Prompts and embeddings of SDXL, beside the prompt itself. */
export interface XLPromptOptions {
  /** What the second encoder reads: one for all prompts, or one for each. Default: the prompt. */
  readonly prompt2?: string | readonly string[];
  /**
   * What to guide away from: one for all prompts, or one for each. Default: states of zeros, or the
   * empty text where `forceZerosForEmptyPrompt` is false.
   */
  readonly negativePrompt?: string | readonly string[];
  /** The same for the second text encoder. Default: the negative prompt. */
  readonly negativePrompt2?: string | readonly string[];
  /**
   * How prompts, second and negative ones are read, as in Stable Diffusion 1.x. Weights act on the
   * states of each encoder by itself; the pooled embedding is that of the first chunk, unweighted,
   * as in AUTOMATIC1111's web UI. Default: "plain".
   */
  readonly promptSyntax?: PromptSyntax;
  /** States [B, T, h1 + h2] in place of the prompt. They stay the caller's. */
  readonly promptEmbeds?: Tensor | HostTensor;
  /** States in place of the negative prompt, of the shape of `promptEmbeds`. */
  readonly negativePromptEmbeds?: Tensor | HostTensor;
  /** Pooled embeddings [B, projection], which `promptEmbeds` need. They stay the caller's. */
  readonly pooledPromptEmbeds?: Tensor | HostTensor;
  /** Pooled embeddings [B, projection], which `negativePromptEmbeds` need. */
  readonly negativePooledPromptEmbeds?: Tensor | HostTensor;
}

/** Options of {@linkcode StableDiffusionXLPipeline.encodePrompt}, with diffusers' meaning. */
export interface XLEncodePromptOptions
  extends XLPromptOptions, Pick<EncodePromptOptions, "numImagesPerPrompt" | "doClassifierFreeGuidance" | "loraScale"> {
  /** Layers to leave out before the penultimate, for the prompts alone. Default: 0. */
  readonly clipSkip?: number;
}

/** [height, width] or [top, left] in pixels. */
export type PixelPair = readonly [number, number];

/** Options of {@linkcode StableDiffusionXLPipeline.generate}, with diffusers' names and meaning. */
export interface XLGenerateOptions<T extends keyof OutputTypes = "image">
  extends XLPromptOptions, Omit<GenerateOptions<T>, keyof XLPromptOptions | "clipSkip"> {
  /** Scale of classifier-free guidance (2207.12598). Up to 1 there is none. Default: 5. */
  readonly guidanceScale?: number;
  /** φ of the rescaled guidance (2305.08891, section 3.4), from 0 to 1. Default: 0. */
  readonly guidanceRescale?: number;
  /**
   * The fraction of the noise schedule after which denoising ends, as for a refiner that continues.
   * 0 and 1 denoise to the end. Default: 1.
   */
  readonly denoisingEnd?: number;
  /** Layers to leave out before the penultimate, for the prompts alone. Default: 0. */
  readonly clipSkip?: number;
  /** The size [height, width] that the picture is to look as if it had had. Default: its own. */
  readonly originalSize?: PixelPair;
  /** [top, left] of the crop that the picture is to look like. Default: [0, 0]. */
  readonly cropsCoordsTopLeft?: PixelPair;
  /** The size [height, width] that the picture is to look made for. Default: its own. */
  readonly targetSize?: PixelPair;
  /**
   * `originalSize` of the negative prompt. It and `negativeTargetSize` act only together. Default:
   * the sizes of the prompt.
   */
  readonly negativeOriginalSize?: PixelPair;
  /** `cropsCoordsTopLeft` of the negative prompt, if it has sizes of its own. Default: [0, 0]. */
  readonly negativeCropsCoordsTopLeft?: PixelPair;
  /** `targetSize` of the negative prompt. */
  readonly negativeTargetSize?: PixelPair;
}

/** What pictures of SDXL depend on that others do not, as plain values. */
export interface XLSettings extends
  Pick<
    XLGenerateOptions,
    | "guidanceRescale"
    | "denoisingEnd"
    | "originalSize"
    | "cropsCoordsTopLeft"
    | "targetSize"
    | "negativeOriginalSize"
    | "negativeCropsCoordsTopLeft"
    | "negativeTargetSize"
  > {
  /** See {@linkcode XLPromptOptions.prompt2}. */
  readonly prompt2?: string;
  /** See {@linkcode XLPromptOptions.negativePrompt2}. */
  readonly negativePrompt2?: string;
}

/** What {@linkcode StableDiffusionXLPipeline.encodePrompt} returns. */
export interface XLPromptEmbeddings extends PromptEmbeddings {
  /** Pooled embeddings [B · numImagesPerPrompt, projection] of the prompts. */
  readonly pooledPromptEmbeds: Tensor;
  /** Pooled embeddings of the negative prompts; undefined without guidance. */
  readonly negativePooledPromptEmbeds: Tensor | undefined;
}

const pixelPair = kind(
  "two whole numbers",
  (value) => Array.isArray(value) && value.length === 2 && value.every(Number.isSafeInteger),
);

const share = kind(
  "a number from 0 to 1",
  (value) => typeof value === "number" && value >= 0 && value <= 1,
);

const { negativePrompt: texts, promptSyntax } = generateTable;

const promptTable: OptionTable<XLPromptOptions> = {
  prompt2: texts,
  negativePrompt: texts,
  negativePrompt2: texts,
  promptSyntax,
  promptEmbeds: tensorKind,
  negativePromptEmbeds: tensorKind,
  pooledPromptEmbeds: tensorKind,
  negativePooledPromptEmbeds: tensorKind,
};

/** The options of `generate` and their kinds. */
export const xlGenerateTable: OptionTable<XLGenerateOptions<keyof OutputTypes>> = {
  ...generateTable,
  ...promptTable,
  guidanceRescale: share,
  denoisingEnd: share,
  originalSize: pixelPair,
  cropsCoordsTopLeft: pixelPair,
  targetSize: pixelPair,
  negativeOriginalSize: pixelPair,
  negativeCropsCoordsTopLeft: pixelPair,
  negativeTargetSize: pixelPair,
};

/** The options of `encodePrompt` and their kinds. */
export const xlEncodePromptTable: OptionTable<XLEncodePromptOptions> = {
  ...promptTable,
  numImagesPerPrompt: encodePromptTable.numImagesPerPrompt,
  doClassifierFreeGuidance: kinds.flag,
  loraScale: kinds.finite,
  clipSkip: encodePromptTable.clipSkip,
};
