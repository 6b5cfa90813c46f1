/** Pictures as PNG files, with everything that drew them. @module */

import config from "../deno.json" with { type: "json" };
import { exactEdits, type ExactSettings } from "../pipeline/generation/exact_settings.ts";
import { generationRecord } from "../pipeline/generation/record.ts";
import { generationText } from "../pipeline/image/generation_text.ts";
import { encodePicture } from "../pipeline/image/picture.ts";
import type { EditingPipeline } from "../pipeline/editing_pipeline.ts";
import type { PictureRequest, Pixels } from "./painter.ts";
import { withoutAlpha } from "./pixels.ts";

/** A LoRA of the session. */
export interface LoadedLora {
  readonly name: string;
  /** SHA-256 of the file, in hexadecimal digits. */
  readonly sha256: string;
}

/**
 * A picture as PNG. The pipeline's stack must hold the edits of the picture until the first await.
 *
 * @param options.scheduler the configuration of the picture's sampler
 */
export async function picturePng(
  { prompt, settings }: PictureRequest,
  pixels: Pixels,
  options: {
    withText: boolean;
    pipe: EditingPipeline;
    model: string;
    scheduler: object;
    loras: readonly LoadedLora[];
  },
): Promise<Uint8Array<ArrayBuffer>> {
  const { withText, pipe, model, loras } = options;
  const picture = withoutAlpha(pixels);
  if (!withText) return await encodePicture(picture, "png");
  const record = generationRecord(pipe, {
    negativePrompt: settings.negativePrompt,
    steps: settings.steps,
    cfgScale: settings.guidance,
    clipSkip: settings.clipSkip,
    model,
    sampler: settings.sampler,
    width: settings.width,
    height: settings.height,
  });
  const { prompt2, negativePrompt2 } = settings;
  const xl = { ...(prompt2 && { prompt2 }), ...(negativePrompt2 && { negativePrompt2 }) };
  const exact: ExactSettings = {
    version: config.version,
    device: pipe.gpu.info.name,
    scheduler: { ...options.scheduler },
    promptSyntax: "plain",
    editNegativePrompt: true,
    vaeTiling: false,
    safetyChecker: false,
    ...(Object.keys(xl).length > 0 && { xl }),
    edits: await exactEdits(pipe),
    adapters: loras.map(({ name, sha256 }) => ({ kind: "lora", file: name, sha256, weight: 1 })),
  };
  const text = generationText({ ...record, prompt, seed: BigInt(settings.seed), exact });
  return await encodePicture(picture, "png", { text });
}
