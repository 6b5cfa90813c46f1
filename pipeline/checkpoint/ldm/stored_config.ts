/**
 * Configuration that a single file's tensors do not imply: numbers of heads, groups of norms, the
 * noise schedule. The layout has no place for it; files written here hold it in their metadata.
 *
 * @module
 */

import * as v from "valibot";
import { CheckpointError } from "../../errors.ts";
import { fields, type Schema, validateJson, whole } from "../../schema.ts";
import { parseCLIPTextConfig } from "../diffusers/config/clip.ts";
import { maxLayers } from "../diffusers/config/fields.ts";
import { parseUNetConfig } from "../diffusers/config/unet.ts";
import { parseAutoencoderKLConfig } from "../diffusers/config/vae.ts";
import type { TensorInfo } from "../safetensors/format.ts";
import { Weights } from "../safetensors/weights.ts";
import { tensorBytes, type TensorEntry } from "../safetensors/writer.ts";
import type { ConfigJson } from "../source/origin.ts";
import type { PipelineConfigs } from "./config.ts";

/** The metadata's key. */
export const storedConfigKey = "bluerose.config";

/** Configuration keys by part, each with its value in the part's file of diffusers' layout. */
export type StoredConfig = Partial<Record<keyof PipelineConfigs, ConfigJson>>;

/** What a text encoder's tensors do not tell. */
const textKeys = ["num_attention_heads", "num_hidden_layers", "hidden_act", "layer_norm_eps", "eos_token_id"];

/**
 * The keys that may be stored: what no tensor tells. What follows from the tensors is not read from
 * metadata, so that a stranger's file cannot state another structure than it has.
 */
const storable: Readonly<Record<keyof PipelineConfigs, readonly string[]>> = {
  unet: [
    ...["attention_head_dim", "norm_num_groups", "norm_eps", "mid_block_scale_factor", "downsample_padding"],
    ...["flip_sin_to_cos", "freq_shift", "sample_size"],
  ],
  vae: ["norm_num_groups", "scaling_factor", "force_upcast", "sample_size"],
  text_encoder: textKeys,
  text_encoder_2: textKeys,
  // What a scheduler's configuration says of the model's training; the rest is a choice.
  scheduler: [
    ...["beta_start", "beta_end", "beta_schedule", "trained_betas", "num_train_timesteps"],
    ...["prediction_type", "rescale_betas_zero_snr"],
  ],
};

/** Values are checked where configurations are parsed, but for this one, which views count to. */
const checked: Readonly<Record<string, Schema<unknown>>> = { num_hidden_layers: whole(1, maxLayers) };

const part = (keys: readonly string[]) =>
  v.optional(
    v.strictObject(Object.fromEntries(keys.map((key) => [key, v.optional(checked[key] ?? v.unknown())])), (issue) =>
      issue.expected === "never" ? `one of ${keys.join(", ")}` : "an object"),
  );
const schema: Schema<StoredConfig> = fields({
  unet: part(storable.unet),
  vae: part(storable.vae),
  text_encoder: part(storable.text_encoder),
  text_encoder_2: part(storable.text_encoder_2),
  scheduler: part(storable.scheduler),
});

/**
 * The configuration in a file's metadata; empty without any.
 *
 * @throws {CheckpointError} if it is not what {@linkcode storedConfigKey} says
 */
export function readStoredConfig({ name, metadata }: Pick<Weights, "name" | "metadata">): StoredConfig {
  if (metadata[storedConfigKey] === undefined) return {};
  return validateJson(
    schema,
    metadata[storedConfigKey],
    (reason) =>
      new CheckpointError(
        `Cannot load ${name} as its metadata's ${storedConfigKey} is malformed: ${reason}. ` +
          "Save the file again, as a folder, with the version of Blue Rose that wrote it",
        { source: name },
      ),
  );
}

/** How each part's configuration is read. The noise schedule is compared key by key. */
const parsers = {
  unet: parseUNetConfig,
  vae: parseAutoencoderKLConfig,
  // The projection of this encoder is not read.
  text_encoder: (json: ConfigJson, file: string) => ({ ...parseCLIPTextConfig(json, file), projectionDim: 0 }),
  text_encoder_2: parseCLIPTextConfig,
  scheduler: (json: ConfigJson) => storable.scheduler.map((key) => json[key] || null), // absent is false
} as const satisfies Record<keyof PipelineConfigs, (json: ConfigJson, file: string) => unknown>;

/**
 * The keys of a model's configuration that a file of it does not imply: the fewest with which the
 * implied configuration reads as the model's own.
 *
 * @param implied what a reader infers from the file
 * @throws {CheckpointError} if there are no such keys
 */
export function configToStore(
  path: string,
  own: Partial<PipelineConfigs>,
  implied: PipelineConfigs,
): StoredConfig {
  const stored: StoredConfig = {};
  for (const part of Object.keys(own) as (keyof PipelineConfigs)[]) {
    const wanted = JSON.stringify(parsers[part](own[part]!, part));
    const isRead = (more: ConfigJson): boolean => {
      try {
        return JSON.stringify(parsers[part]({ ...implied[part], ...more }, part)) === wanted;
      } catch {
        return false;
      }
    };
    const keys = storable[part].filter((key) => key in own[part]! || key in implied[part]);
    let more: ConfigJson = Object.fromEntries(keys.map((key) => [key, own[part]![key] ?? null]));
    if (!isRead(more)) {
      throw new CheckpointError(
        `Cannot save ${path} as a single file as the configuration of its ${part} is none that the layout implies, or ` +
          "that can be added to it: save a folder",
        { source: path },
      );
    }
    for (const key of keys) {
      const { [key]: _, ...rest } = more;
      if (isRead(rest)) more = rest;
    }
    if (Object.keys(more).length > 0) stored[part] = more;
  }
  return stored;
}

/** Keys that change no picture of a given size, or none in 32 bits. */
const harmlessKeys = ["sample_size", "force_upcast", "eos_token_id"];

/**
 * What other programs misread, which know the layout alone: "unet: attention_head_dim"; "" if
 * nothing.
 */
export function misreadText(stored: StoredConfig): string {
  return Object.entries(stored).flatMap(([part, json]) => {
    const keys = Object.keys(json).filter((key) => !harmlessKeys.includes(key));
    return keys.length > 0 ? [`${part}: ${keys.join(", ")}`] : [];
  }).join("; ");
}

/** Entries that are to be written, as the weights that a reader will find. */
export class EntryWeights extends Weights {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata = {};
  readonly #entries: ReadonlyMap<string, TensorEntry>;

  constructor(readonly name: string, entries: readonly TensorEntry[]) {
    super();
    this.#entries = new Map(entries.map((entry) => [entry.name, entry]));
    this.tensors = new Map(
      entries.map((entry) => {
        const { name, dtype, shape } = entry;
        return [name, { dtype, shape, offset: 0, bytes: tensorBytes(entry) }];
      }),
    );
  }

  async readRange(name: string, from: number, to: number): Promise<Uint8Array<ArrayBuffer>> {
    this.info(name); // says which tensor is not there
    const chunks = await Array.fromAsync(this.#entries.get(name)!.chunks(), (chunk) => chunk.slice());
    return new Uint8Array(await new Blob(chunks).arrayBuffer()).slice(from, to);
  }

  close(): void {}
}
