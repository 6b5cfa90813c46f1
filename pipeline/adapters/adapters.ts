/**
 * Loads LoRAs and textual inversions into the components of a pipeline. Neither modifies the
 * model's weights.
 */

import { AdapterError, OptionError } from "../errors.ts";
import { checkOptions, either, kinds, listOf, type OptionTable, shown } from "../options.ts";
import type { CLIPTextModel } from "../models/clip_text.ts";
import type { UNet2DConditionModel } from "../models/unet.ts";
import type { CLIPTokenizer } from "../text/tokenizer.ts";
import { textEncoderLayerNames, unetLayerNames } from "./layer_names.ts";
import { disposeLora, readLora } from "./lora.ts";
import { layersOf, type LoraTargets, planLora } from "./lora_plan.ts";
import { checkDora, readLoraConfigs } from "./lora_scale.ts";
import { type AdapterFileOptions, type AdapterSource, loraFileNames, openAdapter } from "./open_adapter.ts";
import { readBundled, readTextualInversions, type TextualInversion } from "./textual_inversion.ts";

/** Options of {@linkcode StableDiffusionPipeline.loadLoraWeights}. */
export interface LoadLoraOptions extends AdapterFileOptions {
  /**
   * Name of the LoRA. Default: the file name without its extension, with _1, _2, … where a LoRA of
   * that name is loaded.
   */
  readonly name?: string;
  /**
   * Weight, multiplied by the scale of each call: 0 disables the LoRA, 1 is the trained strength.
   * Default: 1.
   */
  readonly weight?: number;
}

/** Options of {@linkcode StableDiffusionPipeline.loadTextualInversion}. */
export interface LoadTextualInversionOptions extends AdapterFileOptions {
  /**
   * The token to write in prompts, or one for each of several embeddings. Default: the tokens that
   * the files name.
   */
  readonly token?: string | readonly string[];
}

/** The options of {@linkcode loadLora} and their kinds. */
const loraTable: OptionTable<LoadLoraOptions> = { weightName: kinds.text, name: kinds.text, weight: kinds.anything };

/** The options of {@linkcode loadTextualInversion} and their kinds. */
const textualInversionTable: OptionTable<LoadTextualInversionOptions> = {
  weightName: kinds.text,
  token: either(kinds.text, listOf(kinds.text, "strings")),
};

/** The components that LoRAs adapt. */
interface Adaptable {
  readonly unet: UNet2DConditionModel;
  readonly textEncoder: CLIPTextModel;
}

/** What textual inversions extend: a tokenizer, and embeddings by token id. */
export interface Teachable {
  readonly tokenizer: CLIPTokenizer;
  readonly textEncoder: Pick<CLIPTextModel, "config" | "addedTokens" | "setAddedToken">;
}

/** The adapter stacks of the components. */
export const stacksOf = ({ unet, textEncoder }: Adaptable) => ({
  unet: unet.weights.adapters,
  text_encoder: textEncoder.weights.adapters,
});

/** The weights of the loaded LoRAs, by name. */
export function loraWeights(components: Adaptable): ReadonlyMap<string, number> {
  const { unet, text_encoder } = stacksOf(components);
  return new Map([...text_encoder.weights, ...unet.weights]);
}

/** What {@linkcode loadLora} adds to. */
type LoraComponents = Adaptable & Teachable;

/** The layers that LoRAs can change. */
export function loraTargets({ unet, textEncoder }: Adaptable): LoraTargets {
  const stacks = stacksOf({ unet, textEncoder });
  return {
    unet: layersOf(stacks.unet, unetLayerNames(unet.config, stacks.unet.layers.keys())),
    text_encoder: layersOf(
      stacks.text_encoder,
      textEncoderLayerNames(textEncoder.config, stacks.text_encoder.layers.keys()),
    ),
  };
}

/** Removes the tokens that came with a LoRA, by text encoder and name. */
const bundles = new WeakMap<CLIPTextModel, Map<string, () => void>>();

