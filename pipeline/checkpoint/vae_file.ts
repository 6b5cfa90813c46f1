/**
 * A file that holds an autoencoder alone, in any layout: that of LDM, with or without the prefix
 * of a whole checkpoint; diffusers' `AutoencoderKL`; TAESD as published, or as diffusers'
 * `AutoencoderTiny`. Such files come without configuration: it is inferred from shapes.
 *
 * @module
 */

import { CheckpointError } from "../errors.ts";
import { recognizeCheckpoint } from "./diffusers/checkpoint_kind.ts";
import { diffusersVersion, inferVae, xlVaeConfig } from "./ldm/config.ts";
import type { ModelFamily } from "./diffusers/config/model_index.ts";
import { ldmPrefixes } from "./ldm/keys.ts";
import { vaeView } from "./ldm/views.ts";
import { RenamedWeights } from "./safetensors/renamed_weights.ts";
import type { Weights } from "./safetensors/weights.ts";
import type { ConfigJson } from "./source/origin.ts";

/** Side in pixels of the pictures that published autoencoders were trained on. */
const imageSize = 512;
/** The same of SDXL. */
const xlImageSize = 1024;

/** An autoencoder's configuration, and its weights under diffusers' keys. */
export interface VaeFile {
  readonly className: "AutoencoderKL" | "AutoencoderTiny";
  readonly config: ConfigJson;
  readonly weights: Weights;
}

/**
 * Reads an autoencoder out of a file's weights.
 *
 * @param options.config keys of the configuration that are to be other than inferred
 * @param options.family the models whose latents an `AutoencoderKL` decodes, which its shapes do
 *   not tell. Default: "sd".
 * @throws {CheckpointError} if the file holds none; the message says what it holds
 */
export function readVaeFile(
  weights: Weights,
  options: { config?: ConfigJson; family?: ModelFamily } = {},
): VaeFile {
  const overrides = options.config ?? {};
  const ofFamily = options.family === "sdxl" ? { ...xlVaeConfig, sample_size: xlImageSize } : {};
  const keys = [...weights.tensors.keys()];
  const prefixOf = (inside: RegExp): string | undefined =>
    [ldmPrefixes.vae, "vae.", ""].find((prefix) =>
      keys.some((key) => key.startsWith(prefix) && inside.test(key.slice(prefix.length)))
    );
  const ldm = prefixOf(/^decoder\.up\.\d/);
  if (ldm !== undefined) {
    const config = { ...inferVae(weights, ldm, imageSize), ...ofFamily, ...overrides };
    return { className: "AutoencoderKL", config, weights: vaeView(weights, config, ldm) };
  }
  const diffusers = prefixOf(/^decoder\.up_blocks\.\d/);
  if (diffusers !== undefined) {
    const view = renamed(weights, (key) => key.startsWith(diffusers) ? key.slice(diffusers.length) : undefined);
    const config = { ...inferDiffusersVae(view), ...ofFamily, ...overrides };
    return { className: "AutoencoderKL", config, weights: view };
  }
  const tiny = renamed(weights, tinyKey(keys));
  if (tiny.tensors.has("decoder.layers.0.weight")) {
    return { className: "AutoencoderTiny", config: { ...inferTinyVae(tiny), ...overrides }, weights: tiny };
  }
  const { description } = recognizeCheckpoint(weights);
  throw new CheckpointError(
    `Cannot load ${weights.name} as an autoencoder (VAE) as it is ${description}; supported: AutoencoderKL in the ` +
      "layouts of LDM and diffusers, and TAESD (AutoencoderTiny)",
    { source: weights.name },
  );
}

/**
 * From TAESD's names to those of `AutoencoderTiny`. As published, the decoder's clamp is module 0,
 * so that its first convolution is `1`; the halves lie in files of their own, or as `encoder.` and
 * `decoder.` in one.
 */
