/** `vae/config.json`. @module */

import { checkDivides, Fields, maxLayers, maxSide } from "./fields.ts";

/** `vae/config.json`: diffusers' `AutoencoderKL`. */
export interface AutoencoderKLConfig {
  /** Channels of the encoder's input. */
  readonly inChannels: number;
  /** Channels of the decoder's output. */
  readonly outChannels: number;
  /** Channels of latents. */
  readonly latentChannels: number;
  /** Channels of the blocks, from the highest resolution to the lowest. */
  readonly blockOutChannels: readonly number[];
  /** Residual blocks of each encoder block; decoder blocks have one more. */
  readonly layersPerBlock: number;
  /** Number of groups of the group normalizations. */
  readonly normNumGroups: number;
  /** Side in pixels of the pictures that the model was trained on. */
  readonly sampleSize: number;
  /** Factor of latents: multiplied after encoding, divided out before decoding. */
  readonly scalingFactor: number;
  /**
   * Whether the model overflows in f16 (diffusers' `force_upcast`), so that all operands must be
   * f32. Files of 1.x and 2.x models say so as well, by their class's default; diffusers' pipelines
   * for them do not heed it.
   */
  readonly forceUpcast: boolean;
}

/**
 * Reads an autoencoder's configuration.
 *
 * @throws {ConfigError} for anything but the convolutional autoencoder of Stable Diffusion.
 */
export function parseAutoencoderKLConfig(json: unknown, file: string): AutoencoderKLConfig {
  const fields = new Fields(json, file);
  fields.only("_class_name", "AutoencoderKL");
  fields.only("latents_mean", null, {
    or: [0],
    perBlock: true,
    hint: "this autoencoder shifts its latents, as later models do",
  });
  fields.only("latents_std", null, { or: [1], perBlock: true });
  fields.only("shift_factor", null, { or: [0] });
  fields.only("quantization_config", null, { hint: "quantized weights are not read" });
  fields.only("use_quant_conv", true);
  fields.only("use_post_quant_conv", true);
  fields.only("mid_block_add_attention", true);
  fields.oneOf("act_fn", "silu", ["silu", "swish"]);
  const blockOutChannels = fields.counts("block_out_channels", [64]);
  const down = fields.listOf("down_block_types", ["DownEncoderBlock2D"], ["DownEncoderBlock2D"]);
  const up = fields.listOf("up_block_types", ["UpDecoderBlock2D"], ["UpDecoderBlock2D"]);
  const blocks = blockOutChannels.length;
  if (down.length !== blocks) fields.refuse("down_block_types", `as many as block_out_channels, ${blocks}`);
  if (up.length !== blocks) fields.refuse("up_block_types", `as many as block_out_channels, ${blocks}`);
  fields.only("in_channels", 3);
  fields.only("out_channels", 3);
  fields.only("latent_channels", 4, { hint: "16 channels belong to later models" });
  const normNumGroups = fields.count("norm_num_groups", 32);
  checkDivides(fields, "block_out_channels", blockOutChannels, blockOutChannels.map(() => normNumGroups));
  const scalingFactor = fields.number("scaling_factor", 0.18215);
  if (scalingFactor <= 0) fields.refuse("scaling_factor", "a number above 0");
  return {
    inChannels: 3,
    outChannels: 3,
    latentChannels: 4,
    blockOutChannels,
    layersPerBlock: fields.sameCount("layers_per_block", 1, { max: maxLayers }),
    normNumGroups,
    sampleSize: fields.sameCount("sample_size", 32, { max: maxSide, supported: "square pictures" }),
    scalingFactor,
    forceUpcast: fields.boolean("force_upcast", true),
  };
}
