/**
 * Reads LoRA files (arXiv 2106.09685) in two key formats. Diffusers and PEFT separate the parts of
 * a layer's path with dots. Kohya's format, read by A1111 and ComfyUI, uses underscores.
 */

import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { AdapterError } from "../errors.ts";
import { type AdapterStack, type LowRankUpdate, misfit } from "./low_rank.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";

/** The models that a LoRA can adapt. */
export type LoraTarget = "unet" | "text_encoder";

/** The keys of one layer's update. */
export interface LoraModule {
  readonly target: LoraTarget;
  /** Layer path in the file's spelling, without the prefix: with dots, or with underscores only. */
  readonly layer: string;
  readonly down: string;
  readonly up: string;
  /** The key of α. Without it, α equals the rank. */
  readonly alpha: string | undefined;
}

/** The module and the factor that a key belongs to. */
interface KeyParts {
  readonly target: LoraTarget;
  readonly layer: string;
  readonly part: "down" | "up" | "alpha";
}

/** Kohya's keys. Some trainers number the text encoder even if the model has only one. */
const kohyaKey = /^lora_(unet|te|te1)_([^.]+)\.(?:lora_(down|up)\.weight|(alpha))$/;

/**
 * Keys of diffusers and PEFT. The first factor is `down` or `A`, the second `up` or `B`. PEFT may
 * insert the adapter's name.
 */
const dottedKey =
  /^(?:(unet|text_encoder)\.)?(?:base_model\.model\.)?(.+?)(?:(?:\.lora_linear_layer|\.lora|_lora)\.(down|up)\.weight|\.lora_(down|up|A|B)(?:\.(?!weight)[^.]+)?\.weight|(?:\.lora_linear_layer|\.lora|_lora)?\.(alpha))$/;

/** Layer names written by the attention processors of old diffusers versions. */
const unetNames: Readonly<Record<string, string>> = { to_out: "to_out.0" };
const textEncoderNames: Readonly<Record<string, string>> = {
  to_q: "q_proj",
  to_k: "k_proj",
  to_v: "v_proj",
  to_out: "out_proj",
};

function keyParts(key: string): KeyParts | undefined {
  const kohya = kohyaKey.exec(key);
  if (kohya) {
    const [, prefix, layer, factor] = kohya;
    return {
      target: prefix === "unet" ? "unet" : "text_encoder",
      layer,
      part: (factor ?? "alpha") as KeyParts["part"],
    };
  }
  const dotted = dottedKey.exec(key);
  if (!dotted) return undefined;
  const [, prefix, path, modern, peft, alpha] = dotted;
  const factor = modern ?? (peft && { down: "down", up: "up", A: "down", B: "up" }[peft]) ?? alpha;
  // A key without a prefix belongs to the UNet, unless the path is a text encoder's.
  const target = (prefix ?? (path.startsWith("text_model.") ? "text_encoder" : "unet")) as LoraTarget;
  const parts = path.split(".").filter((part) => part !== "processor");
  const names = target === "unet" ? unetNames : textEncoderNames;
  parts[parts.length - 1] = names[parts.at(-1)!] ?? parts.at(-1)!;
  return { target, layer: parts.join("."), part: factor as KeyParts["part"] };
}

/**
 * Groups the keys of a LoRA file by module, in file order.
 *
 * @param keys the names of its tensors
 * @param source name of the file in error messages
 * @throws {AdapterError} that lists the keys of unknown format, and the modules that lack a factor
 */
export function parseLoraKeys(keys: Iterable<string>, source: string): LoraModule[] {
  const modules = new Map<string, { target: LoraTarget; layer: string; keys: Map<string, string> }>();
  const strangers: string[] = [], doubles: string[] = [];
  for (const key of keys) {
    const parts = keyParts(key);
    if (parts === undefined) {
      strangers.push(key);
      continue;
    }
    const { target, layer, part } = parts;
    const id = `${target} ${layer}`;
    const module = modules.get(id) ?? { target, layer, keys: new Map() };
    if (module.keys.has(part)) doubles.push(module.keys.get(part)!, key);
    else module.keys.set(part, key);
    modules.set(id, module);
  }
  if (strangers.length > 0) {
    throw refusal(source, "these keys are not a LoRA's", strangers, hintOf(strangers));
  }
  if (doubles.length > 0) throw refusal(source, twice, doubles);
  const halves = [...modules.values()].filter(({ keys }) => !keys.has("down") || !keys.has("up"));
  if (halves.length > 0 || modules.size === 0) {
    const found = halves.flatMap(({ keys }) => [...keys.values()]);
    throw refusal(source, modules.size === 0 ? "it holds no tensors" : "each layer needs two factors", found);
  }
  return [...modules.values()].map(({ target, layer, keys }) => ({
    target,
    layer,
    down: keys.get("down")!,
    up: keys.get("up")!,
    alpha: keys.get("alpha"),
  }));
}

const twice = "it updates a layer twice";

/** Recognizes other kinds of model from keys that match no layer. */
function hintOf(keys: readonly string[]): string {
  const some = (pattern: RegExp) => keys.some((key) => pattern.test(key));
  // SDXL has a second text encoder and up to ten consecutive transformer blocks; 1.x and 2.x have
  // one of each.
  if (some(/^lora_te2_|^text_encoder_2\.|transformer_blocks[._][1-9]|^lora_unet_(input|middle|output)_block/)) {
    return "It is for Stable Diffusion XL, and this model is of 1.x or 2.x";
  }
  if (some(/^(model\.diffusion_model|cond_stage_model)\./)) return "This is a checkpoint: load it with fromSingleFile";
  if (some(/\.(hada_|lokr_|oft_|lora_mid\.|dora_scale$|diff$|diff_b$)/)) {
    return "Of LyCORIS' forms only plain low-rank pairs are supported, not LoHa, LoKr, DoRA or Tucker's";
  }
  return "";
}

