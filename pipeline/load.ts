/** Loads whole pipelines from diffusers' layout. */

import { advise } from "./advice.ts";
import type { Gpu } from "../engine/gpu.ts";
import { type Scheduler, schedulerFromConfig, UnknownScheduler } from "../schedulers/mod.ts";
import {
  type ComponentName,
  type ModelFamily,
  type ModelIndex,
  readModelIndex,
} from "./checkpoint/diffusers/config/model_index.ts";
import { variantsOf } from "./checkpoint/diffusers/pipeline_files.ts";
import type { FileTree } from "./checkpoint/source/file_tree.ts";
import { type ModelSourceOptions, openModelSource } from "./checkpoint/source/model_source.ts";
import type { PredictionType } from "./checkpoint/ldm/config.ts";
import { SurplusKeys } from "./checkpoint/surplus.ts";
import { componentEntries, entriesOf } from "./component_table.ts";
import type { PipelineComponents, PipelineSettings, XLPipelineComponents, XLPipelineSettings } from "./components.ts";
import { CheckpointError } from "./errors.ts";
import { type EditingOptions, editingOptionsTable, loadingTable } from "./load_options.ts";
import type { ActivationType } from "./models/unet_blocks.ts";
import { checkOptions, kinds, oneOf, type OptionTable, takeOptions } from "./options.ts";
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
import { CLIPTokenizer } from "./text/tokenizer.ts";
import { openTunedGpu } from "./tuning_file.ts";

/** How a checkpoint is loaded. */
export interface FromPretrainedOptions extends Omit<ModelSourceOptions, "without" | "onFetch">, ComponentOverrides {
  /** The device. Default: a new device, which the pipeline then owns. */
  readonly gpu?: Gpu;
  /**
   * Called with the component that is being loaded and the bytes that have arrived. Models of the
   * hub begin with "download".
   */
  readonly onProgress?: (component: string, doneBytes: number, totalBytes: number) => void;
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
  /** Splits prompts into tokens: in place of the checkpoint's, or a folder that holds one. */
  readonly tokenizer?: CLIPTokenizer | string | URL | FileTree;
  /**
   * What the UNet predicts, where the checkpoint's scheduler is wrong about it. Default: what the
   * scheduler's configuration says.
   */
  readonly predictionType?: PredictionType;
}

/** How an SDXL checkpoint is loaded: as {@linkcode FromPretrainedOptions} says. */
export interface XLFromPretrainedOptions
  extends Omit<FromPretrainedOptions, keyof ComponentOverrides>, XLComponentOverrides {
  /** Splits prompts into the tokens of the second text encoder, as `tokenizer` of the first. */
  readonly tokenizer2?: CLIPTokenizer | string | URL | FileTree;
  /** See {@linkcode XLPipelineSettings}. Default: what `model_index.json` says. */
  readonly forceZerosForEmptyPrompt?: boolean;
}

const sharedTable = {
  ...editingOptionsTable,
  ...loadingTable,
  variant: kinds.text,
  revision: kinds.text,
  token: kinds.text,
  retries: kinds.number,
  retryDelayMs: kinds.number,
  stallTimeoutMs: kinds.number,
  tokenizer: tokenizerKind,
  predictionType: oneOf("epsilon", "v_prediction"),
} as const;

/** The options of fromPretrained of Stable Diffusion 1.x and 2.x, and their kinds. */
const fromPretrainedTable: OptionTable<FromPretrainedOptions & EditingOptions> = { ...sharedTable, ...overridesTable };

/** The options of fromPretrained of SDXL, and their kinds. */
const xlFromPretrainedTable: OptionTable<XLFromPretrainedOptions & Omit<EditingOptions, "requiresSafetyChecker">> = {
  ...withoutChecker(sharedTable),
  ...xlOverridesTable,
  tokenizer2: tokenizerKind,
  forceZerosForEmptyPrompt: kinds.flag,
};

const tables = { sd: fromPretrainedTable, sdxl: xlFromPretrainedTable } as const;

function withoutChecker({ requiresSafetyChecker: _, ...rest }: typeof sharedTable) {
  return rest;
}

/**
 * What builds a pipeline of each family, which takes over what is in `owned`. Checkpoints of a
 * family without a builder are refused.
 */
export interface PipelineBuilders<P> {
  readonly sd?: (components: PipelineComponents, settings: PipelineSettings, owned: DisposableStack) => P;
  readonly sdxl?: (components: XLPipelineComponents, settings: XLPipelineSettings, owned: DisposableStack) => P;
}

/** The options of all families. */
export type AnyFromPretrainedOptions =
  & FromPretrainedOptions
  & Omit<XLFromPretrainedOptions, keyof FromPretrainedOptions>;

/**
 * The families that there are builders for.
 *
 * @internal
 */
export function familiesOf(builders: PipelineBuilders<unknown>): ModelFamily[] {
  return (["sd", "sdxl"] as const).filter((family) => builders[family] !== undefined);
}

/**
 * Refuses options that only other families take. `safetyChecker: null` asks for nothing, and is
 * taken by all.
 *
 * @internal
 */
export function checkFamilyOptions<T extends object>(action: string, options: T, table: object): void {
  const given = Object.entries(options).filter(([name, value]) =>
    value !== undefined && !(value === null && name === "safetyChecker" && !(name in table))
  );
  checkOptions(action, Object.fromEntries(given), table as OptionTable<Record<string, unknown>>);
}

