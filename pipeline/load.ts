/** Loads whole pipelines from diffusers' layout. */

import type { Gpu } from "../engine/gpu.ts";
import { parseModelIndex } from "./checkpoint/diffusers/config/model_index.ts";
import { readConfig } from "./checkpoint/diffusers/config/fields.ts";
import { variantsOf } from "./checkpoint/diffusers/pipeline_files.ts";
import type { FileTree } from "./checkpoint/source/file_tree.ts";
import { type ModelSourceOptions, openModelSource } from "./checkpoint/source/model_source.ts";
import { SurplusKeys } from "./checkpoint/surplus.ts";
import { componentEntries, componentTable, type PipelineComponents, type PipelineSettings } from "./components.ts";
import { CheckpointError } from "./errors.ts";
import { type EditingOptions, editingOptionsTable, loadingTable } from "./load_options.ts";
import type { ActivationType } from "./models/unet_blocks.ts";
import { checkOptions, kinds, type OptionTable } from "./options.ts";
import { openTunedGpu } from "./tuning_file.ts";

/** How a checkpoint is loaded. */
export interface FromPretrainedOptions extends Omit<ModelSourceOptions, "without" | "onFetch"> {
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
   * `null` neither fetches nor loads the checkpoint's safety checker; a warning says so once.
   * Default: as the checkpoint has it.
   */
  readonly safetyChecker?: null;
}

/** The options of {@linkcode loadPipeline} and their kinds. */
const fromPretrainedTable: OptionTable<FromPretrainedOptions & EditingOptions> = {
  ...editingOptionsTable,
  ...loadingTable,
  variant: kinds.text,
  revision: kinds.text,
  token: kinds.text,
  signal: kinds.signal,
  retries: kinds.number,
  retryDelayMs: kinds.number,
  stallTimeoutMs: kinds.number,
  safetyChecker: kinds.nothing,
};

/** Builds a pipeline, which takes over what is in `owned`. */
export type BuildPipeline<P> = (
  components: PipelineComponents,
  settings: PipelineSettings,
  owned: DisposableStack,
) => P;

/**
 * Loads all components of a checkpoint, and builds a pipeline that owns them.
 *
 * @throws {CheckpointError} when a component is missing or of a class that is not supported
 */
export async function loadPipeline<P>(
  source: string | URL | FileTree,
  options: FromPretrainedOptions,
  build: BuildPipeline<P>,
): Promise<P> {
  checkOptions("load a pipeline", options, fromPretrainedTable);
  const { variant, onProgress, activations } = options;
  const { safetyChecker, featureExtractor } = componentTable;
  const skipped = options.safetyChecker === null ? [safetyChecker.folder, featureExtractor.folder] : [];
  const tree = await openModelSource(source, {
    ...options,
    without: skipped,
    onFetch: (doneBytes, totalBytes) => onProgress?.("download", doneBytes, totalBytes),
  });
  const index = await readConfig(tree, "model_index.json", parseModelIndex);
  const wanted = componentEntries.filter(([, { folder }]) =>
    index.components[folder] !== null && !skipped.includes(folder)
  );
  const missing = componentEntries.find((entry) => entry[1].isRequired && !wanted.includes(entry));
  if (missing) {
    throw new CheckpointError(`Cannot load ${tree.name} as its model_index.json names no ${missing[1].folder}`, {
      source: tree.name,
    });
  }
  const hasChecker = index.components.safety_checker !== null;
  if (hasChecker && skipped.length === 0 && index.components.feature_extractor === null) {
    throw new CheckpointError(
      `Cannot load ${tree.name} as its model_index.json names a safety_checker and no feature_extractor: ` +
        `pass safetyChecker: null to generate unchecked pictures`,
      { source: tree.name },
    );
  }
  using owned = new DisposableStack();
  const gpu = options.gpu ?? owned.use(await openTunedGpu());
  const variantOf = await variantsOf(tree, variant);
  const components: Record<string, unknown> = {};
  const surplus = new SurplusKeys();
  for (const [key, { folder, load }] of wanted) {
    const component = await load(tree.subtree(folder), {
      gpu,
      activations,
      variant: variantOf(folder),
      surplus,
      onProgress: (doneBytes, totalBytes) => onProgress?.(folder, doneBytes, totalBytes),
    });
    if (isDisposable(component)) owned.use(component);
    components[key] = component;
  }
  surplus.warn(tree.name);
  // Skipping a checker that the checkpoint has deserves the warning, whatever the checkpoint
  // requires.
  const requiresSafetyChecker = index.requiresSafetyChecker || skipped.length > 0 && hasChecker;
  return build(components as unknown as PipelineComponents, { requiresSafetyChecker }, owned);
}

function isDisposable(value: unknown): value is Disposable {
  return typeof value === "object" && value !== null && Symbol.dispose in value;
}
