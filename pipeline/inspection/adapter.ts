/** Inspects adapter files: LoRAs and textual inversions. */

import { inspectLora, type LoraModelConfigs } from "../adapters/inspect_lora.ts";
import { readTextualInversions } from "../adapters/textual_inversion.ts";
import { parseCLIPTextConfig } from "../checkpoint/diffusers/config/clip.ts";
import { readConfig } from "../checkpoint/diffusers/config/fields.ts";
import { parseUNetConfig } from "../checkpoint/diffusers/config/unet.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { failuresOf, type Inspection } from "./report.ts";

/** What a LoRA is held against. */
export interface AdapterOptions {
  /** Finds the `adapter_config.json` that belongs to a LoRA. Default: there is none. */
  readonly adapterConfig?: (weights: Weights) => Promise<unknown>;
  /** The model to hold LoRAs against. Default: Stable Diffusion 1.x, 2.x and XL. */
  readonly loraModel?: LoraModelConfigs;
}

/**
 * The configurations of a folder's UNet and text encoders, to hold LoRAs against.
 *
 * @throws {CheckpointError} if one is missing; {ConfigError} if one is not supported
 */
export async function loraModelOf(tree: FileTree): Promise<LoraModelConfigs> {
  const textConfig = async (part: string) => await readConfig(tree.subtree(part), "config.json", parseCLIPTextConfig);
  const hasSecond = await tree.has("text_encoder_2/config.json");
  return {
    unet: await readConfig(tree.subtree("unet"), "config.json", parseUNetConfig),
    textEncoder: await textConfig("text_encoder"),
    ...(hasSecond ? { textEncoder2: await textConfig("text_encoder_2") } : {}),
  };
}

/** What a LoRA is, and why it would not load. */
export async function inspectLoraFile(
  weights: Weights,
  { adapterConfig, loraModel }: AdapterOptions,
): Promise<Pick<Inspection, "notes" | "problems">> {
  return await inspectLora(weights, { config: await adapterConfig?.(weights), model: loraModel });
}

/** The tokens of a textual inversion, and why it would not load. */
export async function inspectTextualInversion(weights: Weights): Promise<Pick<Inspection, "notes" | "problems">> {
  const tensors = [...weights.tensors].filter(([key]) => !key.startsWith("string_to_token"));
  // The widths decide what model the file is for.
  const isSecond = ([key]: typeof tensors[number]) => key === "clip_g" || key === "text_encoders_1";
  const widthOf = (tensor: typeof tensors[number] | undefined) => tensor?.[1].shape.at(-1);
  const width = widthOf(tensors.find((tensor) => !isSecond(tensor))) ?? 0, width2 = widthOf(tensors.find(isSecond));
  const notes: string[] = [];
  const problems = await failuresOf(async () => {
    const family = { 768: " (Stable Diffusion 1.x)", 1024: " (Stable Diffusion 2.x)" }[width] ?? "";
    for (const { token, vectors } of await readTextualInversions(weights, { width, width2 })) {
      notes.push(
        `token ${token}: ${vectors.length} of width ${width}` +
          (width2 === undefined ? family : ` and ${width2} (SDXL)`),
      );
    }
  });
  return { notes, problems };
}
