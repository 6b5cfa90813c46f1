/** `vae/config.json` of a tiny autoencoder. @module */

import { Fields } from "./fields.ts";

/** `vae/config.json`: diffusers' `AutoencoderTiny` (TAESD). */
export interface AutoencoderTinyConfig {
  /** Channels of the pictures that are encoded. */
  readonly inChannels: number;
  /** Channels of the pictures that are decoded. */
  readonly outChannels: number;
  /** Channels of latents. */
  readonly latentChannels: number;
  /** Channels of the encoder, the same in all stages. */
  readonly encoderChannels: number;
  /** Channels of the decoder, the same in all stages. */
  readonly decoderChannels: number;
  /** Residual blocks of each encoder stage, from the highest resolution to the lowest. */
  readonly numEncoderBlocks: readonly number[];
  /** Residual blocks of each decoder stage, from the lowest resolution to the highest. */
  readonly numDecoderBlocks: readonly number[];
  /**
   * Latents are divided by it before decoding: 1, as the model takes the UNet's latents as they
   * are.
   */
  readonly scalingFactor: number;
  /** Side in pixels of the tiles of tiled decoding, as in diffusers. */
  readonly sampleSize: number;
}

/**
 * Reads a tiny autoencoder's configuration.
 *
 * @throws {ConfigError} for stages of different widths, and for activations other than ReLU
 */
export function parseAutoencoderTinyConfig(json: unknown, file: string): AutoencoderTinyConfig {
  const fields = new Fields(json, file);
  fields.only("_class_name", "AutoencoderTiny");
  fields.oneOf("act_fn", "relu", ["relu"]);
  fields.only("upsampling_scaling_factor", 2);
  fields.only("upsample_fn", "nearest", { or: [null] });
  fields.only("shift_factor", 0, { or: [null] });
  fields.only("quantization_config", null, { hint: "quantized weights are not read" });
  fields.only("in_channels", 3);
  fields.only("out_channels", 3);
  fields.only("latent_channels", 4, { hint: "16 channels belong to later models" });
  const width = (key: string, stages: readonly number[]): number => {
    const widths = fields.counts(key, [64, 64, 64, 64]);
    if (widths.length !== stages.length) fields.refuse(key, `as many widths as stages, ${stages.length}`);
    return widths.every((each) => each === widths[0]) ? widths[0] : fields.refuse(key, "one width for all stages");
  };
  const numEncoderBlocks = fields.counts("num_encoder_blocks", [1, 3, 3, 3]);
  const numDecoderBlocks = fields.counts("num_decoder_blocks", [3, 3, 3, 1]);
  const scalingFactor = fields.number("scaling_factor", 1);
  if (scalingFactor <= 0) fields.refuse("scaling_factor", "a number above 0");
  return {
    inChannels: 3,
    outChannels: 3,
    latentChannels: 4,
    encoderChannels: width("encoder_block_out_channels", numEncoderBlocks),
    decoderChannels: width("decoder_block_out_channels", numDecoderBlocks),
    numEncoderBlocks,
    numDecoderBlocks,
    scalingFactor,
    sampleSize: 512,
  };
}
