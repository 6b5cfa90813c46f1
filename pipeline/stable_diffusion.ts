import { compileAhead } from "../engine/precompile.ts";
import { ShapeError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import { Tensor } from "../engine/tensor.ts";
import { concat } from "../kernels/shape/concat.ts";
import { linearCombination } from "../kernels/shape/linear_combination.ts";
import { type Scheduler, type SchedulerPlan, TorchGenerator } from "../schedulers/mod.ts";
import {
  loadLora,
  type LoadLoraOptions,
  type LoadTextualInversionOptions,
  loadTextualInversions,
  loraWeights,
  unloadLora,
  unloadTextualInversion,
  weightLoras,
} from "./adapters/adapters.ts";
import type { AdapterSource } from "./adapters/open_adapter.ts";
import { naturalSize } from "./generation/size.ts";
import { denoise, drawNoise, rehearseDenoising, type StepCallback } from "./generation/denoising.ts";
import { checkComponents, pickComponents, type PipelineComponents, type PipelineSettings } from "./components.ts";
import { ActivationRangeError, PromptError } from "./errors.ts";
import type { CLIPImageProcessor } from "./image/clip_image_processor.ts";
import { type JimpImage, picturesFromFloats, toJimp } from "./image/picture.ts";
import type { ByteSource } from "./checkpoint/source/byte_source.ts";
import type { FileTree } from "./checkpoint/source/file_tree.ts";
import { type FromPretrainedOptions, loadPipeline } from "./load.ts";
import type { CLIPTextModel } from "./models/clip_text.ts";
import type { StableDiffusionSafetyChecker } from "./models/safety_checker.ts";
import { type Key, sameKey } from "./models/keyed_slot.ts";
import type { LayerStates, PromptContext } from "./models/prompt_context.ts";
import { keptWork, type UNet2DConditionModel } from "./models/unet.ts";
import type { AutoencoderKL } from "./models/vae.ts";
import {
  type EncodePromptOptions,
  encodePrompts,
  type PromptEmbeddings,
  type TokenizedPrompts,
  tokenizePrompts,
} from "./generation/prompts.ts";
import { saveFolder, type SaveOptions, type SavePretrainedOptions, saveSingleFile } from "./saving.ts";
import { blackenFlagged, warnOfNoChecker } from "./generation/safety.ts";
import { type FromSingleFileOptions, loadSingleFile } from "./single_file.ts";
import type { CLIPTokenizer } from "./text/tokenizer.ts";
import { decodeLatents, type DecodingOptions, rehearseDecoding } from "./generation/decoding.ts";

/** What `images` is for each `outputType`. */
export interface OutputTypes {
  /** Jimp images. */
  image: JimpImage[];
  /** [B, H, W, 3] in 0…1. */
  array: Float32Array<ArrayBuffer>;
  /** Latents [B, latent channels, h, w]. The caller disposes of them. */
  latent: Tensor;
}

/** Options of {@linkcode StableDiffusionPipeline.generate}, with diffusers' names and meaning. */
export interface GenerateOptions<T extends keyof OutputTypes = "image"> {
  /**
   * Height in pixels, a multiple of the autoencoder's spatial scale (8). Default: the size that the
   * UNet was trained on.
   */
  readonly height?: number;
  /** Width in pixels, as {@linkcode height}. */
  readonly width?: number;
  /** Denoising steps. Default: 50. */
  readonly numInferenceSteps?: number;
  /** Scale of classifier-free guidance (2207.12598). Up to 1 there is none. Default: 7.5. */
  readonly guidanceScale?: number;
  /** What to guide away from: one for all prompts, or one for each. Default: "". */
  readonly negativePrompt?: string | readonly string[];
  /** Default: 1. */
  readonly numImagesPerPrompt?: number;
  /** η of DDIM: the share of noise that each step draws anew (2010.02502, eq. 16). Default: 0. */
  readonly eta?: number;
  /** Source of noise: one for all images, or one for each. Default: one with a random seed. */
  readonly generator?: TorchGenerator | readonly TorchGenerator[];
  /**
   * Standard normal noise [B, latent channels, h, w] to start from. Default: drawn from
   * `generator`. It stays the caller's.
   */
  readonly latents?: Tensor;
  /** Embeddings [B, T, d] in place of the prompt. */
  readonly promptEmbeds?: Tensor;
  /** Embeddings [B, T, d] in place of the negative prompt. */
  readonly negativePromptEmbeds?: Tensor;
  /** Default: "image". */
  readonly outputType?: T;
  /** Called every `callbackSteps` steps; may be async. */
  readonly callback?: StepCallback;
  /** Default: 1. */
  readonly callbackSteps?: number;
  /** Layers of the text encoder to skip at the end, for the prompts alone. Default: 0. */
  readonly clipSkip?: number;
  /**
   * `scale` is the factor of all LoRAs in this call, in the UNet and in the text encoder. Default:
   * 1.
   */
  readonly crossAttentionKwargs?: { readonly scale?: number };
  /**
   * Stops before the next step. All memory of the call is freed, and `generate` rejects with the
   * signal's reason.
   */
  readonly signal?: AbortSignal;
}

/** What {@linkcode StableDiffusionPipeline.generate} returns. */
export interface GenerateResult<T extends keyof OutputTypes = "image"> {
  /** The pictures, or their latents. */
  readonly images: OutputTypes[T];
  /**
   * Verdicts of the safety checker, one per picture; null where the pipeline has none, and for
   * latents. Flagged pictures are black.
   */
  readonly nsfwContentDetected: boolean[] | null;
}

/** A change of the prompt's embeddings before the UNet reads them. */
export interface EmbeddingsEdit {
  /** What the result depends on beside the embeddings. Objects are compared by identity. */
  readonly key: Key;
  /** Embeddings [B, T, d] to what all cross-attention layers read, or each of them. */
  readonly apply: (embeddings: Tensor) => Tensor | LayerStates;
}

/**
 * Text to pictures with Stable Diffusion 1.x and 2.x (diffusers' `StableDiffusionPipeline`).
 *
 * ```ts
 * using pipe = await StableDiffusionPipeline.fromPretrained("models/pocket");
 * const { images } = await pipe.generate("a field of roses", { generator: new TorchGenerator(7) });
 * await images[0].write("roses.png");
 * ```
 */
export class StableDiffusionPipeline implements Disposable {
  /** Swap freely: `pipe.scheduler = LMSDiscreteScheduler.fromConfig(pipe.scheduler.config)`. */
  scheduler: Scheduler;
  /** Decodes latents to pictures. */
  readonly vae: AutoencoderKL;
  /** Encodes prompts. */
  readonly textEncoder: CLIPTextModel;
  /** Splits prompts into tokens. */
  readonly tokenizer: CLIPTokenizer;
  /** Predicts the noise of latents. */
  readonly unet: UNet2DConditionModel;
  /** Flags pictures that are not safe for work. */
  readonly safetyChecker: StableDiffusionSafetyChecker | undefined;
  /** Prepares pictures for the safety checker. */
  readonly featureExtractor: CLIPImageProcessor | undefined;
  /** Whether the model's makers want pictures checked. */
  readonly requiresSafetyChecker: boolean;
  readonly #owned: DisposableStack;
  /** Keys of the calls whose kernels have been compiled ahead. */
  readonly #compiled: Key[] = [];
  #slicing = false;
  #tiling = false;

  /**
   * Builds a pipeline of components, which stay the caller's: disposing of the pipeline does not
   * dispose of them.
   *
   * @param owned Resources that the pipeline takes over, and disposes of in reverse order.
   * @throws {CheckpointError} for a safety checker without a feature extractor
   * @throws {ConfigError} for components that do not fit each other
   */
  constructor(components: PipelineComponents, settings: PipelineSettings = {}, owned?: DisposableStack) {
    checkComponents(components);
    this.vae = components.vae;
    this.textEncoder = components.textEncoder;
    this.tokenizer = components.tokenizer;
    this.unet = components.unet;
    this.scheduler = components.scheduler;
    this.safetyChecker = components.safetyChecker ?? undefined;
    this.featureExtractor = components.featureExtractor ?? undefined;
    this.requiresSafetyChecker = settings.requiresSafetyChecker ?? components.safetyChecker !== undefined;
    if (!this.safetyChecker && this.requiresSafetyChecker) warnOfNoChecker();
    this.#owned = owned?.move() ?? new DisposableStack();
  }

  /**
   * Loads a checkpoint in diffusers' layout: a folder with `model_index.json` and one folder for
   * each component, or the id of such a model on the hub.
   *
   * @throws {CheckpointError} when a component is missing or of a class that is not supported;
   *   {HubError} when the hub fails; {NoAdapterError} without a device
   */
  static async fromPretrained(
    source: string | FileTree,
    options: FromPretrainedOptions = {},
  ): Promise<StableDiffusionPipeline> {
    return await loadPipeline(source, options, (...parts) => new StableDiffusionPipeline(...parts));
  }

  /**
   * Loads a single .safetensors file in the original layout (LDM): Stable Diffusion 1.x, 2.x base
   * and 2.x 768-v.
   *
   * ```ts
   * const file = "v1-5-pruned-emaonly.safetensors";
   * using pipe = await StableDiffusionPipeline.fromSingleFile(file, { tokenizer: "tokenizer" });
   * ```
   *
   * @throws {CheckpointError} for any other kind of file, which is named as what it is, and when no
   *   tokenizer is found
   */
  static async fromSingleFile(
    source: string | ByteSource,
    options: FromSingleFileOptions = {},
  ): Promise<StableDiffusionPipeline> {
    return await loadSingleFile(source, options, (...parts) => new StableDiffusionPipeline(...parts));
  }

  /** The device of the UNet. */
  get gpu(): Gpu {
    return this.unet.gpu;
  }

  /** The components, to share with another pipeline. */
  get components(): PipelineComponents {
    return pickComponents(this);
  }

  /** Decodes the pictures of a batch one after the other, in the memory of one. */
  enableVaeSlicing(): void {
    this.#slicing = true;
  }

  /** Decodes whole batches again. */
  disableVaeSlicing(): void {
    this.#slicing = false;
  }

  /**
   * Decodes large pictures in overlapping tiles of the autoencoder's training size; seams are
   * blended, tones may differ a little between tiles.
   */
  enableVaeTiling(): void {
    this.#tiling = true;
  }

  /** Decodes pictures whole again. */
  disableVaeTiling(): void {
    this.#tiling = false;
  }

  /**
   * Loads a LoRA for the UNet and the text encoder (2106.09685): y = W x + scale · weight · α/rank
   * · up(down x). The file is safetensors with the keys of diffusers, PEFT, kohya (A1111),
   * ComfyUI, OneTrainer or LyCORIS, by diffusers' names of the layers or LDM's. Forms: plain
   * pairs, LoCon (Tucker, too), LoHa, LoKr, full differences, differences of norms, LyCORIS'
   * (IA)³, and DoRA. α comes from the file's own tensors, else from the header's
   * `lora_adapter_metadata`, else from `adapter_config.json` beside a file with PEFT's keys.
   * Embeddings that the file bundles become tokens. Several LoRAs can be loaded and act at once,
   * each with its weight; `scale` is that of the call (`crossAttentionKwargs`, `loraScale`). The
   * weights of the models are not touched.
   *
   * DoRA changes W to m ∘ (W + ΔW) / ‖W + ΔW‖. At another weight than 1, that whole change is
   * scaled, as ComfyUI does; beside other LoRAs, each change is that of the unchanged W.
   *
   * In which order things act: textual inversions give tokens their embeddings; the text encoder,
   * with its LoRAs, makes states x of them; edits (TIME) map these, Ex; the UNet's projections with
   * their LoRAs read the result, (W + s·up·down)·Ex. An edit is solved for the states that the text
   * encoder made at the time, so load adapters of the text encoder first.
   *
   * The LoRA belongs to the components: all pipelines that share them draw with it.
   *
   * ```ts
   * const name = await pipe.loadLoraWeights("ink.safetensors", { weight: 0.8 });
   * await pipe.generate("a rose", { crossAttentionKwargs: { scale: 0.5 } });
   * pipe.unloadLoraWeights(name);
   * ```
   *
   * @param source a .safetensors file, a folder that holds one, or a model of the hub
   * @returns the LoRA's name
   * @throws {AdapterError} if the file is no LoRA, is for another model, holds NaN or infinities,
   *   or a given name is taken: it lists the keys
   */
  async loadLoraWeights(source: AdapterSource, options: LoadLoraOptions = {}): Promise<string> {
    return await loadLora(this, source, options);
  }

  /**
   * Takes a LoRA away, or all of them. Exact: pictures are again what they were, byte for byte.
   *
   * @throws {RangeError} if there is none of that name
   */
  unloadLoraWeights(name?: string): void {
    unloadLora(this, name);
  }

  /**
   * Gives loaded LoRAs new weights (one for all, or one each), and those that are not named none
   * (diffusers' `set_adapters`).
   *
   * @throws {RangeError} if there is none of a name, or the numbers do not match
   */
  setAdapters(names: string | readonly string[], weights: number | readonly number[] = 1): void {
    weightLoras(this, names, weights);
  }

  /** The weights of the loaded LoRAs by their names, in the order in which they were loaded. */
  get loras(): ReadonlyMap<string, number> {
    return loraWeights(this);
  }

  /**
   * Teaches the tokenizer and the text encoder tokens by textual inversion (2208.01618). The
   * file is safetensors: in diffusers' form, tensors named like their tokens; or in A1111's,
   * `emb_params`, `string_to_param.*` or `clip_l` in a file named like its token. A tensor of n
   * rows makes n tokens: where a prompt says `<token>`, `<token> <token>_1 … <token>_(n−1)` is
   * read, as diffusers does.
   *
   * It acts before everything else: see {@linkcode loadLoraWeights}.
   *
   * @param source a .safetensors file, a folder that holds one, or a model of the hub
   * @returns the token; the first where the file holds several
   * @throws {AdapterError} if the file is no textual inversion, or is for another text encoder;
   *   {PromptError} if a token is there already. Nothing is taught then.
   */
  loadTextualInversion(source: AdapterSource, options?: LoadTextualInversionOptions): Promise<string>;
  /**
   * The same for several files at once.
   *
   * @returns the tokens, in order
   */
  loadTextualInversion(
    source: readonly AdapterSource[],
    options?: LoadTextualInversionOptions,
  ): Promise<string[]>;
  async loadTextualInversion(
    source: AdapterSource | readonly AdapterSource[],
    options: LoadTextualInversionOptions = {},
  ): Promise<string | string[]> {
    if (source instanceof Array) return await loadTextualInversions(this, source, options);
    const [first] = await loadTextualInversions(this, [source as AdapterSource], options);
    return first;
  }

  /**
   * Takes a token of {@linkcode loadTextualInversion} away, or all of them. Exact, as {@linkcode
   * unloadLoraWeights}.
   *
   * @throws {PromptError} if there is none
   */
  unloadTextualInversion(token?: string): void {
    unloadTextualInversion(this, token);
  }

  /**
   * Encodes prompts as {@linkcode generate} does.
   *
   * @returns embeddings [B · numImagesPerPrompt, 77, d], the caller's to dispose of
   * @throws {PromptError} without prompts, or with another number of negative prompts
   */
  async encodePrompt(prompt: string | readonly string[], options: EncodePromptOptions = {}): Promise<PromptEmbeddings> {
    const embeddings = encodePrompts(this.textEncoder, tokenizePrompts(this.tokenizer, prompt, options), options);
    await this.gpu.context.check();
    return embeddings;
  }

  /**
   * Compiles the kernels that {@linkcode generate} with the same arguments runs, in parallel, on
   * drivers that otherwise compile them one by one at their first dispatch (Mesa's llvmpipe).
   * `generate` does so itself; call this earlier to move the wait.
   *
   * ```ts
   * await pipe.compileAhead("a rose", { height: 512, width: 512 });
   * ```
   *
   * @throws as {@linkcode generate}
   */
  async compileAhead(
    prompt: string | readonly string[] | undefined,
    options: GenerateOptions<keyof OutputTypes> = {},
  ): Promise<void> {
    await this.#compile(this.#prepare(prompt, options));
  }

  /**
   * Generates pictures from prompts. Options, scheduler and edits are read once, when it is called.
   * The prompt's context and the captured UNet are kept for the next call.
   *
   * @throws {ShapeError} for a size that the autoencoder cannot decode, or latents or embeddings of
   *   the wrong shape
   * @throws {PromptError} without prompts, or when prompts and embeddings do not fit each other
   * @throws {ActivationRangeError} when the UNet's activations leave the range of f16. For
   *   `outputType: "latent"` this is not checked: the latents then hold NaN
   */
  async generate<T extends keyof OutputTypes = "image">(
    prompt: string | readonly string[] | undefined,
    options: GenerateOptions<T> = {},
  ): Promise<GenerateResult<T>> {
    const call = this.#prepare(prompt, options); // before the first wait
    call.signal?.throwIfAborted();
    await this.#compile(call);
    const contextKey = this.#contextKey(call);
    using context = keptWork(this.unet).context.take(contextKey, () => this.#makeContext(call));
    using latents = await denoise(this.#initialLatents(call), { ...call, context: context.value, contextKey });
    context.keep();
    const { outputType } = call;
    const result = (images: unknown, nsfwContentDetected: boolean[] | null) =>
      ({ images, nsfwContentDetected }) as GenerateResult<T>;
    if (outputType === "latent") {
      await this.gpu.context.check();
      return result(latents.reshape(latents.shape), null); // a second owner, for the caller
    }
    const { values, shape: [, height, width] } = await decodeLatents(this.vae, latents, this.#decoding);
    if (this.unet.activations === "f16" && values.some(Number.isNaN)) {
      throw new ActivationRangeError(
        "Cannot generate this picture with f16 activations as the UNet's activations exceed 65504, f16's largest number, " +
          'and the picture holds NaN: load the pipeline with activations: "f32"',
      );
    }
    const verdicts = this.safetyChecker
      ? await blackenFlagged(values, { height, width }, {
        safetyChecker: this.safetyChecker,
        featureExtractor: this.featureExtractor!,
      })
      : null;
    if (outputType === "array") return result(values, verdicts);
    return result(picturesFromFloats(values, { height, width }).map(toJimp), verdicts);
  }

  /**
   * Saves the pipeline as a folder that diffusers loads, with edits folded into the UNet's weights.
   * Weights are streamed from the files that they were loaded from. LoRAs and textual inversions
   * are not saved. The folder appears whole or not at all (Deno only).
   *
   * @throws {CheckpointError} if the folder holds something and `overwrite` is not set, if it is
   *   the one that the pipeline was loaded from, or if a component was built from weights in memory
   */
  async savePretrained(directory: string, options: SavePretrainedOptions = {}): Promise<void> {
    await saveFolder(this.components, directory, (layer, projection) => this.bakedWeight(layer, projection), {
      ...options,
      requiresSafetyChecker: this.requiresSafetyChecker,
    });
  }

  /**
   * Saves the pipeline as one .safetensors file in the original layout (LDM), which A1111 and
   * ComfyUI load; otherwise as {@linkcode savePretrained}. Such a file does not hold the scheduler,
   * the tokenizer or the configurations, except for the prediction type of 2.x.
   */
  async saveSingleFile(path: string, options: SaveOptions = {}): Promise<void> {
    await saveSingleFile(this.components, path, (layer, projection) => this.bakedWeight(layer, projection), options);
  }

  /**
   * The weight of a cross-attention projection with the edits folded in; `undefined` where no edit
   * applies. Editing pipelines override it.
   */
  protected bakedWeight(_layerPath: string, _projection: "to_k" | "to_v"): Tensor | undefined {
    return undefined;
  }

  /** Frees the components that `fromPretrained` loaded, and the device if it opened one. */
  [Symbol.dispose](): void {
    this.#owned.dispose();
  }

  /**
   * How the prompt's embeddings change before the cross-attention layers read them, as it stands
   * now; `undefined` for no change. Editing pipelines override it.
   */
  protected embeddingsEdit(_options: GenerateOptions<keyof OutputTypes>): EmbeddingsEdit | undefined {
    return undefined;
  }

  /** Compiles the kernels of a call, unless a call of the same key has done so. */
  async #compile(call: Call): Promise<void> {
    const { gpu, vae } = this;
    const { height, width, tokens, images, guided, scheduler, numInferenceSteps, eta, outputType } = call;
    const { slicing, tiling } = this.#decoding;
    const key = [
      ...this.#stateKey(call),
      ...[height, width, tokens.batch, images, guided, scheduler, numInferenceSteps, eta],
      ...[outputType === "latent", slicing, tiling],
    ];
    if (this.#compiled.some((known) => sameKey(known, key))) return;
    await compileAhead(gpu, () =>
      gpu.scope(() => {
        using context = this.#makeContext(call);
        const started = Tensor.empty(gpu, call.latentShape).keep();
        using latents = rehearseDenoising(started, { ...call, context });
        if (outputType !== "latent") rehearseDecoding(vae, latents, this.#decoding);
      }));
    this.#compiled.push(key);
    if (this.#compiled.length > 64) this.#compiled.shift();
  }

  /**
   * What both the prompt context and the choice of kernels depend on, beside prompts and shapes.
   */
  #stateKey({ edit, options, loraScale, guided }: Call): Key {
    return [
      ...[this.unet.activations, this.textEncoder, options.clipSkip ?? 0, loraScale, guided],
      "text encoder",
      ...this.textEncoder.weights.adapters.key,
      ...this.textEncoder.addedTokens.values(),
      "UNet",
      ...this.unet.weights.adapters.key,
      "edit",
      ...edit?.key ?? [],
    ];
  }

  /**
   * What a prompt context depends on; `undefined` for embeddings that were handed in, since they
   * may be written to between calls.
   */
  #contextKey(call: Call): Key | undefined {
    const { tokens, images, options } = call;
    if (options.promptEmbeds || options.negativePromptEmbeds) return undefined;
    const ids = [...tokens.negatives, "prompts", ...tokens.prompts].map(String);
    return [...this.#stateKey(call), "tokens", images, ...ids];
  }

  #makeContext({ tokens, edit, options, loraScale, guided }: Call): PromptContext {
    return this.gpu.scope(() => {
      const { promptEmbeds, negativePromptEmbeds } = encodePrompts(this.textEncoder, tokens, {
        ...options,
        doClassifierFreeGuidance: guided,
        loraScale,
      });
      const all = negativePromptEmbeds ? concat([negativePromptEmbeds, promptEmbeds], 0) : promptEmbeds;
      return this.unet.prepareContext(edit ? edit.apply(all) : all, { loraScale }).keep();
    });
  }

  get #decoding(): DecodingOptions {
    return { slicing: this.#slicing, tiling: this.#tiling };
  }

  #initialLatents({ latents, generator, latentShape: shape, images, plan }: Call): Tensor {
    if (latents && latents.shape.join() !== shape.join()) {
      throw new ShapeError(
        `Cannot start from latents [${latents.shape.join(", ")}] as [${shape.join(", ")}] are wanted: ` +
          `images, latent channels, height / ${this.vae.spatialScale}, width / ${this.vae.spatialScale}`,
        [latents.shape, shape],
      );
    }
    if (generator instanceof Array && generator.length !== images) {
      throw new RangeError(
        `Cannot generate ${images} images with ${generator.length} generators: give one, or one for each image`,
      );
    }
    const { initNoiseSigma } = plan;
    const noise = latents ?? Tensor.from(this.gpu, drawNoise(shape, generator), shape);
    const scaled = linearCombination([{ tensor: noise, coefficient: initNoiseSigma }]);
    if (!latents) noise[Symbol.dispose]();
    return scaled;
  }

  /** Checks the options of a call, and takes everything that it depends on as it stands now. */
  #prepare(prompt: string | readonly string[] | undefined, options: GenerateOptions<keyof OutputTypes>): Call {
    const { unet, scheduler } = this;
    const { spatialScale } = this.vae;
    const natural = naturalSize(this);
    const { height = natural, width = natural, callbackSteps = 1, numImagesPerPrompt = 1 } = options;
    for (const [name, side] of Object.entries({ height, width })) {
      if (!Number.isInteger(side) || side <= 0 || side % spatialScale !== 0) {
        throw new ShapeError(
          `Cannot generate a picture of ${width} × ${height} as its ${name} must be a multiple of ${spatialScale}: ${side}`,
          [
            [height, width],
          ],
        );
      }
    }
    for (const [name, count] of Object.entries({ callbackSteps, numImagesPerPrompt })) {
      if (!Number.isInteger(count) || count < 1) {
        throw new RangeError(`Cannot generate as ${name} must be a whole number from 1: ${count}`);
      }
    }
    if (prompt !== undefined && options.promptEmbeds) {
      throw new PromptError("Cannot generate from both a prompt and promptEmbeds: give one of them");
    }
    if (options.negativePrompt !== undefined && options.negativePromptEmbeds) {
      throw new PromptError("Cannot guide away from both a negativePrompt and negativePromptEmbeds: give one of them");
    }
    const loraScale = options.crossAttentionKwargs?.scale ?? 1;
    if (!Number.isFinite(loraScale)) {
      throw new RangeError(`Cannot generate as crossAttentionKwargs.scale must be a finite number: ${loraScale}`);
    }
    const guidanceScale = options.guidanceScale ?? 7.5;
    if (!Number.isFinite(guidanceScale)) {
      throw new RangeError(`Cannot generate as guidanceScale must be a finite number: ${guidanceScale}`);
    }
    const { numInferenceSteps = 50, eta = 0 } = options;
    const guided = guidanceScale > 1;
    const tokens = tokenizePrompts(this.tokenizer, prompt, { ...options, doClassifierFreeGuidance: guided });
    const images = tokens.batch * numImagesPerPrompt;
    return {
      options: { ...options },
      outputType: options.outputType ?? "image",
      unet,
      scheduler,
      plan: scheduler.plan(numInferenceSteps, { eta }),
      tokens,
      edit: this.embeddingsEdit(options),
      images,
      latentShape: [images, this.vae.config.latentChannels, height / spatialScale, width / spatialScale],
      height,
      width,
      callbackSteps,
      guidanceScale,
      guided,
      loraScale,
      numInferenceSteps,
      eta,
      generator: options.generator ?? new TorchGenerator(),
      latents: options.latents,
      callback: options.callback,
      signal: options.signal,
    };
  }
}

/** A call of `generate` with its options checked, and everything that it depends on. */
interface Call {
  readonly options: GenerateOptions<keyof OutputTypes>;
  readonly outputType: keyof OutputTypes;
  readonly unet: UNet2DConditionModel;
  readonly scheduler: Scheduler;
  readonly plan: SchedulerPlan;
  readonly tokens: TokenizedPrompts;
  readonly edit: EmbeddingsEdit | undefined;
  /** Pictures of all prompts together. */
  readonly images: number;
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
  readonly eta: number;
  readonly generator: TorchGenerator | readonly TorchGenerator[];
  readonly latents?: Tensor;
  readonly callback?: StepCallback;
  readonly callbackSteps: number;
  readonly signal?: AbortSignal;
}
