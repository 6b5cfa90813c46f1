/**
 * The weights of one model folder: a single safetensors file, or shards with an index. A folder can
 * hold them in the default precision and in variants such as "fp16". File names are those of
 * diffusers 0.23 and transformers 4.35.
 */

import { countText } from "../../../engine/inspect.ts";
import { CheckpointError, SafetensorsError } from "../../errors.ts";
import { checkPath, type FileTree } from "../source/file_tree.ts";
import { isPickle, pickleMessage } from "../source/pickle.ts";
import { SafetensorsFile } from "./safetensors_file.ts";
import type { TensorInfo } from "./format.ts";
import { Weights } from "./weights.ts";

/** The base name of weight files: the first of diffusers' models, the second of transformers'. */
export type WeightsBaseName = "diffusion_pytorch_model" | "model";

/** How the weights of a folder are stored: in one file, or in shards with an index. */
export interface WeightsFiles {
  /** The file to open first. */
  readonly path: string;
  /** Whether `path` is an index (JSON) of shards. */
  readonly isIndex: boolean;
}

/** Safetensors shards, read as one file. */
class ShardedWeights extends Weights {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;

  constructor(
    readonly name: string,
    readonly shards: readonly SafetensorsFile[],
    readonly owners: Map<string, SafetensorsFile>,
  ) {
    super();
    this.tensors = new Map([...owners].map(([tensor, shard]) => [tensor, shard.info(tensor)]));
    this.metadata = Object.assign({}, ...shards.map((shard) => shard.metadata));
  }

