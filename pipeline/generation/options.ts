/** The options and the result of `generate`. */

import type { Tensor } from "../../engine/tensor.ts";
import type { AdapterSource } from "../adapters/open_adapter.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { OptionError } from "../errors.ts";
import type { JimpImage } from "../image/picture.ts";
import { checkOptions, either, kind, kinds, listOf, oneOf, type OptionTable, wholeFrom } from "../options.ts";
import type { StepCallback } from "./denoising_options.ts";
import { generatorKind, type NoiseSource, type Seed } from "./generators.ts";
import { type HostTensor, tensorKind } from "./given_tensor.ts";
import type { PromptSyntax } from "./tokenized_prompts.ts";

/** Where LoRAs named by prompts are found: a folder, or a function from a name to a source. */
export type LoraDirectory = string | FileTree | ((name: string) => AdapterSource | Promise<AdapterSource>);

/** Pictures as numbers in 0…1, [B, H, W, 3], row-major. */
export type PictureArray = Float32Array<ArrayBuffer> & {
  /** [B, H, W, 3] */
  readonly shape: readonly [number, number, number, number];
};

/** What `images` is for each `outputType`. */
export interface OutputTypes {
  /** Jimp images. */
  image: JimpImage[];
  /** [B, H, W, 3] in 0…1. */
  array: PictureArray;
  /** Latents [B, latent channels, h, w]. The caller disposes of them. */
  latent: Tensor;
}

/** The options that draw the pictures of prompts, for all models; prompts are not among them. */
export interface DrawingOptions extends
  Pick<
    GenerateOptions<keyof OutputTypes>,
    | "height"
    | "width"
    | "numInferenceSteps"
    | "guidanceScale"
    | "numImagesPerPrompt"
    | "eta"
    | "generator"
    | "latents"
    | "outputType"
    | "callback"
    | "callbackSteps"
    | "crossAttentionKwargs"
    | "signal"
  > {
  /** See `XLGenerateOptions`. */
  readonly guidanceRescale?: number;
  /** See `XLGenerateOptions`. */
  readonly denoisingEnd?: number;
}

/** Options of {@linkcode StableDiffusionPipeline.generate}, with diffusers' names and meaning. */
export interface GenerateOptions<T extends keyof OutputTypes = "image"> {
  /**
   * Height in pixels, a multiple of the autoencoder's spatial scale (8). Default: the size that the
   * UNet was trained on.
   */
  readonly height?: number;
  /** Width in pixels, as {@linkcode height}. */
  readonly width?: number;
  /** Denoising steps. Default: 50. */
  readonly numInferenceSteps?: number;
  /** Scale of classifier-free guidance (2207.12598). Up to 1 there is none. Default: 7.5. */
  readonly guidanceScale?: number;
  /** What to guide away from: one for all prompts, or one for each. Default: "". */
  readonly negativePrompt?: string | readonly string[];
  /**
   * How prompts and negative prompts are read. "plain" is diffusers' way. "a1111" reads weights,
   * `BREAK`, LoRA tags and long prompts as AUTOMATIC1111's web UI does. Default: "plain".
   */
  readonly promptSyntax?: PromptSyntax;
  /**
   * Where `<lora:name:0.8>` in prompts of the syntax "a1111" is found: a folder with
   * `name.safetensors`, or a function from the name to a source. They act in this call alone.
   */
  readonly loraDir?: LoraDirectory;
  /** Default: 1. */
  readonly numImagesPerPrompt?: number;
  /** η of DDIM: the share of noise that each step draws anew (2010.02502, eq. 16). Default: 0. */
  readonly eta?: number;
  /**
   * Source of noise, a generator or a seed: one for all images, or one for each. The seed −1 is a
   * random one, which the result names. Default: −1.
   */
  readonly generator?: NoiseSource | readonly NoiseSource[];
  /**
   * Standard normal noise [B, latent channels, h, w] to start from. Default: drawn from
   * `generator`. It stays the caller's.
   */
  readonly latents?: Tensor | HostTensor;
  /** Embeddings [B, T, d] in place of the prompt. They stay the caller's. */
  readonly promptEmbeds?: Tensor | HostTensor;
  /** Embeddings [B, T, d] in place of the negative prompt. They stay the caller's. */
  readonly negativePromptEmbeds?: Tensor | HostTensor;
  /** Default: "image". */
  readonly outputType?: T;
  /** Called every `callbackSteps` steps; may be async. */
  readonly callback?: StepCallback;
  /** Default: 1. */
  readonly callbackSteps?: number;
  /** Layers of the text encoder to skip at the end, for the prompts alone. Default: 0. */
  readonly clipSkip?: number;
  /**
   * `scale` is the factor of all LoRAs in this call, in the UNet and in the text encoder. Default:
   * 1.
   */
  readonly crossAttentionKwargs?: { readonly scale?: number };
  /**
   * Stops before the next step. All memory of the call is freed, and `generate` rejects with the
   * signal's reason.
   */
  readonly signal?: AbortSignal;
}

