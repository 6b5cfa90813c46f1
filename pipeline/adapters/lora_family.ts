/** What a file is, or which model it is for, where it is not a LoRA for the model at hand. */

import { recognizeCheckpoint } from "../checkpoint/diffusers/checkpoint_kind.ts";
import { relativesByInChannels } from "../checkpoint/diffusers/config/unet.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { AdapterStack } from "./adapter_stack.ts";
import { type LoraModule, type LoraTarget, underscored } from "./lora_keys.ts";

/** Keys that only LoRAs for other models have. The first that fits tells. */
const foreignKeys: readonly (readonly [key: RegExp, model: string])[] = [
  [/motion_modules?_/, "AnimateDiff (motion modules)"],
  [/(double|single)_blocks_\d|single_transformer_blocks_\d/, "Flux"],
  [/joint_blocks_\d|lora_te3_|^text_encoder_3_|transformer_blocks_\d+_attn_add_/, "Stable Diffusion 3"],
  [/^lora_te2_|^te2_|^text_encoder_2_|^clip_g_|_clip_g(_|$)|^text_encoders_clip_g_/, "Stable Diffusion XL"],
  [
    /(attentions_\d|input_blocks_\d_1|output_blocks_\d_1|middle_block_1)_transformer_blocks_[1-9]/,
    "Stable Diffusion XL",
  ],
  [/label_emb_|add_embedding_linear/, "Stable Diffusion XL"],
];

/** Keys of LoRA forms that are not supported, by what they are called. */
const unsupportedForms: readonly (readonly [key: RegExp, form: string])[] = [
  [/\.oft_(blocks|diag|r)\b|\.oft_/, "OFT or BOFT"],
  [/\.(a1|a2|b1|b2)\.weight$/, "GLoRA"],
  [/\.lora_E\b/, "AdaLoRA"],
  [/\.ia3_l\b/, "PEFT's (IA)³"],
  [/\.vera_lambda_/, "VeRA"],
  [/\.lora_embedding_[AB]/, "updates of embedding tables"],
  [/\.bias_(indices|values|size)$/, "sparse biases"],
];

/** How a file that is no LoRA is called; `undefined` if it may be one. */
export function notALora(weights: Weights): string | undefined {
  const { description, advice } = recognizeCheckpoint(weights);
  if (description === "a LoRA" || description.startsWith("something")) return undefined;
  return `It is ${description}${advice === undefined ? "" : `: ${advice}`}`;
}

/** Which form or which other model keys tell of; "" where they tell nothing. */
export function hintOf(keys: readonly string[]): string {
  for (const [pattern, model] of foreignKeys) {
    if (keys.some((key) => pattern.test(underscored(key)))) {
      return `It is for ${model}, and this model is Stable Diffusion 1.x or 2.x`;
    }
  }
  for (const [pattern, form] of unsupportedForms) {
    if (keys.some((key) => pattern.test(key))) return `Its form, ${form}, is not supported`;
  }
  return "";
}

/** Which family a file whose shapes do not fit is for; "" where they tell nothing. */
export function shapeHint(
  weights: Weights,
  modules: readonly LoraModule[],
  stacks: Readonly<Record<LoraTarget, AdapterStack>>,
): string {
  const inChannels = inputChannels(weights, modules);
  const own = stacks.unet.layers.get("conv_in")?.layer.shape[1];
  if (inChannels !== undefined && own !== undefined && inChannels !== own) {
    const relative = relativesByInChannels[inChannels];
    return `It is for ${relative ?? "a model"} with ${inChannels} input channels; this model has ${own}`;
  }
  const isCross = (name: string) => /attn2_to_[kv]$/.test(underscored(name));
  const width = inputWidth(weights, modules, isCross);
  const ownWidth = [...stacks.unet.layers].find(([path]) => isCross(path))?.[1].layer.shape[1];
  if (width !== undefined && ownWidth !== undefined && width !== ownWidth) {
    return `It is for a Stable Diffusion whose prompts are ${width}${families[width] ?? ""} wide; ` +
      `this model's are ${ownWidth}`;
  }
  const isText = (name: string) => /self_attn_[qkv]_proj$/.test(underscored(name));
  const textWidth = inputWidth(weights, modules, isText);
  const ownTextWidth = [...stacks.text_encoder.layers].find(([path]) => isText(path))?.[1].layer.shape[1];
  if (textWidth === undefined || ownTextWidth === undefined || textWidth === ownTextWidth) return "";
  return `It is for a text encoder that is ${textWidth}${
    families[textWidth] ?? ""
  } wide; this model's is ${ownTextWidth}`;
}

/** Widths of the prompts' embeddings in published models. */
const families: Readonly<Record<number, string>> = { 768: " (1.x)", 1024: " (2.x)", 2048: " (XL)" };

function inputWidth(
  weights: Weights,
  modules: readonly LoraModule[],
  fits: (name: string) => boolean,
): number | undefined {
  for (const { name, keys } of modules) {
    if (!fits(name)) continue;
    for (const part of ["down", "w1_b", "diff"] as const) {
      const key = keys.get(part);
      if (key !== undefined) return weights.info(key).shape[1];
    }
  }
  return undefined;
}

function inputChannels(weights: Weights, modules: readonly LoraModule[]): number | undefined {
  const convIn = modules.find(({ name }) => name === "conv_in" || name === "input_blocks_0_0");
  const key = convIn?.keys.get("down") ?? convIn?.keys.get("diff");
  return key === undefined ? undefined : weights.info(key).shape[1];
}

/** Keys for a message: those that differ in numbers only are one line with their count. */
export function listedKeys(keys: readonly string[], line: (key: string) => string): string {
  const groups = new Map<string, string[]>();
  for (const key of keys) {
    const pattern = key.replaceAll(/\d+/g, "#");
    groups.set(pattern, [...groups.get(pattern) ?? [], key]);
  }
  const lines = [...groups.values()].map(([first, ...rest]) =>
    `\n  ${line(first)}${rest.length > 0 ? ` (and ${rest.length} more that differ in numbers)` : ""}`
  );
  const more = lines.length > 12 ? `\n  … and ${lines.length - 12} more kinds` : "";
  return lines.slice(0, 12).join("") + more;
}
