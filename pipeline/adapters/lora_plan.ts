/**
 * Decides from a file's header what a LoRA changes: which layer each module belongs to, in which
 * form, and whether it fits. Reads no tensor.
 */

import { AdapterError } from "../errors.ts";
import { nameText } from "../safe_text.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { AdapterStack } from "./adapter_stack.ts";
import type { LayerNames } from "./layer_names.ts";
import { hintOf, listedKeys, notALora, shapeHint, textOnlyHint } from "./lora_family.ts";
import {
  type BundledEmbedding,
  type LoraModule,
  type LoraPart,
  type LoraTarget,
  parseLoraKeys,
  type PerTarget,
} from "./lora_keys.ts";
import { impliedShape, type LoraForm, rankOf, unfit, untyped } from "./lora_shapes.ts";

/** A model as far as planning reads it. */
export interface LoraLayers {
  readonly names: LayerNames;
  /** The shape of a layer's weight; `undefined` for a model of unknown sizes. */
  readonly shapeOf: (path: string) => readonly number[] | undefined;
}

/** The models that a LoRA may change. */
export type LoraTargets = PerTarget<LoraLayers>;

/** The layers of a model that has been built. */
export function layersOf({ layers }: AdapterStack, names: LayerNames): LoraLayers {
  return { names, shapeOf: (path) => layers.get(path)!.layer.shape };
}

/** One module's place in a model. */
export interface PlannedModule {
  readonly target: LoraTarget;
  /** The layer's key in the model. */
  readonly path: string;
  readonly form: LoraForm;
  /** The rank that α is divided by; `undefined` where α does not count. */
  readonly rank: number | undefined;
  /** Whether magnitudes rescale the changed weight. */
  readonly isDora: boolean;
  /** Keys of the file, by part. */
  readonly keys: ReadonlyMap<LoraPart, string>;
}

/** What a file changes. */
export interface LoraPlan {
  readonly modules: readonly PlannedModule[];
  readonly embeddings: readonly BundledEmbedding[];
}

/**
 * Plans a LoRA.
 *
 * @throws {AdapterError} that lists every key of unknown form or layer, every wrong shape, and
 *   every tensor of another type than a float; it names what the file is for, where it tells
 */
export function planLora(weights: Weights, models: LoraTargets): LoraPlan {
  const source = weights.name;
  const { modules, embeddings, unknown, doubles } = parseLoraKeys(weights.tensors.keys());
  if (unknown.length > 0) {
    const hint = notALora(weights) ?? (hintOf(unknown, models) || hintOf([...weights.tensors.keys()], models));
    throw refusal(source, "these keys are not a LoRA's", unknown, hint);
  }
  if (doubles.length > 0) throw refusal(source, twice, doubles);
  if (modules.length + embeddings.length === 0) throw refusal(source, "it holds no tensors", []);
  const planned: PlannedModule[] = [];
  const strangers: string[] = [], incomplete: string[] = [], misshapen: [key: string, why: string][] = [];
  for (const module of modules) {
    const keys = [...module.keys.values()];
    const place = placeOf(module, models);
    if (place === undefined) {
      strangers.push(...keys);
      continue;
    }
    const twin = planned.find((other) => other.target === place.target && other.path === place.path);
    if (twin) throw refusal(source, twice, [[...twin.keys.values()][0], keys[0]]);
    const form = formOf(module.keys);
    if (form === undefined) {
      incomplete.push(...keys);
      continue;
    }
    const shape = models[place.target]!.shapeOf(place.path) ?? impliedShape(weights, module.keys, form);
    const why = untyped(weights, module.keys) ?? unfit(weights, module.keys, form, shape);
    const weight = keys.find((key) => key !== module.keys.get("alpha")) ?? keys[0];
    if (why !== undefined) misshapen.push([weight, why]);
    planned.push({
      ...place,
      form,
      rank: rankOf(weights, module.keys, form),
      isDora: module.keys.has("dora_scale") || module.keys.has("magnitude"),
      keys: module.keys,
    });
  }
  if (strangers.length > 0) {
    const hint = hintOf(strangers, models) || shapeHint(weights, modules, models);
    throw refusal(source, "the model has no layers for these keys", strangers, hint);
  }
  if (incomplete.length > 0) throw refusal(source, "each layer needs two factors, or a whole form", incomplete);
  if (misshapen.length > 0) {
    const hint = shapeHint(weights, modules, models);
    const keys = misshapen.map(([key]) => key), whys = new Map(misshapen);
    throw refusal(
      source,
      "these updates do not fit their layers",
      keys,
      hint,
      (key) => `${nameText(key)}: ${whys.get(key)}`,
    );
  }
  const hint = textOnlyHint(weights, planned, models);
  if (hint !== "") {
    throw refusal(
      source,
      "it changes the text encoder of another family of models",
      planned.flatMap(({ keys }) => [...keys.values()]),
      hint,
    );
  }
  return { modules: planned, embeddings };
}

/** An error about a LoRA file and keys of it. */
export function refusal(
  source: string,
  reason: string,
  keys: readonly string[],
  hint = "",
  line: (key: string) => string = (key) => nameText(key),
): AdapterError {
  const colon = keys.length > 0 ? ":" : "";
  return new AdapterError(
    `Cannot load ${source} as a LoRA as ${reason}${hint === "" ? "" : `. ${hint}`}${colon}${listedKeys(keys, line)}`,
    { source, keys },
  );
}

const twice = "it updates a layer twice";

function placeOf({ target, name }: LoraModule, models: LoraTargets): { target: LoraTarget; path: string } | undefined {
  for (const candidate of target === undefined ? ["unet", "text_encoder"] as const : [target]) {
    const path = models[candidate]?.names.get(name);
    if (path !== undefined) return { target: candidate, path };
  }
  return undefined;
}

/** The form that a module's parts make up; `undefined` if one is missing or too much. */
function formOf(keys: ReadonlyMap<LoraPart, string>): LoraForm | undefined {
  for (const { form, needed, optional } of formParts) {
    if (!needed.every((choices) => choices.some((parts) => parts.every((part) => keys.has(part))))) continue;
    const known = new Set([...needed.flat(2), ...optional]);
    return [...keys.keys()].every((part) => known.has(part)) ? form : undefined;
  }
  return undefined;
}

interface FormParts {
  readonly form: LoraForm;
  /** For each piece of the form the sets of parts that can be it. */
  readonly needed: readonly (readonly (readonly LoraPart[])[])[];
  readonly optional: readonly LoraPart[];
}

const decomposed: readonly LoraPart[] = ["alpha", "dora_scale", "magnitude", "diff_b"];

const formParts: readonly FormParts[] = [
  { form: "LoCon (Tucker)", needed: [[["down", "mid", "up"]]], optional: decomposed },
  { form: "LoRA", needed: [[["down", "up"]]], optional: [...decomposed, "up_bias"] },
  { form: "LoHa", needed: [[["w1_a", "w1_b", "w2_a", "w2_b"]]], optional: [...decomposed, "t1", "t2"] },
  {
    form: "LoKr",
    needed: [[["k1"], ["k1_a", "k1_b"]], [["k2"], ["k2_a", "k2_b"]]],
    optional: [...decomposed, "kt2"],
  },
  { form: "full difference", needed: [[["diff"], ["diff_b"]]], optional: ["alpha"] },
  { form: "norm difference", needed: [[["w_norm"], ["b_norm"]]], optional: ["alpha"] },
  { form: "(IA)³", needed: [[["gain"]]], optional: ["on_input", "alpha"] },
];
