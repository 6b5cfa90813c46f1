/** Components that a caller brings along when a checkpoint is loaded. */

import type { Gpu } from "../engine/gpu.ts";
import type { Scheduler } from "../schedulers/mod.ts";
import { isByteSource } from "./checkpoint/source/byte_source.ts";
import { isFileTree } from "./checkpoint/source/file_tree.ts";
import { componentEntries, componentTable } from "./component_table.ts";
import type { ComponentKey, PipelineComponents } from "./components.ts";
import { ConfigError } from "./errors.ts";
import type { CLIPImageProcessor } from "./image/clip_image_processor.ts";
import {
  type Autoencoder,
  type AutoencoderSource,
  loadAutoencoder,
  type LoadAutoencoderOptions,
} from "./models/autoencoder.ts";
import type { CLIPTextModel } from "./models/clip_text.ts";
import type { CLIPTextModelWithProjection } from "./models/clip_text_projection.ts";
import { Model } from "./models/load.ts";
import type { StableDiffusionSafetyChecker } from "./models/safety_checker.ts";
import type { UNet2DConditionModel } from "./models/unet.ts";
import { either, kind, kinds, type OptionKind } from "./options.ts";
import { CLIPTokenizer } from "./text/tokenizer.ts";

/**
 * Components to use in place of the checkpoint's, which are then neither fetched nor loaded. They
 * stay the caller's: disposing of the pipeline does not dispose of them.
 */
export interface ComponentOverrides {
  /** Plans the denoising steps. */
  readonly scheduler?: Scheduler;
  /**
   * Decodes latents: a loaded autoencoder, or where one is — a .safetensors file (LDM's or
   * diffusers' layout, or TAESD), a folder, or a model of the hub. One that is loaded here belongs
   * to the pipeline.
   */
  readonly vae?: Autoencoder | AutoencoderSource;
  /** Encodes prompts. */
  readonly textEncoder?: CLIPTextModel;
  /** Predicts the noise of latents. */
  readonly unet?: UNet2DConditionModel;
  /**
   * Flags pictures that are not safe for work. `null` neither fetches nor loads the checkpoint's; a
   * warning says so once. Default: as the checkpoint has it.
   */
  readonly safetyChecker?: StableDiffusionSafetyChecker | null;
  /** Prepares pictures for the safety checker; `null` where that is `null`, too. */
  readonly featureExtractor?: CLIPImageProcessor | null;
}

const isPlace = (value: unknown) => typeof value === "string" || value instanceof URL;

/** The kind of the option `vae`: an autoencoder, or the place of one. */
const vaeKind = either(
  componentTable.vae.instance,
  kind(
    "a path, a URL, a file tree or a byte source",
    (value) => isPlace(value) || isFileTree(value) || isByteSource(value),
  ),
);

/** The kind of options that are a tokenizer, or the folder of one. */
export const tokenizerKind: OptionKind = either(
  componentTable.tokenizer.instance,
  kind("a path, a URL or a file tree", (value) => isPlace(value) || isFileTree(value)),
);

/** Kinds of {@linkcode ComponentOverrides}. */
export const overridesTable = {
  scheduler: componentTable.scheduler.instance,
  vae: vaeKind,
  textEncoder: componentTable.textEncoder.instance,
  unet: componentTable.unet.instance,
  safetyChecker: either(componentTable.safetyChecker.instance, kinds.nothing),
  featureExtractor: either(componentTable.featureExtractor.instance, kinds.nothing),
} as const;

/** Components of SDXL to use in place of the checkpoint's: see {@linkcode ComponentOverrides}. */
export interface XLComponentOverrides extends Omit<ComponentOverrides, "safetyChecker" | "featureExtractor"> {
  /** Encodes prompts a second time, and pools them. */
  readonly textEncoder2?: CLIPTextModelWithProjection;
}

/** Kinds of {@linkcode XLComponentOverrides}. */
export const xlOverridesTable = {
  scheduler: componentTable.scheduler.instance,
  vae: vaeKind,
  textEncoder: componentTable.textEncoder.instance,
  textEncoder2: componentTable.textEncoder2.instance,
  unet: componentTable.unet.instance,
} as const;

/** The options of a loader, as far as they bring components. */
type Overriding = ComponentOverrides & XLComponentOverrides & {
  readonly tokenizer?: unknown;
  readonly tokenizer2?: unknown;
};

/** The instances that a caller brings along, by component. `null` counts; sources do not. */
export function givenInstances(options: Overriding): Partial<PipelineComponents> {
  const given: Partial<Record<ComponentKey, unknown>> = {};
  for (const [key] of componentEntries) {
    const value = options[key as keyof Overriding];
    if (value === undefined || key === "vae" && !(value instanceof Model)) continue;
    if ((key === "tokenizer" || key === "tokenizer2") && !(value instanceof CLIPTokenizer)) continue;
    given[key] = value;
  }
  // Without a checker there is nothing to prepare pictures for.
  if (given.safetyChecker === null && given.featureExtractor === undefined) given.featureExtractor = null;
  return given as Partial<PipelineComponents>;
}

/**
 * Loads the autoencoder that the option `vae` names; `undefined` without one, or for an instance.
 */
export async function loadGivenVae(
  { vae }: ComponentOverrides,
  options: LoadAutoencoderOptions,
): Promise<Autoencoder | undefined> {
  return vae === undefined || vae instanceof Model ? undefined : await loadAutoencoder(vae, options);
}

/**
 * The device that loading goes to: the caller's, or that of the models brought along.
 *
 * @throws {ConfigError} for models on different devices
 */
export function givenGpu(
  { gpu, arithmetic }: { readonly gpu?: Gpu; readonly arithmetic?: "f32" | "f16" },
  given: Partial<PipelineComponents>,
): Gpu | undefined {
  let found = gpu;
  for (const [key, value] of Object.entries(given)) {
    if (!(value instanceof Model)) continue;
    if (found !== undefined && value.gpu !== found) {
      throw new ConfigError(
        `Cannot load a pipeline as its models must be on one device, and the given ${key} is on another: ` +
          "load it with the same gpu",
        { source: key, key, value: undefined },
      );
    }
    found = value.gpu;
  }
  if (found !== undefined && arithmetic !== undefined && found.info.arithmetic !== arithmetic) {
    throw new ConfigError(
      `Cannot load a pipeline with arithmetic: "${arithmetic}" as the given device was opened with ` +
        `"${found.info.arithmetic}": open it with Gpu.request({ arithmetic: "${arithmetic}" })`,
      { source: "gpu", key: "arithmetic", value: arithmetic },
    );
  }
  return found;
}
