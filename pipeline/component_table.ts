/** The table of components that loading, saving and inspection share. */

import { isSchedulerClass, Scheduler, schedulerFromConfig, UnknownScheduler } from "../schedulers/mod.ts";
import { advise } from "./advice.ts";
import { readObject } from "./checkpoint/diffusers/config/fields.ts";
import { type ComponentName, type ModelFamily, partsOf } from "./checkpoint/diffusers/config/model_index.ts";
import type { FileTree } from "./checkpoint/source/file_tree.ts";
import type { AllComponents, ComponentKey, PipelineComponents, XLPipelineComponents } from "./components.ts";
import { CLIPImageProcessor } from "./image/clip_image_processor.ts";
import { type Autoencoder, autoencoderKind, loadAutoencoderFolder } from "./models/autoencoder.ts";
import { CLIPTextModel, textEncoderKind } from "./models/clip_text.ts";
import { CLIPTextModelWithProjection, projectedTextEncoderKind } from "./models/clip_text_projection.ts";
import type { ModelKind } from "./models/load.ts";
import { safetyCheckerKind, StableDiffusionSafetyChecker } from "./models/safety_checker.ts";
import { AutoencoderTiny, tinyVaeKind } from "./models/tiny_vae.ts";
import { UNet2DConditionModel, unetKind, type UNetLoadOptions } from "./models/unet.ts";
import { AutoencoderKL, vaeKind } from "./models/vae.ts";
import { instanceOf, type OptionKind } from "./options.ts";
import { warn } from "./safe_text.ts";
import { CLIPTokenizer } from "./text/tokenizer.ts";

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
  /** The classes that it may be of, here. */
  readonly instance: OptionKind;
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
  tokenizer: tokenizerEntry("tokenizer"),
  tokenizer2: tokenizerEntry("tokenizer_2"),
  scheduler: {
    folder: "scheduler",
    library: "diffusers",
    instance: instanceOf({ Scheduler }),
    className: ({ config }) => config._class_name as string,
    isRequired: true,
    load: loadScheduler,
    files: (scheduler) => ({ "scheduler_config.json": scheduler }),
  },
  textEncoder: modelEntry("text_encoder", CLIPTextModel, {
    library: "transformers",
    instance: instanceOf({ CLIPTextModel }),
    kind: textEncoderKind,
  }),
  textEncoder2: modelEntry("text_encoder_2", CLIPTextModelWithProjection, {
    library: "transformers",
    instance: instanceOf({ CLIPTextModelWithProjection }),
    kind: projectedTextEncoderKind,
  }),
  unet: modelEntry("unet", UNet2DConditionModel, {
    library: "diffusers",
    instance: instanceOf({ UNet2DConditionModel }),
    kind: unetKind,
  }),
  vae: {
    ...modelEntry<Autoencoder>("vae", { fromPretrained: loadAutoencoderFolder }, {
      library: "diffusers",
      instance: instanceOf({ AutoencoderKL, AutoencoderTiny }),
      kind: vaeKind,
    }),
    className: (vae) => vae instanceof AutoencoderTiny ? tinyVaeKind.className : vaeKind.className,
    kindOf: autoencoderKind,
  },
  safetyChecker: modelEntry("safety_checker", StableDiffusionSafetyChecker, {
    library: "stable_diffusion",
    instance: instanceOf({ StableDiffusionSafetyChecker }),
    kind: safetyCheckerKind,
    isRequired: false,
  }),
  featureExtractor: {
    folder: "feature_extractor",
    library: "transformers",
    instance: instanceOf({ CLIPImageProcessor }),
    className: () => "CLIPImageProcessor",
    isRequired: false,
    load: (folder) => CLIPImageProcessor.fromPretrained(folder),
    files: (processor) => ({ "preprocessor_config.json": processor }),
  },
};

/** The row of a tokenizer. */
function tokenizerEntry(folder: ComponentName): ComponentEntry<CLIPTokenizer> {
  return {
    folder,
    library: "transformers",
    instance: instanceOf({ CLIPTokenizer }),
    className: () => "CLIPTokenizer",
    isRequired: true,
    load: (directory) => CLIPTokenizer.fromPretrained(directory),
    files: tokenizerFiles,
  };
}

/** The row of a component with weights. */
function modelEntry<Component>(
  folder: ComponentName,
  model: { fromPretrained(directory: FileTree, options: UNetLoadOptions): Promise<Component> },
  { library, instance, kind, isRequired = true }: {
    library: ComponentEntry<Component>["library"];
    instance: OptionKind;
    kind: ModelKind<unknown, unknown>;
    isRequired?: boolean;
  },
): ComponentEntry<Component> {
  const { className } = kind;
  return {
    folder,
    library,
    instance,
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
    `The scheduler ${className}, which ${file} names, is not supported: ${advise("chooseSampler")}`,
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
