/** `unet/config.json`. @module */

import { checkDivides, Fields, maxLayers, maxSide } from "./fields.ts";
import { useBaseModel } from "./model_index.ts";

/** The supported kinds of down blocks. */
export type DownBlockType = "CrossAttnDownBlock2D" | "DownBlock2D";
/** The supported kinds of up blocks. */
export type UpBlockType = "UpBlock2D" | "CrossAttnUpBlock2D";

/** Conditions of a UNet besides the prompt's states: `addition_embed_type` "text_time". */
export interface TextTimeConfig {
  /** Width of the sinusoids of each size (`addition_time_embed_dim`). */
  readonly timeEmbedDim: number;
  /**
   * Width of the pooled prompt and of the sinusoids of all sizes together
   * (`projection_class_embeddings_input_dim`).
   */
  readonly inputDim: number;
}

/**
 * `unet/config.json`: diffusers' `UNet2DConditionModel`, as used by Stable Diffusion 1.x, 2.x and
 * XL.
 */
export interface UNet2DConditionConfig {
  /** Side of the latents that the model was trained on. Sets the default picture size. */
  readonly sampleSize: number | null;
  /** Channels of the latents: 4. */
  readonly inChannels: number;
  /** Channels of the prediction. */
  readonly outChannels: number;
  /** Whether cosines precede sines in the time embedding. */
  readonly flipSinToCos: boolean;
  /** Shift in the exponent's denominator of the time embedding's frequencies. */
  readonly freqShift: number;
  /** Kinds of the blocks, from the highest resolution to the lowest. */
  readonly downBlockTypes: readonly DownBlockType[];
  /** The block between them; `null` for distilled models that go without, such as tiny-sd. */
  readonly midBlockType: "UNetMidBlock2DCrossAttn" | null;
  /** Kinds of the blocks, from the lowest resolution to the highest. */
  readonly upBlockTypes: readonly UpBlockType[];
  /** Channels of the blocks, from the highest resolution to the lowest. */
  readonly blockOutChannels: readonly number[];
  /** Residual blocks of each down block; up blocks have one more. */
  readonly layersPerBlock: number;
  /** Padding of the downsampling convolutions. */
  readonly downsamplePadding: number;
  /** Divisor of the output of each residual block in the middle block. */
  readonly midBlockScaleFactor: number;
  /** Number of groups of the group normalizations. */
  readonly normNumGroups: number;
  /** Epsilon of the group normalizations. */
  readonly normEps: number;
  /** Width of the text embeddings. */
  readonly crossAttentionDim: number;
  /**
   * Number of attention heads in each block, from the highest resolution to the lowest. The file's
   * key is `attention_head_dim`, misnamed in diffusers.
   */
  readonly attentionHeads: readonly number[];
  /**
   * Layers of each transformer of a block, from the highest resolution to the lowest. The middle
   * block has as many as the last.
   */
  readonly transformerLayersPerBlock: readonly number[];
  /**
   * Width of the embedded guidance scale that models of latent consistency are conditioned on
   * (2310.04378, section 4.1); `null` for others.
   */
  readonly timeCondProjDim: number | null;
  /** SDXL's conditions on the pooled prompt and on sizes; `null` for 1.x and 2.x. */
  readonly textTime: TextTimeConfig | null;
}

/**
 * Models that differ from Stable Diffusion in the number of UNet input channels, by that number.
 */
export const relativesByInChannels: Readonly<Record<number, string>> = {
  5: "a depth-to-image model",
  7: "an upscaler",
  8: "an instruct-pix2pix model",
  9: "an inpainting model",
};

/**
 * Reads a UNet's configuration.
 *
 * @param file The file's name in messages.
 * @throws {ConfigError} for anything but a UNet of Stable Diffusion 1.x, 2.x or XL; the message
 *   names inpainting, depth and upscaling models.
 */
