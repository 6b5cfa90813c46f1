import { repairOutdated } from "./outdated_configs.ts";
import type { ByteSource } from "./checkpoint/source/byte_source.ts";
import type { FileTree } from "./checkpoint/source/file_tree.ts";
import { checkComponents } from "./component_checks.ts";
import { pickComponents } from "./component_table.ts";
import type { PipelineComponents, PipelineSettings } from "./components.ts";
import { AdaptedPipeline } from "./adapted_pipeline.ts";
import { type Call, type CallShape, type EmbeddingsEdit, prepareCall } from "./generation/call.ts";
import { takePrompts } from "./generation/call_prompts.ts";
import { checkGenerateOptions, generateTable } from "./generation/options.ts";
import type { GenerateOptions, GenerateResult, OutputTypes, PromptAndOptions } from "./generation/options.ts";
import {
  encodeGiven,
  type EncodePromptOptions,
  encodePromptTable,
  type PromptEmbeddings,
} from "./generation/prompts.ts";
import { splitPrompt } from "./generation/split_prompt.ts";
import { warnOfNoChecker } from "./generation/safety.ts";
import type { CLIPImageProcessor } from "./image/clip_image_processor.ts";
import { type FromPretrainedOptions, loadPipeline } from "./load.ts";
import type { CLIPTextModel } from "./models/clip_text.ts";
import type { StableDiffusionSafetyChecker } from "./models/safety_checker.ts";
import { checkOptions, type OptionTable, takeOptions } from "./options.ts";
import { saveFolder, type SaveOptions, type SavePretrainedOptions, saveSingleFile } from "./saving.ts";
import { type FromSingleFileOptions, loadSingleFile } from "./single_file.ts";
import type { CLIPTokenizer } from "./text/tokenizer.ts";

/**
 * Text to pictures with Stable Diffusion 1.x and 2.x (diffusers' `StableDiffusionPipeline`).
 *
 * ```ts
 * using pipe = await StableDiffusionPipeline.fromPretrained("models/pocket");
 * const { images } = await pipe.generate("a field of roses", { generator: new TorchGenerator(7) });
 * await images[0].write("roses.png");
 * ```
 */
export class StableDiffusionPipeline extends AdaptedPipeline {
  /** Encodes prompts. */
  override readonly textEncoder: CLIPTextModel;
  /** Splits prompts into tokens. */
  override readonly tokenizer: CLIPTokenizer;
  /** Flags pictures that are not safe for work. `undefined` or `null` disables the check. */
  safetyChecker: StableDiffusionSafetyChecker | undefined;
  /** Prepares pictures for the safety checker. */
  featureExtractor: CLIPImageProcessor | undefined;
  /** Whether the model's makers want pictures checked. */
  readonly requiresSafetyChecker: boolean;

  /**
   * Builds a pipeline of components, which stay the caller's: disposing of the pipeline does not
   * dispose of them. Outdated configurations of the scheduler and the UNet are repaired in place,
   * with a warning, as diffusers does.
   *
   * @param owned Resources that the pipeline takes over, and disposes of in reverse order.
   * @throws {OptionError} for a component that is missing, or of another class
   * @throws {CheckpointError} for a safety checker without a feature extractor
   * @throws {ConfigError} for components that do not fit each other
   */
  constructor(components: PipelineComponents, settings: PipelineSettings = {}, owned?: DisposableStack) {
    checkComponents(components);
    repairOutdated(components);
    super(components, owned);
    this.textEncoder = components.textEncoder;
    this.tokenizer = components.tokenizer;
    this.safetyChecker = components.safetyChecker ?? undefined;
    this.featureExtractor = components.featureExtractor ?? undefined;
    this.requiresSafetyChecker = settings.requiresSafetyChecker ?? components.safetyChecker !== undefined;
    if (!this.safetyChecker && this.requiresSafetyChecker) warnOfNoChecker();
  }

  /**
   * Loads a checkpoint in diffusers' layout: a folder with `model_index.json` and one folder for
   * each component, or the id of such a model on the hub.
   *
   * @throws {CheckpointError} when a component is missing or of a class that is not supported;
   *   {HubError} when the hub fails; {NoAdapterError} without a device
   */
  static async fromPretrained(
    source: string | URL | FileTree,
    options: FromPretrainedOptions = {},
  ): Promise<StableDiffusionPipeline> {
    return await loadPipeline(source, options, { sd: (...parts) => new StableDiffusionPipeline(...parts) });
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
    source: string | URL | ByteSource,
    options: FromSingleFileOptions = {},
  ): Promise<StableDiffusionPipeline> {
    return await loadSingleFile(source, options, { sd: (...parts) => new StableDiffusionPipeline(...parts) });
  }

