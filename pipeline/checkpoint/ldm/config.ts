/**
 * Infers the configuration of a single file's models. Sizes come from tensor shapes; everything
 * else has the values of the published Stable Diffusion 1.x and 2.x. The results are the
 * configuration files of diffusers' folder layout.
 */

import { CheckpointError } from "../../errors.ts";
import { ldmPrefixes, openClipProjection } from "./keys.ts";
import type { ConfigJson } from "../source/origin.ts";
import type { Weights } from "../safetensors/weights.ts";

/** What a UNet predicts: the noise (epsilon), or the velocity v. */
export type PredictionType = "epsilon" | "v_prediction";

/** What a single file holds: Stable Diffusion 1.x, 2.x or SDXL's base model. */
export type SingleFileFamily = "sd1" | "sd2" | "sdxl";

/** The configuration files, by folder. */
export interface PipelineConfigs {
  /** `unet/config.json` */
  readonly unet: ConfigJson;
  /** `vae/config.json` */
  readonly vae: ConfigJson;
  /** `text_encoder/config.json` */
  readonly text_encoder: ConfigJson;
  /** `text_encoder_2/config.json`, of SDXL; empty for others. */
  readonly text_encoder_2: ConfigJson;
  /** `scheduler/scheduler_config.json` */
  readonly scheduler: ConfigJson;
}

/** The configuration that tensor shapes do not determine. */
export interface LdmFacts {
  readonly family: SingleFileFamily;
  readonly predictionType: PredictionType;
  /** Whether attention must be computed in f32 when the rest of the UNet is f16. */
  readonly upcastAttention: boolean;
  /** Whether the noise schedule is rescaled to end at pure noise (2305.08891). */
  readonly zeroTerminalSnr?: boolean;
  /** Parts whose configuration is left empty, as they come from elsewhere. */
  readonly without?: readonly (keyof PipelineConfigs)[];
}

/** The diffusers version written into configuration files. */
export const diffusersVersion = "0.23.1";

/**
 * Width of an attention head in CLIP's text encoders and in the UNet of SD 2.x. (The UNet of SD 1.x
 * fixes the number of heads instead.)
 */
const headWidth = 64;

/** OpenCLIP has 24 layers. SD 2.x was trained on the output of the penultimate layer. */
const openClipLayers = 23;

/**
 * Infers the configuration of all models of a file.
 *
 * @throws {CheckpointError} if a tensor is missing whose shape is needed
 */
export function inferConfigs(weights: Weights, facts: LdmFacts): PipelineConfigs {
  const { family } = facts;
  const imageSize = family === "sdxl" ? 1024 : facts.predictionType === "v_prediction" && family === "sd2" ? 768 : 512;
  const unless = (part: keyof PipelineConfigs, infer: () => ConfigJson): ConfigJson =>
    facts.without?.includes(part) ? {} : infer();
  return {
    unet: unless("unet", () => inferUNet(new Shapes(weights, ldmPrefixes.unet), facts, imageSize)),
    vae: unless("vae", () => ({
      ...inferVae(weights, ldmPrefixes.vae, imageSize),
      ...(family === "sdxl" ? xlVaeConfig : {}),
    })),
    text_encoder: unless(
      "text_encoder",
      () =>
        family !== "sdxl" && hasOpenClip(weights)
          ? inferOpenClip(new Shapes(weights, ldmPrefixes.openClip))
          : inferClip(new Shapes(weights, clipPrefix(weights, family)), family),
    ),
    text_encoder_2: family === "sdxl"
      ? unless("text_encoder_2", () => inferProjectedOpenClip(new Shapes(weights, ldmPrefixes.xlOpenClip)))
      : {},
    scheduler: schedulerConfig(facts),
  };
}

/** What the shapes of SDXL's autoencoder, which are those of 1.x, do not tell. */
export const xlVaeConfig: ConfigJson = { force_upcast: true, scaling_factor: 0.13025 };

/** Whether the text encoder has OpenCLIP's keys; 2.x files of some tools have transformers'. */
export function hasOpenClip(weights: Weights): boolean {
  return [...weights.tensors.keys()].some((key) => key.startsWith(`${ldmPrefixes.openClip}transformer.resblocks.`));
}

/**
 * The key prefix of CLIP's modules in a file with transformers' keys. Files derived from some early
 * fine-tunes lack `text_model.`.
 */
export function clipPrefix(weights: Weights, family: SingleFileFamily): string {
  const outer = family === "sdxl" ? ldmPrefixes.xlClip : ldmPrefixes.clip;
  const usual = `${outer}text_model.`;
  return [...weights.tensors.keys()].some((key) => key.startsWith(usual)) ? usual : outer;
}

/** Shapes of one model in a file. */
class Shapes {
  constructor(readonly weights: Weights, readonly prefix: string) {}

