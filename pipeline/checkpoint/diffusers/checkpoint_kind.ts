/**
 * Recognizes what a safetensors file holds by the names and shapes of its tensors.
 *
 * @module
 */

import { advise } from "../../advice.ts";
import type { Weights } from "../safetensors/weights.ts";
import { relativesByInChannels } from "./config/unet.ts";
import { familyOfPromptWidth } from "./published_sizes.ts";

/** What a file holds. */
export interface CheckpointKind {
  /**
   * "sd1", "sd2" and "sdxl" are whole Stable Diffusion checkpoints in the LDM layout, which can be
   * loaded; "other" is anything else.
   */
  readonly family: "sd1" | "sd2" | "sdxl" | "other";
  /** Completes the sentence "The file is …", for example "an SDXL checkpoint". */
  readonly description: string;
  /** How to use such a file, if there is a way. */
  readonly advice?: string;
}

const wanted = "use a complete checkpoint of Stable Diffusion 1.x, 2.x or XL with UNet, autoencoder and text encoder";

/** The description of a file that nothing is known of. */
export const unknownFile = "a file that holds no UNet of Stable Diffusion";

interface Signature {
  readonly key: RegExp;
  readonly description: string;
  readonly advice?: () => string;
}

/** Keys of LoRAs in all forms, LyCORIS' and unsupported ones too. */
const loraSignature: Signature = {
  key: new RegExp([
    String.raw`\.lora_(up|down|mid)\b|\.lora_[ABE]\b|\.lora\.(up|down)\.|_lora\.(up|down)\.|lora_linear_layer\.`,
    String.raw`\.(hada|lokr|oft)_\w+|\.(dora_scale|diff|diff_b|w_norm|b_norm|lora_magnitude_vector)\b`,
    String.raw`^bundle_emb\.|^(lora|lycoris)_(unet|te\d?)_`,
  ].join("|")),
  description: "a LoRA",
  advice: () => advise("loadLora"),
};

/** The keys of an edit that was saved: factors of its operators, and an embedding. */
const editKey = /^((\d+\.|pooled\.)?(left|right)|probe)$/;

const adapterAdvice = () => "only LoRAs and textual inversions can be added to a model";

/** Files without a UNet in the LDM layout. The first match counts, so specific keys come first. */
const partSignatures: readonly Signature[] = [
  loraSignature,
  {
    key: /^(emb_params|clip_[lg]|text_encoders_[01]|\*|string_to_param(\..*)?|<.+>)$/,
    description: "a textual inversion",
    advice: () => advise("loadInversion"),
  },
  { key: /\blllite_/, description: "a ControlNet-LLLite", advice: adapterAdvice },
  {
    key: /^(control_model\.|controlnet_|input_hint_block\.|zero_convs\.)/,
    description: "a ControlNet",
    advice: adapterAdvice,
  },
  { key: /^(image_proj|ip_adapter)\./, description: "an IP-Adapter", advice: adapterAdvice },
  {
    key: /^(adapter\.)?body\.\d+\.(block\d|resnets|in_conv|down_opt)/,
    description: "a T2I-Adapter",
    advice: adapterAdvice,
  },
  { key: /^\d{3,4}\.\d+\.linear/, description: "a hypernetwork", advice: adapterAdvice },
  { key: /\bmotion_modules\./, description: "an AnimateDiff motion module", advice: adapterAdvice },
  {
    key: /^(double_blocks|single_blocks|single_transformer_blocks)\./,
    description: "the transformer of a Flux checkpoint",
  },
  {
    key: /^(joint_blocks\.|transformer_blocks\.\d+\.attn\.add_)/,
    description: "the transformer of a Stable Diffusion 3 checkpoint",
  },
  {
    key: /^(y_embedder\.y_proj|caption_projection\.linear_1|adaln_single)\./,
    description: "the transformer of a PixArt checkpoint, or of one like it",
  },
  {
    key: /^(add_embedding\.image_norm|encoder_hid_proj\.image_embeds)\./,
    description: "the UNet of a Kandinsky checkpoint",
  },
  {
    key: /^(clip_txt_pooled_mapper|effnet_mapper\.\d)\./,
    description: "a stage of Stable Cascade",
  },
  { key: /^down_blocks\.\d+\.(resnets|attentions)\./, description: "a UNet alone, in diffusers' layout" },
  { key: /^input_blocks\.\d+\./, description: "a UNet alone" },
  {
    key: /^model_ema\.diffusion_model/,
    description: "the averaged (EMA) weights of a UNet alone, whose names are flattened",
  },
  {
    key: /^encoder\.down_blocks\.\d+\./,
    description: "an autoencoder (VAE) alone, in diffusers' layout",
    advice: () => advise("loadVae"),
  },
  {
    key: /^((first_stage_model|vae)\.)?encoder\.down\.\d+\./,
    description: "an autoencoder (VAE) alone",
    advice: () => advise("loadVae"),
  },
  {
    key: /^(taesd_)?(decoder\.layers\.\d+\.conv\.\d|(decoder\.)?\d+\.conv\.\d)/,
    description: "a tiny autoencoder (TAESD) alone",
    advice: () => advise("loadVae"),
  },
  { key: /^(vision_model|visual)\./, description: "a CLIP model" },
  {
    key: /^((cond_stage_model|text_encoders)\..*)?(text_model\.|transformer\.resblocks\.)/,
    description: "a text encoder alone",
  },
];

