/**
 * Stable Diffusion 1.4's configuration, and the names and shapes of its tensors as diffusers 0.23
 * and transformers 4.35 name them.
 */

import type { ConfigJson } from "../../pipeline/checkpoint/source/origin.ts";

const version = { _diffusers_version: "0.23.1" };

/** `config.json` of each component and the scheduler. Missing keys have their classes' defaults. */
export const configs = {
  unet: {
    _class_name: "UNet2DConditionModel",
    ...version,
    attention_head_dim: 8,
    block_out_channels: [320, 640, 1280, 1280],
    cross_attention_dim: 768,
    down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    in_channels: 4,
    layers_per_block: 2,
    norm_num_groups: 32,
    out_channels: 4,
    sample_size: 64,
    up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
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
    architectures: ["CLIPTextModel"],
    bos_token_id: 0,
    eos_token_id: 2,
    hidden_act: "quick_gelu",
    hidden_size: 768,
    intermediate_size: 3072,
    layer_norm_eps: 1e-5,
    max_position_embeddings: 77,
    model_type: "clip_text_model",
    num_attention_heads: 12,
    num_hidden_layers: 12,
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

/** Tensors by name. */
export type Shapes = Map<string, readonly number[]>;

/** Names and shapes of the tensors of one component. */
export function shapesOf(part: "unet" | "vae" | "text_encoder"): Shapes {
  return { unet: () => unetShapes(configs.unet), vae: vaeShapes, text_encoder: textShapes }[part]();
}

/** Collects the tensors of modules by module name. */
class Builder {
  readonly shapes: Shapes = new Map();

  linear(name: string, input: number, output: number, options: { bias?: boolean } = {}): void {
    this.shapes.set(`${name}.weight`, [output, input]);
    if (options.bias ?? true) this.shapes.set(`${name}.bias`, [output]);
  }

  conv(name: string, input: number, output: number, kernel = 3): void {
    this.shapes.set(`${name}.weight`, [output, input, kernel, kernel]);
    this.shapes.set(`${name}.bias`, [output]);
  }

  norm(name: string, channels: number): void {
    this.shapes.set(`${name}.weight`, [channels]);
    this.shapes.set(`${name}.bias`, [channels]);
  }

  resnet(name: string, input: number, output: number, timeFeatures?: number): void {
    this.norm(`${name}.norm1`, input);
    this.conv(`${name}.conv1`, input, output);
    if (timeFeatures !== undefined) this.linear(`${name}.time_emb_proj`, timeFeatures, output);
    this.norm(`${name}.norm2`, output);
    this.conv(`${name}.conv2`, output, output);
    if (input !== output) this.conv(`${name}.conv_shortcut`, input, output, 1);
  }

  attention(name: string, features: number, context: number): void {
    this.linear(`${name}.to_q`, features, features, { bias: false });
    this.linear(`${name}.to_k`, context, features, { bias: false });
    this.linear(`${name}.to_v`, context, features, { bias: false });
    this.linear(`${name}.to_out.0`, features, features);
  }

  transformer(name: string, channels: number, context: number): void {
    const block = `${name}.transformer_blocks.0`;
    this.norm(`${name}.norm`, channels);
    this.conv(`${name}.proj_in`, channels, channels, 1);
    for (const norm of ["norm1", "norm2", "norm3"]) this.norm(`${block}.${norm}`, channels);
    this.attention(`${block}.attn1`, channels, channels);
    this.attention(`${block}.attn2`, channels, context);
    this.linear(`${block}.ff.net.0.proj`, channels, 8 * channels);
    this.linear(`${block}.ff.net.2`, 4 * channels, channels);
    this.conv(`${name}.proj_out`, channels, channels, 1);
  }
}

/** The fields that determine the shapes of a UNet's tensors. */
export type UNetConfigJson = Pick<
  typeof configs.unet,
  "block_out_channels" | "layers_per_block" | "cross_attention_dim" | "down_block_types" | "up_block_types"
>;

/** Names and shapes of the tensors of a UNet of Stable Diffusion 1.x. */
export function unetShapes(config: UNetConfigJson): Shapes {
  const { block_out_channels: widths, layers_per_block: layers, cross_attention_dim: context } = config;
  const build = new Builder();
  const time = 4 * widths[0];
  build.linear("time_embedding.linear_1", widths[0], time);
  build.linear("time_embedding.linear_2", time, time);
  build.conv("conv_in", 4, widths[0]);
  const skips = [widths[0]];
  let channels = widths[0];
  config.down_block_types.forEach((type, level) => {
    for (let layer = 0; layer < layers; layer++) {
      build.resnet(`down_blocks.${level}.resnets.${layer}`, channels, widths[level], time);
      channels = widths[level];
      if (type.startsWith("CrossAttn")) {
        build.transformer(`down_blocks.${level}.attentions.${layer}`, channels, context);
      }
      skips.push(channels);
    }
    if (level === widths.length - 1) return;
    build.conv(`down_blocks.${level}.downsamplers.0.conv`, channels, channels);
    skips.push(channels);
  });
  for (const layer of [0, 1]) build.resnet(`mid_block.resnets.${layer}`, channels, channels, time);
  build.transformer("mid_block.attentions.0", channels, context);
  config.up_block_types.forEach((type, level) => {
    const width = widths[widths.length - 1 - level];
    for (let layer = 0; layer <= layers; layer++) {
      build.resnet(`up_blocks.${level}.resnets.${layer}`, channels + skips.pop()!, width, time);
      channels = width;
      if (type.startsWith("CrossAttn")) {
        build.transformer(`up_blocks.${level}.attentions.${layer}`, channels, context);
      }
    }
    if (level < widths.length - 1) build.conv(`up_blocks.${level}.upsamplers.0.conv`, channels, channels);
  });
  build.norm("conv_norm_out", channels);
  build.conv("conv_out", channels, 4);
  return build.shapes;
}

function vaeShapes(): Shapes {
  const { block_out_channels: widths, layers_per_block: layers, latent_channels: latent } = configs.vae;
  const build = new Builder();
  const top = widths.at(-1)!;
  const middle = (half: string): void => {
    for (const layer of [0, 1]) build.resnet(`${half}.mid_block.resnets.${layer}`, top, top);
    build.norm(`${half}.mid_block.attentions.0.group_norm`, top);
    for (const name of ["to_q", "to_k", "to_v", "to_out.0"]) {
      build.linear(`${half}.mid_block.attentions.0.${name}`, top, top);
    }
  };
  build.conv("encoder.conv_in", 3, widths[0]);
  let channels = widths[0];
  widths.forEach((width, level) => {
    for (let layer = 0; layer < layers; layer++) {
      build.resnet(`encoder.down_blocks.${level}.resnets.${layer}`, channels, width);
      channels = width;
    }
    if (level < widths.length - 1) build.conv(`encoder.down_blocks.${level}.downsamplers.0.conv`, channels, channels);
  });
  middle("encoder");
  build.norm("encoder.conv_norm_out", top);
  build.conv("encoder.conv_out", top, 2 * latent);
  build.conv("quant_conv", 2 * latent, 2 * latent, 1);
  build.conv("post_quant_conv", latent, latent, 1);
  build.conv("decoder.conv_in", latent, top);
  middle("decoder");
  channels = top;
  widths.toReversed().forEach((width, level) => {
    for (let layer = 0; layer <= layers; layer++) {
      build.resnet(`decoder.up_blocks.${level}.resnets.${layer}`, channels, width);
      channels = width;
    }
    if (level < widths.length - 1) build.conv(`decoder.up_blocks.${level}.upsamplers.0.conv`, channels, channels);
  });
  build.norm("decoder.conv_norm_out", channels);
  build.conv("decoder.conv_out", channels, 3);
  return build.shapes;
}

function textShapes(): Shapes {
  const config = configs.text_encoder;
  const { hidden_size: hidden, intermediate_size: inside } = config;
  const build = new Builder();
  build.shapes.set("text_model.embeddings.token_embedding.weight", [config.vocab_size, hidden]);
  build.shapes.set("text_model.embeddings.position_embedding.weight", [config.max_position_embeddings, hidden]);
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const path = `text_model.encoder.layers.${layer}`;
    for (const name of ["k_proj", "v_proj", "q_proj", "out_proj"]) {
      build.linear(`${path}.self_attn.${name}`, hidden, hidden);
    }
    build.norm(`${path}.layer_norm1`, hidden);
    build.linear(`${path}.mlp.fc1`, hidden, inside);
    build.linear(`${path}.mlp.fc2`, inside, hidden);
    build.norm(`${path}.layer_norm2`, hidden);
  }
  build.norm("text_model.final_layer_norm", hidden);
  return build.shapes;
}