  has(key: string): boolean {
    return this.weights.tensors.has(this.prefix + key);
  }

  hasAny(prefix: string): boolean {
    return [...this.weights.tensors.keys()].some((key) => key.startsWith(this.prefix + prefix));
  }

  of(key: string): readonly number[] {
    const info = this.weights.tensors.get(this.prefix + key);
    if (info !== undefined) return info.shape;
    const { name } = this.weights;
    throw new CheckpointError(`Cannot infer the configuration of ${name} as it has no ${this.prefix}${key}`, {
      source: name,
    });
  }

  /** How many consecutive keys `key(0)`, `key(1)`, … exist. */
  count(key: (index: number) => string): number {
    let count = 0;
    while (this.has(key(count))) count++;
    return count;
  }
}

function inferUNet(shapes: Shapes, { family, upcastAttention }: LdmFacts, imageSize: number): ConfigJson {
  const levels: { channels: number; layers: number; attention: boolean }[] = [];
  let level = { channels: 0, layers: 0, attention: false };
  for (let block = 1;; block++) {
    if (shapes.has(`input_blocks.${block}.0.out_layers.3.weight`)) {
      level.channels = shapes.of(`input_blocks.${block}.0.out_layers.3.weight`)[0];
      level.attention ||= shapes.has(`input_blocks.${block}.1.norm.weight`);
      level.layers++;
    } else {
      levels.push(level);
      if (!shapes.has(`input_blocks.${block}.0.op.weight`)) break;
      level = { channels: 0, layers: 0, attention: false };
    }
  }
  const channels = levels.map(({ channels }) => channels);
  const firstAttention = levels.findIndex(({ attention }) => attention);
  const block = `input_blocks.${1 + firstAttention * (levels[0].layers + 1)}.1`;
  const projection = shapes.of(`${block}.proj_in.weight`);
  const crossAttentionDim = shapes.of(`${block}.transformer_blocks.0.attn2.to_k.weight`)[1];
  return {
    ...(family === "sdxl" ? inferTextTime(shapes, levels) : {}),
    _class_name: "UNet2DConditionModel",
    _diffusers_version: diffusersVersion,
    act_fn: "silu",
    attention_head_dim: family === "sd1" ? 8 : channels.map((width) => width / headWidth),
    block_out_channels: channels,
    center_input_sample: false,
    cross_attention_dim: crossAttentionDim,
    down_block_types: levels.map(({ attention }) => attention ? "CrossAttnDownBlock2D" : "DownBlock2D"),
    downsample_padding: 1,
    flip_sin_to_cos: true,
    freq_shift: 0,
    in_channels: shapes.of("input_blocks.0.0.weight")[1],
    layers_per_block: levels[0].layers,
    mid_block_scale_factor: 1,
    mid_block_type: shapes.hasAny("middle_block.") ? "UNetMidBlock2DCrossAttn" : null,
    norm_eps: 1e-5,
    norm_num_groups: 32,
    out_channels: shapes.of("out.2.weight")[0],
    sample_size: imageSize / 8,
    up_block_types: levels.map(({ attention }) => attention ? "CrossAttnUpBlock2D" : "UpBlock2D").reverse(),
    upcast_attention: upcastAttention,
    use_linear_projection: projection.length === 2,
  };
}

/** What SDXL's UNet has besides: its conditions, and transformers of several layers. */
function inferTextTime(
  shapes: Shapes,
  levels: readonly { layers: number; attention: boolean }[],
): ConfigJson {
  const inputDim = shapes.of("label_emb.0.0.weight")[1];
  const layersAt = (level: number): number => {
    const block = 1 + level * (levels[0].layers + 1);
    return shapes.count((layer) => `input_blocks.${block}.1.transformer_blocks.${layer}.attn2.to_k.weight`);
  };
  return {
    addition_embed_type: "text_time",
    // The sizes' width: 256 in the published model, whose pooled embedding is 1280 wide.
    addition_time_embed_dim: (inputDim - pooledWidth(shapes.weights)) / 6,
    projection_class_embeddings_input_dim: inputDim,
    transformer_layers_per_block: levels.map(({ attention }, level) => attention ? layersAt(level) : 1),
  };
}

/** Width of the pooled embedding. Without its encoder in the file, that of the published model. */
function pooledWidth(weights: Weights): number {
  const projection = weights.tensors.get(ldmPrefixes.xlOpenClip + openClipProjection);
  return projection?.shape[1] ?? 1280;
}

/**
 * Infers an autoencoder's configuration from its tensors below `prefix`.
 *
 * @param imageSize Side in pixels of the pictures that it was trained on.
 * @throws {CheckpointError} if a tensor is missing whose shape is needed
 */
