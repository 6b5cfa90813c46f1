/**
 * Single .safetensors files in the LDM layout of CompVis and Stability AI: a complete Stable
 * Diffusion 1.x, 2.x or SDXL base model without configuration files. They are presented as folders
 * in diffusers' layout.
 */

import { CheckpointError } from "../../errors.ts";
import type { ByteSource } from "../source/byte_source.ts";
import { openSource } from "../source/disk.ts";
import { isPickle, pickleMessage } from "../source/pickle.ts";
import { recognizeCheckpoint } from "../diffusers/checkpoint_kind.ts";
import { canonicalWeights } from "./canonical.ts";
import {
  clipPrefix,
  hasOpenClip,
  inferConfigs,
  type PipelineConfigs,
  type PredictionType,
  type SingleFileFamily,
} from "./config.ts";
import { ldmPrefixes } from "./keys.ts";
import { type Markers, markerTensors, readMarkers } from "./markers.ts";
import { readStoredConfig, type StoredConfig } from "./stored_config.ts";
import { clipView, openClipView, unetView, vaeView } from "./views.ts";
import type { ConfigJson, ModelOrigin } from "../source/origin.ts";
import type { RenamedWeights } from "../safetensors/renamed_weights.ts";
import { SafetensorsFile } from "../safetensors/safetensors_file.ts";
import type { Weights } from "../safetensors/weights.ts";

/** The parts of a single file that have weights. */
export type SingleFilePart = "unet" | "vae" | "text_encoder" | "text_encoder_2";

/** The parts of a family's files. */
export function partsOfFile(family: SingleFileFamily): readonly SingleFilePart[] {
  return family === "sdxl" ? ["unet", "vae", "text_encoder", "text_encoder_2"] : ["unet", "vae", "text_encoder"];
}

/** Configuration that a single file's weights do not determine. */
export interface SingleFileOptions {
  /**
   * What the UNet predicts. Default: what the file's marker tensors (`v_pred`) or metadata say;
   * otherwise epsilon for 1.x, and for 2.x it follows from the training step, if the file has one.
   */
  readonly predictionType?: PredictionType;
  /**
   * Reads the UNet's exponential moving average instead of its last weights, in training
   * checkpoints that hold both (diffusers' `extract_ema`). Default: false.
   */
  readonly ema?: boolean;
  /**
   * Overrides of inferred configuration keys, by part: `{ unet: { norm_num_groups: 16 } }`.
   */
  readonly config?: Partial<Record<keyof PipelineConfigs, ConfigJson>>;
}

/** How a file is opened. */
interface OpenOptions extends SingleFileOptions {
  /** Parts that may be missing, as they come from elsewhere. */
  readonly without?: readonly SingleFilePart[];
}

/** An open single file. Close it when its models are loaded. */
export class SingleFile implements Disposable {
  readonly name: string;
  /** Which text encoders it has: CLIP (1.x), OpenCLIP (2.x) or both (SDXL). */
  readonly family: SingleFileFamily;
  /** What the UNet predicts; `null` if unknown. */
  readonly predictionType: PredictionType | null;
  readonly #weights: Weights;
  readonly #globalStep: number | null;
  readonly #options: OpenOptions;
  readonly #markers: Markers;
  readonly #stored: StoredConfig;

  private constructor(weights: Weights, family: SingleFileFamily, step: number | null, options: OpenOptions) {
    this.name = weights.name;
    this.family = family;
    this.#weights = weights;
    this.#globalStep = step;
    this.#options = options;
    this.#markers = readMarkers(weights);
    this.#stored = readStoredConfig(weights);
    this.predictionType = options.predictionType ?? this.#markers.predictionType ?? predictionTypeOf(family, step);
  }

