/**
 * The JSON files that describe a checkpoint in the layout of diffusers and transformers, as checked
 * types.
 *
 * A missing key has the default of the class that it belongs to (diffusers 0.23, transformers
 * 4.35). A key whose value this project does not compute is refused: a picture from half of a model
 * would be worse than none. Keys that only matter in training are ignored.
 */

import { ConfigError } from "../../errors.ts";
import type { FileTree } from "../source/file_tree.ts";

/** What a UNet's blocks can be, from the top down. */
export type DownBlockType = "CrossAttnDownBlock2D" | "DownBlock2D";
/** What a UNet's blocks can be, from the bottom up. */
export type UpBlockType = "UpBlock2D" | "CrossAttnUpBlock2D";

/**
 * `unet/config.json`: diffusers' `UNet2DConditionModel`, of the Stable Diffusion 1.x and 2.x kind.
 */
export interface UNet2DConditionConfig {
  /** Side of the latents that the model was trained on, the default for pictures. */
  readonly sampleSize: number | null;
  /** 4: the channels of latents. */
  readonly inChannels: number;
  readonly outChannels: number;
  /** Whether the time embedding puts cosines before sines. */
  readonly flipSinToCos: boolean;
  /** Shift in the exponent's denominator of the time embedding's frequencies. */
  readonly freqShift: number;
  readonly downBlockTypes: readonly DownBlockType[];
  readonly upBlockTypes: readonly UpBlockType[];
  readonly blockOutChannels: readonly number[];
  readonly layersPerBlock: number;
  readonly downsamplePadding: number;
  /** Divides the output of each residual block in the middle. */
  readonly midBlockScaleFactor: number;
  readonly normNumGroups: number;
  readonly normEps: number;
  /** Width of the text embeddings. */
  readonly crossAttentionDim: number;
  /**
   * Heads of the attention in each block, from the top down. Files call it `attention_head_dim`, by
   * an old mistake.
   */
  readonly attentionHeads: readonly number[];
  /**
   * Whether projections around transformer blocks are linear (SD 2.x) or 1×1 convolutions (SD 1.x).
   */
  readonly useLinearProjection: boolean;
  /** Whether attention must be computed in float32 even where the rest is not. */
  readonly upcastAttention: boolean;
}

/** `vae/config.json`: diffusers' `AutoencoderKL`. */
export interface AutoencoderKLConfig {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly latentChannels: number;
  readonly blockOutChannels: readonly number[];
  readonly layersPerBlock: number;
  readonly normNumGroups: number;
  readonly sampleSize: number;
  /** Latents are multiplied by it after encoding, and divided by it before decoding. */
  readonly scalingFactor: number;
}

/**
 * Activations of the CLIP models. `quick_gelu` is x · sigmoid(1.702 x); `gelu` is the one with erf.
 */
export type ClipActivation = "quick_gelu" | "gelu";

/** What the text and the vision model of CLIP share. */
export interface CLIPTransformerConfig {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  readonly hiddenAct: ClipActivation;
  readonly layerNormEps: number;
  readonly projectionDim: number;
}

/** `text_encoder/config.json`: transformers' `CLIPTextModel`. */
export interface CLIPTextConfig extends CLIPTransformerConfig {
  readonly vocabSize: number;
  readonly maxPositionEmbeddings: number;
  /**
   * Which token the pooled output is taken at: the first position of this id; but 2, which old
   * files carry by mistake, means the position of the largest id.
   */
  readonly eosTokenId: number;
}

/** The vision half of transformers' `CLIPModel`. */
export interface CLIPVisionConfig extends CLIPTransformerConfig {
  readonly numChannels: number;
  readonly imageSize: number;
  readonly patchSize: number;
}

/** `config.json` of transformers' `CLIPModel`, and of diffusers' `StableDiffusionSafetyChecker`. */
export interface CLIPConfig {
  readonly text: CLIPTextConfig;
  readonly vision: CLIPVisionConfig;
  /** Width of the space that texts and images share. */
  readonly projectionDim: number;
}

/**
 * `preprocessor_config.json`: transformers' `CLIPImageProcessor`. A step that the file turns off is
 * `null` here.
 */
