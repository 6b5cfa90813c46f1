import type { Tensor } from "../engine/tensor.ts";
import type { ByteSource } from "./checkpoint/source/byte_source.ts";
import type { FileTree } from "./checkpoint/source/file_tree.ts";
import type { XLPipelineComponents, XLPipelineSettings } from "./components.ts";
import type { EditableModel } from "./editing/editable_model.ts";
import type { HeldTexts } from "./editing/encode_batches.ts";
import type { EditStack } from "./editing/edit_stack.ts";
import type { EditChoice } from "./editing/edits_per_row.ts";
import type { EditReport } from "./editing/edit_report.ts";
import type { ModelEdit } from "./editing/model_edit.ts";
import { editChoiceTable, type EditDefaults, type EditModelOptions, PipelineEdits } from "./editing/pipeline_edits.ts";
import type { CallShape, EmbeddingsEdit } from "./generation/call.ts";
import type { GenerateResult, OutputTypes, PromptAndOptions } from "./generation/options.ts";
import { type XLGenerateOptions, xlGenerateTable } from "./generation/xl_options.ts";
import { encodeXLPooled, encodeXLTexts, holdXLTexts } from "./generation/xl_prompts.ts";
import type { Attention } from "./layers/attention.ts";
import type { Linear } from "./layers/linear.ts";
import { loadPipeline, type XLFromPretrainedOptions } from "./load.ts";
import { type OptionTable, takeOptions } from "./options.ts";
import type { BakedWeights } from "./saving.ts";
import { loadSingleFile, type XLFromSingleFileOptions } from "./single_file.ts";
import { StableDiffusionXLPipeline } from "./stable_diffusion_xl.ts";

/** How {@linkcode StableDiffusionXLModelEditingPipeline.editModel} edits unless told otherwise. */
export interface XLEditingDefaults extends XLPipelineSettings, EditDefaults {}

/** Options of an SDXL editing pipeline's `generate`. */
export interface XLEditingGenerateOptions<T extends keyof OutputTypes = "image">
  extends XLGenerateOptions<T>, EditChoice<ModelEdit> {}

/** The options of an SDXL editing pipeline's `generate` and their kinds. */
const xlEditingGenerateTable: OptionTable<XLEditingGenerateOptions<keyof OutputTypes>> = {
  ...xlGenerateTable,
  ...editChoiceTable,
};

/**
 * SDXL whose implicit assumptions can be edited (TIME, 2303.08084): as {@linkcode
 * StableDiffusionModelEditingPipeline}. Every cross-attention layer reads the states of both text
 * encoders side by side, [B, 77, h1 + h2], so one operator of that width edits all of them.
 *
 * ```ts
 * using pipe = await StableDiffusionXLModelEditingPipeline.fromPretrained("models/sdxl-base");
 * await pipe.editModel("A pack of roses", "A pack of blue roses");
 * const { images } = await pipe.generate("a field of roses"); // blue
 * pipe.resetModel();
 * ```
 */
export class StableDiffusionXLModelEditingPipeline extends StableDiffusionXLPipeline implements EditableModel {
  /** The edits in force, and their order. */
  readonly edits: EditStack<ModelEdit>;
  readonly #edits: PipelineEdits;

  /** As {@linkcode StableDiffusionXLPipeline}'s, with defaults of {@linkcode editModel}. */
  constructor(components: XLPipelineComponents, defaults: XLEditingDefaults = {}, owned?: DisposableStack) {
    super(components, defaults, owned);
    this.#edits = new PipelineEdits(this, defaults);
    this.edits = this.#edits.stack;
  }

  /** As {@linkcode StableDiffusionXLPipeline.fromPretrained}. */
  static override async fromPretrained(
    source: string | URL | FileTree,
    options: XLFromPretrainedOptions & XLEditingDefaults = {},
  ): Promise<StableDiffusionXLModelEditingPipeline> {
    const { withToK, withAugs } = takeOptions("load a pipeline", options);
    return await loadPipeline(source, options, {
      sdxl: (parts, settings, owned) =>
        new StableDiffusionXLModelEditingPipeline(parts, { ...settings, withToK, withAugs }, owned),
    });
  }