function tinyKey(keys: readonly string[]): (key: string) => string | undefined {
  if (keys.some((key) => /^decoder\.layers\.\d/.test(key))) {
    return (key) => /^(encoder|decoder)\.layers\./.test(key) ? key : undefined;
  }
  const isDecoderAlone = keys.some((key) => /^(taesd_decoder\.)?1\.weight$/.test(key));
  return (key) => {
    const match = /^(taesd_)?(?:(encoder|decoder)\.)?(\d+)\.(.+)$/.exec(key);
    if (match === null) return undefined;
    const [, , half = isDecoderAlone ? "decoder" : undefined, index, rest] = match;
    if (half === undefined) return undefined;
    return `${half}.layers.${half === "decoder" ? Number(index) - 1 : index}.${rest}`;
  };
}

/** A view of the tensors that `nameOf` names. */
function renamed(weights: Weights, nameOf: (key: string) => string | undefined): RenamedWeights {
  return new RenamedWeights(
    weights,
    new Map([...weights.tensors].flatMap(([key, { shape }]) => {
      const name = nameOf(key);
      return name === undefined ? [] : [[name, { key, shape }] as const];
    })),
  );
}

function inferDiffusersVae(weights: Weights): ConfigJson {
  const shape = (key: string) => shapeOf(weights, key);
  const levels = count((level) => weights.tensors.has(`encoder.down_blocks.${level}.resnets.0.conv1.weight`));
  const channels = Array.from(
    { length: levels },
    (_, level) => shape(`encoder.down_blocks.${level}.resnets.0.conv1.weight`)[0],
  );
  return {
    _class_name: "AutoencoderKL",
    _diffusers_version: diffusersVersion,
    act_fn: "silu",
    block_out_channels: channels,
    down_block_types: channels.map(() => "DownEncoderBlock2D"),
    in_channels: shape("encoder.conv_in.weight")[1],
    latent_channels: shape("decoder.conv_in.weight")[1],
    layers_per_block: count((layer) => weights.tensors.has(`encoder.down_blocks.0.resnets.${layer}.conv1.weight`)),
    norm_num_groups: 32,
    out_channels: shape("decoder.conv_out.weight")[0],
    sample_size: imageSize,
    scaling_factor: 0.18215,
    up_block_types: channels.map(() => "UpDecoderBlock2D"),
  };
}

function inferTinyVae(weights: Weights): ConfigJson {
  const has = (half: string, index: number, rest: string) => weights.tensors.has(`${half}.layers.${index}.${rest}`);
  /**
   * Residual blocks of each stage; `between` modules lie between a stage's last block and the next.
   */
  const stages = (half: string, start: number, between: number): number[] => {
    const blocks: number[] = [];
    for (let index = start;;) {
      const length = count((block) => has(half, index + block, "conv.0.weight"));
      if (length === 0) return blocks;
      blocks.push(length);
      index += length + between;
    }
  };
  const width = (half: string) => shapeOf(weights, `${half}.layers.0.weight`)[0];
  const decoder = stages("decoder", 2, 2); // an upsampler and a convolution
  const encoder = has("encoder", 0, "weight") ? stages("encoder", 1, 1) : [];
  return {
    _class_name: "AutoencoderTiny",
    _diffusers_version: diffusersVersion,
    act_fn: "relu",
    decoder_block_out_channels: decoder.map(() => width("decoder")),
    in_channels: 3,
    latent_channels: shapeOf(weights, "decoder.layers.0.weight")[1],
    num_decoder_blocks: decoder,
    ...(encoder.length === 0 ? {} : {
      encoder_block_out_channels: encoder.map(() => width("encoder")),
      num_encoder_blocks: encoder,
    }),
    out_channels: 3,
    scaling_factor: 1,
  };
}

function shapeOf(weights: Weights, key: string): readonly number[] {
  const info = weights.tensors.get(key);
  if (info !== undefined) return info.shape;
  throw new CheckpointError(`Cannot tell the sizes of ${weights.name} as it has no ${key}`, { source: weights.name });
}

/** How many of the indices from 0 on pass. */
function count(passes: (index: number) => boolean): number {
  let index = 0;
  while (passes(index)) index++;
  return index;
}
