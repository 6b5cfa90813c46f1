/** The configuration of SDXL's base model, and the names and shapes of its tensors. */

import { sdxlSizes } from "../../pipeline/checkpoint/diffusers/published_sizes.ts";
import type { ConfigJson } from "../../pipeline/checkpoint/source/origin.ts";
import { type Shapes, textShapes, unetShapes, vaeShapes } from "./model_shapes.ts";
import { configs as sd14 } from "./sd14.ts";

const version = { _diffusers_version: "0.23.1" };

/** `config.json` of each component and the scheduler. Missing keys have their classes' defaults. */
export const configs = {
  unet: {
    _class_name: "UNet2DConditionModel",
    ...version,
    ...sdxlSizes.unet,
    in_channels: 4,
    norm_num_groups: 32,
    out_channels: 4,
    sample_size: 128,
    use_linear_projection: true,
  },
  vae: { ...sd14.vae, force_upcast: true, sample_size: 1024, scaling_factor: 0.13025 },
  text_encoder: sd14.text_encoder,
  text_encoder_2: {
    ...sd14.text_encoder,
    ...sdxlSizes.textEncoder2,
    architectures: ["CLIPTextModelWithProjection"],
    hidden_act: "gelu",
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
