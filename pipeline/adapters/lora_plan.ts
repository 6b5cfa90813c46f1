/**
 * Decides from a file's header what a LoRA changes: which layer each module belongs to, in which
 * form, and whether it fits. Reads no tensor.
 */

import { AdapterError } from "../errors.ts";
import { floatDtypes } from "../checkpoint/safetensors/format.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { AdapterStack } from "./adapter_stack.ts";
import { misfit, trimmed, wholeMisfit } from "./layer_updates.ts";
import type { LayerNames } from "./layer_names.ts";
import { hintOf, listedKeys, notALora, shapeHint } from "./lora_family.ts";
import { type BundledEmbedding, type LoraModule, type LoraPart, type LoraTarget, parseLoraKeys } from "./lora_keys.ts";

/** A model as far as planning reads it. */
export interface LoraLayers {
  readonly names: LayerNames;
  /** The shape of a layer's weight; `undefined` for a model of unknown sizes. */
  readonly shapeOf: (path: string) => readonly number[] | undefined;
}

/** The models that a LoRA may change. */
export type LoraTargets = Readonly<Record<LoraTarget, LoraLayers>>;

/** The layers of a model that has been built. */
export function layersOf({ layers }: AdapterStack, names: LayerNames): LoraLayers {
  return { names, shapeOf: (path) => layers.get(path)!.layer.shape };
}

/** The forms that a change of a weight is stored in. */
export type LoraForm = "LoRA" | "LoCon (Tucker)" | "LoHa" | "LoKr" | "full difference" | "(IA)³" | "norm difference";

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
    const hint = notALora(weights) ?? (hintOf(unknown) || hintOf([...weights.tensors.keys()]));
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
    const shape = models[place.target].shapeOf(place.path) ?? impliedShape(weights, module.keys, form);
    const why = untyped(weights, module.keys) ?? unfit(weights, module.keys, form, shape);
    if (why !== undefined) misshapen.push([keys[0], why]);
    planned.push({
      ...place,
      form,
      rank: rankOf(weights, module.keys, form),
      isDora: module.keys.has("dora_scale") || module.keys.has("magnitude"),
      keys: module.keys,
    });
  }
  if (strangers.length > 0) {
    const hint = hintOf(strangers) || shapeHint(weights, modules, models);
    throw refusal(source, "the model has no layers for these keys", strangers, hint);
  }
  if (incomplete.length > 0) throw refusal(source, "each layer needs two factors, or a whole form", incomplete);
  if (misshapen.length > 0) {
    const hint = shapeHint(weights, modules, models);
    const keys = misshapen.map(([key]) => key), whys = new Map(misshapen);
    throw refusal(source, "these updates do not fit their layers", keys, hint, (key) => `${key}: ${whys.get(key)}`);
  }
  return { modules: planned, embeddings };
}

