import type { ByteSource } from "./checkpoint/source/byte_source.ts";
import type { FileTree } from "./checkpoint/source/file_tree.ts";
import { checkXLComponents } from "./component_checks.ts";
import { pickXLComponents } from "./component_table.ts";
import type { XLPipelineComponents, XLPipelineSettings } from "./components.ts";
import { AdaptedPipeline } from "./adapted_pipeline.ts";
import { splitPrompt } from "./generation/split_prompt.ts";
import { type Call, type CallShape, type EmbeddingsEdit, prepareCall } from "./generation/call.ts";
import { checkGenerateOptions, type GenerateResult, type OutputTypes } from "./generation/options.ts";
import type { PromptAndOptions } from "./generation/options.ts";
import {
  type XLEncodePromptOptions,
  xlEncodePromptTable,
  type XLGenerateOptions,
  xlGenerateTable,
  type XLPromptEmbeddings,
} from "./generation/xl_options.ts";
import { xlCallPrompts } from "./generation/xl_call_prompts.ts";
import { encodeXLGiven } from "./generation/xl_prompts.ts";
import { loadPipeline, type XLFromPretrainedOptions } from "./load.ts";
import type { CLIPTextModel } from "./models/clip_text.ts";
import type { CLIPTextModelWithProjection } from "./models/clip_text_projection.ts";
import { checkOptions, type OptionTable, takeOptions } from "./options.ts";
import { saveFolder, type SaveOptions, type SavePretrainedOptions, saveSingleFile } from "./saving.ts";
import { loadSingleFile, type XLFromSingleFileOptions } from "./single_file.ts";
import type { CLIPTokenizer } from "./text/tokenizer.ts";

/**
 * Text to pictures with SDXL's base model and its children (2307.01952; diffusers'
 * `StableDiffusionXLPipeline` 0.23).
 *
 * ```ts
 * using pipe = await StableDiffusionXLPipeline.fromPretrained("models/sdxl-base");
 * const { images } = await pipe.generate("a field of roses", { generator: 7 });
 * ```
 */
export class StableDiffusionXLPipeline extends AdaptedPipeline {
  /** Encodes prompts. */
  override readonly textEncoder: CLIPTextModel;
  /** Encodes prompts a second time, and pools them. */
  override readonly textEncoder2: CLIPTextModelWithProjection;
  /** Splits prompts into tokens. */
  override readonly tokenizer: CLIPTokenizer;
  /** Splits prompts into the tokens of the second text encoder. */
  override readonly tokenizer2: CLIPTokenizer;
  /** Whether missing negative prompts are states of zeros rather than the encoded empty text. */
  readonly forceZerosForEmptyPrompt: boolean;

  /**
   * Builds a pipeline of components, which stay the caller's: disposing of the pipeline does not
   * dispose of them.
   *
   * @param owned Resources that the pipeline takes over, and disposes of in reverse order.
   * @throws {OptionError} for a component that is missing, or of another class; {ConfigError} for
   *   components that do not fit each other
   */
  constructor(components: XLPipelineComponents, settings: XLPipelineSettings = {}, owned?: DisposableStack) {
    checkXLComponents(components);
    super(components, owned);
    this.textEncoder = components.textEncoder;
    this.textEncoder2 = components.textEncoder2;
    this.tokenizer = components.tokenizer;
    this.tokenizer2 = components.tokenizer2;
    this.forceZerosForEmptyPrompt = settings.forceZerosForEmptyPrompt ?? true;
  }

  /**
   * Loads a checkpoint in diffusers' layout: a folder with `model_index.json` and one folder for
   * each component, or the id of such a model on the hub.
   *
   * @throws {CheckpointError} when a component is missing; {ConfigError} for a checkpoint that is
   *   not SDXL's base model, such as a refiner; {HubError} when the hub fails; {NoAdapterError}
   *   without a device
   */
  static async fromPretrained(
    source: string | URL | FileTree,
    options: XLFromPretrainedOptions = {},
  ): Promise<StableDiffusionXLPipeline> {
    return await loadPipeline(source, options, { sdxl: (...parts) => new StableDiffusionXLPipeline(...parts) });
  }

  /**
   * Loads a single .safetensors file in the original layout: SDXL's base model, and its children.
   *
   * @throws {CheckpointError} for any other kind of file, such as a refiner, which is named as what
   *   it is, and when no tokenizer is found
   */
  static async fromSingleFile(
    source: string | URL | ByteSource,
    options: XLFromSingleFileOptions = {},
  ): Promise<StableDiffusionXLPipeline> {
    return await loadSingleFile(source, options, { sdxl: (...parts) => new StableDiffusionXLPipeline(...parts) });
  }

  /** As in diffusers. */
  override get defaultGuidanceScale(): number {
    return 5;
  }

  /** Pictures of more than 1024² pixels, whose decoding would take gigabytes. */
  protected override get defaultTiling(): "large" {
    return "large";
  }

  /**
   * Frees the weights of both text encoders, 1.6 GB of SDXL's in f16, and the buffers kept for
   * reuse. From then on, give `generate` the embeddings that {@linkcode encodePrompt} returned; the
   * rest of the pipeline stays. All pipelines that share the encoders lose them.
   *
   * ```ts
   * using pipe = await StableDiffusionXLPipeline.fromPretrained("models/sdxl-base");
   * const encoded = await pipe.encodePrompt("a field of roses");
   * pipe.releaseTextEncoders();
   * const { images } = await pipe.generate(undefined, encoded);
   * ```
   *
   * @throws {GpuError} while a call runs, which may need them
   */
  releaseTextEncoders(): void {
    this.refuseRunning("release the text encoders");
    this.textEncoder[Symbol.dispose]();
    this.textEncoder2[Symbol.dispose]();
    this.gpu.trim();
  }

