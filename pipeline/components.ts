/** The components of pipelines, and their settings. */

import type { Scheduler } from "../schedulers/mod.ts";
import type { CLIPImageProcessor } from "./image/clip_image_processor.ts";
import type { Autoencoder } from "./models/autoencoder.ts";
import type { CLIPTextModel } from "./models/clip_text.ts";
import type { CLIPTextModelWithProjection } from "./models/clip_text_projection.ts";
import type { StableDiffusionSafetyChecker } from "./models/safety_checker.ts";
import type { UNet2DConditionModel } from "./models/unet.ts";
import type { CLIPTokenizer } from "./text/tokenizer.ts";

/**
 * The parts of a pipeline. Several pipelines can share them: `new
 * StableDiffusionPipeline(other.components)`.
 */
export interface PipelineComponents {
  /** Decodes latents to pictures. */
  readonly vae: Autoencoder;
  /** Encodes prompts. */
  readonly textEncoder: CLIPTextModel;
  /** Splits prompts into tokens. */
  readonly tokenizer: CLIPTokenizer;
  /** Predicts the noise of latents. */
  readonly unet: UNet2DConditionModel;
  /** Plans the denoising steps. */
  readonly scheduler: Scheduler;
  /**
   * Flags pictures that are not safe for work; flagged pictures become black. `null` explicitly
   * disables the check, with one warning.
   */
  readonly safetyChecker?: StableDiffusionSafetyChecker | null;
  /** Prepares pictures for the safety checker. */
  readonly featureExtractor?: CLIPImageProcessor | null;
}

/** The parts of a pipeline that draw, whatever encodes the prompts. */
export type DrawingComponents = Pick<
  PipelineComponents,
  "vae" | "unet" | "scheduler" | "safetyChecker" | "featureExtractor"
>;

/**
 * The parts of an SDXL pipeline. Several pipelines can share them: `new
 * StableDiffusionXLPipeline(other.components)`.
 */
export interface XLPipelineComponents
  extends Pick<PipelineComponents, "vae" | "textEncoder" | "tokenizer" | "unet" | "scheduler"> {
  /** Encodes prompts a second time, and pools them. */
  readonly textEncoder2: CLIPTextModelWithProjection;
  /** Splits prompts into the tokens of the second text encoder. */
  readonly tokenizer2: CLIPTokenizer;
}

/** The components of all pipelines. */
export type AllComponents = PipelineComponents & XLPipelineComponents;

/** Settings of a pipeline other than its components. */
export interface PipelineSettings {
  /**
   * Whether to warn about a missing safety checker. Default: true if `safetyChecker` is given, even
   * as `null`.
   */
  readonly requiresSafetyChecker?: boolean;
}

/** Settings of an SDXL pipeline other than its components. */
export interface XLPipelineSettings {
  /**
   * Whether missing negative prompts are states of zeros, as the base model was trained, rather
   * than the encoded empty text. Default: true.
   */
  readonly forceZerosForEmptyPrompt?: boolean;
}

/** A component's name in a pipeline. */
export type ComponentKey = keyof AllComponents;
