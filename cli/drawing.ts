/**
 * What the commands that draw have in common: their flags, how they open a model, and how a prompt
 * becomes pictures.
 *
 * @module
 */
import { useSavedTiles } from "./tile_file.ts";
import type { Tensor } from "../engine/tensor.ts";
import { pictureGrid } from "../pipeline/image/contact_sheet.ts";
import type { GenerationRecord } from "../pipeline/image/generation_text.ts";
import { encodePicture, formatOfPath, type Picture, picturesFromFloats } from "../pipeline/image/picture.ts";
import { previewFromLatents } from "../pipeline/image/preview.ts";
import { isPickle } from "../pipeline/checkpoint/source/pickle.ts";
import { writeFileAtomically } from "../pipeline/checkpoint/save.ts";
import { StableDiffusionModelEditingPipeline } from "../pipeline/model_editing.ts";
import { SAMPLER_NAMES, samplerByName, TorchGenerator } from "../schedulers/mod.ts";
import { ArgumentError, type Flags, type Values } from "./arguments.ts";
import { modelHash } from "./model_hash.ts";
import { showProgress } from "./progress.ts";

/** Flags that say which model draws, and on what. */
export const modelFlags = {
  model: {
    kind: "text",
    alias: "m",
    placeholder: "MODEL",
    required: true,
    group: "Model",
    help: "folder in diffusers' layout, single .safetensors file, or OWNER/NAME on the hub",
  },
  variant: { kind: "text", group: "Model", help: 'which weights of a folder: "fp16" for half precision' },
  revision: { kind: "text", group: "Model", help: "branch, tag or commit on the hub (default: main)" },
  offline: { kind: "switch", group: "Model", help: "take what the hub's cache has, and ask no network" },
  tokenizer: {
    kind: "text",
    placeholder: "DIR",
    group: "Model",
    help: "tokenizer of a single file: a folder with vocab.json and merges.txt (default: the hub's)",
  },
  activations: {
    kind: "text",
    choices: ["f32", "f16"],
    default: "f32",
    group: "Model",
    help: "how the UNet stores what lies between its kernels: f16 takes half the memory and rounds to 11 bits",
  },
  safetyChecker: {
    kind: "switch",
    default: true,
    group: "Model",
    help: "black out pictures that the model's safety checker flags, where it has one",
  },
  lora: {
    kind: "texts",
    placeholder: "FILE[:WEIGHT]",
    group: "Model",
    help: "LoRA to draw with, as in style.safetensors:0.8",
  },
  textualInversion: {
    kind: "texts",
    placeholder: "FILE",
    group: "Model",
    help: "textual inversion that prompts can name",
  },
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
    help: `${
      SAMPLER_NAMES.filter((name) => !name.endsWith(" karras")).join(", ")
    }; many with karras behind, "dpm++2m karras" (default: the model's own)`,
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

/** Flags for looking on while pictures are drawn. */
export const previewFlags = {
  preview: {
    kind: "text",
    placeholder: "FILE",
    group: "Sampling",
    help:
      "picture to overwrite with a rough view of the latents, to look on (colours fit Stable Diffusion's own autoencoder)",
  },
  previewInterval: { kind: "whole", default: 5, min: 1, group: "Sampling", help: "steps from preview to preview" },
} as const satisfies Flags;

/** Values of {@linkcode modelFlags}. */
export type ModelValues = Omit<Values<typeof modelFlags>, "model"> & { readonly model: string };

const embeddedModel = "models/pocket";

/**
 * Opens a model with its LoRAs and textual inversions, with a bar for each component on a terminal.
 *
 * @throws {ArgumentError} where flags do not fit the kind of model
 */
export async function openPipeline(values: ModelValues): Promise<StableDiffusionModelEditingPipeline> {
  const pipe = await openModel(values);
  try {
    await useSavedTiles(pipe.gpu);
    // Tokens and LoRAs first: edits are solved for what the text encoder says then.
    for (const path of values.textualInversion) await pipe.loadTextualInversion(path);
    for (const { path, weight } of values.lora.map(loraOf)) await pipe.loadLoraWeights(path, { weight });
    return pipe;
  } catch (error) {
    pipe[Symbol.dispose]();
    throw error;
  }
}

async function openModel(values: ModelValues): Promise<StableDiffusionModelEditingPipeline> {
  const { variant, revision, tokenizer, activations } = values;
  const model = await placeOf(values.model);
  values.lora.forEach(loraOf); // a slip should not cost a download
  using bar = showProgress("loading", { total: 1, unit: "bytes" });
  const onProgress = (component: string, done: number, total: number) => bar.set(done, { total, note: component });
  const localFilesOnly = values.offline || undefined; // else as the environment has it
  const isSingleFile = isPickle(model) || /\.safetensors$/i.test(model);
  const refused = Object.entries(isSingleFile ? { variant, revision } : { tokenizer })
    .find(([, value]) => value !== undefined);
  if (refused) {
    throw new ArgumentError(
      `Cannot use --${refused[0]} with ${values.model} as it is for ${
        isSingleFile ? "folders and models of the hub" : "single files"
      }`,
      { argument: `--${refused[0]}` },
    );
  }
  if (isSingleFile) {
    return await StableDiffusionModelEditingPipeline.fromSingleFile(model, {
      tokenizer,
      localFilesOnly,
      activations,
      onProgress,
    });
  }
  const safetyChecker = values.safetyChecker ? undefined : null;
  return await StableDiffusionModelEditingPipeline.fromPretrained(model, {
    variant,
    revision,
    localFilesOnly,
    activations,
    onProgress,
    safetyChecker,
  });
}

/** The embedded model lies beside this code, wherever the command is called from. */
async function placeOf(model: string): Promise<string> {
  if (model !== embeddedModel || import.meta.dirname === undefined) return model;
  const isHere = await Deno.stat(model).then(() => true, () => false);
  return isHere ? model : `${import.meta.dirname}/../${embeddedModel}`;
}

/** "style.safetensors:0.8" is a file and a weight; a file alone has the weight 1. */
function loraOf(text: string): { path: string; weight: number } {
  const [, path, digits] = /^(.+?)(?::([+-]?(?:\d+\.?\d*|\.\d+)))?$/.exec(text) ?? [];
  if (path === undefined) {
    throw new ArgumentError("Cannot use --lora without a file: write --lora FILE or --lora FILE:WEIGHT", {
      argument: "--lora",
    });
  }
  return { path, weight: digits === undefined ? 1 : Number(digits) };
}

/** What all pictures of a command say of themselves; prompts and seeds are their own. */
export async function recordOf(
  pipe: StableDiffusionModelEditingPipeline,
  values: SamplingValues & ModelValues,
): Promise<Omit<GenerationRecord, "prompt" | "seed">> {
  return {
    negativePrompt: values.negativePrompt,
    steps: values.steps,
    cfgScale: values.cfgScale,
    sampler: values.samplingMethod ?? pipe.scheduler.constructor.name,
    ...sizeOf(pipe, values),
    model: values.model,
    modelHash: await modelHash({ ...values, model: await placeOf(values.model) }),
    clipSkip: values.clipSkip,
    ...(pipe.unet.activations === "f16" ? { activations: "f16" } : {}),
    loras: Object.fromEntries(pipe.loras),
    edits: pipe.edits.records,
  };
}

/** Sets a pipeline up as the flags ask. */
export function applySampling(pipe: StableDiffusionModelEditingPipeline, values: SamplingValues): void {
  if (values.samplingMethod !== undefined) pipe.scheduler = samplerByName(values.samplingMethod, pipe.scheduler.config);
  if (values.vaeTiling) pipe.enableVaeTiling();
}

/**
 * Draws one picture per prompt, prompt i from seed `seeds[i]`: in batches, since one prompt's rows
 * do not see another's.
 */
export async function drawPrompts(
  pipe: StableDiffusionModelEditingPipeline,
  prompts: readonly string[],
  seeds: readonly number[],
  values: SamplingValues,
  options: { label?: string; batchSize?: number; signal?: AbortSignal; preview?: Preview } = {},
): Promise<Picture[]> {
  const { label = "drawing", batchSize = 4, signal, preview } = options;
  const { negativePrompt, width, height, steps, cfgScale, clipSkip } = values;
  const batches = Math.ceil(prompts.length / batchSize);
  const modelCalls = pipe.scheduler.plan(steps).steps.length; // some samplers call the model more than once in a step
  using bar = showProgress(label, { total: batches * modelCalls });
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
      callback: watched || preview
        ? async (step, _timestep, latents) => {
          bar.advance();
          if (preview && step % preview.interval === 0) {
            await writePreview(pipe, preview.path, latents, { step, steps });
          }
        }
        : undefined,
    });
    pictures.push(...picturesFromFloats(images, shape));
  }
  return pictures;
}

