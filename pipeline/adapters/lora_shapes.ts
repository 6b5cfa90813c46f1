/** Whether the tensors of a LoRA's module agree with each other and with its layer, by shape. */

import { floatDtypes } from "../checkpoint/safetensors/format.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import { nameText } from "../safe_text.ts";
import { misfit, trimmed, wholeMisfit } from "./layer_updates.ts";
import type { LoraPart } from "./lora_keys.ts";

/** The forms that a change of a weight is stored in. */
export type LoraForm = "LoRA" | "LoCon (Tucker)" | "LoHa" | "LoKr" | "full difference" | "(IA)³" | "norm difference";

/** The largest rank. Published files have 1024 at most. */
export const maxRank = 8192;

/** The number that α is divided by. */
export function rankOf(weights: Weights, keys: ReadonlyMap<LoraPart, string>, form: LoraForm): number | undefined {
  const rows = (part: LoraPart) => keys.has(part) ? weights.info(keys.get(part)!).shape[0] : undefined;
  if (form === "LoRA" || form === "LoCon (Tucker)") return rows("down");
  if (form === "LoHa") return rows("w1_b");
  return form === "LoKr" ? rows("k2_b") ?? rows("k1_b") : undefined;
}

/** Why a module's tensors are of types that an update cannot have. */
export function untyped(weights: Weights, keys: ReadonlyMap<LoraPart, string>): string | undefined {
  for (const [part, key] of keys) {
    const { dtype, shape } = weights.info(key);
    if (part === "alpha" || part === "on_input") {
      if (shape.some((length) => length !== 1)) return `its ${part} must be one number: [${shape.join(", ")}]`;
    } else if (!floatDtypes.includes(dtype)) return `${nameText(key)} is of type ${dtype}, not a float`;
  }
  return undefined;
}

/** The shape of the layer that a module's tensors are for, as far as they tell. */
export function impliedShape(weights: Weights, keys: ReadonlyMap<LoraPart, string>, form: LoraForm): readonly number[] {
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
export function unfit(
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
  if (keys.has("dora_scale") && keys.has("magnitude")) {
    return "its magnitudes are there twice, by LyCORIS' key and PEFT's";
  }
  if (keys.has("dora_scale") || keys.has("magnitude")) {
    const magnitudes = of(keys.has("dora_scale") ? "dora_scale" : "magnitude");
    if (magnitudeAxis(magnitudes, shape, keys.has("magnitude")) === undefined) {
      return `its magnitudes must be one for each of ${out} outputs${
        keys.has("magnitude") ? "" : `, or of ${inputs} inputs`
      }: [${magnitudes.join(", ")}]`;
    }
  }
  const rank = rankOf(weights, keys, form);
  if (rank !== undefined && !(rank >= 1 && rank <= maxRank)) return `its rank must be from 1 to ${maxRank}: ${rank}`;
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
      const why = kroneckerMisfit(keys, of);
      if (why !== undefined) return why;
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
      const fits = isVector(of("gain")) && (length === out || length === inputs);
      return fits ? undefined : `it must be ${out} or ${inputs} long: [${of("gain").join(", ")}]`;
    }
  }
}

/** Why the pieces of LoKr's two factors do not belong together. */
function kroneckerMisfit(
  keys: ReadonlyMap<LoraPart, string>,
  of: (part: LoraPart) => readonly number[],
): string | undefined {
  const whole = (part: LoraPart) => keys.has(part) && of(part).length < 2 ? [of(part)] : [];
  const flat = [...whole("k2"), ...keys.has("k1") && of("k1").length !== 2 ? [of("k1")] : []];
  for (const [a, b, core] of [["k1_a", "k1_b", undefined], ["k2_a", "k2_b", "kt2"]] as const) {
    if (!keys.has(a) || !keys.has(b)) continue;
    const [first, second, middle] = [of(a), of(b), core && keys.has(core) ? of(core) : undefined];
    if (first.length !== 2 || second.length < 2 || (middle && (second.length !== 2 || middle.length < 2))) {
      flat.push(first, second, ...middle ? [middle] : []);
      continue;
    }
    const agree = middle
      ? first[0] === middle[0] && second[0] === middle[1] && first[0] > 0 && second[0] > 0
      : first[1] === second[0] && first[1] > 0;
    if (!agree) {
      const shapes = [first, second, ...middle ? [middle] : []].map((shape) => `[${shape.join(", ")}]`);
      return `the ranks of its factors must agree and be above 0: ${shapes.join(" and ")}`;
    }
  }
  if (flat.length === 0) return undefined;
  return `its factors must be matrices: ${flat.map((shape) => `[${shape.join(", ")}]`).join(" and ")}`;
}

/** One half of LoHa: a [out, r], b [r, inside]; with a core [r, s, …] a [r, out], b [s, in]. */
function halfMisfit(
  a: readonly number[],
  b: readonly number[],
  core: readonly number[] | undefined,
  [out, inputs, window]: readonly [number, number, number],
): string | undefined {
  if (a.length !== 2 || b.length < 2 || (core && (b.length !== 2 || core.length < 2))) {
    return `its factors must be matrices: [${a.join(", ")}] and [${b.join(", ")}]`;
  }
  if (a[core ? 0 : 1] === 0) return "the ranks of its factors must be above 0";
  const fits = core
    ? a[0] === core[0] && a[1] === out && b[0] === core[1] && b[1] === inputs && size(core.slice(2)) === window
    : a[0] === out && a[1] === b[0] && size(b.slice(1)) === inputs * window;
  if (fits) return undefined;
  const shapes = [a, b, ...core ? [core] : []].map((shape) => `[${shape.join(", ")}]`).join(" and ");
  return `its factors ${shapes} do not make ${out} outputs and ${inputs} × ${window} inputs`;
}

/**
 * The channels of a layer [out, in, …] that magnitudes or gains belong to; `undefined` where they
 * fit neither. LyCORIS stores [out, 1, …] or [1, in, …], PEFT [out].
 */
export function magnitudeAxis(
  own: readonly number[],
  [out, inputs]: readonly number[],
  isPerOutput: boolean,
): "out" | "in" | undefined {
  if (!isVector(own)) return undefined;
  const length = size(own);
  if (length === out && (isPerOutput || own[0] === out || length !== inputs)) return "out";
  return length === inputs && !isPerOutput ? "in" : undefined;
}

function isVector(shape: readonly number[]): boolean {
  return shape.filter((length) => length !== 1).length <= 1;
}

function size(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}