/** Checkpoints of other models whose denoiser has the LDM layout's key prefix. */
const otherSignatures: readonly Signature[] = [
  { key: /^model\.diffusion_model\.double_blocks\./, description: "a Flux checkpoint" },
  {
    key: /^model\.diffusion_model\.joint_blocks\./,
    description: "a Stable Diffusion 3 checkpoint",
  },
  {
    key: /^conditioner\.embedders\.0\.model\./,
    description: "an SDXL refiner checkpoint",
    advice: () => "draw with SDXL's base model alone",
  },
  {
    key: /^(text_encoders|cond_stage_model)\.clip_g\./,
    description: "an SDXL checkpoint with ComfyUI's own names of its text encoders",
    advice: () =>
      "save it in the original layout, whose text encoders are conditioner.embedders.0 and .1, as ComfyUI's node " +
      "CheckpointSave does",
  },
  {
    key: /^model\.diffusion_model\..*\.time_stack\./,
    description: "a Stable Video Diffusion checkpoint",
  },
  // Other tensors of a ControlNet are leftovers of a merge, and ignored.
  { key: /^control_model\.input_hint_block\./, description: "a ControlNet with its Stable Diffusion checkpoint" },
];

/** Whether both of SDXL's text encoders come from elsewhere. */
function lacksText(without: readonly string[]): boolean {
  return without.includes("text_encoder") && without.includes("text_encoder_2");
}

/**
 * Recognizes a file by its header.
 *
 * @param options.without parts that a whole checkpoint may lack, as they come from elsewhere
 */
export function recognizeCheckpoint(
  weights: Weights,
  options: { without?: readonly ("unet" | "vae" | "text_encoder" | "text_encoder_2")[] } = {},
): CheckpointKind {
  const { without = [] } = options;
  const keys = [...weights.tensors.keys()];
  const other = (description: string, advice = wanted): CheckpointKind => ({ family: "other", description, advice });
  const match = (signatures: readonly Signature[]): CheckpointKind | undefined => {
    const found = signatures.find(({ key }) => keys.some((name) => key.test(name)));
    return found && other(found.description, found.advice?.());
  };
  const has = (prefix: string): boolean => keys.some((key) => key.startsWith(prefix));
  const shapeOf = (key: string): readonly number[] | undefined => weights.tensors.get(key)?.shape;

  // ComfyUI's LoRAs can carry the prefix of a checkpoint.
  if (keys.length > 0 && keys.every((key) => loraSignature.key.test(key) || /\.alpha$/.test(key))) {
    return other(loraSignature.description, loraSignature.advice?.());
  }
  if (has("probe") && keys.every((key) => editKey.test(key))) return other("an edit of Blue Rose", advise("loadEdit"));
  if (!has("model.diffusion_model.")) {
    return match(partSignatures) ?? other(unknownFile);
  }
  const relative = match(otherSignatures);
  if (relative) return relative;

  const convIn = shapeOf("model.diffusion_model.input_blocks.0.0.weight");
  if (convIn === undefined) return other("a denoiser other than a UNet of Stable Diffusion");
  const isXL = has("conditioner.embedders.1.") || (has("model.diffusion_model.label_emb.0.0.") && lacksText(without));
  if (convIn[1] !== 4) {
    const relative = relativesByInChannels[convIn[1]];
    const model = isXL ? "SDXL" : "Stable Diffusion";
    return other(relative ? `${relative} of ${model}` : `a UNet that takes ${convIn[1]} channels`);
  }
  if (isXL) {
    const encoders = ["conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."] as const;
    const lacking = (["text_encoder", "text_encoder_2"] as const)
      .find((part, i) => !has(encoders[i]) && !without.includes(part));
    if (lacking) return other("an SDXL checkpoint without one of its text encoders");
    if (!has("first_stage_model.decoder.") && !without.includes("vae")) {
      return other("an SDXL checkpoint without its autoencoder (VAE)");
    }
    return { family: "sdxl", description: "an SDXL checkpoint" };
  }
  const contextKey = keys.find((key) => key.endsWith(".attn2.to_k.weight"));
  const width = contextKey === undefined ? undefined : shapeOf(contextKey)![1];
  const family = familyOfPromptWidth(width);
  if (family?.version === "XL") return other("an SDXL checkpoint without its text encoders");
  if (has("model.diffusion_model.label_emb.")) {
    return other(width === 1280 ? "an SDXL refiner checkpoint" : "an unCLIP checkpoint, or an upscaler");
  }
  if (has("cond_stage_model.transformer.token_emb.")) {
    return other("a latent diffusion checkpoint with BERT as its text encoder, from before Stable Diffusion");
  }
  const openClip = has("cond_stage_model.model.transformer.resblocks.");
  const clip = keys.some((key) => /^cond_stage_model\.transformer\.(text_model\.)?encoder\.layers\./.test(key));
  if (!openClip && !clip && !without.includes("text_encoder")) {
    const vision = keys.some((key) => /^cond_stage_model\..*(vision_model|visual)\./.test(key));
    return vision
      ? other("an image variation checkpoint, conditioned on pictures and not on text")
      : other("a Stable Diffusion checkpoint without its text encoder");
  }
  if (!has("first_stage_model.decoder.") && !without.includes("vae")) {
    return other("a Stable Diffusion checkpoint without its autoencoder (VAE)");
  }
  // Only OpenCLIP's text encoder is 1024 wide; some tools store it under transformers' keys.
  return openClip || family?.version === "2.x"
    ? { family: "sd2", description: "a Stable Diffusion 2.x checkpoint" }
    : { family: "sd1", description: "a Stable Diffusion 1.x checkpoint" };
}