  async readRange(
    name: string,
    from: number,
    to: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>> {
    this.info(name); // throws if no shard has the tensor
    return await this.owners.get(name)!.readRange(name, from, to, into);
  }

  close(): void {
    for (const shard of this.shards) shard.close();
  }
}

/**
 * Finds the weights of a folder; `null` if it has none. A single file takes precedence over shards,
 * as in diffusers.
 *
 * @param variant The precision that the file names carry: `model.fp16.safetensors`,
 *   `model.safetensors.index.fp16.json`.
 */
export async function findWeights(
  tree: FileTree,
  baseName: WeightsBaseName,
  options: { variant?: string } = {},
): Promise<WeightsFiles | null> {
  const { variant } = options;
  const candidates = variant === undefined ? [`${baseName}.safetensors`, `${baseName}.safetensors.index.json`] : [
    `${baseName}.${variant}.safetensors`,
    `${baseName}.safetensors.index.${variant}.json`,
    `${baseName}.${variant}.safetensors.index.json`,
  ];
  for (const path of candidates) {
    if (await tree.has(path)) return { path, isIndex: path.endsWith(".json") };
  }
  return null;
}

/**
 * The variants of a folder's weights, sorted. The default precision is `undefined` and comes first.
 */
export async function listVariants(tree: FileTree, baseName: WeightsBaseName): Promise<(string | undefined)[]> {
  const files = await tree.list();
  const variants = new Set<string>();
  for (const file of files) {
    if (!file.startsWith(`${baseName}.`)) continue;
    const rest = file.slice(baseName.length + 1);
    const match = /^([^.]+?)(?:-\d+-of-\d+)?\.safetensors(?:\.index\.json)?$/.exec(rest) ??
      /^safetensors\.index\.([^.]+)\.json$/.exec(rest);
    if (match !== null) variants.add(match[1]);
  }
  const hasDefault = await findWeights(tree, baseName) !== null;
  return [...(hasDefault ? [undefined] : []), ...[...variants].sort()];
}

/**
 * Opens the weights of a model folder. Only headers are read. Close the result when the model is
 * loaded.
 *
 * @throws {CheckpointError} if the folder has no such safetensors file (the message names other
 *   variants or pickles found there), a shard is missing, or the index and the shards disagree.
 * @throws {PathError} if the index names a file outside the folder.
 * @throws {SafetensorsError} if a file breaks a rule of its format.
 */
export async function openWeights(
  tree: FileTree,
  baseName: WeightsBaseName,
  options: { variant?: string } = {},
): Promise<Weights> {
  const files = await findWeights(tree, baseName, options);
  if (files === null) throw await noWeights(tree, baseName, options.variant);
  if (!files.isIndex) return await SafetensorsFile.open(await tree.open(files.path));
  return await openShards(tree, files.path);
}

/**
 * The paths of all files that hold a folder's weights: one file, or an index and its shards.
 *
 * @throws {CheckpointError} if there are no weights, or the index is invalid, as `openWeights()`.
 * @throws {PathError} if the index names a file outside the folder.
 */
export async function weightFiles(
  tree: FileTree,
  baseName: WeightsBaseName,
  options: { variant?: string } = {},
): Promise<string[]> {
  const files = await findWeights(tree, baseName, options);
  if (files === null) throw await noWeights(tree, baseName, options.variant);
  return files.isIndex ? [files.path, ...(await readIndex(tree, files.path)).shardPaths] : [files.path];
}

async function openShards(tree: FileTree, indexPath: string): Promise<Weights> {
  const { source, weightMap, shardPaths } = await readIndex(tree, indexPath);
  const shards: SafetensorsFile[] = [];
  try {
    const owners = new Map<string, SafetensorsFile>();
    for (const path of shardPaths) {
      const shard = await SafetensorsFile.open(await tree.open(path));
      shards.push(shard);
      for (const tensor of shard.tensors.keys()) {
        const indexed = weightMap.get(tensor);
        if (indexed === undefined || checkPath(indexed, source) !== path) {
          const other = indexed === undefined ? "does not list it" : `assigns it to ${indexed}`;
          throw new SafetensorsError(
            `Cannot load ${source} as ${path} holds the tensor ${tensor}, but the index ${other}`,
            { source, tensor },
          );
        }
        owners.set(tensor, shard);
      }
    }
    for (const [tensor, path] of weightMap) {
      if (owners.has(tensor)) continue;
      throw new SafetensorsError(`Cannot load ${source} as ${path} lacks the tensor ${tensor}`, { source, tensor });
    }
    return new ShardedWeights(source, shards, owners);
  } catch (error) {
    for (const shard of shards) shard.close();
    throw error;
  }
}

async function readIndex(
  tree: FileTree,
  indexPath: string,
): Promise<{ source: string; weightMap: Map<string, string>; shardPaths: string[] }> {
  const source = `${tree.name}/${indexPath}`;
  const weightMap = readWeightMap(await tree.readJson(indexPath), source);
  const shardPaths = [...new Set([...weightMap.values()].map((path) => checkPath(path, source)))].sort();
  for (const path of shardPaths) {
    if (!path.endsWith(".safetensors")) {
      throw new CheckpointError(`Cannot load ${source} as its shard ${path} is not a safetensors file`, { source });
    }
    if (!await tree.has(path)) {
      throw new CheckpointError(
        `Cannot load ${source} as its shard ${path} is missing (the index lists ${
          countText(shardPaths.length, "shard")
        })`,
        { source },
      );
    }
  }
  return { source, weightMap, shardPaths };
}

function readWeightMap(index: unknown, source: string): Map<string, string> {
  const weightMap = (index as { weight_map?: unknown } | null)?.weight_map;
  const isMap = typeof weightMap === "object" && weightMap !== null && !Array.isArray(weightMap);
  const entries = isMap ? Object.entries(weightMap) : [];
  if (entries.length === 0 || entries.some(([, path]) => typeof path !== "string")) {
    throw new CheckpointError(`Cannot load ${source} as its weight_map must map tensors to files`, { source });
  }
  return new Map(entries as [string, string][]);
}

async function noWeights(tree: FileTree, baseName: WeightsBaseName, variant?: string): Promise<CheckpointError> {
  const wanted = variant === undefined ? `${baseName}.safetensors` : `${baseName}.${variant}.safetensors`;
  const error = (reason: string) => new CheckpointError(`Cannot load ${tree.name} as ${reason}`, { source: tree.name });
  const others = (await listVariants(tree, baseName)).map((name) => name ?? "the default");
  if (others.length > 0) {
    const asked = variant === undefined ? "the default precision" : `the variant ${JSON.stringify(variant)}`;
    return error(`it has no weights in ${asked} (${wanted}); available: ${others.join(", ")}`);
  }
  const files = await tree.list();
  const pickle = files.find((file) => isPickle(file));
  if (pickle !== undefined) {
    return new CheckpointError(pickleMessage(`${tree.name}/${pickle}`), { source: tree.name });
  }
  return error(`it has no ${wanted}; the folder contains: ${files.join(", ") || "no files"}`);
}