  /** The pipeline in one line, as `console.log` shows it. */
  override describe(): string {
    return [
      super.describe(),
      this.safetyChecker ? "with a safety checker" : "without a safety checker",
    ].join(", ");
  }

  /** The components, to share with another pipeline. */
  get components(): PipelineComponents {
    return pickComponents(this);
  }

  /**
   * Encodes prompts as {@linkcode generate} does. With `promptEmbeds` in place of the prompt it
   * only adds the negative ones and repeats both for several images.
   *
   * @returns embeddings [B · numImagesPerPrompt, 77, d], the caller's to dispose of
   * @throws {PromptError} without prompts, or with another number of negative prompts
   */
  async encodePrompt(
    prompt: string | readonly string[] | undefined,
    options: EncodePromptOptions = {},
  ): Promise<PromptEmbeddings> {
    const taken = takeOptions("encode prompts", options);
    checkOptions("encode prompts", taken, encodePromptTable);
    const encoded = encodeGiven(this, prompt, taken); // before the first wait
    return await this.running(() => encoded);
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
    await this.compile(this.#prepare(prompt, options));
  }

  /**
   * Generates pictures from prompts, given alone or among the options: `generate("a rose", { … })`
   * or `generate({ prompt: "a rose", … })`.
   *
   * Everything that the call depends on is read once, when it is called: options and their arrays,
   * scheduler, edits, adapters with their weights, added tokens, safety checker, slicing and
   * tiling. Changes made before the call has finished apply to the next call. Calls may overlap. A
   * pipeline that is disposed of during a call frees its components at the end of the call. The
   * prompt's context and the captured UNet are kept for the next call.
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
    options?: GenerateOptions<T>,
  ): Promise<GenerateResult<T>>;
  /** With the prompt among the options. */
  async generate<T extends keyof OutputTypes = "image">(
    options: PromptAndOptions<GenerateOptions<T>>,
  ): Promise<GenerateResult<T>>;
  async generate<T extends keyof OutputTypes = "image">(
    first: string | readonly string[] | undefined | PromptAndOptions<GenerateOptions<T>>,
    second?: GenerateOptions<T>,
  ): Promise<GenerateResult<T>> {
    const [prompt, options] = splitPrompt(first, second);
    return await this.draw(this.#prepare(prompt, options));
  }

  /**
   * Saves the pipeline as a folder that diffusers loads, with edits folded into the UNet's weights.
   * Weights are streamed from the files that they were loaded from. LoRAs are saved with
   * `mergeLoras`; textual inversions are not. The folder appears whole or not at all (Deno only).
   * With `overwrite`, a folder is replaced as a whole, and keeps its files and folders of other
   * names; where the process ends between the two renames that this takes, the next load or save
   * puts the old folder back.
   *
   * @throws {CheckpointError} if the folder holds something and `overwrite` is not set, if it is,
   *   holds or lies in what the pipeline was loaded from, or if a component was built from weights
   *   in memory
   * @throws {OutputError} if the folder cannot be written; told before anything is
   */
  async savePretrained(directory: string, options: SavePretrainedOptions = {}): Promise<void> {
    using baked = this.bakedWeights();
    const { requiresSafetyChecker } = this;
    await this.running(() =>
      saveFolder(this.components, directory, baked, takeOptions("save", options), { requiresSafetyChecker })
    );
  }

  /**
   * Saves the pipeline as one .safetensors file in the original layout (LDM), which A1111 and
   * ComfyUI load; otherwise as {@linkcode savePretrained}. Such a file does not hold the scheduler
   * and the tokenizer, and implies the configurations of the published models. Those of another
   * model (its heads, groups of norms, noise schedule) are kept in the file's metadata, which only
   * this package reads; a warning names what other programs will misread.
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
    _options: GenerateOptions<keyof OutputTypes>,
    _shape: CallShape,
  ): EmbeddingsEdit | undefined {
    return undefined;
  }

  /** The options of {@linkcode generate} and their kinds. Pipelines with more override it. */
  protected get generateOptions(): OptionTable<GenerateOptions<keyof OutputTypes>> {
    return generateTable;
  }

  /** A call in the state that the pipeline is in now. */
  #prepare(prompt: string | readonly string[] | undefined, options: GenerateOptions<keyof OutputTypes>): Call {
    this.refuseDisposed();
    const taken = { ...options, guidanceScale: options.guidanceScale ?? this.defaultGuidanceScale };
    checkGenerateOptions(taken, this.generateOptions);
    taken.signal?.throwIfAborted();
    checkComponents(this);
    const { components } = this;
    return prepareCall(components, this.decoding, taken, {
      takePrompts: (guided) => takePrompts(components, prompt, taken, guided),
      editOf: (shape) => this.embeddingsEdit(taken, shape),
    });
  }
}
