/**
 * Single .safetensors files in the LDM layout of CompVis and Stability AI: a complete Stable
 * Diffusion 1.x or 2.x model without configuration files. They are presented as folders in
 * diffusers' layout.
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

/** Configuration that a single file's weights do not determine. */
export interface SingleFileOptions {
  /**
   * What the UNet predicts. Default: epsilon for 1.x; for 2.x it follows from the training step, if
   * the file has one.
   */
  readonly predictionType?: PredictionType;
  /**
   * Overrides of inferred configuration keys, by part: `{ unet: { norm_num_groups: 16 } }`.
   */
  readonly config?: Partial<Record<keyof PipelineConfigs, ConfigJson>>;
}

/** An open single file. Close it when its models are loaded. */
export class SingleFile implements Disposable {
  readonly name: string;
  /** Which text encoder it has: CLIP (1.x) or OpenCLIP (2.x). */
  readonly family: "sd1" | "sd2";
  /** What the UNet predicts; `null` if unknown. */
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
   * @throws {CheckpointError} if it is a pickle, or not a complete Stable Diffusion 1.x or 2.x
   *   checkpoint; the message says what it is
   * @throws {SafetensorsError} if it is not a valid safetensors file
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
   * The configuration files that a folder of this model would have.
   *
   * @param predictionType What the UNet predicts, for files that do not determine it.
   */
  configs(predictionType: PredictionType = this.predictionType ?? "v_prediction"): PipelineConfigs {
    // Attention of SD 2.1 overflows f16. Upcast unless the training step identifies another model.
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
   * What a model built from one part needs in order to be saved.
   *
   * @param predictionType What the UNet predicts. A function, because it may be determined only
   *   after the models have been built.
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
   * The weights of one part under diffusers' keys. They read from this file; closing them closes
   * it.
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
 * The rule of diffusers' conversion script: of the 2.x models, the base model (875000 steps)
 * predicts noise, and all others predict v.
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
  // Training checkpoints also contain the discriminator.
  const nameOf = (key: string) => key.startsWith("loss.") ? null : table.toDiffusers(key);
  const views = renamedViews(weights, ldmPrefixes.vae, nameOf);
  for (const [name, view] of views) {
    // Attention projections are 1×1 convolutions in LDM and linear layers in diffusers.
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
    if (!weights.tensors.has(key)) continue; // binding reports its three parts as missing
    const { bytes, shape: [, ...inner] } = weights.info(key);
    diffusers.forEach((name, third) => {
      views.set(name, { key, shape: [hidden, ...inner], fromByte: third * bytes / 3 });
    });
  }
  return new RenamedWeights(weights, views);
}

/**
 * Views of all tensors whose keys start with a prefix.
 *
 * @param nameOf Returns the name in diffusers; `null` for a tensor to leave out; `undefined` for an
 *   unknown key, which keeps its name, so that binding reports it as unused.
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
