/** Inspects adapter files: LoRAs and textual inversions. */

import { inspectLora, type ModelConfigs } from "../adapters/inspect_lora.ts";
import type { Probe } from "../editing/probe.ts";
import { readTextualInversions } from "../adapters/textual_inversion.ts";
import { parseCLIPTextConfig } from "../checkpoint/diffusers/config/clip.ts";
import { readConfig } from "../checkpoint/diffusers/config/fields.ts";
import { parseUNetConfig } from "../checkpoint/diffusers/config/unet.ts";
import { familyOfEncoderWidths } from "../checkpoint/diffusers/published_sizes.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { SingleFile } from "../checkpoint/ldm/single_file.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { failuresOf, type Inspection } from "./report.ts";

/** What adapters and edits are held against. */
export interface AdapterOptions {
  /** Finds the `adapter_config.json` that belongs to a LoRA. Default: there is none. */
  readonly adapterConfig?: (weights: Weights) => Promise<unknown>;
  /**
   * The model to hold LoRAs, textual inversions and edits against. Default: Stable Diffusion 1.x,
   * 2.x and XL for LoRAs, and none for the others.
   */
  readonly model?: ModelConfigs;
  /**
   * Embeds the text by which edits know the text encoders of `model` ({@linkcode probeOf}). It is
   * called for edits whose sizes fit. Default: text encoders are not compared.
   */
  readonly probe?: () => Promise<Probe | undefined>;
}

/** The configurations of a folder's UNet and text encoders. */
export async function configsOfFolder(tree: FileTree): Promise<ModelConfigs> {
  const textConfig = async (part: string) => await readConfig(tree.subtree(part), "config.json", parseCLIPTextConfig);
  const hasSecond = await tree.has("text_encoder_2/config.json");
  return {
    unet: await readConfig(tree.subtree("unet"), "config.json", parseUNetConfig),
    textEncoder: await textConfig("text_encoder"),
    ...(hasSecond ? { textEncoder2: await textConfig("text_encoder_2") } : {}),
  };
}

/** The configurations that a single file implies. */
export function configsOfFile(file: SingleFile): ModelConfigs {
  const { name, family } = file, { unet, text_encoder, text_encoder_2 } = file.configs();
  return {
    unet: parseUNetConfig(unet, `${name}, unet`),
    textEncoder: parseCLIPTextConfig(text_encoder, `${name}, text_encoder`),
    ...(family === "sdxl" ? { textEncoder2: parseCLIPTextConfig(text_encoder_2, `${name}, text_encoder_2`) } : {}),
  };
}

/** What a LoRA is, and why it would not load. */
export async function inspectLoraFile(
  weights: Weights,
  { adapterConfig, model }: AdapterOptions,
): Promise<Pick<Inspection, "notes" | "problems">> {
  return await inspectLora(weights, { config: await adapterConfig?.(weights), model });
}

/** The tokens of a textual inversion, and why it would not load. */
export async function inspectTextualInversion(
  weights: Weights,
  { model }: Pick<AdapterOptions, "model">,
): Promise<Pick<Inspection, "notes" | "problems">> {
  const tensors = [...weights.tensors].filter(([key]) => !key.startsWith("string_to_token"));
  // Without a model, the widths decide what model the file is for.
  const isSecond = ([key]: typeof tensors[number]) => key === "clip_g" || key === "text_encoders_1";
  const widthOf = (tensor: typeof tensors[number] | undefined) => tensor?.[1].shape.at(-1);
  const width = widthOf(tensors.find((tensor) => !isSecond(tensor))) ?? 0, width2 = widthOf(tensors.find(isSecond));
  const notes: string[] = [];
  const problems = await failuresOf(async () => {
    const family = familyOfEncoderWidths([width]);
    const own = model && { width: model.textEncoder.hiddenSize, width2: model.textEncoder2?.hiddenSize };
    for (const { token, vectors } of await readTextualInversions(weights, own ?? { width, width2 })) {
      notes.push(
        `token ${token}: ${vectors.length} of width ${width}` +
          (width2 !== undefined ? ` and ${width2} (SDXL)` : family ? ` (${family.name})` : ""),
      );
    }
    if (model) notes.push("fits the model");
  });
  return { notes, problems };
}
