import type { Tensor } from "../engine/tensor.ts";
import type { ByteSource } from "./checkpoint/source/byte_source.ts";
import type { FileTree } from "./checkpoint/source/file_tree.ts";
import type { PipelineComponents, PipelineSettings } from "./components.ts";
import type { EditableModel } from "./editing/editable_model.ts";
import type { HeldTexts } from "./editing/encode_batches.ts";
import type { EditStack } from "./editing/edit_stack.ts";
import type { EditChoice } from "./editing/edits_per_row.ts";
import type { EditReport } from "./editing/edit_report.ts";
import type { ModelEdit } from "./editing/model_edit.ts";
import { editChoiceTable, type EditDefaults, type EditModelOptions, PipelineEdits } from "./editing/pipeline_edits.ts";
import type { CallShape, EmbeddingsEdit } from "./generation/call.ts";
import {
  type GenerateOptions,
  type GenerateResult,
  generateTable,
  type OutputTypes,
  type PromptAndOptions,
} from "./generation/options.ts";
import { encodeTexts, holdTexts } from "./generation/prompts.ts";
import type { Attention } from "./layers/attention.ts";
import { type FromPretrainedOptions, loadPipeline } from "./load.ts";
import { type OptionTable, takeOptions } from "./options.ts";
import type { BakedWeights } from "./saving.ts";
import { type FromSingleFileOptions, loadSingleFile } from "./single_file.ts";
import { StableDiffusionPipeline } from "./stable_diffusion.ts";

/** How {@linkcode StableDiffusionModelEditingPipeline.editModel} edits unless told otherwise. */
export interface EditingDefaults extends PipelineSettings, EditDefaults {}

/** Options of an editing pipeline's `generate`. */
export interface EditingGenerateOptions<T extends keyof OutputTypes = "image">
  extends GenerateOptions<T>, EditChoice<ModelEdit> {}

/** The options of an editing pipeline's `generate` and their kinds. */
const editingGenerateTable: OptionTable<EditingGenerateOptions<keyof OutputTypes>> = {
  ...generateTable,
  ...editChoiceTable,
};

/**
 * Stable Diffusion whose implicit assumptions can be edited (TIME, 2303.08084; diffusers'
 * `StableDiffusionModelEditingPipeline`, which from its first release has found no layer to edit).
 *
 * No weight changes: W'x = W(Ex), so an edit acts on the prompt's embeddings, once per prompt.
 *
 * ```ts
 * using pipe = await StableDiffusionModelEditingPipeline.fromPretrained("models/pocket");
 * await pipe.editModel("A pack of roses", "A pack of blue roses");
 * const { images } = await pipe.generate("a field of roses"); // blue
 * pipe.resetModel();
 * ```
 */
export class StableDiffusionModelEditingPipeline extends StableDiffusionPipeline implements EditableModel {
  /** The edits in force, and their order. */
  readonly edits: EditStack<ModelEdit>;
  readonly #edits: PipelineEdits;

  /** As {@linkcode StableDiffusionPipeline}'s, with defaults of {@linkcode editModel}. */
  constructor(components: PipelineComponents, defaults: EditingDefaults = {}, owned?: DisposableStack) {
    super(components, defaults, owned);
    this.#edits = new PipelineEdits(this, defaults);
    this.edits = this.#edits.stack;
  }

  /** As {@linkcode StableDiffusionPipeline.fromPretrained}. */
  static override async fromPretrained(
    source: string | URL | FileTree,
    options: FromPretrainedOptions & EditingDefaults = {},
  ): Promise<StableDiffusionModelEditingPipeline> {
    const { withToK, withAugs } = takeOptions("load a pipeline", options);
    return await loadPipeline(source, options, {
      sd: (parts, settings, owned) =>
        new StableDiffusionModelEditingPipeline(parts, { ...settings, withToK, withAugs }, owned),
    });
  }

  /** As {@linkcode StableDiffusionPipeline.fromSingleFile}. */
  static override async fromSingleFile(
    source: string | URL | ByteSource,
    options: FromSingleFileOptions & EditingDefaults = {},
  ): Promise<StableDiffusionModelEditingPipeline> {
    const { withToK, withAugs } = takeOptions("load a pipeline", options);
    return await loadSingleFile(source, options, {
      sd: (parts, settings, owned) =>
        new StableDiffusionModelEditingPipeline(parts, { ...settings, withToK, withAugs }, owned),
    });
  }

  /** The layers that an edit changes. */
  get crossAttentions(): readonly Attention[] {
    return this.unet.crossAttentions;
  }

  /** Embeddings [texts, 77, d] of texts; the caller's to dispose of. */
  encodeTexts(texts: readonly string[]): Tensor {
    return encodeTexts(this.tokenizer, this.textEncoder, texts);
  }

  /** Holds texts as {@linkcode encodeTexts} would encode them now; the caller disposes of it. */
  holdTexts(texts: readonly string[]): HeldTexts {
    return holdTexts(this.tokenizer, this.textEncoder, texts);
  }

  /**
   * Edits an implicit assumption: what the destination prompt states explicitly becomes the model's
   * default for the source prompt (eq. 5).
   *
   * @param sourcePrompt under-specified: "A pack of roses"
   * @param destinationPrompt the same with words added: "A pack of blue roses"
   * @returns rows, rank, condition estimate, residual, relative size, alignment and milliseconds of
   *   the edit
   * @throws {AlignmentError} when the source is not a subsequence of the destination, with both
   *   token lists
   * @throws {LambdaError} when λ is not a finite number above 0; {IllConditionedError} when it is
   *   too small for the numbers
   * @throws {EditError} when no layer matches: the edit would change nothing
   */
  async editModel(
    sourcePrompt: string,
    destinationPrompt: string,
    options: EditModelOptions = {},
  ): Promise<EditReport> {
    return await this.#edits.editModel(sourcePrompt, destinationPrompt, options);
  }

  /**
   * Removes all edits. This is exact: a seed then gives the same bytes as before the first edit.
   */
  resetModel(): void {
    this.#edits.reset();
  }

  /**
   * As {@linkcode StableDiffusionPipeline.generate}; prompts of one batch can carry different
   * edits. Edits also act on negative prompts, unless `editNegativePrompt` is false.
   */
  override async generate<T extends keyof OutputTypes = "image">(
    prompt: string | readonly string[] | undefined,
    options?: EditingGenerateOptions<T>,
  ): Promise<GenerateResult<T>>;
  /** With the prompt among the options. */
  override async generate<T extends keyof OutputTypes = "image">(
    options: PromptAndOptions<EditingGenerateOptions<T>>,
  ): Promise<GenerateResult<T>>;
  override async generate<T extends keyof OutputTypes = "image">(
    first: string | readonly string[] | undefined | PromptAndOptions<EditingGenerateOptions<T>>,
    second?: EditingGenerateOptions<T>,
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
  protected override get generateOptions(): OptionTable<EditingGenerateOptions<keyof OutputTypes>> {
    return editingGenerateTable;
  }

  /** How the current edits change the prompt's embeddings; undefined without edits. */
  protected override embeddingsEdit(
    options: EditingGenerateOptions<keyof OutputTypes>,
    shape: CallShape,
  ): EmbeddingsEdit | undefined {
    return this.#edits.embeddingsEdit(options, shape);
  }

  /** The weights of the layers with the edits multiplied in, as the edits stand now. */
  protected override bakedWeights(): BakedWeights {
    return this.#edits.bakedWeights();
  }
}
