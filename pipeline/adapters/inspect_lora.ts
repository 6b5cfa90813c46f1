/** Tells from a LoRA's header what it is, and into which models it would load. Needs no device. */

import { countText } from "../../engine/inspect.ts";
import { floatDtypes } from "../checkpoint/safetensors/format.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import { adaptableLayers } from "../checkpoint/bind.ts";
import { type CLIPTextConfig, parseCLIPTextConfig } from "../checkpoint/diffusers/config/clip.ts";
import { parseUNetConfig, type UNet2DConditionConfig } from "../checkpoint/diffusers/config/unet.ts";
import { sd1Sizes, sd2Sizes, sdxlSizes } from "../checkpoint/diffusers/published_sizes.ts";
import type { ConfigJson } from "../checkpoint/source/origin.ts";
import { AdapterError } from "../errors.ts";
import { textEncoderKind } from "../models/clip_text.ts";
import { unetKind } from "../models/unet.ts";
import { type LayerNames, textEncoderLayerNames, unetLayerNames } from "./layer_names.ts";
import { isForXL, isRelative } from "./lora_family.ts";
import type { LoraTarget } from "./lora_keys.ts";
import { layersOf, type LoraLayers, type LoraPlan, type LoraTargets, planLora } from "./lora_plan.ts";
import { checkDora, readLoraConfigs } from "./lora_scale.ts";
import { readFinite } from "./read_finite.ts";

/** The configurations of a model's UNet and text encoders. */
export interface ModelConfigs {
  /** That of the UNet. */
  readonly unet: UNet2DConditionConfig;
  /** That of the text encoder. */
  readonly textEncoder: CLIPTextConfig;
  /** SDXL's second text encoder. */
  readonly textEncoder2?: CLIPTextConfig;
}

/** What a LoRA is, and why it would not load. */
export interface LoraInspection {
  readonly notes: readonly string[];
  readonly problems: readonly string[];
}

/**
 * Inspects a LoRA: its header, and whether its tensors are finite.
 *
 * @param options.config contents of an `adapter_config.json` that belongs to the file
 * @param options.model the model to hold it against. Default: Stable Diffusion 1.x, 2.x and XL; a
 *   LoRA for other sizes is held against itself.
 */
export async function inspectLora(
  weights: Weights,
  options: { config?: unknown; model?: ModelConfigs } = {},
): Promise<LoraInspection> {
  const { model } = options;
  const known = model ? [{ name: "the model", targets: targetsOf(model) }] : [
    { name: "Stable Diffusion 1.x", targets: targetsOf(published(sd1Sizes)) },
    { name: "Stable Diffusion 2.x", targets: targetsOf(published(sd2Sizes)) },
    { name: "SDXL", targets: targetsOf(published(sdxlSizes)) }, // the last
  ];
  const errors: AdapterError[] = [];
  const fitting = known.flatMap(({ name, targets }) => {
    const plan = attempt(() => planLora(weights, targets), errors);
    return plan ? [{ name, plan }] : [];
  });
  if (fitting.length > 0) {
    const fits = `fits ${list.format(fitting.map(({ name }) => name))}`;
    return await described(weights, fitting[0].plan, { ...options, fits });
  }
  if (model) return { notes: [], problems: errors.map(messageOf) };
  const others: AdapterError[] = [];
  const plan = attempt(() => planLora(weights, unknownSizes()), others) ??
    attempt(() => planLora(weights, unknownSizes({ transformerLayers: 10, hasSecondEncoder: true })), others);
  if (plan === undefined) return { notes: [], problems: [messageOf(others[0])] };
  if (isForXL(weights, plan.modules)) {
    const notes = [`is for SDXL by the width of the prompts that it reads, ${sdxlSizes.unet.cross_attention_dim}`];
    return { notes, problems: [messageOf(errors[known.length - 1])] };
  }
  if (isRelative(weights, plan.modules)) return { notes: [], problems: [messageOf(errors[0])] };
  const fits = "fits neither Stable Diffusion 1.x, 2.x nor XL, but a model of its own sizes";
  return await described(weights, plan, { ...options, fits });
}