/** Where to look on. */
export interface Preview {
  readonly path: string;
  /** Steps from one to the next. */
  readonly interval: number;
}

/** The preview that the flags ask for. */
export function previewOf(values: Values<typeof previewFlags>): Preview | undefined {
  const { preview: path, previewInterval: interval } = values;
  if (path === undefined) return undefined;
  formatOfPath(path); // refuses other formats before anything is drawn
  return { path, interval };
}

/** Writes the batch's latents as one picture of the final size. */
async function writePreview(
  pipe: StableDiffusionModelEditingPipeline,
  path: string,
  latents: Tensor,
  { step, steps }: { step: number; steps: number },
): Promise<void> {
  // Samplers that count in sigmas keep the sample too large by what its next step divides it by.
  const scale = pipe.scheduler.plan(steps).steps[step + 1]?.inputScale ?? 1;
  const grid = pictureGrid(await previewFromLatents(latents, { scale }));
  const bytes = await encodePicture(enlarged(grid, pipe.vae.spatialScale), formatOfPath(path));
  await writeFileAtomically(path, async (sink) => await sink(bytes));
}

/** Each pixel `factor` times across and down. */
function enlarged({ data, width, height }: Picture, factor: number): Picture {
  const large = { data: new Uint8Array(data.length * factor ** 2), width: width * factor, height: height * factor };
  for (let y = 0; y < large.height; y++) {
    for (let x = 0; x < large.width; x++) {
      const from = 3 * (Math.floor(y / factor) * width + Math.floor(x / factor));
      large.data.set(data.subarray(from, from + 3), 3 * (y * large.width + x));
    }
  }
  return large;
}

/** The size to draw at: the flags', or the one that the model was trained on. */
export function sizeOf(
  pipe: StableDiffusionModelEditingPipeline,
  { width, height }: { width?: number; height?: number },
): { width: number; height: number } {
  const natural = (pipe.unet.config.sampleSize ?? 64) * pipe.vae.spatialScale;
  return { width: width ?? natural, height: height ?? natural };
}

/** An abort signal for Ctrl-C, and its end. */
export function onInterrupt(): { signal: AbortSignal } & Disposable {
  const controller = new AbortController();
  const stop = () => controller.abort(new DOMException("interrupted", "AbortError"));
  Deno.addSignalListener("SIGINT", stop);
  return { signal: controller.signal, [Symbol.dispose]: () => Deno.removeSignalListener("SIGINT", stop) };
}