  /** The components, to share with another pipeline. */
  get components(): XLPipelineComponents {
    return pickXLComponents(this);
  }

  /**
   * Encodes prompts as {@linkcode generate} does. With `promptEmbeds` and `pooledPromptEmbeds` in
   * place of the prompt it only adds the negative ones and repeats both for several images.
   *
   * @returns states [B · numImagesPerPrompt, 77, h1 + h2] and pooled embeddings [B ·
   *   numImagesPerPrompt, projection], the caller's to dispose of
   * @throws {PromptError} without prompts, or with another number of negative prompts
   */
  async encodePrompt(
    prompt: string | readonly string[] | undefined,
    options: XLEncodePromptOptions = {},
  ): Promise<XLPromptEmbeddings> {
    const taken = takeOptions("encode prompts", options);
    checkOptions("encode prompts", taken, xlEncodePromptTable);
    const encoded = encodeXLGiven(this, prompt, taken, this.forceZerosForEmptyPrompt); // before the first wait
    return await this.running(() => encoded);
  }

  /**
   * Compiles the kernels that {@linkcode generate} with the same arguments runs: see {@linkcode
   * StableDiffusionPipeline.compileAhead}.
   */
  async compileAhead(
    prompt: string | readonly string[] | undefined,
    options: XLGenerateOptions<keyof OutputTypes> = {},
  ): Promise<void> {
    await this.compile(this.#prepare(prompt, options));
  }

  /**
   * Generates pictures from prompts, given alone or among the options, as {@linkcode
   * StableDiffusionPipeline.generate} does.
   *
   * @throws {OptionError} for unknown options and values of the wrong kind
   * @throws {ShapeError} for a size that the autoencoder cannot decode, or latents or embeddings of
   *   the wrong shape
   * @throws {PromptError} without prompts, or when prompts and embeddings do not fit each other
   * @throws {NonFiniteError} when given latents or embeddings, or the sample after a step, hold NaN
   *   or infinities; {ActivationRangeError} when the UNet's activations leave the range of f16
   */
  async generate<T extends keyof OutputTypes = "image">(
    prompt: string | readonly string[] | undefined,
    options?: XLGenerateOptions<T>,
  ): Promise<GenerateResult<T>>;
  /** With the prompt among the options. */
  async generate<T extends keyof OutputTypes = "image">(
    options: PromptAndOptions<XLGenerateOptions<T>>,
  ): Promise<GenerateResult<T>>;
  async generate<T extends keyof OutputTypes = "image">(
    first: string | readonly string[] | undefined | PromptAndOptions<XLGenerateOptions<T>>,
    second?: XLGenerateOptions<T>,
  ): Promise<GenerateResult<T>> {
    const [prompt, options] = splitPrompt(first, second);
    return await this.draw(this.#prepare(prompt, options));
  }

  /**
   * Saves the pipeline as a folder that diffusers loads: see {@linkcode
   * StableDiffusionPipeline.savePretrained}.
   */
  async savePretrained(directory: string, options: SavePretrainedOptions = {}): Promise<void> {
    using baked = this.bakedWeights();
    const { forceZerosForEmptyPrompt } = this;
    await this.running(() =>
      saveFolder(this.components, directory, baked, takeOptions("save", options), { forceZerosForEmptyPrompt })
    );
  }

  /**
   * Saves the pipeline as one .safetensors file in the original layout: see {@linkcode
   * StableDiffusionPipeline.saveSingleFile}.
   */
  async saveSingleFile(path: string, options: SaveOptions = {}): Promise<void> {
    using baked = this.bakedWeights();
    await this.running(() => saveSingleFile(this.components, path, baked, takeOptions("save", options)));
  }

  /**
   * How the prompt's embeddings change before the cross-attention layers read them, as it stands
   * now; `undefined` for no change. Editing pipelines override it.
   */
  protected embeddingsEdit(
    _options: XLGenerateOptions<keyof OutputTypes>,
    _shape: CallShape,
  ): EmbeddingsEdit | undefined {
    return undefined;
  }

  /** The options of {@linkcode generate} and their kinds. Pipelines with more override it. */
  protected get generateOptions(): OptionTable<XLGenerateOptions<keyof OutputTypes>> {
    return xlGenerateTable;
  }

  /** A call in the state that the pipeline is in now. */
  #prepare(prompt: string | readonly string[] | undefined, options: XLGenerateOptions<keyof OutputTypes>): Call {
    this.refuseDisposed();
    const taken = { ...options, guidanceScale: options.guidanceScale ?? this.defaultGuidanceScale };
    checkGenerateOptions(taken, this.generateOptions);
    taken.signal?.throwIfAborted();
    checkXLComponents(this);
    const { components, forceZerosForEmptyPrompt: zeros } = this;
    return prepareCall(components, this.decoding, taken, {
      takePrompts: (guided, size) => xlCallPrompts(components, prompt, taken, { guided, zeros, size }),
      editOf: (shape) => this.embeddingsEdit(taken, shape),
    });
  }
}