/**
 * Loads all components of a checkpoint, and builds a pipeline that owns them.
 *
 * @throws {CheckpointError} when a component is missing or of a class that is not supported
 */
export async function loadPipeline<P>(
  source: string | URL | FileTree,
  options: AnyFromPretrainedOptions & EditingOptions,
  builders: PipelineBuilders<P>,
): Promise<P> {
  options = takeOptions("load a pipeline", options); // the caller may change them while the model loads
  const families = familiesOf(builders);
  checkOptions("load a pipeline", options, Object.assign({}, ...families.map((family) => tables[family])));
  using loaded = await loadComponents(source, options, families.length === 1 ? families[0] : undefined);
  const { components, index, owned } = loaded;
  if (index.family === "sdxl") {
    const { forceZerosForEmptyPrompt = index.forceZerosForEmptyPrompt } = options;
    return builders.sdxl!(components as unknown as XLPipelineComponents, { forceZerosForEmptyPrompt }, owned);
  }
  // Skipping a checker that the checkpoint has deserves the warning, whatever the checkpoint
  // requires.
  const isSkipped = options.safetyChecker === null && index.components.safety_checker !== null;
  const { requiresSafetyChecker = index.requiresSafetyChecker || isSkipped } = options;
  return builders.sd!(components as unknown as PipelineComponents, { requiresSafetyChecker }, owned);
}

/** The components of a checkpoint, those that were loaded in `owned`. */
interface LoadedComponents extends Disposable {
  readonly components: Readonly<Record<string, unknown>>;
  readonly index: ModelIndex;
  readonly owned: DisposableStack;
}

async function loadComponents(
  source: string | URL | FileTree,
  options: AnyFromPretrainedOptions,
  family: ModelFamily | undefined,
): Promise<LoadedComponents> {
  const { variant, onProgress, activations, signal } = options;
  const given: Record<string, unknown> = givenInstances(options);
  const replaced = (family ? entriesOf(family) : componentEntries).filter(([key]) =>
    key in given || (key === "vae" || key === "tokenizer" || key === "tokenizer2") && options[key] !== undefined
  );
  const without = replaced.map(([, { folder }]) => folder);
  const tree = await openModelSource(source, {
    ...options,
    without,
    onFetch: (doneBytes, totalBytes) => onProgress?.("download", doneBytes, totalBytes),
  });
  const index = await readModelIndex(tree, { without, family });
  if (family === undefined) {
    checkFamilyOptions(`load ${tree.name}, a ${index.className},`, options, tables[index.family]);
  }
  const entries = entriesOf(index.family);
  const wanted = entries.filter(([, { folder }]) => index.components[folder] !== null && !without.includes(folder));
  const missing = entries.find((entry) => entry[1].isRequired && !wanted.includes(entry) && !replaced.includes(entry));
  if (missing) {
    throw new CheckpointError(`Cannot load ${tree.name} as its model_index.json names no ${missing[1].folder}`, {
      source: tree.name,
    });
  }
  const hasChecker = index.components.safety_checker !== null;
  if (hasChecker && given.safetyChecker !== null && !given.featureExtractor && !index.components.feature_extractor) {
    throw new CheckpointError(
      `Cannot load ${tree.name} as its model_index.json names a safety_checker and no feature_extractor: ` +
        advise("skipChecker"),
      { source: tree.name },
    );
  }
  using owned = new DisposableStack();
  const gpu = givenGpu(options, given) ?? owned.use(await openTunedGpu({ arithmetic: options.arithmetic }));
  const variantOf = await variantsOf(tree, variant);
  const components: Record<string, unknown> = { ...given };
  const surplus = new SurplusKeys();
  const loadOptions = (folder: ComponentName) => ({
    gpu,
    activations,
    variant: variantOf(folder),
    surplus,
    onProgress: (doneBytes: number, totalBytes: number) => {
      signal?.throwIfAborted();
      onProgress?.(folder, doneBytes, totalBytes);
    },
  });
  const vae = await loadGivenVae(options, { ...options, ...loadOptions("vae"), family: index.family });
  if (vae) components.vae = owned.use(vae);
  for (const key of ["tokenizer", "tokenizer2"] as const) {
    const place = options[key];
    if (place !== undefined && !(place instanceof CLIPTokenizer)) {
      components[key] = await CLIPTokenizer.fromPretrained(place);
    }
  }
  for (const [key, { folder, load }] of wanted) {
    const className = index.components[folder] ?? undefined;
    const component = await load(tree.subtree(folder), { ...loadOptions(folder), className });
    if (isDisposable(component)) owned.use(component);
    components[key] = component;
  }
  surplus.warn(tree.name);
  if (options.predictionType !== undefined) {
    const scheduler = components.scheduler as Scheduler;
    const config = { ...scheduler.config, prediction_type: options.predictionType };
    components.scheduler = scheduler instanceof UnknownScheduler
      ? new UnknownScheduler(config, scheduler)
      : schedulerFromConfig(config);
  }
  const kept = owned.move();
  // The pipeline moves what it takes over out of the stack; the rest is freed with it.
  return { components, index, owned: kept, [Symbol.dispose]: () => kept[Symbol.dispose]() };
}

function isDisposable(value: unknown): value is Disposable {
  return typeof value === "object" && value !== null && Symbol.dispose in value;
}