async function described(
  weights: Weights,
  plan: LoraPlan,
  { config, fits }: { config?: unknown; fits: string },
): Promise<LoraInspection> {
  const errors: AdapterError[] = [];
  const count = (wanted: LoraTarget) => plan.modules.filter(({ target }) => target === wanted).length;
  const second = count("text_encoder_2");
  const notes = [
    `${countText(count("unet"), "layer")} of the UNet, ${count("text_encoder")} of the text encoder` +
    (second > 0 ? `, ${second} of the second text encoder` : ""),
    ...plan.modules.length > 0 ? [`forms: ${forms(plan)}`] : [],
    ...plan.embeddings.length > 0 ? [`tokens: ${plan.embeddings.map(({ token }) => token).join(", ")}`] : [],
    fits,
  ];
  const configs = attempt(() => readLoraConfigs(weights.name, { metadata: weights.metadata, file: config }), errors);
  if (configs) {
    attempt(() => checkDora(weights.name, plan.modules, configs), errors);
    const scales = new Map<string, number>();
    for (const { keys, rank, path, target } of plan.modules) {
      const key = keys.get("alpha");
      const scale = key !== undefined && rank !== undefined
        ? (await weights.float64(key))[0] / rank
        : attempt(() => configs[target]?.scale(path, rank), errors) ?? 1;
      if (rank === undefined) continue;
      const text = `rank ${rank}, alpha / rank ${Number(scale.toPrecision(4))}`;
      scales.set(text, (scales.get(text) ?? 0) + 1);
    }
    const sorted = [...scales].sort(([, a], [, b]) => b - a);
    notes.push(...sorted.slice(0, 4).map(([text, count]) => `${text}: ${countText(count, "layer")}`));
    if (sorted.length > 4) notes.push(`and ${sorted.length - 4} more ranks and scales`);
  }
  for (const key of [...plan.modules.flatMap(({ keys }) => [...keys.values()]), ...plan.embeddings.map((e) => e.key)]) {
    const isFloat = floatDtypes.includes(weights.info(key).dtype);
    if (isFloat) await readFinite(weights, key).catch((error) => errors.push(onlyAdapterErrors(error)));
  }
  return { notes, problems: [...new Set(errors.map(messageOf))] };
}

function forms({ modules }: LoraPlan): string {
  const counts = new Map<string, number>();
  for (const { form, isDora } of modules) {
    const name = isDora ? `${form} with DoRA` : form;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].map(([name, count]) => `${name} (${count})`).join(", ");
}

/** The layers of two models that LoRAs can change, by their configurations alone. */
export function targetsOf({ unet, textEncoder, textEncoder2 }: ModelConfigs): LoraTargets {
  const unetStack = adaptableLayers((w) => unetKind.build(w, unet));
  const ofText = (config: CLIPTextConfig) => {
    const stack = adaptableLayers((w) => textEncoderKind.build(w, config));
    return layersOf(stack, textEncoderLayerNames(config, stack.layers.keys()));
  };
  return {
    unet: layersOf(unetStack, unetLayerNames(unet, unetStack.layers.keys())),
    text_encoder: ofText(textEncoder),
    ...(textEncoder2 ? { text_encoder_2: ofText(textEncoder2) } : {}),
  };
}

/** The configurations of a published model, by its sizes. */
function published(
  { unet, textEncoder, textEncoder2 }: { unet: ConfigJson; textEncoder: ConfigJson; textEncoder2?: ConfigJson },
): ModelConfigs {
  return {
    unet: unetOf(unet),
    textEncoder: textOf(textEncoder),
    ...(textEncoder2 && { textEncoder2: textOf(textEncoder2) }),
  };
}

function unetOf(json: ConfigJson): UNet2DConditionConfig {
  return parseUNetConfig(json, "Stable Diffusion's UNet");
}

function textOf(json: ConfigJson): CLIPTextConfig {
  return parseCLIPTextConfig({ ...json, model_type: "clip_text_model" }, "Stable Diffusion's text encoder");
}

/** Names of the layers of models with two to four levels, of any size. */
function unknownSizes({ transformerLayers = 1, hasSecondEncoder = false } = {}): LoraTargets {
  const names = (pick: (targets: LoraTargets) => LoraLayers, all: readonly LoraTargets[]): LayerNames =>
    new Map(all.flatMap((targets) => [...pick(targets).names]));
  const all = [2, 3, 4].map((levels) =>
    targetsOf({
      unet: unetOf({
        block_out_channels: Array(levels).fill(32),
        down_block_types: Array(levels).fill("CrossAttnDownBlock2D"),
        up_block_types: Array(levels).fill("CrossAttnUpBlock2D"),
        attention_head_dim: 1,
        transformer_layers_per_block: transformerLayers,
      }),
      textEncoder: textOf({
        hidden_size: 32,
        intermediate_size: 128,
        num_hidden_layers: 24,
        num_attention_heads: 1,
      }),
    })
  );
  const unsized = (names: LayerNames): LoraLayers => ({ names, shapeOf: () => undefined });
  const text = unsized(names((t) => t.text_encoder, all));
  return {
    unet: unsized(names(({ unet }) => unet, all)),
    text_encoder: text,
    ...(hasSecondEncoder ? { text_encoder_2: text } : {}),
  };
}

/** "A and B", or "A, B, and C". */
const list = new Intl.ListFormat("en");

function attempt<T>(run: () => T, errors: AdapterError[]): T | undefined {
  try {
    return run();
  } catch (error) {
    errors.push(onlyAdapterErrors(error));
    return undefined;
  }
}

function onlyAdapterErrors(error: unknown): AdapterError {
  if (!(error instanceof AdapterError)) throw error;
  return error;
}

function messageOf({ name, message }: AdapterError): string {
  return `${name}: ${message}`;
}
