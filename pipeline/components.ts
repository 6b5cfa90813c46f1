/** The components of a pipeline, and the table that loading, saving and inspection share. */

import { isSchedulerClass, type Scheduler, schedulerFromConfig, UnknownScheduler } from "../schedulers/mod.ts";
import { advise } from "./advice.ts";
import { readObject } from "./checkpoint/diffusers/config/fields.ts";
import { type ComponentName, type ModelFamily, partsOf } from "./checkpoint/diffusers/config/model_index.ts";
import type { FileTree } from "./checkpoint/source/file_tree.ts";
import { CheckpointError, ConfigError } from "./errors.ts";
import { CLIPImageProcessor } from "./image/clip_image_processor.ts";
import { CLIPTextModel, textEncoderKind } from "./models/clip_text.ts";
import { CLIPTextModelWithProjection, projectedTextEncoderKind } from "./models/clip_text_projection.ts";
import type { ModelKind } from "./models/load.ts";
import { safetyCheckerKind, StableDiffusionSafetyChecker } from "./models/safety_checker.ts";
import { UNet2DConditionModel, unetKind, type UNetLoadOptions } from "./models/unet.ts";
import { type Autoencoder, autoencoderKind, loadAutoencoderFolder } from "./models/autoencoder.ts";
import { AutoencoderTiny, tinyVaeKind } from "./models/tiny_vae.ts";
import { vaeKind } from "./models/vae.ts";
import { CLIPTokenizer } from "./text/tokenizer.ts";
import { warn } from "./safe_text.ts";

/**
 * The parts of a pipeline. Several pipelines can share them: `new
 * StableDiffusionPipeline(other.components)`.
 */
export interface PipelineComponents {
  /** Decodes latents to pictures. */
  readonly vae: Autoencoder;
  /** Encodes prompts. */
  readonly textEncoder: CLIPTextModel;
  /** Splits prompts into tokens. */
  readonly tokenizer: CLIPTokenizer;
  /** Predicts the noise of latents. */
  readonly unet: UNet2DConditionModel;
  /** Plans the denoising steps. */
  readonly scheduler: Scheduler;
  /**
   * Flags pictures that are not safe for work; flagged pictures become black. `null` explicitly
   * disables the check, with one warning.
   */
  readonly safetyChecker?: StableDiffusionSafetyChecker | null;
  /** Prepares pictures for the safety checker. */
  readonly featureExtractor?: CLIPImageProcessor | null;
}

/** The parts of a pipeline that draw, whatever encodes the prompts. */
export type DrawingComponents = Pick<
  PipelineComponents,
  "vae" | "unet" | "scheduler" | "safetyChecker" | "featureExtractor"
>;

/**
 * The parts of an SDXL pipeline. Several pipelines can share them: `new
 * StableDiffusionXLPipeline(other.components)`.
 */
export interface XLPipelineComponents
  extends Pick<PipelineComponents, "vae" | "textEncoder" | "tokenizer" | "unet" | "scheduler"> {
  /** Encodes prompts a second time, and pools them. */
  readonly textEncoder2: CLIPTextModelWithProjection;
  /** Splits prompts into the tokens of the second text encoder. */
  readonly tokenizer2: CLIPTokenizer;
}

/** The components of all pipelines. */
type AllComponents = PipelineComponents & XLPipelineComponents;

/** Settings of a pipeline other than its components. */
export interface PipelineSettings {
  /**
   * Whether to warn about a missing safety checker. Default: true if `safetyChecker` is given, even
   * as `null`.
   */
  readonly requiresSafetyChecker?: boolean;
}

/** Settings of an SDXL pipeline other than its components. */
export interface XLPipelineSettings {
  /**
   * Whether missing negative prompts are states of zeros, as the base model was trained, rather
   * than the encoded empty text. Default: true.
   */
  readonly forceZerosForEmptyPrompt?: boolean;
}

/** A component's name in a pipeline. */
export type ComponentKey = keyof AllComponents;

/** How a component is loaded. */
export interface ComponentLoadOptions extends UNetLoadOptions {
  /** Its class, where a `model_index.json` names it. */
  readonly className?: string;
}

/** One row of {@linkcode componentTable}. */
export interface ComponentEntry<Component> {
  /** Its folder in diffusers' layout, and its key in `model_index.json`. */
  readonly folder: ComponentName;
  /** The Python library of its class. */
  readonly library: "diffusers" | "transformers" | "stable_diffusion";
  /** Its class in that library. */
  readonly className: (component: Component) => string;
  readonly isRequired: boolean;
  /** For components with weights: how the model is loaded and checked. */
  readonly kind?: ModelKind<unknown, unknown>;
  /**
   * The kind of one component, where there are several; `className` as `model_index.json` has it.
   */
  readonly kindOf?: (className: unknown) => ModelKind<unknown, unknown>;
  /** Loads it from its folder. */
  readonly load: (folder: FileTree, options: ComponentLoadOptions) => Promise<Component>;
  /** For components without weights: the files of its folder, as JSON or as text. */
  readonly files?: (component: Component) => Readonly<Record<string, unknown>>;
}

