/** The configuration of SDXL's base model, and the names and shapes of its tensors. */

import type { ConfigJson } from "../../pipeline/checkpoint/source/origin.ts";
import { type Shapes, textShapes, unetShapes, vaeShapes } from "./model_shapes.ts";
import { configs as sd14 } from "./sd14.ts";

const version = { _diffusers_version: "0.23.1" };

/** `config.json` of each component and the scheduler. Missing keys have their classes' defaults. */
export const configs = {
  unet: {
    _class_name: "UNet2DConditionModel",
    ...version,
    addition_embed_type: "text_time",
    addition_time_embed_dim: 256,
    attention_head_dim: [5, 10, 20],
    block_out_channels: [320, 640, 1280],
    cross_attention_dim: 2048,
    down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    in_channels: 4,
    layers_per_block: 2,
    norm_num_groups: 32,
    out_channels: 4,
    projection_class_embeddings_input_dim: 2816,
    sample_size: 128,
    transformer_layers_per_block: [1, 2, 10],
    up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    use_linear_projection: true,
  },
  vae: { ...sd14.vae, force_upcast: true, sample_size: 1024, scaling_factor: 0.13025 },
  text_encoder: sd14.text_encoder,
  text_encoder_2: {
    ...sd14.text_encoder,
    architectures: ["CLIPTextModelWithProjection"],
    hidden_act: "gelu",
    hidden_size: 1280,
    intermediate_size: 5120,
    num_attention_heads: 20,
    num_hidden_layers: 32,
    projection_dim: 1280,
  },
  scheduler: {
    _class_name: "EulerDiscreteScheduler",
    ...version,
    beta_end: 0.012,
    beta_schedule: "scaled_linear",
    beta_start: 0.00085,
    num_train_timesteps: 1000,
    prediction_type: "epsilon",
    steps_offset: 1,
    timestep_spacing: "leading",
  },
} satisfies Record<string, ConfigJson>;

/** Names and shapes of the tensors of one component. */
export function shapesOf(part: "unet" | "vae" | "text_encoder" | "text_encoder_2"): Shapes {
  return {
    unet: () => unetShapes(configs.unet),
    vae: () => vaeShapes(configs.vae),
    text_encoder: () => textShapes(configs.text_encoder),
    text_encoder_2: () => textShapes(configs.text_encoder_2),
  }[part]();
}
