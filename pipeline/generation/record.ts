import type { GenerationRecord } from "../image/generation_text.ts";
import type { EditingPipeline } from "../editing_pipeline.ts";
import { naturalSize } from "./size.ts";

/** Settings that a pipeline does not know itself. */
export interface GenerationSettings {
  readonly negativePrompt: string;
  readonly steps: number;
  readonly cfgScale: number;
  readonly clipSkip: number;
  /** The model's folder, file or hub id. */
  readonly model: string;
  /** The first ten digits of the SHA-256 of the model's file. */
  readonly modelHash?: string;
  /** Default: the class of the pipeline's scheduler. */
  readonly sampler?: string;
  /** Pixels. Default: the size that the model was trained on. */
  readonly width?: number;
  /** Pixels. Default: the size that the model was trained on. */
  readonly height?: number;
}

/**
 * The part of a generation record that all pictures of one call share: the settings, and the
 * pipeline's LoRAs, edits and activation dtype. Prompt and seed are added for each picture.
 */
export function generationRecord(
  pipe: EditingPipeline,
  settings: GenerationSettings,
): Omit<GenerationRecord, "prompt" | "seed"> {
  const natural = naturalSize(pipe);
  return {
    negativePrompt: settings.negativePrompt,
    steps: settings.steps,
    cfgScale: settings.cfgScale,
    sampler: settings.sampler ?? pipe.scheduler.constructor.name,
    width: settings.width ?? natural,
    height: settings.height ?? natural,
    model: settings.model,
    modelHash: settings.modelHash,
    clipSkip: settings.clipSkip,
    ...(pipe.unet.activations === "f16" ? { activations: "f16" } : {}),
    loras: Object.fromEntries(pipe.loras ?? []),
    ...(pipe.gpu.info.arithmetic === "f16" ? { arithmetic: "f16" } : {}),
    edits: pipe.edits.records,
  };
}
