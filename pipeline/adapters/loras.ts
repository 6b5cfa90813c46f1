/** Loads LoRAs into the components of a pipeline. The models' weights are not modified. */

import { countText } from "../../engine/inspect.ts";
import { AdapterError, OptionError } from "../errors.ts";
import { checkOptions, kinds, type OptionTable, shown } from "../options.ts";
import type { CLIPTextEncoder, CLIPTextModel } from "../models/clip_text.ts";
import type { CLIPTextModelWithProjection } from "../models/clip_text_projection.ts";
import type { UNet2DConditionModel } from "../models/unet.ts";
import { forgetFile, rememberFile } from "./adapter_files.ts";
import { isTaught, refuseReleased, teach, type Teachable, widthsOf } from "./added_tokens.ts";
import { textEncoderLayerNames, unetLayerNames } from "./layer_names.ts";
import { disposeLora, readLora } from "./lora.ts";
import { layersOf, type LoraTargets, planLora } from "./lora_plan.ts";
import { checkDora, readLoraConfigs } from "./lora_scale.ts";
import { type AdapterFileOptions, type AdapterSource, loraFileNames, openAdapter } from "./open_adapter.ts";
import type { AdapterStack } from "./adapter_stack.ts";
import type { LoraTarget, PerTarget } from "./lora_keys.ts";
import { readBundled, type TextualInversion } from "./textual_inversion.ts";

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

/** The options of {@linkcode loadLora} and their kinds. */
const loraTable: OptionTable<LoadLoraOptions> = { weightName: kinds.text, name: kinds.text, weight: kinds.anything };

/** The components that LoRAs adapt. */
export interface Adaptable {
  readonly unet: UNet2DConditionModel;
  readonly textEncoder: CLIPTextModel;
  /** The second text encoder, of SDXL. */
  readonly textEncoder2?: CLIPTextModelWithProjection;
}

/** The adapter stacks of the components. */
export const stacksOf = ({ unet, textEncoder, textEncoder2 }: Adaptable): PerTarget<AdapterStack> => ({
  unet: unet.weights.adapters,
  text_encoder: textEncoder.weights.adapters,
  ...(textEncoder2 ? { text_encoder_2: textEncoder2.weights.adapters } : {}),
});

/** The weights of the loaded LoRAs, by name. */
export function loraWeights(components: Adaptable): ReadonlyMap<string, number> {
  const { unet, text_encoder } = stacksOf(components);
  return new Map([...text_encoder.weights, ...unet.weights]);
}

/** What {@linkcode loadLora} adds to. */
type LoraComponents = Adaptable & Teachable;

/** The layers that LoRAs can change. */
export function loraTargets({ unet, textEncoder, textEncoder2 }: Adaptable): LoraTargets {
  const ofText = ({ config, weights: { adapters } }: CLIPTextEncoder) =>
    layersOf(adapters, textEncoderLayerNames(config, adapters.layers.keys()));
  const { adapters } = unet.weights;
  return {
    unet: layersOf(adapters, unetLayerNames(unet.config, adapters.layers.keys())),
    text_encoder: ofText(textEncoder),
    ...(textEncoder2 ? { text_encoder_2: ofText(textEncoder2) } : {}),
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
  const encoders = { text_encoder: textEncoder, text_encoder_2: components.textEncoder2, unet: undefined };
  const changed = plan.modules.map(({ target }) => encoders[target]);
  const taught = plan.embeddings.length > 0 ? [teachable.textEncoder, teachable.textEncoder2] : [];
  refuseReleased(weights.name, "this LoRA", [...changed, ...taught]);
  const configs = readLoraConfigs(weights.name, { metadata: weights.metadata, file: file.config });
  checkDora(weights.name, plan.modules, configs);
  const embeddings: TextualInversion[] = [];
  for (const bundled of plan.embeddings) embeddings.push(await readBundled(weights, bundled, widthsOf(components)));
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
    // Added to all stacks, even when empty, so that each lists every name.
    for (const [target, stack] of Object.entries(stacks)) stack.add(name, weight, updates[target as LoraTarget]);
    if (embeddings.length > 0 && teachable === components) {
      const ofEncoder = bundles.get(textEncoder) ?? new Map<string, () => void>();
      bundles.set(textEncoder, ofEncoder.set(name, unteach));
    }
    rememberFile(textEncoder, loraKey(name), weights.name);
    return name;
  } finally {
    disposeLora(updates);
  }
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
    forgetFile(components.textEncoder, loraKey(one));
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
    throw new OptionError(
      `Cannot weight ${countText(chosen.length, "LoRA")} with ${
        countText(each.length, "weight")
      }: give one, or as many`,
      {
        option: "weights",
        value: weights,
      },
    );
  }
  each.forEach(checkWeight);
  const loaded = [...loraWeights(components).keys()];
  for (const name of chosen) if (!loaded.includes(name)) throw unknownLora(name, loaded);
  for (const name of loaded) {
    const place = chosen.indexOf(name);
    for (const stack of Object.values(stacksOf(components))) stack.reweight(name, place < 0 ? 0 : each[place]);
  }
}

const loraKey = (name: string) => `LoRA ${name}`;

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