  /** As {@linkcode StableDiffusionXLPipeline.fromSingleFile}. */
  static override async fromSingleFile(
    source: string | URL | ByteSource,
    options: XLFromSingleFileOptions & XLEditingDefaults = {},
  ): Promise<StableDiffusionXLModelEditingPipeline> {
    const { withToK, withAugs } = takeOptions("load a pipeline", options);
    return await loadSingleFile(source, options, {
      sdxl: (parts, settings, owned) =>
        new StableDiffusionXLModelEditingPipeline(parts, { ...settings, withToK, withAugs }, owned),
    });
  }

  /** The layers that an edit changes. */
  get crossAttentions(): readonly Attention[] {
    return this.unet.crossAttentions;
  }

  /** States [texts, 77, h1 + h2] of texts; the caller's to dispose of. */
  encodeTexts(texts: readonly string[]): Tensor {
    return encodeXLTexts(this, texts);
  }

  /** Holds texts as {@linkcode encodeTexts} would encode them now; the caller disposes of it. */
  holdTexts(texts: readonly string[]): HeldTexts {
    return holdXLTexts(this, texts);
  }

  /** Pooled embeddings [texts, projection] of texts; the caller's to dispose of. */
  encodePooled(texts: readonly string[]): Tensor {
    return encodeXLPooled(this, texts);
  }

  /** Widths h1 and h2 of the states of both text encoders. */
  get encoderWidths(): readonly number[] {
    return [this.textEncoder, this.textEncoder2].map(({ config }) => config.hiddenSize);
  }

  /** The layer that reads pooled embeddings by its first columns. */
  get pooledProjection(): Linear | undefined {
    return this.unet.pooledProjection;
  }

  /**
   * As {@linkcode StableDiffusionModelEditingPipeline.editModel}. With `withPooled`, the pooled
   * embedding of the second encoder is mapped, too.
   */
  async editModel(
    sourcePrompt: string,
    destinationPrompt: string,
    options: EditModelOptions = {},
  ): Promise<EditReport> {
    return await this.#edits.editModel(sourcePrompt, destinationPrompt, options);
  }

  /** As {@linkcode StableDiffusionModelEditingPipeline.resetModel}. */
  resetModel(): void {
    this.#edits.reset();
  }

  /**
   * As {@linkcode StableDiffusionXLPipeline.generate}; prompts of one batch can carry different
   * edits. Edits also act on negative prompts, unless `editNegativePrompt` is false.
   */
  override async generate<T extends keyof OutputTypes = "image">(
    prompt: string | readonly string[] | undefined,
    options?: XLEditingGenerateOptions<T>,
  ): Promise<GenerateResult<T>>;
  /** With the prompt among the options. */
  override async generate<T extends keyof OutputTypes = "image">(
    options: PromptAndOptions<XLEditingGenerateOptions<T>>,
  ): Promise<GenerateResult<T>>;
  override async generate<T extends keyof OutputTypes = "image">(
    first: string | readonly string[] | undefined | PromptAndOptions<XLEditingGenerateOptions<T>>,
    second?: XLEditingGenerateOptions<T>,
  ): Promise<GenerateResult<T>> {
    return await super.generate(first as string, second);
  }

  /** The pipeline and its edits, as `console.log` shows them. */
  override describe(): string {
    return super.describe() + this.#edits.describe();
  }

  /** Frees the edits of {@linkcode editModel}, then what the pipeline loaded. */
  override [Symbol.dispose](): void {
    this.#edits[Symbol.dispose]();
    super[Symbol.dispose]();
  }

  /** The options of {@linkcode generate} and their kinds. */
  protected override get generateOptions(): OptionTable<XLEditingGenerateOptions<keyof OutputTypes>> {
    return xlEditingGenerateTable;
  }

  /** How the current edits change the states; undefined without edits. */
  protected override embeddingsEdit(
    options: XLEditingGenerateOptions<keyof OutputTypes>,
    shape: CallShape,
  ): EmbeddingsEdit | undefined {
    return this.#edits.embeddingsEdit(options, shape);
  }

  /** The weights of the layers with the edits multiplied in, as the edits stand now. */
  protected override bakedWeights(): BakedWeights {
    return this.#edits.bakedWeights();
  }
}
