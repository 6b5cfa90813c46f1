/** One call of `generate`: its options, checked, and the state of the pipeline when it was made. */

import { ShapeError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { linearCombination } from "../../kernels/shape/linear_combination.ts";
import type { Scheduler, SchedulerPlan } from "../../schedulers/mod.ts";
import type { AdapterSnapshot } from "../adapters/adapter_stack.ts";
import type { Teachable } from "../adapters/adapters.ts";
import type { PipelineComponents } from "../components.ts";
import { type Key, sameKey } from "../models/keyed_slot.ts";
import type { LayerStates } from "../models/prompt_context.ts";
import type { DecodingOptions } from "./decoding.ts";
import { drawNoise, type Generators, type Seed, takeGenerators } from "./generators.ts";
import { takeTensor } from "./given_tensor.ts";
import type { GenerateOptions, OutputTypes } from "./options.ts";
import { refuseBoth } from "./prompts.ts";
import { type TokenizedPrompts, tokenizePrompts, type TokenizingOptions } from "./tokenized_prompts.ts";
import { naturalSize } from "./size.ts";
import type { CLIPTokenizer } from "../text/tokenizer.ts";

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
  /** Called at the end of the call, to free what `apply` uses. */
  readonly release?: () => void;
}

/** A call with everything that it depends on, as of its start. */
export interface Call extends Disposable {
  readonly components: PipelineComponents;
  readonly decoding: DecodingOptions;
  readonly outputType: keyof OutputTypes;
  readonly scheduler: Scheduler;
  readonly plan: SchedulerPlan;
  readonly tokens: TokenizedPrompts;
  /** What learns the embeddings of LoRAs that the prompts name; the prompts are then read anew. */
  readonly teach: (load: (learner: Teachable) => Promise<void>) => Promise<void>;
  /** Copies of the embeddings that were given. */
  readonly promptEmbeds: Tensor | undefined;
  readonly negativePromptEmbeds: Tensor | undefined;
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
  /** Whether classifier-free guidance applies. */
  readonly guided: boolean;
  /** Factor of all LoRAs. */
  readonly loraScale: number;
  readonly clipSkip: number;
  readonly eta: number;
  readonly options: GenerateOptions<keyof OutputTypes>;
  readonly callbackSteps: number;
  /** Adapters, added tokens and activations. */
  readonly stateKey: Key;
  /** Adds an adapter that was loaded for this call alone. */
  readonly include: (name: string, weights: { textEncoderWeight: number; unetWeight: number }) => void;
  /** Whether the pipeline is still in the state of the call, so that its context can be kept. */
  readonly isCurrent: () => boolean;
  /** Records `body` with the adapters, added tokens and activations of the call. */
  readonly record: <T>(body: () => T) => T;
}

/**
 * Validates the options of a call, and captures the current state of everything that it depends on.
 *
 * @param editOf the edit of the embeddings, for the call's shape
 */
export function prepareCall(
  components: PipelineComponents,
  decoding: DecodingOptions,
  prompt: string | readonly string[] | undefined,
  options: GenerateOptions<keyof OutputTypes>,
  editOf: (shape: CallShape) => EmbeddingsEdit | undefined,
): Call {
  const { unet, textEncoder, tokenizer, vae, scheduler } = components;
  const { gpu } = unet;
  const natural = naturalSize(components);
  const { height = natural, width = natural, callbackSteps = 1, numImagesPerPrompt = 1 } = options;
  const { spatialScale } = vae;
  checkSize({ height, width }, spatialScale);
  refuseBoth(prompt, options);
  const { guidanceScale = 7.5, numInferenceSteps = 50, eta = 0, clipSkip = 0 } = options;
  const loraScale = options.crossAttentionKwargs?.scale ?? 1;
  const guided = guidanceScale > 1;
  const plan = scheduler.plan(numInferenceSteps, { eta });
  const read = tokenizing(prompt, { ...options, doClassifierFreeGuidance: guided });
  let tokens = read(tokenizer);
  // Reads the prompts again, once the LoRAs that they name are loaded, as of now.
  const learner = tokens.loras.length > 0 ? tokenizer.copy() : undefined;
  const images = tokens.batch * numImagesPerPrompt;
  using held = new DisposableStack();
  const take = (name: "promptEmbeds" | "negativePromptEmbeds") => {
    const given = options[name];
    return given && held.use(takeTensor(gpu, name, given));
  };
  const promptEmbeds = take("promptEmbeds"), negativePromptEmbeds = guided ? take("negativePromptEmbeds") : undefined;
  const edit = editOf({ prompts: tokens.batch, numImagesPerPrompt, guided });
  held.defer(() => edit?.release?.());
  const encoder = held.use(textEncoder.snapshot());
  const models = [encoder, held.use(unet.snapshot())];
  const owned = held.move();
  return {
    components,
    decoding,
    options,
    outputType: options.outputType ?? "image",
    scheduler,
    plan,
    get tokens() {
      return tokens;
    },
    teach: async (load) => {
      if (!learner) return;
      const { addedTokens } = encoder;
      const setAddedToken = (id: number, embedding: Float32Array | undefined) => {
        if (embedding) addedTokens.set(id, embedding);
        else addedTokens.delete(id);
      };
      await load({ tokenizer: learner, textEncoder: { config: textEncoder.config, addedTokens, setAddedToken } });
      tokens = read(learner);
    },
    promptEmbeds,
    negativePromptEmbeds,
    edit,
    images,
    numImagesPerPrompt,
    latentShape: [images, vae.config.latentChannels, height / spatialScale, width / spatialScale],
    height,
    width,
    callbackSteps,
    guidanceScale,
    guided,
    loraScale,
    clipSkip,
    numInferenceSteps,
    eta,
    get stateKey() {
      return keyOf(models);
    },
    include: (name, { textEncoderWeight, unetWeight }) => {
      models[0].include(name, textEncoderWeight);
      models[1].include(name, unetWeight);
    },
    isCurrent: () => {
      using present = new DisposableStack();
      return sameKey(keyOf(models), keyOf([present.use(textEncoder.snapshot()), present.use(unet.snapshot())]));
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
 * @throws {RangeError} when the number of generators is not that of the images
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

/** Reads prompts by a tokenizer, as they are now. */
function tokenizing(
  prompt: string | readonly string[] | undefined,
  options: TokenizingOptions,
): (tokenizer: CLIPTokenizer) => TokenizedPrompts {
  const copied = (texts: string | readonly string[] | undefined) => Array.isArray(texts) ? [...texts] : texts;
  const prompts = copied(prompt), negativePrompt = copied(options.negativePrompt);
  return (tokenizer) => tokenizePrompts(tokenizer, prompts, { ...options, negativePrompt });
}

function keyOf(models: readonly AdapterSnapshot[]): Key {
  return models.flatMap(({ key }) => ["model", ...key]);
}

function checkSize(size: { height: number; width: number }, multiple: number): void {
  const { height, width } = size;
  for (const [name, side] of Object.entries(size)) {
    if (Number.isInteger(side) && side > 0 && side % multiple === 0) continue;
    throw new ShapeError(
      `Cannot generate a picture of ${width} × ${height} as its ${name} must be a multiple of ${multiple}: ${side}`,
      [[height, width]],
    );
  }
}
