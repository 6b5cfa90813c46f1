/**
 * Reports the kind and contents of a folder or file, and the reasons why it would not load. Needs
 * no device and reads no weights.
 *
 * @module
 */

import { type ByteSource, isByteSource } from "./checkpoint/source/byte_source.ts";
import { openSource, openTree } from "./checkpoint/source/disk.ts";
import type { FileTree } from "./checkpoint/source/file_tree.ts";
import { isWeightsFile } from "./checkpoint/source/weights_file.ts";
import { SingleFile } from "./checkpoint/ldm/single_file.ts";
import type { ModelConfigs } from "./adapters/inspect_lora.ts";
import { configsOfFile, configsOfFolder } from "./inspection/adapter.ts";
import { type MemoryOptions, memoryOptionsTable, type MemoryPrediction, predictOnNull } from "./inspection/memory.ts";
import { ofFolder, ofSingleFile } from "./inspection/null_components.ts";
import { checkOptions, kinds, takeOptions } from "./options.ts";

export type { ModelConfigs } from "./adapters/inspect_lora.ts";
export type { AdapterOptions } from "./inspection/adapter.ts";
export type { Probe } from "./editing/probe.ts";
export { probeOf } from "./inspection/edit.ts";
export { inspectFile } from "./inspection/file.ts";
export { inspectFolder } from "./inspection/folder.ts";
export type { MemoryOptions, MemoryPrediction } from "./inspection/memory.ts";
export { type AskedMemory, type Inspection, type PartInspection, problemsOf } from "./inspection/report.ts";

/**
 * Predicts the memory that drawing with a model takes on a device, before anything is loaded: the
 * call is recorded on a device without memory ({@linkcode Gpu.null}) and takes there what it would
 * take.
 *
 * ```ts
 * using gpu = await Gpu.request();
 * const { peakBytes, problem } = await predictMemory("models/pocket", { device: gpu, images: 4 });
 * console.log(problem ?? `${peakBytes / 2 ** 20} MiB`);
 * ```
 *
 * @param source a folder in diffusers' layout, or a .safetensors file in the original one
 * @throws {CheckpointError} for anything that would not load; {OptionError} for unknown options
 */
export async function predictMemory(
  source: string | URL | FileTree | ByteSource,
  options: MemoryOptions & { variant?: string } = {},
): Promise<MemoryPrediction> {
  const { variant, ...asked } = takeOptions("predict the memory", options);
  checkOptions("predict the memory", { variant, ...asked }, { ...memoryOptionsTable, variant: kinds.text });
  if (isFile(source)) {
    using file = await SingleFile.open(await openSource(source));
    return await predictOnNull(ofSingleFile(file), asked);
  }
  return await predictOnNull(ofFolder(await openTree(source), { variant }), asked);
}

/**
 * The configurations of the UNet and the text encoders of a model, to hold adapters and edits
 * against ({@linkcode inspectFile}).
 *
 * @param source as of {@linkcode predictMemory}
 * @throws {CheckpointError} if one is missing; {ConfigError} if one is not supported
 */
export async function modelConfigsOf(source: string | URL | FileTree | ByteSource): Promise<ModelConfigs> {
  if (!isFile(source)) return await configsOfFolder(await openTree(source));
  using file = await SingleFile.open(await openSource(source));
  return configsOfFile(file);
}

function isFile(source: string | URL | FileTree | ByteSource): source is string | URL | ByteSource {
  const path = source instanceof URL ? source.pathname : source;
  return typeof path === "string" ? isWeightsFile(path) : isByteSource(path);
}
