/** Loading, checking and disposal, shared by all models. */

import type { Gpu } from "../../engine/gpu.ts";
import { inspectAs } from "../../engine/inspect.ts";
import { bindWeights, checkBinding, type ModelWeights, type WeightScope } from "../checkpoint/bind.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { WeightsBaseName } from "../checkpoint/safetensors/weight_files.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { openTree } from "../checkpoint/source/disk.ts";
import type { SurplusKeys } from "../checkpoint/surplus.ts";
import { folderOrigin, type ModelOrigin } from "../checkpoint/source/origin.ts";

/** Options of loading a model. */
export interface LoadOptions {
  /** The device to upload the weights to. */
  readonly gpu: Gpu;
  /** The precision of the weights' files: "fp16" picks `….fp16.safetensors`. */
  readonly variant?: string;
  /** Called with the number of bytes uploaded. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  /**
   * For `fromWeights`: the files of the weights. A model without them cannot be saved.
   * `fromPretrained` sets it.
   */
  readonly origin?: ModelOrigin;
  /**
   * Collects the keys that the model does not read. Default: one warning about them.
   *
   * @internal
   */
  readonly surplus?: SurplusKeys;
}

/** Describes one kind of model to the shared loader. */
export interface ModelKind<Config, Modules> {
  /** The class in diffusers or transformers. */
  readonly className: string;
  /** The weights' files are `<weightsName>*.safetensors`. */
  readonly weightsName: WeightsBaseName;
  /** Parses `config.json`. */
  parseConfig(json: unknown, file: string): Config;
  /** Builds the modules, which take their weights from `w`. */
  build(w: WeightScope, config: Config): Modules;
}

/** A model's parts after loading. */
export interface ModelParts<Config, Modules> {
  readonly gpu: Gpu;
  readonly config: Config;
  readonly modules: Modules;
  readonly weights: ModelWeights;
  readonly origin: ModelOrigin | undefined;
}

/** Base class of models: a device, a configuration, and owned weights. */
export abstract class Model<Config> implements Disposable {
  /** The device that the weights are on. */
  readonly gpu: Gpu;
  /** The configuration, as parsed. */
  readonly config: Config;
  /** The tensors of the model, and its LoRAs. */
  readonly weights: ModelWeights;
  /** The files that the model was loaded from; `undefined` for weights in memory. */
  readonly origin: ModelOrigin | undefined;

  /** Takes over the weights. */
  protected constructor(parts: Pick<Model<Config>, "gpu" | "config" | "weights" | "origin">) {
    this.gpu = parts.gpu;
    this.config = parts.config;
    this.weights = parts.weights;
    this.origin = parts.origin;
  }

  /** Whether the weights have been freed. */
  get isDisposed(): boolean {
    return this.weights.isDisposed;
  }

  /** Frees the weights. */
  [Symbol.dispose](): void {
    this.weights[Symbol.dispose]();
  }
}

/**
 * Loads a model from a folder that holds `config.json` and its weights.
 *
 * @throws {CheckpointError} when files are missing, or weights and configuration disagree
 * @throws {ConfigError} for a configuration that is not supported
 */
export async function loadModel<Config, Modules>(
  kind: ModelKind<Config, Modules>,
  directory: string | URL | FileTree,
  options: LoadOptions,
): Promise<ModelParts<Config, Modules>> {
  const tree = await openTree(directory);
  const origin = await folderOrigin(tree, kind.weightsName, options);
  const config = kind.parseConfig(origin.config, `${tree.name}/config.json`);
  using weights = await origin.openWeights();
  return await buildModel(kind, config, weights, { ...options, origin });
}

/**
 * Builds a model on weights that are open.
 *
 * @throws {CheckpointError} that lists every missing and misshapen key
 */
export async function buildModel<Config, Modules>(
  kind: ModelKind<Config, Modules>,
  config: Config,
  weights: Weights,
  { gpu, origin, onProgress, surplus }: LoadOptions,
): Promise<ModelParts<Config, Modules>> {
  const { model, owner } = await bindWeights(gpu, weights, (w) => kind.build(w, config), { onProgress, surplus });
  return { gpu, config, modules: model, weights: owner, origin };
}

/**
 * Checks weights against a configuration by names and shapes alone. It needs no device.
 *
 * @returns the keys that the model does not read
 * @throws {CheckpointError} that lists every missing and misshapen key
 */
export function checkModel<Config, Modules>(
  kind: ModelKind<Config, Modules>,
  config: Config,
  weights: Weights,
): string[] {
  return checkBinding(weights, (w) => kind.build(w, config));
}

inspectAs(Model.prototype, (model) => {
  if (!(model instanceof Model)) return "Model";
  return `${model.constructor.name} of ${model.weights.source}`;
});
