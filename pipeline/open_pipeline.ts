/** Opens a checkpoint as what it is. */

import type { ByteSource } from "./checkpoint/source/byte_source.ts";
import type { FileTree } from "./checkpoint/source/file_tree.ts";
import { isWeightsFile } from "./checkpoint/source/weights_file.ts";
import type { EditingPipeline } from "./editing_pipeline.ts";
import type { EditDefaults } from "./editing/pipeline_edits.ts";
import { type AnyFromPretrainedOptions, loadPipeline, type PipelineBuilders } from "./load.ts";
import { StableDiffusionModelEditingPipeline } from "./model_editing.ts";
import { StableDiffusionXLModelEditingPipeline } from "./model_editing_xl.ts";
import { takeOptions } from "./options.ts";
import { type AnyFromSingleFileOptions, loadSingleFile } from "./single_file.ts";

/**
 * Options of {@linkcode openPipeline}: those of `fromPretrained` for folders and hub ids, those of
 * `fromSingleFile` for files, and the defaults of `editModel`.
 */
export type OpenPipelineOptions =
  & AnyFromPretrainedOptions
  & Omit<AnyFromSingleFileOptions, keyof AnyFromPretrainedOptions>
  & EditDefaults;

/**
 * Finds out what a checkpoint is, and opens it with the class that edits models of its family.
 *
 * ```ts
 * using pipe = await openPipeline("models/pocket");
 * await pipe.editModel("A pack of roses", "A pack of blue roses");
 * const { images } = await pipe.generate("a field of roses");
 * ```
 *
 * @param source a folder in diffusers' layout, a .safetensors file, or the id of a model on the hub
 * @returns a `StableDiffusionModelEditingPipeline` or a `StableDiffusionXLModelEditingPipeline`
 * @throws {CheckpointError} {ConfigError} for what is not supported, which is named as what it is
 * @throws {OptionError} for an option that does not apply to the checkpoint
 */
export async function openPipeline(
  source: string | URL | FileTree | ByteSource,
  options: OpenPipelineOptions = {},
): Promise<EditingPipeline> {
  const { withToK, withAugs } = takeOptions("open a pipeline", options);
  const builders: PipelineBuilders<EditingPipeline> = {
    sd: (parts, settings, owned) =>
      new StableDiffusionModelEditingPipeline(parts, { ...settings, withToK, withAugs }, owned),
    sdxl: (parts, settings, owned) =>
      new StableDiffusionXLModelEditingPipeline(parts, { ...settings, withToK, withAugs }, owned),
  };
  return isFile(source)
    ? await loadSingleFile(source, options, builders)
    : await loadPipeline(source, options, builders);
}

function isFile(source: string | URL | FileTree | ByteSource): source is string | URL | ByteSource {
  if (typeof source === "string" || source instanceof URL) return isWeightsFile(`${source}`);
  return typeof source === "object" && source !== null && "read" in source;
}