/**
 * Adds a LoRA to a UNet and a text encoder, and teaches the embeddings that the file bundles.
 *
 * @param teachable what learns bundled embeddings. Default: the components, until the LoRA is
 *   unloaded.
 * @returns its name
 * @throws {AdapterError} if the file is not a LoRA, does not fit the model, or a given name is in
 *   use
 * @throws {PromptError} if the tokenizer already has the token of a bundled embedding
 */
export async function loadLora(
  components: LoraComponents,
  source: AdapterSource,
  options: LoadLoraOptions = {},
  teachable: Teachable = components,
): Promise<string> {
  checkOptions("load a LoRA", options, loraTable);
  const { weight = 1 } = options;
  checkWeight(weight);
  const { textEncoder, unet } = components;
  using file = await openAdapter(source, { defaultNames: loraFileNames, ...options });
  const { weights } = file;
  const stacks = stacksOf(components);
  const plan = planLora(weights, loraTargets(components));
  const configs = readLoraConfigs(weights.name, { metadata: weights.metadata, file: file.config });
  checkDora(weights.name, plan.modules, configs);
  const embeddings: TextualInversion[] = [];
  for (const bundled of plan.embeddings) {
    embeddings.push(await readBundled(weights, bundled, textEncoder.config.hiddenSize));
  }
  const updates = await readLora(unet.gpu, weights, plan, { stacks, configs });
  try {
    // after the last await, so no other load can interleave
    const loaded = loraWeights(components);
    if (options.name !== undefined && loaded.has(options.name)) {
      throw new AdapterError(
        `Cannot load ${weights.name} as a LoRA is loaded by the name of ${JSON.stringify(options.name)}`,
        { source: weights.name, keys: [] },
      );
    }
    const name = options.name ?? freeName(weights.name, loaded);
    const added = new Set(teachable.tokenizer.addedTokens);
    const unteach = teach(teachable, embeddings.filter((embedding) => !isTaught(teachable, embedding, added)));
    // Added to both stacks, even when empty, so that both list every name.
    stacks.unet.add(name, weight, updates.unet);
    stacks.text_encoder.add(name, weight, updates.text_encoder);
    if (embeddings.length > 0 && teachable === components) {
      const ofEncoder = bundles.get(textEncoder) ?? new Map<string, () => void>();
      bundles.set(textEncoder, ofEncoder.set(name, unteach));
    }
    return name;
  } finally {
    disposeLora(updates);
  }
}

/** Whether a token with the same embeddings is there already: a LoRA may be loaded twice. */
function isTaught(
  { tokenizer, textEncoder }: Teachable,
  { token, vectors }: TextualInversion,
  added: ReadonlySet<string>,
): boolean {
  const id = added.has(token) ? tokenizer.idOf(token) : undefined;
  if (id === undefined || tokenizer.idOf(`${token}_${vectors.length}`) !== undefined) return false;
  return vectors.every((vector, i) => textEncoder.addedTokens.get(id + i)?.every((value, at) => value === vector[at]));
}

/** A file's name without folder and extension, numbered if it is taken. */
function freeName(path: string, taken: ReadonlyMap<string, number>): string {
  const stem = path.replace(/^.*[\\/]/, "").replace(/\.(safetensors|sft)$/i, "");
  let name = stem;
  for (let i = 1; taken.has(name); i++) name = `${stem}_${i}`;
  return name;
}

/**
 * Unloads one LoRA, or all of them.
 *
 * @throws {OptionError} if no LoRA has that name
 */
export function unloadLora(components: Adaptable, name?: string): void {
  const names = [...loraWeights(components).keys()];
  if (name !== undefined && !names.includes(name)) throw unknownLora(name, names);
  for (const one of name === undefined ? names : [name]) {
    for (const stack of Object.values(stacksOf(components))) stack.remove(one);
    const bundled = bundles.get(components.textEncoder);
    bundled?.get(one)?.();
    bundled?.delete(one);
  }
}