/** All components, in the order in which they are loaded. */
export const componentTable: {
  readonly [Key in ComponentKey]-?: ComponentEntry<NonNullable<AllComponents[Key]>>;
} = {
  tokenizer: {
    folder: "tokenizer",
    library: "transformers",
    className: () => "CLIPTokenizer",
    isRequired: true,
    load: (folder) => CLIPTokenizer.fromPretrained(folder),
    files: tokenizerFiles,
  },
  tokenizer2: {
    folder: "tokenizer_2",
    library: "transformers",
    className: () => "CLIPTokenizer",
    isRequired: true,
    load: (folder) => CLIPTokenizer.fromPretrained(folder),
    files: tokenizerFiles,
  },
  scheduler: {
    folder: "scheduler",
    library: "diffusers",
    className: ({ config }) => config._class_name as string,
    isRequired: true,
    load: loadScheduler,
    files: (scheduler) => ({ "scheduler_config.json": scheduler }),
  },
  textEncoder: modelEntry("text_encoder", CLIPTextModel, { library: "transformers", kind: textEncoderKind }),
  textEncoder2: modelEntry("text_encoder_2", CLIPTextModelWithProjection, {
    library: "transformers",
    kind: projectedTextEncoderKind,
  }),
  unet: modelEntry("unet", UNet2DConditionModel, { library: "diffusers", kind: unetKind }),
  vae: {
    ...modelEntry<Autoencoder>("vae", { fromPretrained: loadAutoencoderFolder }, {
      library: "diffusers",
      kind: vaeKind,
    }),
    className: (vae) => vae instanceof AutoencoderTiny ? tinyVaeKind.className : vaeKind.className,
    kindOf: autoencoderKind,
  },
  safetyChecker: modelEntry("safety_checker", StableDiffusionSafetyChecker, {
    library: "stable_diffusion",
    kind: safetyCheckerKind,
    isRequired: false,
  }),
  featureExtractor: {
    folder: "feature_extractor",
    library: "transformers",
    className: () => "CLIPImageProcessor",
    isRequired: false,
    load: (folder) => CLIPImageProcessor.fromPretrained(folder),
    files: (processor) => ({ "preprocessor_config.json": processor }),
  },
};

/** The row of a component with weights. */
function modelEntry<Component>(
  folder: ComponentName,
  model: { fromPretrained(directory: FileTree, options: UNetLoadOptions): Promise<Component> },
  { library, kind, isRequired = true }: {
    library: ComponentEntry<Component>["library"];
    kind: ModelKind<unknown, unknown>;
    isRequired?: boolean;
  },
): ComponentEntry<Component> {
  const { className } = kind;
  return {
    folder,
    library,
    className: () => className,
    isRequired,
    kind,
    load: (directory, options) => model.fromPretrained(directory, options),
  };
}

/** The rows of {@linkcode componentTable} with their keys. */
export const componentEntries: readonly (readonly [ComponentKey, ComponentEntry<unknown>])[] = Object.entries(
  componentTable,
) as [ComponentKey, ComponentEntry<unknown>][];

/** The rows of the components of a family. */
export function entriesOf(family: ModelFamily): readonly (readonly [ComponentKey, ComponentEntry<unknown>])[] {
  const parts = partsOf(family);
  return componentEntries.filter(([, { folder }]) => parts.includes(folder));
}

/** Copies the components from a pipeline or another object. */
export function pickComponents(source: PipelineComponents): PipelineComponents {
  return pick(source, "sd") as PipelineComponents;
}

/** As {@linkcode pickComponents}, of an SDXL pipeline. */
export function pickXLComponents(source: XLPipelineComponents): XLPipelineComponents {
  return pick(source, "sdxl") as XLPipelineComponents;
}

function pick(source: Partial<AllComponents>, family: ModelFamily): Partial<AllComponents> {
  return Object.fromEntries(entriesOf(family).map(([key]) => [key, source[key]]));
}

/**
 * Checks that components work together.
 *
 * @throws {CheckpointError} for a safety checker without a feature extractor
 * @throws {ConfigError} when the UNet's channels are not the autoencoder's latent channels, the
 *   text encoder's width is not the UNet's, or the UNet is one of SDXL
 */
