/** One call of `generate`: its options, checked, and the state of the pipeline when it was made. */

import { ShapeError } from "../../engine/errors.ts";
import { OptionError } from "../errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { linearCombination } from "../../kernels/shape/linear_combination.ts";
import type { Scheduler, SchedulerPlan } from "../../schedulers/mod.ts";
import type { AdapterSnapshot } from "../adapters/adapter_stack.ts";
import type { DrawingComponents } from "../components.ts";
import { type Key, sameKey } from "../models/keyed_slot.ts";
import type { LayerStates } from "../models/prompt_context.ts";
import type { TextEncoderSnapshot } from "../models/clip_text.ts";
import type { DecodingOptions } from "./decoding.ts";
import { drawNoise, type Generators, type Seed, takeGenerators } from "./generators.ts";
import { takeTensor } from "./given_tensor.ts";
import type { DrawingOptions, OutputTypes } from "./options.ts";
import type { CallPrompts } from "./call_prompts.ts";
import type { IncludeAdapter } from "./tagged_loras.ts";
import { naturalSize } from "./size.ts";

/** The numbers of a call that an edit depends on. */
export interface CallShape {
  /** Prompts, or rows of `promptEmbeds`. */
  readonly prompts: number;
  /** Pictures of each prompt. */
  readonly numImagesPerPrompt: number;
  /** Whether negative prompts are encoded: their rows stand before those of the prompts. */
  readonly guided: boolean;
}

/** A change of the prompt's embeddings before the UNet reads them. */
export interface EmbeddingsEdit {
  /** What the result depends on besides the embeddings. Objects are compared by identity. */
  readonly key: Key;
  /** Maps embeddings [B, T, d] to those that all cross-attention layers read, or each of them. */
  readonly apply: (embeddings: Tensor) => Tensor | LayerStates;
  /** Maps pooled embeddings [B, projection], for models that read some. */
  readonly applyPooled?: (pooled: Tensor) => Tensor;
  /** Called at the end of the call, to free what `apply` uses. */
  readonly release?: () => void;
}

/** A call with everything that it depends on, as of its start. */
export interface Call extends Disposable {
  readonly components: DrawingComponents;
  readonly decoding: DecodingOptions;
  readonly outputType: keyof OutputTypes;
  readonly scheduler: Scheduler;
  /** The scheduler's plan, up to the step that the call ends with. */
  readonly plan: SchedulerPlan;
  readonly prompts: CallPrompts;
  /** The text encoders as they were at the start of the call. */
  readonly encoders: readonly TextEncoderSnapshot[];
  readonly edit: EmbeddingsEdit | undefined;
  /** Pictures of all prompts together. */
  readonly images: number;
  readonly numImagesPerPrompt: number;
  /** [images, latent channels, h, w] */
  readonly latentShape: readonly number[];
  readonly height: number;
  readonly width: number;
  readonly numInferenceSteps: number;
  readonly guidanceScale: number;
  /** φ of the rescaled guidance; 0 for none. */
  readonly guidanceRescale: number;
  /** Whether classifier-free guidance applies. */
  readonly guided: boolean;
  /** Factor of all LoRAs. */
  readonly loraScale: number;
  readonly eta: number;
  readonly options: DrawingOptions;
  readonly callbackSteps: number;
  /** Adapters, added tokens and activations. */
  readonly stateKey: Key;
  /** Adds an adapter that was loaded for this call alone. */
  readonly include: IncludeAdapter;
  /** Whether the pipeline is still in the state of the call, so that its context can be kept. */
  readonly isCurrent: () => boolean;
  /** Records `body` with the adapters, added tokens and activations of the call. */
  readonly record: <T>(body: () => T) => T;
}

/**
 * Validates the options of a call, and captures the current state of everything that it depends on.
 *
 * @param takePrompts the call's prompts, with negative ones where it is guided
 * @param editOf the edit of the embeddings, for the call's shape
 */