/** An error about a LoRA file and keys of it. */
export function refusal(
  source: string,
  reason: string,
  keys: readonly string[],
  hint = "",
  line = (key: string) => key,
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
    const path = models[candidate].names.get(name);
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

/** The number that α is divided by. */
function rankOf(weights: Weights, keys: ReadonlyMap<LoraPart, string>, form: LoraForm): number | undefined {
  const rows = (part: LoraPart) => keys.has(part) ? weights.info(keys.get(part)!).shape[0] : undefined;
  if (form === "LoRA" || form === "LoCon (Tucker)") return rows("down");
  if (form === "LoHa") return rows("w1_b");
  return form === "LoKr" ? rows("k2_b") ?? rows("k1_b") : undefined;
}

function untyped(weights: Weights, keys: ReadonlyMap<LoraPart, string>): string | undefined {
  for (const [part, key] of keys) {
    const { dtype, shape } = weights.info(key);
    if (part === "alpha" || part === "on_input") {
      if (shape.some((length) => length !== 1)) return `${key} must be one number: [${shape.join(", ")}]`;
    } else if (!floatDtypes.includes(dtype)) return `${key} is of type ${dtype}, not a float`;
  }
  return undefined;
}

/** The shape of the layer that a module's tensors are for, as far as they tell. */
function impliedShape(weights: Weights, keys: ReadonlyMap<LoraPart, string>, form: LoraForm): readonly number[] {
  const of = (part: LoraPart): readonly number[] => keys.has(part) ? weights.info(keys.get(part)!).shape : [];
  switch (form) {
    case "LoRA":
      return [of("up")[0], ...of("down").slice(1)];
    case "LoCon (Tucker)":
      return [of("up")[0], of("down")[1], ...of("mid").slice(2)];
    case "LoHa":
      return keys.has("t1")
        ? [of("w1_a")[1], of("w1_b")[1], ...of("t1").slice(2)]
        : [of("w1_a")[0], ...of("w1_b").slice(1)];
    case "LoKr": {
      const [a, b] = keys.has("k1") ? of("k1") : [of("k1_a")[0], of("k1_b")[1]];
      const [c, d, ...kernel] = secondKronecker(keys, of);
      return [a * c, b * d, ...kernel];
    }
    case "full difference":
      return keys.has("diff") ? of("diff") : of("diff_b");
    case "norm difference":
      return keys.has("w_norm") ? of("w_norm") : of("b_norm");
    case "(IA)³":
      return [size(of("gain")), size(of("gain"))];
  }
}

/** Shape of LoKr's second factor. */
function secondKronecker(
  keys: ReadonlyMap<LoraPart, string>,
  of: (part: LoraPart) => readonly number[],
): readonly number[] {
  if (keys.has("k2")) return of("k2");
  return keys.has("kt2")
    ? [of("k2_a")[1], of("k2_b")[1], ...of("kt2").slice(2)]
    : [of("k2_a")[0], ...of("k2_b").slice(1)];
}

/** Why a module's tensors do not fit a layer of `shape` [out, in, …]. */
function unfit(
  weights: Weights,
  keys: ReadonlyMap<LoraPart, string>,
  form: LoraForm,
  shape: readonly number[],
): string | undefined {
  const of = (part: LoraPart): readonly number[] => weights.info(keys.get(part)!).shape;
  const [out, inputs] = shape, window = size(shape.slice(2));
  if (keys.has("diff_b") || keys.has("b_norm") || keys.has("up_bias")) {
    const part = keys.has("diff_b") ? "diff_b" : keys.has("b_norm") ? "b_norm" : "up_bias";
    const why = wholeMisfit([out], of(part));
    if (why !== undefined) return why;
  }
  if (keys.has("dora_scale") || keys.has("magnitude")) {
    const length = size(of(keys.has("dora_scale") ? "dora_scale" : "magnitude"));
    if (length !== out && length !== inputs) return `its magnitudes must be ${out} or ${inputs}: ${length}`;
  }
  switch (form) {
    case "LoRA":
      return misfit(shape, of("down"), of("up"));
    case "LoCon (Tucker)": {
      const [rows, columns, ...kernel] = of("mid");
      const down = [rows, inputs, ...kernel]; // what core and second factor make together
      if (trimmed(of("down")).join() !== trimmed([columns, inputs]).join()) {
        return `down must be [${columns}, ${inputs}]: [${of("down").join(", ")}]`;
      }
      return misfit(shape, down, of("up"));
    }
    case "LoHa":
      return halfMisfit(of("w1_a"), of("w1_b"), keys.has("t1") ? of("t1") : undefined, [out, inputs, window]) ??
        halfMisfit(of("w2_a"), of("w2_b"), keys.has("t2") ? of("t2") : undefined, [out, inputs, window]);
    case "LoKr": {
      const [a, b] = keys.has("k1") ? of("k1") : [of("k1_a")[0], of("k1_b")[1]];
      const [c, d, ...kernel] = secondKronecker(keys, of);
      if (a * c === out && b * d === inputs && size(kernel) === window) return undefined;
      return `its factors [${a}, ${b}] and [${[c, d, ...kernel].join(", ")}] do not make [${shape.join(", ")}]`;
    }
    case "full difference":
      return keys.has("diff") ? wholeMisfit(shape, of("diff")) : undefined;
    case "norm difference":
      if (shape.length > 1) return "only a normalization has such a change";
      return keys.has("w_norm") ? wholeMisfit(shape, of("w_norm")) : undefined;
    case "(IA)³": {
      const length = size(of("gain"));
      return length === out || length === inputs ? undefined : `it must be ${out} or ${inputs} long: ${length}`;
    }
  }
}

/** One half of LoHa: a [out, r], b [r, inside]; with a core [r, s, …] a [r, out], b [s, in]. */
function halfMisfit(
  a: readonly number[],
  b: readonly number[],
  core: readonly number[] | undefined,
  [out, inputs, window]: readonly [number, number, number],
): string | undefined {
  const fits = core
    ? a[0] === core[0] && a[1] === out && b[0] === core[1] && b[1] === inputs && size(core.slice(2)) === window
    : a[0] === out && a[1] === b[0] && size(b.slice(1)) === inputs * window;
  if (fits) return undefined;
  const shapes = [a, b, ...core ? [core] : []].map((shape) => `[${shape.join(", ")}]`).join(" and ");
  return `its factors ${shapes} do not make ${out} outputs and ${inputs} × ${window} inputs`;
}

function size(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}
