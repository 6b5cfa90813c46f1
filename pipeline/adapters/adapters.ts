/**
 * Loads LoRAs and textual inversions into the components of a pipeline. Neither modifies the
 * model's weights.
 */

import { AdapterError } from "../errors.ts";
import type { ByteSource } from "../checkpoint/source/byte_source.ts";
import { fileSource, openTree } from "../checkpoint/source/disk.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { isHubId, openHub } from "../checkpoint/hub/hub.ts";
import { disposeUpdates, readLora } from "./lora.ts";
import { isPickle, pickleMessage } from "../checkpoint/source/pickle.ts";
import { SafetensorsFile } from "../checkpoint/safetensors/safetensors_file.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { CLIPTextModel } from "../models/clip_text.ts";
import type { UNet2DConditionModel } from "../models/unet.ts";
import { readTextualInversion } from "./textual_inversion.ts";
import type { CLIPTokenizer } from "../text/tokenizer.ts";

/** Location of an adapter: a .safetensors file, a folder that holds one, or a hub model. */
export type AdapterSource = string | ByteSource | FileTree;

/** Selects the file when the source is a folder. */
export interface AdapterFileOptions {
  /** Default: the file name that diffusers writes, otherwise the only .safetensors file. */
  readonly weightName?: string;
}

/** Options of {@linkcode StableDiffusionPipeline.loadLoraWeights}. */
export interface LoadLoraOptions extends AdapterFileOptions {
  /** Name of the LoRA. Default: the file name without its extension. */
  readonly name?: string;
  /**
   * Weight, multiplied by the scale of each call: 0 disables the LoRA, 1 is the trained strength.
   * Default: 1.
   */
  readonly weight?: number;
}

/** Options of {@linkcode StableDiffusionPipeline.loadTextualInversion}. */
export interface LoadTextualInversionOptions extends AdapterFileOptions {
  /** The token to write in prompts. Default: the token stored in the file. */
  readonly token?: string;
}

/** The components that LoRAs adapt. */
interface Adaptable {
  readonly unet: UNet2DConditionModel;
  readonly textEncoder: CLIPTextModel;
}

/** The components that textual inversions extend. */
interface Teachable {
  readonly tokenizer: CLIPTokenizer;
  readonly textEncoder: CLIPTextModel;
}

const stacksOf = ({ unet, textEncoder }: Adaptable) => ({
  unet: unet.weights.adapters,
  text_encoder: textEncoder.weights.adapters,
});

/** The weights of the loaded LoRAs, by name. */
export function loraWeights(components: Adaptable): ReadonlyMap<string, number> {
  const { unet, text_encoder } = stacksOf(components);
  return new Map([...text_encoder.weights, ...unet.weights]);
}

/**
 * Adds a LoRA to a UNet and a text encoder.
 *
 * @returns its name
 * @throws {AdapterError} if the file is not a LoRA, does not fit the model, or the name is in use
 */
export async function loadLora(
  components: Adaptable,
  source: AdapterSource,
  options: LoadLoraOptions = {},
): Promise<string> {
  const { weight = 1 } = options;
  checkWeight(weight);
  using file = await openAdapter(source, { defaultName: "pytorch_lora_weights.safetensors", ...options });
  const name = options.name ?? file.name.replace(/^.*[\\/]/, "").replace(/\.safetensors$/, "");
  const stacks = stacksOf(components);
  const updates = await readLora(components.unet.gpu, file, stacks);
  try {
    // after the last await, so no other load can interleave
    if (loraWeights(components).has(name)) {
      throw new AdapterError(`Cannot load ${file.name} as a LoRA is loaded by the name of ${JSON.stringify(name)}`, {
        source: file.name,
        keys: [],
      });
    }
    // Added to both stacks, even when empty, so that both list every name.
    stacks.unet.add(name, weight, updates.unet);
    stacks.text_encoder.add(name, weight, updates.text_encoder);
  } finally {
    disposeUpdates(updates);
  }
  return name;
}

/**
 * Unloads one LoRA, or all of them.
 *
 * @throws {RangeError} if no LoRA has that name
 */
export function unloadLora(components: Adaptable, name?: string): void {
  const names = [...loraWeights(components).keys()];
  if (name !== undefined && !names.includes(name)) throw unknownLora(name, names);
  for (const one of name === undefined ? names : [name]) {
    for (const stack of Object.values(stacksOf(components))) stack.remove(one);
  }
}

