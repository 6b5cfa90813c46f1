/**
 * Stable Diffusion 1.4's configuration, and the names and shapes of its tensors as diffusers 0.23
 * and transformers 4.35 name them.
 */

import { sd1Sizes } from "../../pipeline/checkpoint/diffusers/published_sizes.ts";
import type { ConfigJson } from "../../pipeline/checkpoint/source/origin.ts";
import { type Shapes, textShapes, unetShapes, vaeShapes } from "./model_shapes.ts";

const version = { _diffusers_version: "0.23.1" };

/** `config.json` of each component and the scheduler. Missing keys have their classes' defaults. */
export const configs = {
  unet: {
    _class_name: "UNet2DConditionModel",
    ...version,
    ...sd1Sizes.unet,
    in_channels: 4,
    norm_num_groups: 32,
    out_channels: 4,
    sample_size: 64,
  },
  vae: {
    _class_name: "AutoencoderKL",
    ...version,
    block_out_channels: [128, 256, 512, 512],
    down_block_types: Array(4).fill("DownEncoderBlock2D"),
    in_channels: 3,
    latent_channels: 4,
    layers_per_block: 2,
    norm_num_groups: 32,
    out_channels: 3,
    sample_size: 512,
    scaling_factor: 0.18215,
    up_block_types: Array(4).fill("UpDecoderBlock2D"),
  },
  text_encoder: {
    ...sd1Sizes.textEncoder,
    architectures: ["CLIPTextModel"],
    bos_token_id: 0,
    eos_token_id: 2,
    hidden_act: "quick_gelu",
    layer_norm_eps: 1e-5,
    max_position_embeddings: 77,
    model_type: "clip_text_model",
    pad_token_id: 1,
    projection_dim: 768,
    torch_dtype: "float32",
    vocab_size: 49408,
  },
  scheduler: {
    _class_name: "PNDMScheduler",
    ...version,
    beta_end: 0.012,
    beta_schedule: "scaled_linear",
    beta_start: 0.00085,
    clip_sample: false,
    num_train_timesteps: 1000,
    set_alpha_to_one: false,
    skip_prk_steps: true,
    steps_offset: 1,
  },
} satisfies Record<string, ConfigJson>;

/** Names and shapes of the tensors of one component. */
export function shapesOf(part: "unet" | "vae" | "text_encoder"): Shapes {
  return {
    unet: () => unetShapes(configs.unet),
    vae: () => vaeShapes(configs.vae),
    text_encoder: () => textShapes(configs.text_encoder),
  }[part]();
}
