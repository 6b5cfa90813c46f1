/**
 * Single .safetensors files in the layout of CompVis' and Stability's own code (LDM): a whole
 * Stable Diffusion 1.x or 2.x model in one file, without a word of configuration. They are read as
 * if they were folders in diffusers' layout.
 */

import { CheckpointError } from "../../errors.ts";
import type { ByteSource } from "../source/byte_source.ts";
import { fileSource } from "../source/disk.ts";
import { isPickle, pickleMessage } from "../source/pickle.ts";
import { recognizeCheckpoint } from "../diffusers/checkpoint_kind.ts";
import { clipPrefix, inferConfigs, type PipelineConfigs, type PredictionType } from "./config.ts";
import { KeyTable, ldmPrefixes, openClipFused, openClipModules, unetModules, vaeModules } from "./keys.ts";
import type { ConfigJson, ModelOrigin } from "../source/origin.ts";
import { RenamedWeights, type TensorView } from "../safetensors/renamed_weights.ts";
import { SafetensorsFile } from "../safetensors/safetensors_file.ts";
import type { Weights } from "../safetensors/weights.ts";

/** The parts of a single file that have weights. */
export type SingleFilePart = "unet" | "vae" | "text_encoder";

/** How a single file is understood, where its weights do not tell. */
export interface SingleFileOptions {
  /**
   * What the UNet predicts. Default: epsilon for 1.x; for 2.x what the file's training step tells,
   * where it has one.
   */
  readonly predictionType?: PredictionType;
  /**
   * Keys of configuration files that are to be other than inferred, by part: `{ unet: {
   * norm_num_groups: 16 } }`.
   */
  readonly config?: Partial<Record<keyof PipelineConfigs, ConfigJson>>;
}

/** An open single file. Close it when its models are loaded. */
export class SingleFile implements Disposable {
  readonly name: string;
  /** Which text encoder it has: CLIP (1.x) or OpenCLIP (2.x). */
  readonly family: "sd1" | "sd2";
  /** What the UNet predicts; `null` if nothing tells. */
  readonly predictionType: PredictionType | null;
  readonly #weights: Weights;
  readonly #globalStep: number | null;
  readonly #options: SingleFileOptions;

  private constructor(weights: Weights, family: "sd1" | "sd2", step: number | null, options: SingleFileOptions) {
    this.name = weights.name;
    this.family = family;
    this.#weights = weights;
    this.#globalStep = step;
    this.#options = options;
    this.predictionType = options.predictionType ?? predictionTypeOf(family, step);
  }

  /**
   * Opens a file and reads its header.
   *
   * @throws {CheckpointError} if it is a pickle, or anything but a whole Stable Diffusion 1.x or
   *   2.x checkpoint; the message names what it is
   * @throws {SafetensorsError} if it is no safetensors file, or a broken one
   */
  static async open(source: string | ByteSource, options: SingleFileOptions = {}): Promise<SingleFile> {
    const name = typeof source === "string" ? source : source.name;
    if (isPickle(name)) throw new CheckpointError(pickleMessage(name), { source: name });
    const weights = await SafetensorsFile.open(typeof source === "string" ? await fileSource(source) : source);
    try {
      const { family, description, advice } = recognizeCheckpoint(weights);
      if (family === "other") {
        const hint = advice === undefined ? "" : `; ${advice}`;
        throw new CheckpointError(`Cannot load ${name} as it is ${description}${hint}`, { source: name });
      }
      const step = weights.tensors.has("global_step") ? (await weights.float64("global_step"))[0] : null;
      return new SingleFile(weights, family, step, options);
    } catch (error) {
      weights.close();
      throw error;
    }
  }