function refusal(source: string, reason: string, keys: readonly string[], hint = ""): AdapterError {
  const shown = keys.slice(0, 12).map((key) => `\n  ${key}`).join("");
  const more = keys.length > 12 ? `\n  … and ${keys.length - 12} more` : "";
  const colon = keys.length > 0 ? ":" : "";
  return new AdapterError(
    `Cannot load ${source} as a LoRA as ${reason}${hint === "" ? "" : `. ${hint}`}${colon}${shown}${more}`,
    { source, keys },
  );
}

/**
 * Uploads a LoRA to the device and returns its updates by layer key. The caller disposes of the
 * tensors after adding them to the models' stacks.
 *
 * @param stacks the adapter stacks of the candidate models
 * @throws {AdapterError} that lists every key with an unknown layer, a wrong shape or a dtype that
 *   is not a float
 * @throws {SafetensorsError} if the file is malformed
 */
export async function readLora(
  gpu: Gpu,
  weights: Weights,
  stacks: Readonly<Record<LoraTarget, AdapterStack>>,
): Promise<Record<LoraTarget, Map<string, LowRankUpdate>>> {
  const source = weights.name;
  const modules = parseLoraKeys(weights.tensors.keys(), source);
  const paths = { unet: spellings(stacks.unet), text_encoder: spellings(stacks.text_encoder) };
  const unknown: string[] = [], misshapen: string[] = [];
  const found: (LoraModule & { path: string })[] = [];
  for (const module of modules) {
    const path = paths[module.target].get(module.layer);
    if (path === undefined) {
      unknown.push(module.down, module.up);
      continue;
    }
    const twin = found.find((other) => other.target === module.target && other.path === path);
    if (twin) throw refusal(source, twice, [twin.down, module.down]);
    const why = unfit(weights, module, stacks[module.target].layers.get(path)!.shape);
    if (why === undefined) found.push({ ...module, path });
    else misshapen.push(`${module.down}: ${why}`);
  }
  if (unknown.length > 0) {
    throw refusal(source, "the model has no layers for these keys", unknown, hintOf(unknown));
  }
  if (misshapen.length > 0) {
    throw refusal(
      source,
      "these updates do not fit their layers",
      misshapen,
      widthHint(weights, modules, stacks),
    );
  }
  const updates = { unet: new Map<string, LowRankUpdate>(), text_encoder: new Map<string, LowRankUpdate>() };
  try {
    for (const { target, path, down, up, alpha } of found) {
      const rank = weights.info(down).shape[0];
      const scale = alpha === undefined ? 1 : (await weights.float32(alpha))[0] / rank;
      if (!Number.isFinite(scale)) throw refusal(source, `its alpha is not a finite number: ${scale * rank}`, [alpha!]);
      const [makeDown, makeUp] = [await reader(weights, down), await reader(weights, up)];
      updates[target].set(path, { down: makeDown(gpu), up: makeUp(gpu), scale });
    }
    return updates;
  } catch (error) {
    disposeUpdates(updates);
    throw error;
  }
}

/** Frees the tensors returned by {@linkcode readLora}. */
export function disposeUpdates(updates: Record<LoraTarget, Map<string, LowRankUpdate>>): void {
  for (const { down, up } of [...updates.unet.values(), ...updates.text_encoder.values()]) {
    down[Symbol.dispose]();
    up[Symbol.dispose]();
  }
}

/** Layers by name, in both spellings: with dots, and with kohya's underscores. */
function spellings({ layers }: AdapterStack): Map<string, string> {
  return new Map([...layers.keys()].flatMap((path) => [[path, path], [path.replaceAll(".", "_"), path]]));
}

function unfit(weights: Weights, { down, up, alpha }: LoraModule, layer: readonly number[]): string | undefined {
  for (const key of [down, up, ...(alpha === undefined ? [] : [alpha])]) {
    const { dtype, shape } = weights.info(key);
    if (!["F16", "BF16", "F32", "F64"].includes(dtype)) return `${key} is of type ${dtype}, not a float`;
    if (key === alpha && shape.some((length) => length !== 1)) {
      return `${key} must be one number: [${shape.join(", ")}]`;
    }
  }
  return misfit(layer, weights.info(down).shape, weights.info(up).shape);
}

/** Names the model family of a LoRA whose cross-attention width differs from the model's. */
function widthHint(
  weights: Weights,
  modules: readonly LoraModule[],
  { unet }: Readonly<Record<LoraTarget, AdapterStack>>,
): string {
  const isCross = (layer: string) => /attn2[._]to_[kv]$/.test(layer);
  const module = modules.find(({ target, layer }) => target === "unet" && isCross(layer));
  const width = module && weights.info(module.down).shape[1];
  const own = [...unet.layers].find(([path]) => isCross(path))?.[1].shape[1];
  if (width === undefined || width === own) return "";
  const families: Record<number, string> = { 768: " (1.x)", 1024: " (2.x)", 2048: " (XL)" };
  return `It is for a Stable Diffusion whose prompts are ${width}${
    families[width] ?? ""
  } wide; this model's are ${own}`;
}

/** Reads a tensor and returns a function that uploads it. f16 stays f16. */
async function reader(weights: Weights, key: string): Promise<(gpu: Gpu) => Tensor> {
  const { dtype, shape } = weights.info(key);
  const data = dtype === "F16" ? new Uint16Array((await weights.read(key)).buffer) : await weights.float32(key);
  return (gpu) => Tensor.from(gpu, data, shape);
}
