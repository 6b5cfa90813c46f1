/** Opens adapter files: from disk, from a folder, from the hub, or from memory. */

import { advise } from "../advice.ts";
import { AdapterError } from "../errors.ts";
import { openHub } from "../checkpoint/hub/hub.ts";
import { isSafetensors } from "../checkpoint/safetensors/format.ts";
import { SafetensorsFile } from "../checkpoint/safetensors/safetensors_file.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { ByteSource } from "../checkpoint/source/byte_source.ts";
import { fileSource, isMissingFolder, openSource, openTree } from "../checkpoint/source/disk.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { mayBeHubId } from "../checkpoint/source/model_source.ts";
import { isPickle, pickleMessage } from "../checkpoint/source/pickle.ts";

/**
 * Location of an adapter: a .safetensors or .sft file, a folder that holds one, or a hub model.
 */
export type AdapterSource = string | URL | ByteSource | FileTree;

/** Selects the file when the source is a folder. */
export interface AdapterFileOptions {
  /** Default: the file name that diffusers or PEFT writes, otherwise the only .safetensors file. */
  readonly weightName?: string;
}

/** An open adapter file. */
export interface AdapterFile extends Disposable {
  readonly weights: Weights;
  /** Contents of PEFT's `adapter_config.json` in the same folder, if it belongs to the file. */
  readonly config: unknown;
}

/** Names of a LoRA's file in a folder, as diffusers and PEFT write them. */
export const loraFileNames: readonly string[] = ["pytorch_lora_weights.safetensors", "adapter_model.safetensors"];

/** The configuration's name, as PEFT writes it. */
const configName = "adapter_config.json";

/**
 * Opens an adapter file.
 *
 * @param options.defaultNames preferred file names in a folder
 * @throws {AdapterError} if the source is a pickle, or a folder does not tell which file is meant
 */
export async function openAdapter(
  source: AdapterSource,
  options: AdapterFileOptions & { defaultNames: readonly string[] },
): Promise<AdapterFile> {
  if (typeof source === "string") {
    if (isPickle(source)) throw await misnamed(source) ?? pickled(source);
    if (isSafetensors(source)) return await openBeside(await fileSource(source), folderOf(source));
    return await openFrom(await openFolder(source), options);
  }
  if (source instanceof URL && !isSafetensors(source.pathname)) return await openFrom(await openTree(source), options);
  if (typeof source === "object" && source !== null && "subtree" in source) return await openFrom(source, options);
  return await openBeside(await openSource(source), source instanceof URL ? new URL(".", source) : undefined);
}

/**
 * The configuration beside an adapter file on disk, if it belongs to the file.
 *
 * @throws {CheckpointError} if it is not JSON
 */
export async function configBeside(path: string, weights: Weights): Promise<unknown> {
  return await configOf(folderOf(path), "", weights);
}

/** The folder of a path. */
function folderOf(path: string): string {
  const folder = /^(.*)[\\/][^\\/]*$/.exec(path)?.[1] ?? ".";
  return folder === "" ? "/" : folder;
}

/** Opens a file, with the configuration in its folder; without a folder there is none. */
async function openBeside(source: ByteSource, folder: string | URL | undefined): Promise<AdapterFile> {
  const weights = await SafetensorsFile.open(source);
  try {
    return adapterFile(weights, folder === undefined ? undefined : await configOf(folder, "", weights));
  } catch (error) {
    weights.close();
    throw error;
  }
}

async function openFolder(source: string): Promise<FileTree> {
  try {
    return await openTree(source);
  } catch (error) {
    if (!isMissingFolder(error) || !await mayBeHubId(source)) throw error;
    return await openHub(source);
  }
}

async function openFrom(
  tree: FileTree,
  { weightName, defaultNames }: AdapterFileOptions & { defaultNames: readonly string[] },
): Promise<AdapterFile> {
  const path = await fileIn(tree, weightName, defaultNames);
  const weights = await SafetensorsFile.open(await tree.open(path));
  try {
    return adapterFile(weights, await configOf(tree, path.replace(/[^/]*$/, ""), weights));
  } catch (error) {
    weights.close();
    throw error;
  }
}

async function fileIn(
  tree: FileTree,
  weightName: string | undefined,
  defaultNames: readonly string[],
): Promise<string> {
  if (weightName !== undefined) {
    if (isPickle(weightName)) throw pickled(`${tree.name}/${weightName}`);
    return weightName;
  }
  for (const name of defaultNames) if (await tree.has(name)) return name;
  const files = await tree.list();
  const candidates = files.filter(isSafetensors);
  if (candidates.length === 1) return candidates[0];
  const pickles = files.filter((file) => isPickle(file));
  if (candidates.length === 0 && pickles.length > 0) throw pickled(`${tree.name}/${pickles[0]}`);
  throw new AdapterError(
    `Cannot choose a file of ${tree.name} as it holds ${candidates.length} .safetensors files: ${advise("chooseFile")}${
      candidates.length > 0 ? ` (${candidates.join(", ")})` : ""
    }`,
    { source: tree.name, keys: [] },
  );
}

/**
 * Reads the configuration of a folder. It belongs to a file with PEFT's keys: other files in one
 * folder with it, such as a collection of downloads, state their scale themselves.
 */
export async function configOf(folder: string | URL | FileTree, path: string, weights: Weights): Promise<unknown> {
  const isPeft = [...weights.tensors.keys()].some((key) =>
    /\.(lora_[AB]|lora_magnitude_vector|hada_w\d|lokr_w\d)/.test(key) && !/^(lora|lycoris)_/.test(key)
  );
  if (!isPeft) return undefined;
  const tree = await openTree(folder);
  return await tree.has(path + configName) ? await tree.readJson(path + configName) : undefined;
}

function adapterFile(weights: Weights, config: unknown): AdapterFile {
  return { weights, config, [Symbol.dispose]: () => weights.close() };
}

/** The error for a safetensors file on disk under a pickle's name; `undefined` for other files. */
async function misnamed(path: string): Promise<AdapterError | undefined> {
  try {
    using file = await fileSource(path).then((source) => ({ source, [Symbol.dispose]: () => source.close?.() }));
    const head = await file.source.read(0, 9);
    if (head[8] !== 0x7b) return undefined; // "{": a header
  } catch {
    return undefined; // there is no such file, or it is shorter than a header
  }
  return new AdapterError(
    `Cannot load ${path} as its ending says that it is a pickle and it holds safetensors: ` +
      `rename it to ${path.replace(/\.[^.]+$/, ".safetensors")}`,
    { source: path, keys: [] },
  );
}

function pickled(path: string): AdapterError {
  return new AdapterError(pickleMessage(path), { source: path, keys: [] });
}
