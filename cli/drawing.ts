/**
 * What the commands that draw have in common: their flags, how they open a model, and how a prompt becomes pictures.
 *
 * @module
 */
import { StableDiffusionModelEditingPipeline } from "../pipeline/model_editing_pipeline.ts";
import type { Picture } from "../pipeline/image/picture.ts";
import { picturesFromFloats } from "../pipeline/image/picture.ts";
import { samplerByName, TorchGenerator } from "../schedulers/mod.ts";
import type { Flags, Values } from "./arguments.ts";
import { showProgress } from "./progress.ts";

/** Flags that say which model draws, and on what. */
export const modelFlags = {
  model: {
    kind: "text",
    alias: "m",
    placeholder: "DIR",
    required: true,
    group: "Model",
    help: "folder of a model in diffusers' layout",
  },
  variant: { kind: "text", group: "Model", help: 'which weights of the folder: "fp16" for half precision' },
} as const satisfies Flags;

/** Flags that say how pictures are drawn; names as stable-diffusion.cpp has them. */
export const samplingFlags = {
  negativePrompt: { kind: "text", alias: "n", default: "", group: "Sampling", help: "what to keep away from" },
  width: {
    kind: "whole",
    alias: "W",
    min: 8,
    multipleOf: 8,
    group: "Sampling",
    help: "pixels across (default: as the model was trained)",
  },
  height: {
    kind: "whole",
    alias: "H",
    min: 8,
    multipleOf: 8,
    group: "Sampling",
    help: "pixels down (default: as the model was trained)",
  },
  steps: { kind: "whole", default: 20, min: 1, group: "Sampling", help: "denoising steps" },
  cfgScale: { kind: "number", default: 7.5, min: 0, group: "Sampling", help: "classifier-free guidance; none up to 1" },
  samplingMethod: {
    kind: "text",
    placeholder: "NAME",
    group: "Sampling",
    help: "ddim, pndm, lms, euler, euler_a, heun, dpm++2m, unipc, … (default: the model's own)",
  },
  seed: {
    kind: "whole",
    alias: "s",
    default: 42,
    group: "Sampling",
    help: "seed of the first picture; the next take the numbers after it",
  },
  clipSkip: { kind: "whole", default: 0, min: 0, group: "Sampling", help: "layers of the text encoder to leave out" },
  vaeTiling: { kind: "switch", group: "Sampling", help: "decode large pictures in tiles, to save memory" },
} as const satisfies Flags;

/** Values of {@linkcode samplingFlags}. */
export type SamplingValues = Values<typeof samplingFlags>;

/** Opens a model, with a bar for each component on a terminal. */
export async function openPipeline(
  { model, variant }: { model: string; variant?: string },
): Promise<StableDiffusionModelEditingPipeline> {
  using bar = showProgress("loading", { total: 1, unit: "bytes" });
  return await StableDiffusionModelEditingPipeline.fromPretrained(model, {
    variant,
    onProgress: (component, done, total) => bar.set(done, { total, note: component }),
  });
}

/** Sets a pipeline up as the flags ask. */
export function applySampling(pipe: StableDiffusionModelEditingPipeline, values: SamplingValues): void {
  if (values.samplingMethod !== undefined) pipe.scheduler = samplerByName(values.samplingMethod, pipe.scheduler.config);
  if (values.vaeTiling) pipe.enableVaeTiling();
}

/** Draws one picture per prompt, prompt i from seed `seeds[i]`: in batches, since one prompt's rows do not see another's. */
export async function drawPrompts(
  pipe: StableDiffusionModelEditingPipeline,
  prompts: readonly string[],
  seeds: readonly number[],
  values: SamplingValues,
  options: { label?: string; batchSize?: number; signal?: AbortSignal } = {},
): Promise<Picture[]> {
  const { label = "drawing", batchSize = 4, signal } = options;
  const { negativePrompt, width, height, steps, cfgScale, clipSkip } = values;
  const batches = Math.ceil(prompts.length / batchSize);
  using bar = showProgress(label, { total: batches * steps });
  const watched = Deno.stderr.isTerminal();
  const pictures: Picture[] = [];
  for (let first = 0; first < prompts.length; first += batchSize) {
    const batch = prompts.slice(first, first + batchSize);
    const shape = sizeOf(pipe, { width, height });
    const { images } = await pipe.generate(batch, {
      ...shape,
      negativePrompt,
      numInferenceSteps: steps,
      guidanceScale: cfgScale,
      clipSkip,
      generator: batch.map((_, i) => new TorchGenerator(seeds[first + i])),
      outputType: "array",
      signal,
      callback: watched ? () => bar.advance() : undefined,
    });
    pictures.push(...picturesFromFloats(images, shape));
  }
  return pictures;
}

/** The size to draw at: the flags', or the one that the model was trained on. */
export function sizeOf(
  pipe: StableDiffusionModelEditingPipeline,
  { width, height }: { width?: number; height?: number },
): { width: number; height: number } {
  const natural = (pipe.unet.config.sampleSize ?? 64) * pipe.vae.scaleFactor;
  return { width: width ?? natural, height: height ?? natural };
}

/** An abort signal for Ctrl-C, and its end. */
export function onInterrupt(): { signal: AbortSignal } & Disposable {
  const controller = new AbortController();
  const stop = () => controller.abort(new DOMException("interrupted", "AbortError"));
  Deno.addSignalListener("SIGINT", stop);
  return { signal: controller.signal, [Symbol.dispose]: () => Deno.removeSignalListener("SIGINT", stop) };
}