/**
 * Sets the weights of the named LoRAs, and 0 for all others.
 *
 * @throws {OptionError} if no LoRA has a given name, or a weight is missing or not finite
 */
export function weightLoras(
  components: Adaptable,
  names: string | readonly string[],
  weights: number | readonly number[] = 1,
): void {
  const isText = (value: unknown) => typeof value === "string";
  if (!isText(names) && !(Array.isArray(names) && names.every(isText))) {
    throw new OptionError(`Cannot weight LoRAs as their names must be a string or a list of strings: ${shown(names)}`, {
      option: "names",
      value: names,
    });
  }
  const chosen = typeof names === "string" ? [names] : names;
  if (typeof weights !== "number" && !Array.isArray(weights)) {
    throw new OptionError(`Cannot weight LoRAs as weights must be a number or a list of numbers: ${shown(weights)}`, {
      option: "weights",
      value: weights,
    });
  }
  const each = typeof weights === "number" ? chosen.map(() => weights) : weights as readonly number[];
  if (each.length !== chosen.length) {
    throw new OptionError(`Cannot weight ${chosen.length} LoRAs with ${each.length} weights: give one, or as many`, {
      option: "weights",
      value: weights,
    });
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
 * Adds tokens and their embeddings to a tokenizer and a text encoder: all, or on an error none.
 *
 * @param sources one file with one or more tokens, or several files
 * @returns the tokens, in order
 * @throws {AdapterError} if a file is not a textual inversion, or does not fit the model
 * @throws {PromptError} if the tokenizer already has a token
 */
export async function loadTextualInversions(
  components: Teachable,
  sources: readonly AdapterSource[],
  options: LoadTextualInversionOptions = {},
): Promise<string[]> {
  checkOptions("load a textual inversion", options, textualInversionTable);
  const { token, ...where } = options;
  const tokens = typeof token === "string" ? [token] : token;
  if (sources.length > 1 && tokens !== undefined && tokens.length !== sources.length) {
    throw new AdapterError(
      `Cannot load ${sources.length} textual inversions by ${tokens.length} tokens: give one for each`,
      { source: "textual inversions", keys: [] },
    );
  }
  const read: TextualInversion[] = [];
  for (const [i, source] of sources.entries()) {
    using file = await openAdapter(source, { defaultNames: ["learned_embeds.safetensors"], ...where });
    read.push(
      ...await readTextualInversions(file.weights, {
        width: components.textEncoder.config.hiddenSize,
        tokens: sources.length > 1 ? tokens && [tokens[i]] : tokens,
      }),
    );
  }
  teach(components, read);
  return read.map(({ token }) => token);
}

/** Teaches tokens: all, or on an error none. Returns what takes them away again. */
function teach({ tokenizer, textEncoder }: Teachable, inversions: readonly TextualInversion[]): () => void {
  const taught: string[] = [];
  const unteach = () => {
    const added = new Set(tokenizer.addedTokens);
    for (const token of taught) {
      if (added.has(token)) unloadTextualInversion({ tokenizer, textEncoder }, token);
    }
  };
  try {
    for (const { token, vectors } of inversions) {
      const id = tokenizer.addToken(token, { vectors: vectors.length });
      vectors.forEach((vector, i) => textEncoder.setAddedToken(id + i, vector));
      taught.push(token);
    }
    return unteach;
  } catch (error) {
    unteach();
    throw error;
  }
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
  if (Number.isFinite(weight)) return;
  throw new OptionError(`Cannot weight a LoRA by ${shown(weight)} as it must be a finite number`, {
    option: "weight",
    value: weight,
  });
}

function unknownLora(name: string, loaded: readonly string[]): OptionError {
  return new OptionError(
    `Cannot find a LoRA by the name of ${shown(name)}: loaded are ${loaded.join(", ") || "none"}`,
    { option: "name", value: name },
  );
}