  /**
   * Opens a file and reads its header.
   *
   * @throws {CheckpointError} if it is a pickle, or not a complete Stable Diffusion 1.x, 2.x or
   *   SDXL checkpoint; the message says what it is
   * @throws {SafetensorsError} if it is not a valid safetensors file
   */
  static async open(source: string | URL | ByteSource, options: OpenOptions = {}): Promise<SingleFile> {
    const name = typeof source === "string" ? source : source instanceof URL ? source.href : source.name;
    if (isPickle(name)) throw new CheckpointError(pickleMessage(name), { source: name });
    const file = await SafetensorsFile.open(await openSource(source));
    try {
      return await SingleFile.of(file, options);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /**
   * The single file that weights are.
   *
   * @throws {CheckpointError} as {@linkcode SingleFile.open} does
   */
  static async of(file: Weights, options: OpenOptions = {}): Promise<SingleFile> {
    const { name } = file;
    const weights = canonicalWeights(file, options);
    const { family, description, advice } = recognizeCheckpoint(weights, options);
    if (family === "other") {
      const hint = advice === undefined ? "" : `; ${advice}`;
      throw new CheckpointError(`Cannot load ${name} as it is ${description}${hint}`, { source: name });
    }
    const step = weights.tensors.has("global_step") ? (await weights.float64("global_step"))[0] : null;
    return new SingleFile(weights, family, step, options);
  }

  /**
   * The configuration files that a folder of this model would have.
   *
   * @param predictionType What the UNet predicts, for files that do not determine it.
   */
  configs(predictionType: PredictionType = this.predictionType ?? "v_prediction"): PipelineConfigs {
    // Attention of SD 2.1 overflows f16. Upcast unless the training step identifies another model.
    const upcastAttention = this.family === "sd2" && (this.#globalStep === null || this.#globalStep === 110_000);
    const zeroTerminalSnr = this.#markers.zeroTerminalSnr && predictionType === "v_prediction";
    const inferred = inferConfigs(this.#weights, {
      family: this.family,
      predictionType,
      upcastAttention,
      zeroTerminalSnr,
      without: this.#options.without,
    });
    const { config = {}, predictionType: asked } = this.#options;
    const whole = (part: keyof PipelineConfigs): ConfigJson => ({
      ...inferred[part],
      ...this.#stored[part],
      ...config[part],
    });
    return {
      unet: whole("unet"),
      vae: whole("vae"),
      text_encoder: whole("text_encoder"),
      text_encoder_2: whole("text_encoder_2"),
      // What the caller asks for comes before what the file states.
      scheduler: { ...whole("scheduler"), ...(asked && { prediction_type: asked }), ...config.scheduler },
    };
  }

  /**
   * What a model built from one part needs in order to be saved.
   *
   * @param predictionType What the UNet predicts. A function, because it may be determined only
   *   after the models have been built.
   */
  origin(part: SingleFilePart, source: string | URL | ByteSource, predictionType: () => PredictionType): ModelOrigin {
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
  part(part: SingleFilePart): RenamedWeights {
    const configs = this.configs();
    switch (part) {
      case "unet":
        return unetView(this.#weights, configs.unet);
      case "vae":
        return vaeView(this.#weights, configs.vae);
      case "text_encoder":
        return this.family !== "sdxl" && hasOpenClip(this.#weights)
          ? openClipView(this.#weights, configs.text_encoder, { prefix: ldmPrefixes.openClip, hasProjection: false })
          : clipView(this.#weights, configs.text_encoder, clipPrefix(this.#weights, this.family));
      case "text_encoder_2":
        return openClipView(this.#weights, configs.text_encoder_2, {
          prefix: ldmPrefixes.xlOpenClip,
          hasProjection: true,
        });
    }
  }

  /** The names of tensors that belong to none of the file's parts. */
  surplus(): string[] {
    const used = new Set<string>(["global_step", ...Object.values(markerTensors)]);
    for (const part of partsOfFile(this.family)) {
      if (this.#options.without?.includes(part)) continue;
      for (const key of this.part(part).baseKeys) used.add(key);
    }
    return [...this.#weights.tensors.keys()].filter((key) => !used.has(key));
  }

  [Symbol.dispose](): void {
    this.#weights.close();
  }
}

/**
 * The rule of diffusers' conversion script: of the 2.x models, the base model (875000 steps)
 * predicts noise, and all others predict v.
 */
function predictionTypeOf(family: SingleFileFamily, globalStep: number | null): PredictionType | null {
  if (family !== "sd2" || globalStep === 875_000) return "epsilon";
  return globalStep === null ? null : "v_prediction";
}