export function prepareCall(
  components: DrawingComponents,
  decoding: DecodingOptions,
  options: DrawingOptions,
  { takePrompts, editOf }: {
    takePrompts: (guided: boolean, size: { height: number; width: number }) => CallPrompts;
    editOf: (shape: CallShape) => EmbeddingsEdit | undefined;
  },
): Call {
  const { unet, vae, scheduler } = components;
  const natural = naturalSize(components);
  const { height = natural, width = natural, callbackSteps = 1, numImagesPerPrompt = 1 } = options;
  const { spatialScale } = vae;
  checkSize({ height, width }, spatialScale);
  const { guidanceScale = 7.5, guidanceRescale = 0, numInferenceSteps = 50, eta = 0 } = options;
  const loraScale = options.crossAttentionKwargs?.scale ?? 1;
  // Models of latent consistency are conditioned on the scale instead.
  const guided = guidanceScale > 1 && unet.config.timeCondProjDim === null;
  const plan = endedPlan(scheduler.plan(numInferenceSteps, { eta }), scheduler, options.denoisingEnd);
  using held = new DisposableStack();
  const prompts = held.use(takePrompts(guided, { height, width }));
  const images = prompts.batch * numImagesPerPrompt;
  checkPixels(images, { height, width });
  const edit = editOf({ prompts: prompts.batch, numImagesPerPrompt, guided });
  held.defer(() => edit?.release?.());
  const encoders = prompts.encoders.map((encoder) => held.use(encoder.snapshot()));
  const models: readonly AdapterSnapshot[] = [...encoders, held.use(unet.snapshot())];
  const owned = held.move();
  return {
    components,
    decoding,
    options,
    outputType: options.outputType ?? "image",
    scheduler,
    plan,
    prompts,
    encoders,
    edit,
    images,
    numImagesPerPrompt,
    latentShape: [images, vae.config.latentChannels, height / spatialScale, width / spatialScale],
    height,
    width,
    callbackSteps,
    guidanceScale,
    guidanceRescale,
    guided,
    loraScale,
    numInferenceSteps,
    eta,
    get stateKey() {
      return keyOf(models);
    },
    include: (name, { textEncoderWeight, unetWeight }) => {
      models.forEach((model, i) => model.include(name, i < encoders.length ? textEncoderWeight : unetWeight));
    },
    isCurrent: () => {
      using present = new DisposableStack();
      return sameKey(keyOf(models), keyOf([...prompts.encoders, unet].map((model) => present.use(model.snapshot()))));
    },
    record: (body) => models.reduceRight((inner: typeof body, model) => () => model.record(inner), body)(),
    [Symbol.dispose]: () => owned.dispose(),
  };
}

/** The initial values of a call. */
export interface Start {
  /** The first sample [images, latent channels, h, w]; its owner disposes of it. */
  readonly latents: Tensor;
  /** Draws the noise of the steps. */
  readonly generator: Generators;
  /** The seed of each image. */
  readonly seeds: readonly Seed[];
}

/**
 * Draws the first sample of a call, before anything waits.
 *
 * @throws {ShapeError} when given latents have another shape
 * @throws {OptionError} when the number of generators is not that of the images
 */
export function startCall({ components, options, latentShape: shape, plan }: Call): Start {
  const { gpu, vae } = { gpu: components.unet.gpu, vae: components.vae };
  const { latents } = options;
  if (latents && latents.shape.join() !== shape.join()) {
    throw new ShapeError(
      `Cannot start from latents [${latents.shape.join(", ")}] as [${shape.join(", ")}] are wanted: ` +
        `images, latent channels, height / ${vae.spatialScale}, width / ${vae.spatialScale}`,
      [latents.shape, shape],
    );
  }
  const draws = plan.steps.filter(({ drawsNoise }) => drawsNoise).length + (latents ? 0 : 1);
  const { generator, seeds } = takeGenerators(options.generator, shape, draws);
  using noise = latents ? takeTensor(gpu, "latents", latents) : Tensor.from(gpu, drawNoise(shape, generator), shape);
  return { latents: linearCombination([{ tensor: noise, coefficient: plan.initNoiseSigma }]).keep(), generator, seeds };
}

function keyOf(models: readonly AdapterSnapshot[]): Key {
  return models.flatMap(({ key }) => ["model", ...key]);
}

/**
 * The part of a plan before `denoisingEnd`, a fraction of the training timesteps (diffusers'
 * `denoising_end`).
 */
function endedPlan(plan: SchedulerPlan, { config }: Scheduler, denoisingEnd: number | undefined): SchedulerPlan {
  if (denoisingEnd === undefined || denoisingEnd <= 0 || denoisingEnd >= 1) return plan;
  const { num_train_timesteps: trained = 1000 } = config;
  const last = roundHalfToEven(trained - denoisingEnd * trained);
  const count = plan.timesteps.filter((timestep) => timestep >= last).length;
  return { ...plan, timesteps: plan.timesteps.slice(0, count), steps: plan.steps.slice(0, count) };
}

/** As Python's `round`. */
function roundHalfToEven(value: number): number {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** The longest side of a picture, in pixels. */
const maxSide = 16_384;
/** The most pixels of all pictures of one call: their values take twelve bytes each on the host. */
const maxPixels = 2 ** 28;

/** Checks the work of a call before its noise, which takes time on the host, is drawn. */
function checkPixels(images: number, { height, width }: { height: number; width: number }): void {
  if (images * height * width <= maxPixels) return;
  throw new OptionError(
    `Cannot generate ${images} pictures of ${width} × ${height} at once: they have ${
      images * height * width
    } pixels, ` +
      `and at most ${maxPixels} are allowed. Generate fewer at a time`,
    { option: "numImagesPerPrompt", value: images },
  );
}

function checkSize(size: { height: number; width: number }, multiple: number): void {
  const { height, width } = size;
  if (Math.max(height, width) > maxSide) {
    throw new ShapeError(
      `Cannot generate a picture of ${width} × ${height}: a side has at most ${maxSide} pixels`,
      [[height, width]],
    );
  }
  for (const [name, side] of Object.entries(size)) {
    if (Number.isInteger(side) && side > 0 && side % multiple === 0) continue;
    throw new ShapeError(
      `Cannot generate a picture of ${width} × ${height} as its ${name} must be a multiple of ${multiple} above 0: ${side}`,
      [[height, width]],
    );
  }
}