  /**
   * The configuration files that the file would have as a folder.
   *
   * @param predictionType For files that do not tell themselves.
   */
  configs(predictionType: PredictionType = this.predictionType ?? "v_prediction"): PipelineConfigs {
    // SD 2.1 overflows in f16 attention. Where the training step does not say that it is another,
    // better safe.
    const upcastAttention = this.family === "sd2" && (this.#globalStep === null || this.#globalStep === 110_000);
    const inferred = inferConfigs(this.#weights, { family: this.family, predictionType, upcastAttention });
    const { config = {} } = this.#options;
    return {
      unet: { ...inferred.unet, ...config.unet },
      vae: { ...inferred.vae, ...config.vae },
      text_encoder: { ...inferred.text_encoder, ...config.text_encoder },
      scheduler: { ...inferred.scheduler, ...config.scheduler },
    };
  }

  /**
   * What a model built on one part needs to be written again.
   *
   * @param predictionType What the UNet predicts. It may turn out after the models have been built,
   *   so it is asked for late.
   */
  origin(part: SingleFilePart, source: string | ByteSource, predictionType: () => PredictionType): ModelOrigin {
    const configOf = (): ConfigJson => this.configs(predictionType())[part];
    return {
      name: this.name,
      get config(): ConfigJson {
        return configOf();
      },
      openWeights: async () => (await SingleFile.open(source, this.#options)).part(part),
    };
  }

  /**
   * The weights of one part under diffusers' keys. They read from this file, and closing them
   * closes it.
   */
  part(part: SingleFilePart): Weights {
    const configs = this.configs();
    switch (part) {
      case "unet":
        return unetView(this.#weights, configs.unet);
      case "vae":
        return vaeView(this.#weights, configs.vae);
      case "text_encoder":
        return this.family === "sd1" ? clipView(this.#weights) : openClipView(this.#weights, configs.text_encoder);
    }
  }

  [Symbol.dispose](): void {
    this.#weights.close();
  }
}

/**
 * The rule of diffusers' conversion: 875000 steps made the 2.x base model, which predicts noise;
 * other steps of 2.x made 768-v.
 */
function predictionTypeOf(family: "sd1" | "sd2", globalStep: number | null): PredictionType | null {
  if (family === "sd1" || globalStep === 875_000) return "epsilon";
  return globalStep === null ? null : "v_prediction";
}

function unetView(weights: Weights, config: ConfigJson): Weights {
  const types = config.down_block_types as string[];
  const table = new KeyTable(unetModules({
    attention: types.map((type) => type.startsWith("CrossAttn")),
    layersPerBlock: config.layers_per_block as number,
  }));
  return new RenamedWeights(weights, renamedViews(weights, ldmPrefixes.unet, (key) => table.toDiffusers(key)));
}

function vaeView(weights: Weights, config: ConfigJson): Weights {
  const table = new KeyTable(vaeModules({
    levels: (config.block_out_channels as number[]).length,
    layersPerBlock: config.layers_per_block as number,
  }));
  // Training files hold the discriminator too.
  const nameOf = (key: string) => key.startsWith("loss.") ? null : table.toDiffusers(key);
  const views = renamedViews(weights, ldmPrefixes.vae, nameOf);
  for (const [name, view] of views) {
    // LDM keeps the attention's projections as 1×1 convolutions, diffusers as linear layers.
    if (/\.attentions\..*\.weight$/.test(name)) views.set(name, { ...view, shape: view.shape.slice(0, 2) });
  }
  return new RenamedWeights(weights, views);
}

function clipView(weights: Weights): Weights {
  const nameOf = (key: string) => /position_ids$/.test(key) ? null : `text_model.${key}`;
  return new RenamedWeights(weights, renamedViews(weights, clipPrefix(weights), nameOf));
}

function openClipView(weights: Weights, config: ConfigJson): Weights {
  const layers = config.num_hidden_layers as number;
  const hidden = config.hidden_size as number;
  const table = new KeyTable(openClipModules({ layers }));
  const fused = Array.from({ length: layers }, (_, layer) => openClipFused(layer)).flat();
  const fusedKeys = new Set(fused.map(({ ldm }) => ldm));
  const isUnused = (key: string): boolean => {
    const layer = /^transformer\.resblocks\.(\d+)\./.exec(key);
    const isSkippedLayer = layer !== null && Number(layer[1]) >= layers;
    return isSkippedLayer || fusedKeys.has(key) || /^(text_projection|logit_scale|attn_mask|visual\b.*)$/.test(key);
  };
  const views = renamedViews(weights, ldmPrefixes.openClip, (key) => isUnused(key) ? null : table.toDiffusers(key));
  for (const { ldm, diffusers } of fused) {
    const key = ldmPrefixes.openClip + ldm;
    if (!weights.tensors.has(key)) continue; // reported as missing by its parts' names
    const { bytes, shape: [, ...inner] } = weights.info(key);
    diffusers.forEach((name, third) => {
      views.set(name, { key, shape: [hidden, ...inner], fromByte: third * bytes / 3 });
    });
  }
  return new RenamedWeights(weights, views);
}

/**
 * Views of all tensors below a prefix.
 *
 * @param nameOf The name in diffusers; `undefined` for a key that is unknown, which keeps its name
 *   so that it is complained of; `null` for one that is not wanted.
 */
function renamedViews(
  weights: Weights,
  prefix: string,
  nameOf: (key: string) => string | undefined | null,
): Map<string, TensorView> {
  const views = new Map<string, TensorView>();
  for (const [key, { shape }] of weights.tensors) {
    if (!key.startsWith(prefix)) continue;
    const name = nameOf(key.slice(prefix.length));
    if (name !== null) views.set(name ?? key, { key, shape });
  }
  return views;
}