export function checkComponents({ vae, unet, textEncoder, safetyChecker, featureExtractor }: PipelineComponents): void {
  checkLatentChannels({ vae, unet });
  if (unet.config.textTime) {
    throw new ConfigError(
      'Cannot build a pipeline of Stable Diffusion 1.x or 2.x as the UNet\'s addition_embed_type is "text_time": ' +
        "it is one of SDXL. Build a StableDiffusionXLPipeline of it",
      { source: unet.weights.source, key: "addition_embed_type", value: "text_time" },
    );
  }
  const { hiddenSize } = textEncoder.config;
  if (hiddenSize !== unet.config.crossAttentionDim) {
    throw new ConfigError(
      `Cannot build a pipeline as the UNet's cross_attention_dim must be the text encoder's hidden_size: ` +
        `${unet.config.crossAttentionDim} ≠ ${hiddenSize}. Use a UNet and a text encoder of the same model family`,
      { source: unet.weights.source, key: "cross_attention_dim", value: unet.config.crossAttentionDim },
    );
  }
  if (safetyChecker && !featureExtractor) {
    throw new CheckpointError(
      `Cannot build a pipeline as a safety checker needs a feature extractor: give both, or ${advise("skipChecker")}`,
      { source: "featureExtractor" },
    );
  }
}

/**
 * Checks that the components of an SDXL pipeline work together.
 *
 * @throws {ConfigError} when the UNet's channels are not the autoencoder's latent channels, the
 *   UNet is not one of SDXL, or its widths are not those of both text encoders
 */
export function checkXLComponents({ vae, unet, textEncoder, textEncoder2 }: XLPipelineComponents): void {
  checkLatentChannels({ vae, unet });
  const { textTime, crossAttentionDim } = unet.config;
  const refuse = (key: string, value: unknown, why: string): never => {
    throw new ConfigError(`Cannot build an SDXL pipeline as ${why}`, { source: unet.weights.source, key, value });
  };
  if (textTime === null) {
    return refuse(
      "addition_embed_type",
      null,
      'the UNet\'s addition_embed_type must be "text_time", and it is null: it is one of Stable Diffusion 1.x or 2.x. ' +
        "Build a StableDiffusionPipeline of it",
    );
  }
  const widths = [textEncoder.config.hiddenSize, textEncoder2.config.hiddenSize];
  if (widths[0] + widths[1] !== crossAttentionDim) {
    refuse(
      "cross_attention_dim",
      crossAttentionDim,
      `the UNet's cross_attention_dim must be the sum of both text encoders' hidden_size: ${crossAttentionDim} ≠ ` +
        `${widths.join(" + ")}. Use a UNet and text encoders of the same model family`,
    );
  }
  const inputDim = textEncoder2.config.projectionDim + timeIdCount * textTime.timeEmbedDim;
  if (inputDim !== textTime.inputDim) {
    refuse(
      "projection_class_embeddings_input_dim",
      textTime.inputDim,
      `the UNet's projection_class_embeddings_input_dim must be the second text encoder's projection_dim plus ` +
        `${timeIdCount} times addition_time_embed_dim: ${textTime.inputDim} ≠ ${inputDim}. An SDXL refiner differs in ` +
        "it, and is not supported",
    );
  }
}

/** Sizes that SDXL's base model is conditioned on: original size, crop and target size. */
const timeIdCount = 6;

function checkLatentChannels({ vae, unet }: Pick<PipelineComponents, "vae" | "unet">): void {
  const { latentChannels } = vae.config;
  for (
    const [key, channels] of [["in_channels", unet.config.inChannels], [
      "out_channels",
      unet.config.outChannels,
    ]] as const
  ) {
    if (channels === latentChannels) continue;
    throw new ConfigError(
      `Cannot build a pipeline as the UNet's ${key} must be the autoencoder's latent_channels: ` +
        `${channels} ≠ ${latentChannels}. Use a UNet and an autoencoder of the same model family`,
      { source: unet.weights.source, key, value: channels },
    );
  }
}

/**
 * Loads a scheduler of the class that the model names, or else its configuration. One of an unknown
 * class loads with a warning, and cannot draw.
 */
async function loadScheduler(folder: FileTree, options: ComponentLoadOptions): Promise<Scheduler> {
  const config = await readObject(folder, "scheduler_config.json");
  const className = options.className ?? config._class_name;
  if (typeof className !== "string" || isSchedulerClass(className)) {
    return schedulerFromConfig({ ...config, _class_name: className });
  }
  const file = options.className === undefined
    ? `${folder.name}/scheduler_config.json`
    : `${folder.name.replace(/[/\\]?scheduler$/, "")}/model_index.json`;
  warn(
    `The scheduler ${className}, which ${file} names, is not supported: the model draws once a sampler is chosen`,
  );
  return new UnknownScheduler(config, { className, file });
}

function tokenizerFiles({ files }: CLIPTokenizer): Readonly<Record<string, unknown>> {
  const { vocab, merges, config, specialTokensMap, addedTokens } = files;
  const optional = {
    "tokenizer_config.json": config,
    "special_tokens_map.json": specialTokensMap,
    "added_tokens.json": addedTokens,
  };
  return {
    "vocab.json": JSON.stringify(vocab), // one line, as transformers writes it
    "merges.txt": merges,
    ...Object.fromEntries(Object.entries(optional).filter(([, json]) => json && Object.keys(json).length > 0)),
  };
}
