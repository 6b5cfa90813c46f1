/**
 * The files that a model was loaded from. Saving reads them again, because weights on the device
 * are repacked and rounded.
 *
 * @module
 */

import type { FileTree } from "./file_tree.ts";
import type { Weights } from "../safetensors/weights.ts";
import { openWeights, type WeightsBaseName } from "../safetensors/weight_files.ts";

/** The parsed content of a configuration file, unchanged. */
export type ConfigJson = Readonly<Record<string, unknown>>;

/** The files of a model. */
export interface ModelOrigin {
  /** The folder or file, for messages. */
  readonly name: string;
  /** `config.json`, with all keys that it has. */
  readonly config: ConfigJson;
  /**
   * Opens the weights that the model was built on, under the keys of a folder in diffusers' layout.
   * Close them after use.
   */
  openWeights(): Promise<Weights>;
}

/**
 * A model's folder: `config.json`, and safetensors under a base name.
 *
 * @throws {CheckpointError} if there is no `config.json`
 */
export async function folderOrigin(
  tree: FileTree,
  baseName: WeightsBaseName,
  options: { variant?: string } = {},
): Promise<ModelOrigin> {
  const { variant } = options;
  return {
    name: tree.name,
    config: await tree.readJson("config.json") as ConfigJson,
    openWeights: () => openWeights(tree, baseName, { variant }),
  };
}
