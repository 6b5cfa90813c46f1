import type { Tensor } from "../engine/tensor.ts";
import { writeBytes } from "../pipeline/output/file.ts";
import { checkOutput } from "../pipeline/output/target.ts";
import { generationRecord } from "../pipeline/generation/record.ts";
import { naturalSize } from "../pipeline/generation/size.ts";
import type { PromptSyntax } from "../pipeline/generation/tokenized_prompts.ts";
import { splitLoraTags } from "../pipeline/text/prompt_syntax/lora_tags.ts";
import { pictureGrid } from "../pipeline/image/picture_grid.ts";
import { enlargePicture } from "../pipeline/image/enlarge.ts";
import type { GenerationRecord } from "../pipeline/image/generation_text.ts";
import { encodePicture, formatOfPath, type Picture, picturesFromFloats } from "../pipeline/image/picture.ts";
import { previewFromLatents } from "../pipeline/image/preview.ts";
import type { Autoencoder } from "../pipeline/models/autoencoder.ts";
import type { EditingPipeline } from "../pipeline/editing_pipeline.ts";
import { TorchGenerator } from "../schedulers/mod.ts";
import { givenOptions } from "../pipeline/options.ts";
import { ArgumentError } from "./argument_error.ts";
import type { Values } from "./flag_types.ts";
import { resolveModel } from "./embedded_model.ts";
import type { ModelValues, PictureValues, previewFlags, SamplingValues } from "./flags.ts";
import { modelHash } from "./model_hash.ts";
import { printMode } from "./printer.ts";
import { remarkCompiling, showProgress } from "./progress.ts";
import { samplerName } from "./sampler.ts";
import { xlSettings } from "./xl_flags.ts";

/** Where and how often to write previews. */
export interface Preview {
  readonly path: string;
  /** Steps between previews. */
  readonly interval: number;
  /** Decodes previews at full size. Default: colors are estimated from the latents. */
  readonly vae?: Autoencoder;
}

/**
 * The preview that the flags ask for.
 *
 * @throws {ImageError} for a name that is no picture's
 * @throws {OutputError} where it cannot be written
 */
export async function previewOf(values: Values<typeof previewFlags>): Promise<Preview | undefined> {
  const { preview: path, previewInterval: interval } = values;
  if (path === undefined) return undefined;
  formatOfPath(path);
  await checkOutput(path);
  return { path, interval };
}

/** Options of {@linkcode drawPrompts}. */
export interface DrawOptions {
  /** What the progress calls the work. Default: "drawing". */
  readonly label?: string;
  readonly signal?: AbortSignal;
  readonly preview?: Preview;
  /** Called with each picture once its batch is finished; the next batch waits for it. */
  readonly onPicture?: (picture: Picture, index: number) => Promise<void>;
}

/**
 * Draws one picture per prompt, prompt i with seed `seeds[i]`. The batch size does not change the
 * pictures.
 */
export async function drawPrompts(
  pipe: EditingPipeline,
  prompts: readonly string[],
  seeds: readonly bigint[],
  values: SamplingValues,
  options: DrawOptions = {},
): Promise<Picture[]> {
  const { label = "drawing", signal, preview, onPicture } = options;
  const { negativePrompt, steps, cfgScale, clipSkip, editNegativePrompt, loraDir } = values;
  const promptSyntax = values.promptSyntax as PromptSyntax;
  const { width = naturalSize(pipe), height = naturalSize(pipe) } = values;
  const batches = batchesOf(prompts, values);
  // some samplers evaluate the model twice per step
  const modelCalls = pipe.scheduler.plan(steps).steps.length;
  using bar = showProgress(label, { total: batches.length * modelCalls });
  using _watch = remarkCompiling(pipe.gpu, bar);
  const pictures: Picture[] = [];
  // Each callback waits for the device; without a terminal, that would be a cost without a use.
  const shown = Deno.stderr.isTerminal() && !printMode().quiet;
  for (const { first, batch } of batches) {
    const settings = givenOptions({
      promptSyntax,
      loraDir,
      ...xlSettings(values),
      // Without a negative prompt, SDXL guides away from zeros rather than from an empty text.
      negativePrompt: negativePrompt === "" ? undefined : negativePrompt,
    });
    const { images } = await pipe.generate(batch, {
      ...settings,
      width,
      height,
      numInferenceSteps: steps,
      guidanceScale: cfgScale,
      clipSkip,
      editNegativePrompt,
      generator: batch.map((_, i) => new TorchGenerator(seeds[first + i])),
      outputType: "array",
      signal,
      callback: shown || preview !== undefined
        ? async (step, _timestep, latents) => {
          bar.advance();
          if (preview && step % preview.interval === 0) {
            await writePreview(pipe, preview, latents, { step, steps });
          }
        }
        : undefined,
    });
    if (!shown && preview === undefined) bar.advance(modelCalls);
    for (const picture of picturesFromFloats(images, { width, height })) {
      pictures.push(picture);
      await onPicture?.(picture, pictures.length - 1);
    }
  }
  return pictures;
}

/**
 * Prompts in batches. LoRAs that a prompt names act on a whole batch, so prompts that name others
 * are drawn apart.
 *
 * @throws {ArgumentError} for LoRAs in prompts without --lora-dir
 */
function batchesOf(
  prompts: readonly string[],
  { batchSize, promptSyntax, loraDir }: SamplingValues,
): { first: number; batch: string[] }[] {
  const tagsOf = (prompt: string) => promptSyntax === "a1111" ? splitLoraTags(prompt).loras : [];
  const batches: { first: number; batch: string[]; tags: string }[] = [];
  for (const [i, prompt] of prompts.entries()) {
    const loras = tagsOf(prompt), tags = JSON.stringify(loras);
    if (loras.length > 0 && loraDir === undefined) {
      throw new ArgumentError(
        `Cannot load the LoRA "${loras[0].name}" that a prompt names: give --lora-dir, its folder`,
        { argument: "--lora-dir" },
      );
    }
    const last = batches.at(-1);
    if (last && last.batch.length < batchSize && last.tags === tags) last.batch.push(prompt);
    else batches.push({ first: i, batch: [prompt], tags });
  }
  return batches;
}

/** Writes a batch of latents as one picture of the final size. */
async function writePreview(
  pipe: EditingPipeline,
  { path, vae }: Preview,
  latents: Tensor,
  { step, steps }: { step: number; steps: number },
): Promise<void> {
  // Samplers that work in sigmas keep the sample scaled up; the next step's input scale undoes
  // that.
  const scale = pipe.scheduler.plan(steps).steps[step + 1]?.inputScale ?? 1;
  const grid = pictureGrid(await previewFromLatents(latents, { scale, vae }));
  const picture = vae ? grid : enlargePicture(grid, pipe.vae.spatialScale);
  const bytes = await encodePicture(picture, formatOfPath(path));
  await writeBytes(path, bytes);
}

/** The flags that a picture's record tells of. */
export type RecordedValues = Omit<PictureValues, "seed"> & ModelValues;

/** The record that all pictures of a command share; see {@linkcode generationRecord}. */
export async function recordOf(
  pipe: EditingPipeline,
  values: RecordedValues,
): Promise<Omit<GenerationRecord, "prompt" | "seed">> {
  const hash = await modelHash({ ...values, model: await resolveModel(values.model) });
  return generationRecord(pipe, {
    ...values,
    cfgScale: values.cfgScale ?? pipe.defaultGuidanceScale,
    sampler: samplerName(values, pipe.scheduler),
    modelHash: hash,
  });
}