/**
 * Sets the weights of the named LoRAs, and 0 for all others.
 *
 * @throws {RangeError} if no LoRA has a given name, or a weight is missing or not finite
 */
export function weightLoras(
  components: Adaptable,
  names: string | readonly string[],
  weights: number | readonly number[] = 1,
): void {
  const chosen = typeof names === "string" ? [names] : names;
  const each = typeof weights === "number" ? chosen.map(() => weights) : weights;
  if (each.length !== chosen.length) {
    throw new RangeError(`Cannot weight ${chosen.length} LoRAs with ${each.length} weights: give one, or as many`);
  }
  each.forEach(checkWeight);
  const loaded = [...loraWeights(components).keys()];
  for (const name of chosen) if (!loaded.includes(name)) throw unknownLora(name, loaded);
  for (const name of loaded) {
    const place = chosen.indexOf(name);
    for (const stack of Object.values(stacksOf(components))) stack.reweight(name, place < 0 ? 0 : each[place]);
  }
}

/**
 * Adds a token and its embeddings to a tokenizer and a text encoder.
 *
 * @returns the token
 * @throws {AdapterError} if the file is not a textual inversion, or does not fit the model
 * @throws {PromptError} if the tokenizer already has the token
 */
export async function loadTextualInversion(
  { tokenizer, textEncoder }: Teachable,
  source: AdapterSource,
  options: LoadTextualInversionOptions = {},
): Promise<string> {
  using file = await openAdapter(source, { defaultName: "learned_embeds.safetensors", ...options });
  const { vectors, ...read } = await readTextualInversion(file, { width: textEncoder.config.hiddenSize });
  const token = options.token ?? read.token;
  const id = tokenizer.addToken(token, { vectors: vectors.length });
  vectors.forEach((vector, i) => textEncoder.setAddedToken(id + i, vector));
  return token;
}

/**
 * Unloads one textual inversion, or all of them.
 *
 * @throws {PromptError} if no textual inversion has that token
 */
export function unloadTextualInversion({ tokenizer, textEncoder }: Teachable, token?: string): void {
  for (const one of token === undefined ? tokenizer.addedTokens : [token]) {
    for (const id of tokenizer.removeToken(one)) textEncoder.setAddedToken(id, undefined);
  }
}

function checkWeight(weight: number): void {
  if (!Number.isFinite(weight)) throw new RangeError(`Cannot weight a LoRA by ${weight} as it must be a finite number`);
}

function unknownLora(name: string, loaded: readonly string[]): RangeError {
  return new RangeError(
    `Cannot find a LoRA by the name of ${JSON.stringify(name)}: loaded are ${loaded.join(", ") || "none"}`,
  );
}

async function openAdapter(
  source: AdapterSource,
  options: AdapterFileOptions & { defaultName: string },
): Promise<Weights> {
  if (typeof source === "string") {
    if (isPickle(source)) throw pickled(source);
    if (source.toLowerCase().endsWith(".safetensors")) return await SafetensorsFile.open(await fileSource(source));
    return await openFrom(await openFolder(source), options);
  }
  return "subtree" in source ? await openFrom(source, options) : await SafetensorsFile.open(source);
}

async function openFolder(source: string): Promise<FileTree> {
  try {
    return await openTree(source);
  } catch (error) {
    if (!isHubId(source) || !source.includes("/")) throw error;
    return await openHub(source);
  }
}

async function openFrom(
  tree: FileTree,
  { weightName, defaultName }: AdapterFileOptions & { defaultName: string },
): Promise<Weights> {
  if (weightName !== undefined && isPickle(weightName)) throw pickled(`${tree.name}/${weightName}`);
  const path = weightName ?? defaultName;
  if (weightName !== undefined || await tree.has(path)) return await SafetensorsFile.open(await tree.open(path));
  const files = await tree.list();
  const candidates = files.filter((file) => file.endsWith(".safetensors"));
  if (candidates.length === 1) return await SafetensorsFile.open(await tree.open(candidates[0]));
  const pickles = files.filter((file) => isPickle(file));
  if (candidates.length === 0 && pickles.length > 0) throw pickled(`${tree.name}/${pickles[0]}`);
  throw new AdapterError(
    `Cannot choose a file of ${tree.name} as it holds ${candidates.length} .safetensors files: name one by weightName${
      candidates.length > 0 ? ` (${candidates.join(", ")})` : ""
    }`,
    { source: tree.name, keys: [] },
  );
}

function pickled(path: string): AdapterError {
  return new AdapterError(pickleMessage(path), { source: path, keys: [] });
}
