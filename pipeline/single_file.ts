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
import type { BuildPipeline } from "./load.ts";
import { CLIPTextModel } from "./models/clip_text.ts";
import { UNet2DConditionModel } from "./models/unet.ts";
import type { ActivationType } from "./models/unet_blocks.ts";
import { AutoencoderKL } from "./models/vae.ts";
import { encodeTexts } from "./generation/prompts.ts";
import { type EditingOptions, editingOptionsTable, loadingTable } from "./load_options.ts";
import { checkOptions, either, kinds, oneOf, type OptionTable } from "./options.ts";
import { findTokenizer, type FindTokenizerOptions } from "./text/find_tokenizer.ts";
import { CLIPTokenizer } from "./text/tokenizer.ts";
import { openTunedGpu } from "./tuning_file.ts";

/** How a single file is loaded. */
export interface FromSingleFileOptions extends SingleFileOptions, FindTokenizerOptions {
  /** Default: a device of its own, which the pipeline then owns. */
  readonly gpu?: Gpu;
  /**
   * A folder with `vocab.json` and `merges.txt`. Default: the one that the model was trained with,
   * from the hub's cache or the hub.
   */
  readonly tokenizer?: string | URL | FileTree;
  /** Told what is being loaded and how far it is. */
  readonly onProgress?: (component: string, doneBytes: number, totalBytes: number) => void;
  /**
   * How tensors between the UNet's kernels are stored; "f16" halves their memory. Default: "f32".
   */
  readonly activations?: ActivationType;
}

/** The options of {@linkcode loadSingleFile} and their kinds. */
const fromSingleFileTable: OptionTable<FromSingleFileOptions & EditingOptions> = {
  ...editingOptionsTable,
  ...loadingTable,
  tokenizer: either(kinds.text, kinds.object),
  predictionType: oneOf("epsilon", "v_prediction"),
  config: kinds.object,
  ema: kinds.flag,
};

/**
 * Loads all components of a single file in the LDM layout, and builds a pipeline that owns them.
 *
 * @throws {CheckpointError} if the file is not a whole Stable Diffusion 1.x or 2.x checkpoint, or
 *   no tokenizer is found
 */
export async function loadSingleFile<P>(
  source: string | URL | ByteSource,
  options: FromSingleFileOptions,
  build: BuildPipeline<P>,
): Promise<P> {
  checkOptions("load a single file", options, fromSingleFileTable);
  const { onProgress, activations } = options;
  using file = await SingleFile.open(source, options);
  using owned = new DisposableStack();
  const tokenizer = options.tokenizer === undefined
    ? await findTokenizer(file.family, options)
    : await CLIPTokenizer.fromPretrained(options.tokenizer);
  const gpu = options.gpu ?? owned.use(await openTunedGpu());

  // Models read their origin when they are saved. The prediction type is known by then.
  let predictionType: PredictionType = file.predictionType ?? "v_prediction";
  const surplus = new SurplusKeys();
  surplus.add(file.surplus());
  const load = (part: SingleFilePart) => ({
    gpu,
    surplus,
    origin: file.origin(part, source, () => predictionType),
    onProgress: (doneBytes: number, totalBytes: number) => onProgress?.(part, doneBytes, totalBytes),
  });
  const configs = file.configs();
  const inFile = (part: SingleFilePart) => `${file.name}, ${part}`;
  const textConfig = parseCLIPTextConfig(configs.text_encoder, inFile("text_encoder"));
  const unetConfig = parseUNetConfig(configs.unet, inFile("unet"));
  const vaeConfig = parseAutoencoderKLConfig(configs.vae, inFile("vae"));
  const textEncoder = owned.use(
    await CLIPTextModel.fromWeights(textConfig, file.part("text_encoder"), load("text_encoder")),
  );
  const unet = owned.use(
    await UNet2DConditionModel.fromWeights(unetConfig, file.part("unet"), { ...load("unet"), activations }),
  );
  const vae = owned.use(await AutoencoderKL.fromWeights(vaeConfig, file.part("vae"), load("vae")));
  if (file.predictionType === null && await predictsNoise(unet, textEncoder, tokenizer)) {
    predictionType = "epsilon";
    // Only the size that the model was trained on depends on the prediction type.
    Object.assign(unetConfig, parseUNetConfig(file.configs(predictionType).unet, inFile("unet")));
    Object.assign(vaeConfig, parseAutoencoderKLConfig(file.configs(predictionType).vae, inFile("vae")));
  }
  surplus.warn(file.name);
  const scheduler = schedulerFromConfig(file.configs(predictionType).scheduler);
  return build({ vae, textEncoder, tokenizer, unet, scheduler }, {}, owned);
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
