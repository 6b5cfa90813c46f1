import type { Gpu } from "../engine/gpu.ts";
import { Tensor } from "../engine/tensor.ts";
import { schedulerFromConfig, TorchGenerator } from "../schedulers/mod.ts";
import type { ByteSource } from "./checkpoint/source/byte_source.ts";
import type { FileTree } from "./checkpoint/source/file_tree.ts";
import { parseAutoencoderKLConfig } from "./checkpoint/diffusers/config/vae.ts";
import { parseCLIPTextConfig } from "./checkpoint/diffusers/config/clip.ts";
import { parseUNetConfig } from "./checkpoint/diffusers/config/unet.ts";
import type { PredictionType } from "./checkpoint/ldm/config.ts";
import { SingleFile, type SingleFileOptions, type SingleFilePart } from "./checkpoint/ldm/single_file.ts";
import { SurplusKeys } from "./checkpoint/surplus.ts";
import type { PipelineComponents, XLPipelineComponents } from "./components.ts";
import { CheckpointError } from "./errors.ts";
import { checkFamilyOptions, familiesOf, type PipelineBuilders } from "./load.ts";
import { CLIPTextModel } from "./models/clip_text.ts";
import { CLIPTextModelWithProjection } from "./models/clip_text_projection.ts";
import { UNet2DConditionModel } from "./models/unet.ts";
import type { ActivationType } from "./models/unet_blocks.ts";
import { AutoencoderKL } from "./models/vae.ts";
import { encodeTexts } from "./generation/prompts.ts";
import { type EditingOptions, editingOptionsTable, loadingTable } from "./load_options.ts";
import { checkOptions, kinds, oneOf, type OptionTable, takeOptions } from "./options.ts";
import { findTokenizer, type FindTokenizerOptions } from "./text/find_tokenizer.ts";
import { CLIPTokenizer } from "./text/tokenizer.ts";
import { withPadToken } from "./text/tokenizer_files.ts";
import {
  type ComponentOverrides,
  givenGpu,
  givenInstances,
  loadGivenVae,
  overridesTable,
  tokenizerKind,
  type XLComponentOverrides,
  xlOverridesTable,
} from "./overrides.ts";
import { openTunedGpu } from "./tuning_file.ts";

/** How a single file is loaded. */
export interface FromSingleFileOptions extends SingleFileOptions, FindTokenizerOptions, ComponentOverrides {
  /** Default: a device of its own, which the pipeline then owns. */
  readonly gpu?: Gpu;
  /**
   * A tokenizer, or a folder that holds one. Default: the one that the model was trained with, from
   * the hub's cache or the hub.
   */
  readonly tokenizer?: CLIPTokenizer | string | URL | FileTree;
  /** Told what is being loaded and how far it is. */
  readonly onProgress?: (component: string, doneBytes: number, totalBytes: number) => void;
  /** Stops loading: the promise rejects with the signal's reason, and what was loaded is freed. */
  readonly signal?: AbortSignal;
  /**
   * How tensors between the UNet's kernels are stored; "f16" halves their memory. Default: "f32".
   */
  readonly activations?: ActivationType;
  /**
   * The arithmetic of the products and convolutions of UNet and VAE, on the device that the
   * pipeline opens; see {@linkcode GpuOptions.arithmetic}. Default: "f32", or that of the given
   * device.
   */
  readonly arithmetic?: "f32" | "f16";
}

/** How a single file of SDXL is loaded: as {@linkcode FromSingleFileOptions} says. */
export interface XLFromSingleFileOptions
  extends Omit<FromSingleFileOptions, keyof ComponentOverrides>, XLComponentOverrides {
  /**
   * A tokenizer of the second text encoder, or a folder that holds one. Default: the first one,
   * which has the same vocabulary, with the second one's padding.
   */
  readonly tokenizer2?: CLIPTokenizer | string | URL | FileTree;
  /** See {@linkcode XLPipelineSettings}. Default: true. */
  readonly forceZerosForEmptyPrompt?: boolean;
}

/** The options of all families. */
export type AnyFromSingleFileOptions =
  & FromSingleFileOptions
  & Omit<XLFromSingleFileOptions, keyof FromSingleFileOptions>;