export interface CLIPImageProcessorConfig {
  /** What pictures are resized to: the length of their shortest edge, or both sides. */
  readonly resize: { readonly shortestEdge: number } | { readonly height: number; readonly width: number } | null;
  /** The part in the middle that is kept. */
  readonly crop: { readonly height: number; readonly width: number } | null;
  /** Bytes are multiplied by it. */
  readonly rescaleFactor: number | null;
  /** What is subtracted from each channel, and what the difference is divided by. */
  readonly normalize: { readonly mean: readonly number[]; readonly std: readonly number[] } | null;
}

/** The parts of a Stable Diffusion checkpoint that `model_index.json` names. */
export type ComponentName =
  | "vae"
  | "text_encoder"
  | "tokenizer"
  | "unet"
  | "scheduler"
  | "safety_checker"
  | "feature_extractor";

/** `model_index.json`: which classes a checkpoint's parts are of. */
export interface ModelIndex {
  /** The pipeline that saved it. */
  readonly className: string;
  /** The class of each part, without its library; `null` where the checkpoint goes without. */
  readonly components: Readonly<Record<ComponentName, string | null>>;
  /** Whether the checkpoint's makers want pictures checked. */
  readonly requiresSafetyChecker: boolean;
}

/** One JSON object with its file's name, so that each complaint can say where to look. */
class Fields {
  readonly #json: Record<string, unknown>;

  constructor(json: unknown, readonly file: string) {
    if (typeof json !== "object" || json === null || Array.isArray(json)) {
      throw new ConfigError(`Cannot read ${file} as it must be a JSON object`, { source: file, key: "", value: json });
    }
    this.#json = json as Record<string, unknown>;
  }