export function parseUNetConfig(json: unknown, file: string): UNet2DConditionConfig {
  const fields = new Fields(json, file);
  fields.only("_class_name", "UNet2DConditionModel");
  fields.only("encoder_hid_dim", null, {
    hint: "models with another text encoder are not Stable Diffusion 1.x or 2.x",
  });
  fields.only("encoder_hid_dim_type", null);
  fields.only("class_embed_type", null, { hint: "upscalers and image variations condition on classes" });
  fields.only("num_class_embeds", null, { hint: "upscalers condition on classes" });
  fields.only("class_embeddings_concat", false, { or: [null] });
  fields.only("num_attention_heads", null, { hint: "the number of heads is read from attention_head_dim" });
  fields.only("dual_cross_attention", false, { or: [null], perBlock: true });
  fields.only("only_cross_attention", false, { or: [null], perBlock: true });
  fields.only("mid_block_only_cross_attention", null, { or: [false] });
  fields.only("cross_attention_norm", null);
  fields.only("attention_type", "default", { or: [null] });
  fields.only("resnet_time_scale_shift", "default");
  fields.only("resnet_skip_time_act", false, { or: [null] });
  fields.only("resnet_out_scale_factor", 1);
  fields.only("time_embedding_type", "positional");
  fields.only("time_embedding_act_fn", null);
  fields.only("timestep_post_act", null);
  fields.only("conv_in_kernel", 3);
  fields.only("conv_out_kernel", 3);
  fields.only("center_input_sample", false, { or: [null] });
  fields.only("quantization_config", null, { hint: "quantized weights are not read" });
  fields.oneOf("act_fn", "silu", ["silu", "swish"]); // two names of one function
  if (fields.value("norm_num_groups") === null) fields.refuse("norm_num_groups", "a whole number from 1 on");
  // Here null is no default: it leaves the block out.
  const midBlockType = fields.value("mid_block_type") === null
    ? null
    : fields.oneOf("mid_block_type", "UNetMidBlock2DCrossAttn", ["UNetMidBlock2DCrossAttn"], ["null"]);

  const inChannels = fields.count("in_channels", 4);
  const relative = relativesByInChannels[inChannels];
  const family = fields.value("addition_embed_type") === "text_time" ? "SDXL" : "Stable Diffusion";
  fields.only("in_channels", 4, {
    hint: relative === undefined ? "" : `this is ${relative} of ${family}; ${useBaseModel}`,
  });
  fields.only("out_channels", 4);

  const downBlockTypes = fields.listOf<DownBlockType>(
    "down_block_types",
    ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    ["CrossAttnDownBlock2D", "DownBlock2D"],
  );
  const upBlockTypes = fields.listOf<UpBlockType>(
    "up_block_types",
    ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    ["UpBlock2D", "CrossAttnUpBlock2D"],
  );
  const blockOutChannels = fields.counts("block_out_channels", [320, 640, 1280, 1280]);
  const blocks = downBlockTypes.length;
  if (upBlockTypes.length !== blocks) fields.refuse("up_block_types", `as many as down_block_types, ${blocks}`);
  if (blockOutChannels.length !== blocks) fields.refuse("block_out_channels", `as many as down_block_types, ${blocks}`);

  const isPerBlock = Array.isArray(fields.value("attention_head_dim"));
  const attentionHeads = isPerBlock
    ? fields.counts("attention_head_dim", [])
    : blockOutChannels.map(() => fields.count("attention_head_dim", 8));
  if (attentionHeads.length !== blocks) fields.refuse("attention_head_dim", `as many as down_block_types, ${blocks}`);

  const transformerLayersPerBlock = parseTransformerLayers(fields, blocks);

  fields.only("time_embedding_dim", null, { or: [4 * blockOutChannels[0]] });

  const normNumGroups = fields.count("norm_num_groups", 32);
  checkDivides(fields, "block_out_channels", blockOutChannels, attentionHeads);
  checkDivides(fields, "block_out_channels", blockOutChannels, blockOutChannels.map(() => normNumGroups));

  return {
    sampleSize: fields.value("sample_size") == null
      ? null
      : fields.sameCount("sample_size", 0, { max: maxSide, supported: "square pictures" }),
    inChannels,
    outChannels: 4,
    flipSinToCos: fields.boolean("flip_sin_to_cos", true),
    freqShift: fields.number("freq_shift", 0),
    downBlockTypes,
    midBlockType,
    upBlockTypes,
    blockOutChannels,
    layersPerBlock: fields.sameCount("layers_per_block", 2, { max: maxLayers }),
    downsamplePadding: fields.number("downsample_padding", 1),
    midBlockScaleFactor: fields.number("mid_block_scale_factor", 1),
    normNumGroups,
    normEps: fields.epsilon("norm_eps", 1e-5),
    crossAttentionDim: fields.sameCount("cross_attention_dim", 1280),
    attentionHeads,
    transformerLayersPerBlock,
    timeCondProjDim: fields.value("time_cond_proj_dim") == null ? null : fields.count("time_cond_proj_dim", 0),
    textTime: parseTextTime(fields),
  };
}

/** One number for all blocks, or one for each; up blocks have those of their resolution. */
function parseTransformerLayers(fields: Fields, blocks: number): readonly number[] {
  const key = "transformer_layers_per_block";
  const layers = Array.isArray(fields.value(key))
    ? fields.counts(key, [], maxLayers)
    : Array<number>(blocks).fill(fields.count(key, 1, maxLayers));
  if (layers.length !== blocks) fields.refuse(key, `as many as down_block_types, ${blocks}`);
  const reverse = fields.value("reverse_transformer_layers_per_block");
  if (reverse != null) {
    const wanted = [...layers].reverse();
    const given: readonly unknown[] = Array.isArray(reverse) ? reverse : wanted.map(() => reverse);
    const isSame = given.length === blocks &&
      given.every((block, i) => [block].flat(Infinity).every((count) => count === wanted[i]));
    if (!isSame) fields.refuse("reverse_transformer_layers_per_block", `null, or ${JSON.stringify(wanted)}`);
  }
  return layers;
}

function parseTextTime(fields: Fields): TextTimeConfig | null {
  fields.only("addition_embed_type", null, {
    or: ["text_time"],
    hint: 'or "text_time", as in SDXL; other models condition on pictures or on other encoders',
  });
  if (fields.value("addition_embed_type") == null) {
    fields.only("projection_class_embeddings_input_dim", null);
    return null;
  }
  const timeEmbedDim = fields.count("addition_time_embed_dim", 0);
  if (timeEmbedDim % 2 !== 0) fields.refuse("addition_time_embed_dim", "an even number");
  return { timeEmbedDim, inputDim: fields.count("projection_class_embeddings_input_dim", 0) };
}