const { requiresSafetyChecker, ...sharedEditing } = editingOptionsTable;

const sharedTable = {
  ...sharedEditing,
  ...loadingTable,
  tokenizer: tokenizerKind,
  predictionType: oneOf("epsilon", "v_prediction"),
  config: kinds.object,
  ema: kinds.flag,
} as const;

/** The options of each family and their kinds. */
const tables = {
  sd: { ...sharedTable, ...overridesTable, requiresSafetyChecker } as OptionTable<
    FromSingleFileOptions & EditingOptions
  >,
  sdxl: {
    ...sharedTable,
    ...xlOverridesTable,
    tokenizer2: tokenizerKind,
    forceZerosForEmptyPrompt: kinds.flag,
  } as OptionTable<XLFromSingleFileOptions & Omit<EditingOptions, "requiresSafetyChecker">>,
} as const;

/**
 * Loads all components of a single file in the LDM layout, and builds a pipeline that owns them.
 *
 * @throws {CheckpointError} if the file is not a whole checkpoint of a family that there is a
 *   builder for, or no tokenizer is found
 */
export async function loadSingleFile<P>(
  source: string | URL | ByteSource,
  options: AnyFromSingleFileOptions & EditingOptions,
  builders: PipelineBuilders<P>,
): Promise<P> {
  options = takeOptions("load a single file", options); // the caller may change them while the model loads
  const families = familiesOf(builders);
  checkOptions("load a single file", options, Object.assign({}, ...families.map((family) => tables[family])));
  const { onProgress, activations, signal } = options;
  const given: Partial<PipelineComponents & XLPipelineComponents> = givenInstances(options);
  const without: SingleFilePart[] = [
    ...(options.vae === undefined ? [] : ["vae" as const]),
    ...(given.textEncoder ? ["text_encoder" as const] : []),
    ...(given.textEncoder2 ? ["text_encoder_2" as const] : []),
    ...(given.unet ? ["unet" as const] : []),
  ];
  using file = await SingleFile.open(source, { ...options, without });
  const family = file.family === "sdxl" ? "sdxl" : "sd";
  if (!families.includes(family)) {
    throw new CheckpointError(
      `Cannot load ${file.name} as ${family === "sdxl" ? "Stable Diffusion 1.x or 2.x" : "SDXL"}: it is ${
        family === "sdxl"
          ? "SDXL; load it with a StableDiffusionXLPipeline"
          : "not; load it with a StableDiffusionPipeline"
      }, or by openPipeline()`,
      { source: file.name },
    );
  }
  if (families.length > 1) checkFamilyOptions(`load ${file.name}, a file of ${file.family},`, options, tables[family]);
  using owned = new DisposableStack();
  const tokenizer = await tokenizerOf(file, options);
  const gpu = givenGpu(options, given) ?? owned.use(await openTunedGpu({ arithmetic: options.arithmetic }));

  // Models read their origin when they are saved. The prediction type is known by then.
  let predictionType: PredictionType = file.predictionType ?? "v_prediction";
  const surplus = new SurplusKeys();
  surplus.add(file.surplus());
  const load = (part: SingleFilePart) => ({
    gpu,
    surplus,
    origin: file.origin(part, source, () => predictionType),
    onProgress: (doneBytes: number, totalBytes: number) => {
      signal?.throwIfAborted();
      onProgress?.(part, doneBytes, totalBytes);
    },
  });
  const inFile = (part: SingleFilePart) => `${file.name}, ${part}`;
  const textEncoder = given.textEncoder ?? owned.use(
    await CLIPTextModel.fromWeights(
      parseCLIPTextConfig(file.configs().text_encoder, inFile("text_encoder")),
      file.part("text_encoder"),
      load("text_encoder"),
    ),
  );
  const unet = given.unet ?? owned.use(
    await UNet2DConditionModel.fromWeights(
      parseUNetConfig(file.configs().unet, inFile("unet")),
      file.part("unet"),
      { ...load("unet"), activations },
    ),
  );
  const vae = given.vae ?? owned.use(
    await loadGivenVae(options, {
      ...options,
      ...load("vae"),
      family,
      config: options.config?.vae,
      origin: undefined,
    }) ??
      await AutoencoderKL.fromWeights(
        parseAutoencoderKLConfig(file.configs().vae, inFile("vae")),
        file.part("vae"),
        load("vae"),
      ),
  );
  const textEncoder2 = family === "sdxl"
    ? given.textEncoder2 ?? owned.use(
      await CLIPTextModelWithProjection.fromWeights(
        parseCLIPTextConfig(file.configs().text_encoder_2, inFile("text_encoder_2")),
        file.part("text_encoder_2"),
        load("text_encoder_2"),
      ),
    )
    : undefined;
  if (file.predictionType === null && await predictsNoise(unet, textEncoder, tokenizer)) {
    predictionType = "epsilon";
    // Only the size that the model was trained on depends on the prediction type.
    const configs = file.configs(predictionType);
    if (!given.unet) Object.assign(unet.config, parseUNetConfig(configs.unet, inFile("unet")));
    if (!without.includes("vae")) Object.assign(vae.config, parseAutoencoderKLConfig(configs.vae, inFile("vae")));
  }
  surplus.warn(file.name);
  const scheduler = given.scheduler ?? schedulerFromConfig(file.configs(predictionType).scheduler);
  if (textEncoder2) {
    const tokenizer2 = await secondTokenizer(tokenizer, options);
    const { forceZerosForEmptyPrompt = true } = options;
    const components = { vae, textEncoder, textEncoder2, tokenizer, tokenizer2, unet, scheduler };
    return builders.sdxl!(components, { forceZerosForEmptyPrompt }, owned);
  }
  const { safetyChecker, featureExtractor } = given;
  const { requiresSafetyChecker = Boolean(safetyChecker) } = options;
  const components = { vae, textEncoder, tokenizer, unet, scheduler, safetyChecker, featureExtractor };
  return builders.sd!(components, { requiresSafetyChecker }, owned);
}

