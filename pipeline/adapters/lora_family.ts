/** What a file is, or which model it is for, where it is not a LoRA for the model at hand. */

import { recognizeCheckpoint, unknownFile } from "../checkpoint/diffusers/checkpoint_kind.ts";
import { relativesByInChannels } from "../checkpoint/diffusers/config/unet.ts";
import { familyOfPromptWidth } from "../checkpoint/diffusers/published_sizes.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { LayerNames } from "./layer_names.ts";
import { type LoraPart, type LoraTarget, type PerTarget, underscored } from "./lora_keys.ts";
import { familyOf, older, statedFamily, xl } from "./stated_family.ts";

/** Keys that only LoRAs for other models have. The first that fits tells. */
const foreignKeys: readonly (readonly [key: RegExp, model: string])[] = [
  [/motion_modules?_/, "AnimateDiff (motion modules)"],
  [/(double|single)_blocks_\d|single_transformer_blocks_\d/, "Flux"],
  [/joint_blocks_\d|lora_te3_|^text_encoder_3_|transformer_blocks_\d+_attn_add_/, "Stable Diffusion 3"],
  [/^lora_te2_|^te2_|^text_encoder_2_|^clip_g_|_clip_g(_|$)|^text_encoders_clip_g_/, xl],
  [
    /(attentions_\d|input_blocks_\d_1|output_blocks_\d_1|middle_block_1)_transformer_blocks_[1-9]/,
    xl,
  ],
  [/^(diffusion_model_|lora_unet_|transformer_)blocks_\d/, "a diffusion transformer"],
  [/label_emb_|add_embedding_linear/, xl],
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
  if (description === "a LoRA" || description === unknownFile) return undefined;
  return `It is ${description}${advice === undefined ? "" : `: ${advice}`}`;
}

/** Which form or which other model keys tell of; "" where they tell nothing. */
export function hintOf(keys: readonly string[], models: PerTarget<unknown>): string {
  const own = familyOf(models.text_encoder_2);
  for (const [pattern, model] of foreignKeys) {
    if (model !== own && keys.some((key) => pattern.test(underscored(key)))) return isFor(model, own);
  }
  for (const [pattern, form] of unsupportedForms) {
    if (keys.some((key) => pattern.test(key))) return `Its form, ${form}, is not supported`;
  }
  return "";
}

const isFor = (model: string, own: string): string => `It is for ${model}, and this model is ${own}`;

/**
 * Names of CLIP ViT-L's layers that only trainers of models with one text encoder write: kohya
 * numbers several, and LDM's checkpoints of SDXL have no `cond_stage_model`. A number tells
 * nothing: diffusers' `convert_state_dict_to_kohya` writes `lora_te1_` for all families.
 */
const olderTextName = /^(lora_te_|cond_stage_model_)/;

/**
 * Why a LoRA of the first text encoder alone is not for a model; "" where it may be. That encoder
 * is CLIP ViT-L in 1.x and in SDXL, so that shapes do not tell. The file's metadata or else the
 * names of its keys do; those of diffusers, PEFT and ComfyUI are the same for both.
 */
export function textOnlyHint(
  { metadata }: Weights,
  modules: readonly { readonly target: LoraTarget; readonly keys: ReadonlyMap<LoraPart, string> }[],
  models: PerTarget<unknown>,
): string {
  if (modules.length === 0 || modules.some(({ target }) => target !== "text_encoder")) return "";
  const keys = modules.flatMap(({ keys }) => [...keys.values()]);
  const family = statedFamily(metadata) ??
    (keys.some((key) => olderTextName.test(underscored(key))) ? older : undefined);
  const own = familyOf(models.text_encoder_2);
  return family === undefined || family === own ? "" : isFor(family, own);
}

/** A module by its name in the file or its path in the model. */
interface NamedModule {
  readonly name?: string;
  readonly path?: string;
  readonly keys: ReadonlyMap<LoraPart, string>;
}

const isConvIn = (name: string): boolean => /^(conv_in|input_blocks_0_0)$/.test(underscored(name));
const isCross = (name: string): boolean => /attn2_to_[kv]$/.test(underscored(name));

/** Whether sizes tell that a file is for SDXL or a child of it. */
export function isForXL(weights: Weights, modules: readonly NamedModule[]): boolean {
  return familyOfPromptWidth(inputWidth(weights, modules, isCross))?.version === "XL";
}

/** Whether sizes tell that a file is for a relative that is not supported, such as inpainting. */
export function isRelative(weights: Weights, modules: readonly NamedModule[]): boolean {
  return (inputWidth(weights, modules, isConvIn) ?? 4) !== 4;
}

/** The layers of a model that shapes are compared with. */
interface Layers {
  readonly names: LayerNames;
  readonly shapeOf: (path: string) => readonly number[] | undefined;
}

/** Which family a file whose shapes do not fit is for; "" where they tell nothing. */
export function shapeHint(
  weights: Weights,
  modules: readonly NamedModule[],
  models: PerTarget<Layers>,
): string {
  const { unet, text_encoder } = models;
  const inChannels = inputWidth(weights, modules, isConvIn);
  const own = unet.shapeOf("conv_in")?.[1];
  if (inChannels !== undefined && own !== undefined && inChannels !== own) {
    const relative = relativesByInChannels[inChannels];
    return `It is for ${relative ?? "a model"} with ${inChannels} input channels; this model has ${own}`;
  }
  const width = inputWidth(weights, modules, isCross);
  const ownWidth = widthOf(unet, isCross);
  if (width !== undefined && ownWidth !== undefined && width !== ownWidth) {
    return `It is for a Stable Diffusion whose prompts are ${width}${versionText(width)} wide; ` +
      `this model's are ${ownWidth}`;
  }
  const isText = (name: string) => /self_attn_[qkv]_proj$/.test(underscored(name));
  const textWidth = inputWidth(weights, modules, isText);
  const ownTextWidth = widthOf(text_encoder, isText);
  if (textWidth === undefined || ownTextWidth === undefined || textWidth === ownTextWidth) return "";
  return `It is for a text encoder that is ${textWidth}${versionText(textWidth)} wide; this model's is ${ownTextWidth}`;
}

function widthOf({ names, shapeOf }: Layers, fits: (path: string) => boolean): number | undefined {
  const path = [...names.values()].find(fits);
  return path === undefined ? undefined : shapeOf(path)?.[1];
}

/** The published models whose prompts' embeddings have a width; "" for a width of none. */
function versionText(width: number): string {
  const family = familyOfPromptWidth(width);
  return family ? ` (${family.version})` : "";
}

function inputWidth(
  weights: Weights,
  modules: readonly NamedModule[],
  fits: (name: string) => boolean,
): number | undefined {
  for (const { name, path, keys } of modules) {
    if (!fits(name ?? path ?? "")) continue;
    for (const part of ["down", "w1_b", "diff"] as const) {
      const key = keys.get(part);
      if (key !== undefined) return weights.info(key).shape[1];
    }
  }
  return undefined;
}

/** Keys for a message: those that differ in numbers only are one line with their count. */
export function listedKeys(keys: readonly string[], line: (key: string) => string): string {
  const groups = Map.groupBy(keys, (key) => key.replaceAll(/\d+/g, "#"));
  const lines = [...groups.values()].map(([first, ...rest]) =>
    `\n  ${line(first)}${rest.length > 0 ? ` (and ${rest.length} more that differ in numbers)` : ""}`
  );
  const more = lines.length > 12 ? `\n  … and ${lines.length - 12} more kinds` : "";
  return lines.slice(0, 12).join("") + more;
}