  /**
   * The value of a key, which counts as missing where the file says `undefined` only; null is a
   * value.
   */
  value(key: string): unknown {
    return Object.hasOwn(this.#json, key) ? this.#json[key] : undefined;
  }

  refuse(key: string, supported: string): never {
    const value = this.value(key);
    const shown = value === undefined ? "is missing" : `is ${JSON.stringify(value)}`;
    throw new ConfigError(`Cannot load ${this.file} as its ${key} ${shown}; supported: ${supported}`, {
      source: this.file,
      key,
      value,
    });
  }

  number(key: string, fallback: number): number {
    const value = this.value(key) ?? fallback;
    if (typeof value !== "number" || !Number.isFinite(value)) this.refuse(key, "a number");
    return value;
  }

  /** A whole number from 1 on: sizes and counts. */
  count(key: string, fallback: number): number {
    const value = this.value(key) ?? fallback;
    return isCount(value) ? value : this.refuse(key, "a whole number from 1 on");
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.value(key) ?? fallback;
    return typeof value === "boolean" ? value : this.refuse(key, "true or false");
  }

  counts(key: string, fallback: readonly number[]): readonly number[] {
    const value = this.value(key) ?? fallback;
    return Array.isArray(value) && value.length > 0 && value.every(isCount)
      ? value
      : this.refuse(key, "a list of whole numbers from 1 on");
  }

  /** A count that some files repeat for each block; blocks that differ are not supported. */
  sameCount(key: string, fallback: number): number {
    const value = this.value(key) ?? fallback;
    const first = Array.isArray(value) ? value[0] : value;
    const isSame = !Array.isArray(value) || value.every((count) => count === first);
    return isCount(first) && isSame ? first : this.refuse(key, "one whole number, the same for all blocks");
  }

  oneOf<T extends string>(key: string, fallback: T, supported: readonly T[]): T {
    const value = this.value(key) ?? fallback;
    return supported.find((item) => item === value) ?? this.refuse(key, supported.join(", "));
  }

  listOf<T extends string>(key: string, fallback: readonly T[], supported: readonly T[]): readonly T[] {
    const value = this.value(key) ?? fallback;
    const isList = Array.isArray(value) && value.length > 0 && value.every((item) => supported.includes(item));
    return isList ? value : this.refuse(key, `a list of ${supported.join(", ")}`);
  }

  /**
   * Refuses every value of a key but the given one; missing is fine, as it is the class's default.
   */
  only(key: string, supported: string | number | boolean | null, hint = ""): void {
    const value = this.value(key);
    if (value !== undefined && value !== supported) this.refuse(key, `${JSON.stringify(supported)}${hint}`);
  }

  /** The object at a key. */
  object(key: string): Fields {
    return new Fields(this.value(key), `${this.file}, ${key}`);
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 1;
}

/** Refuses widths that heads or groups do not divide. */
function checkDivides(fields: Fields, widthKey: string, widths: readonly number[], parts: readonly number[]): void {
  widths.forEach((width, i) => {
    if (width % parts[i] !== 0) {
      fields.refuse(widthKey, `widths that ${parts[i]} divides, and it does not divide ${width}`);
    }
  });
}

/**
 * Reads a UNet's configuration.
 *
 * @param file What to call the file in messages.
 * @throws {ConfigError} for anything that is not a UNet of Stable Diffusion 1.x or 2.x; SDXL,
 *   inpainting, depth and upscaling models are named as what they are.
 */
export function parseUNetConfig(json: unknown, file: string): UNet2DConditionConfig {
  const fields = new Fields(json, file);
  fields.only("_class_name", "UNet2DConditionModel");
  fields.only("addition_embed_type", null, " (SDXL and its kind condition on more than the prompt)");
  fields.only("encoder_hid_dim", null, " (models with another text encoder are not Stable Diffusion 1.x or 2.x)");
  fields.only("encoder_hid_dim_type", null);
  fields.only("class_embed_type", null, " (upscalers and image variations condition on classes)");
  fields.only("num_class_embeds", null, " (upscalers condition on classes)");
  fields.only("projection_class_embeddings_input_dim", null);
  fields.only("class_embeddings_concat", false);
  fields.only("time_cond_proj_dim", null, " (for latent consistency, load an LCM LoRA into a plain model)");
  fields.only("num_attention_heads", null, " (the number of heads stands in attention_head_dim)");
  fields.only("dual_cross_attention", false);
  fields.only("only_cross_attention", false);
  fields.only("mid_block_only_cross_attention", null);
  fields.only("cross_attention_norm", null);
  fields.only("attention_type", "default");
  fields.only("resnet_time_scale_shift", "default");
  fields.only("resnet_skip_time_act", false);
  fields.only("resnet_out_scale_factor", 1);
  fields.only("time_embedding_type", "positional");
  fields.only("time_embedding_dim", null);
  fields.only("time_embedding_act_fn", null);
  fields.only("timestep_post_act", null);
  fields.only("conv_in_kernel", 3);
  fields.only("conv_out_kernel", 3);
  fields.only("center_input_sample", false);
  fields.only("reverse_transformer_layers_per_block", null);
  fields.only("mid_block_type", "UNetMidBlock2DCrossAttn");
  fields.oneOf("act_fn", "silu", ["silu", "swish"]); // two names of one function
  if (fields.sameCount("transformer_layers_per_block", 1) !== 1) {
    fields.refuse("transformer_layers_per_block", "1 (SDXL stacks more)");
  }
  if (fields.value("norm_num_groups") === null) fields.refuse("norm_num_groups", "a whole number from 1 on");

  const inChannels = fields.count("in_channels", 4);
  const kinds: Record<number, string> = {
    5: " (this is a depth model)",
    7: " (this is an upscaler)",
    8: " (this is an instruct-pix2pix model)",
    9: " (this is an inpainting model)",
  };
  fields.only("in_channels", 4, kinds[inChannels] ?? "");
  fields.only("out_channels", 4);

  const downBlockTypes = fields.listOf<DownBlockType>(
    "down_block_types",
    ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    ["CrossAttnDownBlock2D", "DownBlock2D"],
  );
  const upBlockTypes = fields.listOf<UpBlockType>(
    "up_block_types",
    ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    ["UpBlock2D", "CrossAttnUpBlock2D"],
  );
  const blockOutChannels = fields.counts("block_out_channels", [320, 640, 1280, 1280]);
  const blocks = downBlockTypes.length;
  if (upBlockTypes.length !== blocks) fields.refuse("up_block_types", `as many as down_block_types, ${blocks}`);
  if (blockOutChannels.length !== blocks) fields.refuse("block_out_channels", `as many as down_block_types, ${blocks}`);

  const isPerBlock = Array.isArray(fields.value("attention_head_dim"));
  const attentionHeads = isPerBlock
    ? fields.counts("attention_head_dim", [])
    : blockOutChannels.map(() => fields.count("attention_head_dim", 8));
  if (attentionHeads.length !== blocks) fields.refuse("attention_head_dim", `as many as down_block_types, ${blocks}`);

  const normNumGroups = fields.count("norm_num_groups", 32);
  checkDivides(fields, "block_out_channels", blockOutChannels, attentionHeads);
  checkDivides(fields, "block_out_channels", blockOutChannels, blockOutChannels.map(() => normNumGroups));

  return {
    sampleSize: fields.value("sample_size") == null ? null : fields.count("sample_size", 0),
    inChannels,
    outChannels: 4,
    flipSinToCos: fields.boolean("flip_sin_to_cos", true),
    freqShift: fields.number("freq_shift", 0),
    downBlockTypes,
    upBlockTypes,
    blockOutChannels,
    layersPerBlock: fields.sameCount("layers_per_block", 2),
    downsamplePadding: fields.number("downsample_padding", 1),
    midBlockScaleFactor: fields.number("mid_block_scale_factor", 1),
    normNumGroups,
    normEps: fields.number("norm_eps", 1e-5),
    crossAttentionDim: fields.sameCount("cross_attention_dim", 1280),
    attentionHeads,
    useLinearProjection: fields.boolean("use_linear_projection", false),
    upcastAttention: fields.boolean("upcast_attention", false),
  };
}

/**
 * Reads an autoencoder's configuration.
 *
 * @throws {ConfigError} for anything but the convolutional autoencoder of Stable Diffusion.
 */
export function parseAutoencoderKLConfig(json: unknown, file: string): AutoencoderKLConfig {
  const fields = new Fields(json, file);
  fields.only("_class_name", "AutoencoderKL");
  fields.only("latents_mean", null, " (this autoencoder shifts its latents, as later models do)");
  fields.only("latents_std", null);
  fields.only("shift_factor", null);
  fields.only("use_quant_conv", true);
  fields.only("use_post_quant_conv", true);
  fields.only("mid_block_add_attention", true);
  fields.oneOf("act_fn", "silu", ["silu", "swish"]);
  const blockOutChannels = fields.counts("block_out_channels", [64]);
  const down = fields.listOf("down_block_types", ["DownEncoderBlock2D"], ["DownEncoderBlock2D"]);
  const up = fields.listOf("up_block_types", ["UpDecoderBlock2D"], ["UpDecoderBlock2D"]);
  const blocks = blockOutChannels.length;
  if (down.length !== blocks) fields.refuse("down_block_types", `as many as block_out_channels, ${blocks}`);
  if (up.length !== blocks) fields.refuse("up_block_types", `as many as block_out_channels, ${blocks}`);
  fields.only("in_channels", 3);
  fields.only("out_channels", 3);
  fields.only("latent_channels", 4, " (16 channels belong to later models)");
  const normNumGroups = fields.count("norm_num_groups", 32);
  checkDivides(fields, "block_out_channels", blockOutChannels, blockOutChannels.map(() => normNumGroups));
  const scalingFactor = fields.number("scaling_factor", 0.18215);
  if (scalingFactor <= 0) fields.refuse("scaling_factor", "a number above 0");
  return {
    inChannels: 3,
    outChannels: 3,
    latentChannels: 4,
    blockOutChannels,
    layersPerBlock: fields.count("layers_per_block", 1),
    normNumGroups,
    sampleSize: fields.count("sample_size", 32),
    scalingFactor,
  };
}

function parseTransformer(
  fields: Fields,
  defaults: { hiddenSize: number; intermediateSize: number; heads: number },
): CLIPTransformerConfig {
  const hiddenSize = fields.count("hidden_size", defaults.hiddenSize);
  const numAttentionHeads = fields.count("num_attention_heads", defaults.heads);
  checkDivides(fields, "hidden_size", [hiddenSize], [numAttentionHeads]);
  return {
    hiddenSize,
    intermediateSize: fields.count("intermediate_size", defaults.intermediateSize),
    numHiddenLayers: fields.count("num_hidden_layers", 12),
    numAttentionHeads,
    hiddenAct: fields.oneOf("hidden_act", "quick_gelu", ["quick_gelu", "gelu"]),
    layerNormEps: fields.number("layer_norm_eps", 1e-5),
    projectionDim: fields.count("projection_dim", 512),
  };
}

function parseText(fields: Fields): CLIPTextConfig {
  const eosTokenId = fields.number("eos_token_id", 49407);
  return {
    ...parseTransformer(fields, { hiddenSize: 512, intermediateSize: 2048, heads: 8 }),
    vocabSize: fields.count("vocab_size", 49408),
    maxPositionEmbeddings: fields.count("max_position_embeddings", 77),
    eosTokenId: Number.isSafeInteger(eosTokenId) && eosTokenId >= 0
      ? eosTokenId
      : fields.refuse("eos_token_id", "a token id"),
  };
}

function parseVision(fields: Fields): CLIPVisionConfig {
  const imageSize = fields.count("image_size", 224);
  const patchSize = fields.count("patch_size", 32);
  if (imageSize % patchSize !== 0) fields.refuse("patch_size", `a divisor of image_size, ${imageSize}`);
  return {
    ...parseTransformer(fields, { hiddenSize: 768, intermediateSize: 3072, heads: 12 }),
    numChannels: fields.count("num_channels", 3),
    imageSize,
    patchSize,
  };
}

/**
 * Reads a CLIP text model's configuration, from its own file or from that of a whole CLIP model.
 *
 * @throws {ConfigError} for other text encoders (T5, BERT) and for activations that CLIP does not
 *   use.
 */
export function parseCLIPTextConfig(json: unknown, file: string): CLIPTextConfig {
  const fields = new Fields(json, file);
  if (fields.value("model_type") === "clip") return parseCLIPConfig(json, file).text;
  fields.only("model_type", "clip_text_model");
  return parseText(fields);
}

/**
 * Reads a CLIP vision model's configuration, from its own file or from that of a whole CLIP model.
 *
 * @throws {ConfigError} for other vision models.
 */
export function parseCLIPVisionConfig(json: unknown, file: string): CLIPVisionConfig {
  const fields = new Fields(json, file);
  if (fields.value("model_type") === "clip") return parseCLIPConfig(json, file).vision;
  fields.only("model_type", "clip_vision_model");
  return parseVision(fields);
}

/**
 * Reads the configuration of a whole CLIP model.
 *
 * Old files repeat a half's settings as `text_config_dict`; where they do, transformers takes those
 * and the defaults, and nothing of `text_config`. So does this.
 *
 * @throws {ConfigError} for other models.
 */
export function parseCLIPConfig(json: unknown, file: string): CLIPConfig {
  const fields = new Fields(json, file);
  fields.only("model_type", "clip");
  const half = (name: string): Fields => {
    if (fields.value(`${name}_dict`) != null) return fields.object(`${name}_dict`);
    return fields.value(name) == null ? new Fields({}, file) : fields.object(name);
  };
  return {
    text: parseText(half("text_config")),
    vision: parseVision(half("vision_config")),
    projectionDim: fields.count("projection_dim", 512),
  };
}

/** Mean and deviation of the pictures that OpenAI trained CLIP on, by channel. */
const clipMean = [0.48145466, 0.4578275, 0.40821073];
const clipStd = [0.26862954, 0.26130258, 0.27577711];

/**
 * Reads the configuration of CLIP's image processor.
 *
 * @throws {ConfigError} for other image processors, for filters other than bicubic, and for sizes
 *   or factors that make no sense.
 */
export function parseCLIPImageProcessorConfig(json: unknown, file: string): CLIPImageProcessorConfig {
  const fields = new Fields(json, file);
  const className = fields.value("image_processor_type") == null ? "feature_extractor_type" : "image_processor_type";
  // One class under its old and new name, and its sibling on torchvision, whose files say the same.
  fields.oneOf(className, "CLIPImageProcessor", [
    "CLIPImageProcessor",
    "CLIPFeatureExtractor",
    "CLIPImageProcessorFast",
  ]);

  const doResize = fields.boolean("do_resize", true);
  const doCenterCrop = fields.boolean("do_center_crop", true);
  const doRescale = fields.boolean("do_rescale", true);
  const doNormalize = fields.boolean("do_normalize", true);
  if (doResize && fields.number("resample", 3) !== 3) fields.refuse("resample", "3 (bicubic)");
  // transformers 4.35 would round mean and deviation to whole numbers then, and divide by 0.
  if (doNormalize && !doRescale) fields.refuse("do_rescale", "true where do_normalize is true");

  const numbers = (key: string, fallback: readonly number[]): readonly number[] => {
    const value = fields.value(key) ?? fallback;
    const list: unknown = typeof value === "number" ? [value, value, value] : value;
    const isList = Array.isArray(list) && list.length === 3 && list.every((item) => Number.isFinite(item));
    return isList ? list : fields.refuse(key, "a number, or three");
  };
  const mean = numbers("image_mean", clipMean);
  const std = numbers("image_std", clipStd);
  if (std.some((deviation) => deviation <= 0)) fields.refuse("image_std", "numbers above 0");
  const rescaleFactor = fields.number("rescale_factor", 1 / 255);
  if (rescaleFactor <= 0) fields.refuse("rescale_factor", "a number above 0");
  return {
    resize: doResize ? resizeOf(fields) : null,
    crop: doCenterCrop ? sidesOf(fields, "crop_size") : null,
    rescaleFactor: doRescale ? rescaleFactor : null,
    normalize: doNormalize ? { mean, std } : null,
  };
}

function resizeOf(fields: Fields): NonNullable<CLIPImageProcessorConfig["resize"]> {
  const supported = "a whole number, { shortest_edge } or { height, width }";
  const value = fields.value("size") ?? 224;
  if (typeof value === "object" && "height" in value) return sidesOf(fields, "size");
  const keys = typeof value === "object" ? Object.keys(value) : ["shortest_edge"];
  const edge = typeof value === "object" && "shortest_edge" in value ? value.shortest_edge : value;
  if (!isCount(edge) || keys.length !== 1) fields.refuse("size", supported);
  return fields.boolean("use_square_size", false) ? { height: edge, width: edge } : { shortestEdge: edge };
}

function sidesOf(fields: Fields, key: string): { height: number; width: number } {
  const value = fields.value(key) ?? 224;
  if (isCount(value)) return { height: value, width: value };
  const { height, width, ...others } = Object(value);
  if (!isCount(height) || !isCount(width) || Object.keys(others).length > 0) {
    fields.refuse(key, "a whole number, or { height, width }");
  }
  return { height, width };
}

/**
 * Pipelines whose checkpoints hold the parts of a Stable Diffusion model, and no others that
 * matter.
 */
const pipelineClasses = [
  "StableDiffusionPipeline",
  "StableDiffusionModelEditingPipeline",
  "StableDiffusionImg2ImgPipeline",
  "StableDiffusionPipelineSafe",
  "LatentConsistencyModelPipeline",
];

const componentClasses: Record<Exclude<ComponentName, "scheduler">, readonly string[]> = {
  vae: ["AutoencoderKL"],
  text_encoder: ["CLIPTextModel"],
  tokenizer: ["CLIPTokenizer", "CLIPTokenizerFast"],
  unet: ["UNet2DConditionModel"],
  safety_checker: ["StableDiffusionSafetyChecker"],
  feature_extractor: ["CLIPImageProcessor", "CLIPFeatureExtractor"],
};

const optionalComponents: readonly string[] = ["safety_checker", "feature_extractor"];

/**
 * Reads `model_index.json`.
 *
 * @throws {ConfigError} if the pipeline is of another kind (SDXL, inpainting), or a part is missing
 *   or of an unknown class.
 */
export function parseModelIndex(json: unknown, file: string): ModelIndex {
  const fields = new Fields(json, file);
  const className = fields.oneOf("_class_name", "", pipelineClasses);

  const classOf = (name: string): string | null => {
    const value: unknown = fields.value(name) ?? [null, null];
    const found: unknown = Array.isArray(value) && value.length === 2 ? value[1] : undefined;
    if (found === null && optionalComponents.includes(name)) return null;
    return typeof found === "string" ? found : fields.refuse(name, "a library and a class");
  };
  const components: Partial<Record<ComponentName, string | null>> = { scheduler: classOf("scheduler") };
  for (const [name, supported] of Object.entries(componentClasses)) {
    const found = classOf(name);
    if (found !== null && !supported.includes(found)) fields.refuse(name, supported.join(", "));
    components[name as ComponentName] = found;
  }
  for (const [name, value] of Object.entries(json as Record<string, unknown>)) {
    const isPart = Array.isArray(value) && value.length === 2 && value[1] !== null;
    if (isPart && !(name in components)) fields.refuse(name, `no part but ${Object.keys(components).join(", ")}`);
  }
  return {
    className,
    components: components as Record<ComponentName, string | null>,
    requiresSafetyChecker: fields.boolean("requires_safety_checker", true),
  };
}

/**
 * Reads and parses one configuration file of a folder: `await readConfig(tree, "config.json",
 * parseUNetConfig)`.
 *
 * @throws {CheckpointError} if the file is missing or not JSON; {ConfigError} if the parser refuses
 *   it.
 */
export async function readConfig<T>(
  tree: FileTree,
  path: string,
  parse: (json: unknown, file: string) => T,
): Promise<T> {
  return parse(await tree.readJson(path), `${tree.name}/${path}`);
}