async function tokenizerOf(file: SingleFile, options: FromSingleFileOptions): Promise<CLIPTokenizer> {
  const { tokenizer } = options;
  // The first text encoder of SDXL is that of 1.x.
  if (tokenizer === undefined) return await findTokenizer(file.family === "sd2" ? "sd2" : "sd1", options);
  return tokenizer instanceof CLIPTokenizer ? tokenizer : await CLIPTokenizer.fromPretrained(tokenizer);
}

/** The tokenizer of SDXL's second text encoder: OpenCLIP pads with "!". */
async function secondTokenizer(first: CLIPTokenizer, { tokenizer2 }: AnyFromSingleFileOptions): Promise<CLIPTokenizer> {
  if (tokenizer2 === undefined) return new CLIPTokenizer(withPadToken(first.files, "!"));
  return tokenizer2 instanceof CLIPTokenizer ? tokenizer2 : await CLIPTokenizer.fromPretrained(tokenizer2);
}

/**
 * Determines by one forward pass whether a UNet predicts the noise rather than v. At the last
 * timestep the sample is almost pure noise: ε ≈ x, whereas v = √ᾱ ε − √(1 − ᾱ) x₀ ≈ −x₀ is nearly
 * independent of it.
 */
export async function predictsNoise(
  unet: UNet2DConditionModel,
  textEncoder: CLIPTextModel,
  tokenizer: CLIPTokenizer,
): Promise<boolean> {
  const { gpu, config } = unet;
  const shape = [1, config.inChannels, 32, 32];
  const noise = new TorchGenerator(0).randn(shape);
  using output = gpu.scope(() => {
    const sample = Tensor.from(gpu, new Float32Array(noise), shape);
    return unet.forward(sample, 999, encodeTexts(tokenizer, textEncoder, [""]));
  });
  const answer = await output.data();
  let product = 0, noiseSquare = 0, answerSquare = 0;
  for (let i = 0; i < noise.length; i++) {
    product += noise[i] * answer[i];
    noiseSquare += noise[i] ** 2;
    answerSquare += answer[i] ** 2;
  }
  return product / Math.sqrt(noiseSquare * answerSquare) > 0.5;
}