/** What {@linkcode StableDiffusionPipeline.generate} returns. */
export interface GenerateResult<T extends keyof OutputTypes = "image"> {
  /** The pictures, or their latents. */
  readonly images: OutputTypes[T];
  /**
   * Verdicts of the safety checker, one per picture; null where the pipeline has none, and for
   * latents. Flagged pictures are black.
   */
  readonly nsfwContentDetected: boolean[] | null;
  /**
   * For each picture, the seed of the generator that drew its noise. Pictures that share one
   * generator share its seed.
   */
  readonly seeds: readonly Seed[];
}

/** Options with the prompt among them. */
export type PromptAndOptions<Options> = Options & {
  /** The prompt, or several. */
  readonly prompt?: string | readonly string[];
};

const texts = either(kinds.text, listOf(kinds.text, "strings"));

/** The options of `generate` and their kinds. */
export const generateTable: OptionTable<GenerateOptions<keyof OutputTypes>> = {
  height: kinds.finite,
  width: kinds.finite,
  numInferenceSteps: wholeFrom(-Infinity),
  guidanceScale: kinds.finite,
  negativePrompt: texts,
  promptSyntax: oneOf("plain", "a1111"),
  loraDir: either(kinds.text, kinds.object, kinds.callback),
  numImagesPerPrompt: wholeFrom(1),
  eta: kinds.finite,
  generator: generatorKind,
  latents: tensorKind,
  promptEmbeds: tensorKind,
  negativePromptEmbeds: tensorKind,
  outputType: kind("a string", (value) => typeof value === "string"),
  callback: kinds.callback,
  callbackSteps: wholeFrom(1),
  clipSkip: wholeFrom(0),
  crossAttentionKwargs: kinds.object,
  signal: kinds.signal,
};

/** What diffusers' output types are called here. */
const outputTypes: Readonly<Record<string, string>> = {
  image: "",
  array: "",
  latent: "",
  pil: '"image", the default, gives pictures of the jimp library',
  np: '"array" gives a Float32Array [B, H, W, 3] in 0…1',
  pt: '"array" gives a Float32Array [B, H, W, 3] in 0…1, and "latent" a Tensor',
};

/**
 * Checks names and kinds of the options of `generate`.
 *
 * @throws {OptionError} with a suggestion
 */
export function checkGenerateOptions<Options extends Pick<DrawingOptions, "crossAttentionKwargs" | "outputType">>(
  options: Options,
  table: OptionTable<Options>,
): void {
  checkOptions("generate", options, table);
  checkOptions("generate", options.crossAttentionKwargs ?? {}, { scale: kinds.finite }, "crossAttentionKwargs");
  const { outputType = "image" } = options;
  const advice = Object.hasOwn(outputTypes, outputType) ? outputTypes[outputType] : undefined;
  if (advice === "") return;
  throw new OptionError(
    `Cannot generate with the outputType ${JSON.stringify(outputType)}: ${
      advice ?? 'it must be "image", "array" or "latent"'
    }`,
    { option: "outputType", value: outputType },
  );
}