export function inferVae(weights: Weights, prefix: string, imageSize: number): ConfigJson {
  const shapes = new Shapes(weights, prefix);
  const levels = shapes.count((level) => `encoder.down.${level}.block.0.conv1.weight`);
  const channels = Array.from({ length: levels }, (_, i) => shapes.of(`encoder.down.${i}.block.0.conv1.weight`)[0]);
  return {
    _class_name: "AutoencoderKL",
    _diffusers_version: diffusersVersion,
    act_fn: "silu",
    block_out_channels: channels,
    down_block_types: channels.map(() => "DownEncoderBlock2D"),
    in_channels: shapes.of("encoder.conv_in.weight")[1],
    latent_channels: shapes.of("decoder.conv_in.weight")[1],
    layers_per_block: shapes.count((layer) => `encoder.down.0.block.${layer}.conv1.weight`),
    norm_num_groups: 32,
    out_channels: shapes.of("decoder.conv_out.weight")[0],
    sample_size: imageSize,
    scaling_factor: 0.18215,
    up_block_types: channels.map(() => "UpDecoderBlock2D"),
  };
}

function inferClip(shapes: Shapes, family: SingleFileFamily): ConfigJson {
  const isOpenClip = family === "sd2";
  const [vocabulary, hidden] = shapes.of("embeddings.token_embedding.weight");
  const layers = shapes.count((layer) => `encoder.layers.${layer}.mlp.fc1.weight`);
  return textConfig({
    hidden_act: isOpenClip ? "gelu" : "quick_gelu",
    hidden_size: hidden,
    intermediate_size: shapes.of("encoder.layers.0.mlp.fc1.weight")[0],
    max_position_embeddings: shapes.of("embeddings.position_embedding.weight")[0],
    num_attention_heads: hidden / headWidth,
    num_hidden_layers: isOpenClip ? Math.min(layers, openClipLayers) : layers,
    projection_dim: isOpenClip ? 512 : 768,
    vocab_size: vocabulary,
  });
}

function inferOpenClip(shapes: Shapes): ConfigJson {
  const [vocabulary, hidden] = shapes.of("token_embedding.weight");
  const layers = shapes.count((layer) => `transformer.resblocks.${layer}.mlp.c_fc.weight`);
  return textConfig({
    hidden_act: "gelu",
    hidden_size: hidden,
    intermediate_size: shapes.of("transformer.resblocks.0.mlp.c_fc.weight")[0],
    max_position_embeddings: shapes.of("positional_embedding")[0],
    num_attention_heads: hidden / headWidth,
    num_hidden_layers: Math.min(layers, openClipLayers),
    projection_dim: 512,
    vocab_size: vocabulary,
  });
}

/** OpenCLIP with its projection, which SDXL reads whole. */
function inferProjectedOpenClip(shapes: Shapes): ConfigJson {
  return {
    ...inferOpenClip(shapes),
    architectures: ["CLIPTextModelWithProjection"],
    num_hidden_layers: shapes.count((layer) => `transformer.resblocks.${layer}.mlp.c_fc.weight`),
    projection_dim: shapes.of(openClipProjection)[1],
  };
}

function textConfig(sizes: ConfigJson): ConfigJson {
  return {
    architectures: ["CLIPTextModel"],
    attention_dropout: 0,
    // The ids of the published files. CLIP's real ids are 49406 and 49407, but with an EOS id of 2
    // transformers pools at the position of the largest id, which is the EOS token.
    bos_token_id: 0,
    eos_token_id: 2,
    layer_norm_eps: 1e-5,
    model_type: "clip_text_model",
    pad_token_id: 1,
    ...sizes,
  };
}

/**
 * The scheduler configuration that diffusers gives to single files. Other keys are omitted, so that
 * a different scheduler class uses its own defaults.
 *
 * A schedule of zero terminal SNR is DDIM's, with trailing timesteps, so that sampling starts at
 * the last one, which is pure noise (2305.08891, sections 3.2 and 3.3). PNDM knows neither.
 */
function schedulerConfig({ family, predictionType, zeroTerminalSnr }: LdmFacts): ConfigJson {
  const isXL = family === "sdxl";
  return {
    _class_name: zeroTerminalSnr ? "DDIMScheduler" : isXL ? "EulerDiscreteScheduler" : "PNDMScheduler",
    _diffusers_version: diffusersVersion,
    beta_end: 0.012,
    beta_schedule: "scaled_linear",
    beta_start: 0.00085,
    clip_sample: false,
    num_train_timesteps: 1000,
    prediction_type: predictionType,
    set_alpha_to_one: false,
    ...(zeroTerminalSnr ? { rescale_betas_zero_snr: true, timestep_spacing: "trailing" } : { skip_prk_steps: true }),
    ...(isXL && !zeroTerminalSnr ? { timestep_spacing: "leading" } : {}),
    steps_offset: 1,
  };
}
