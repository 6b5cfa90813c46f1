/** What the editing pipelines of all model families have in common. */

import type { AdaptedPipeline } from "./adapted_pipeline.ts";
import type { PipelineComponents, XLPipelineComponents } from "./components.ts";
import type { DrawingPipeline } from "./drawing_pipeline.ts";
import type { EditableModel } from "./editing/editable_model.ts";
import type { EditStack } from "./editing/edit_stack.ts";
import type { EditReport } from "./editing/edit_report.ts";
import type { ModelEdit } from "./editing/model_edit.ts";
import type { EditModelOptions } from "./editing/pipeline_edits.ts";
import type { GenerateResult, OutputTypes } from "./generation/options.ts";
import type { PromptEmbeddings } from "./generation/prompts.ts";
import type { EditingGenerateOptions } from "./model_editing.ts";
import type { XLEditingGenerateOptions } from "./model_editing_xl.ts";
import type { CLIPTextModel } from "./models/clip_text.ts";
import type { StableDiffusionSafetyChecker } from "./models/safety_checker.ts";
import type { SaveOptions, SavePretrainedOptions } from "./saving.ts";
import type { CLIPTokenizer } from "./text/tokenizer.ts";

/** The methods of pipelines that load LoRAs and textual inversions. */
export type Adapting = Pick<
  AdaptedPipeline,
  | "loadLoraWeights"
  | "unloadLoraWeights"
  | "setAdapters"
  | "loras"
  | "loadTextualInversion"
  | "unloadTextualInversion"
>;

/**
 * Options of `generate` of all families. A pipeline refuses those that its family does not take,
 * unless they are left out.
 */
export type AnyGenerateOptions<T extends keyof OutputTypes = "image"> =
  & EditingGenerateOptions<T>
  & Omit<XLEditingGenerateOptions<T>, keyof EditingGenerateOptions<T>>;

/**
 * An editing pipeline of any family: a `StableDiffusionModelEditingPipeline` or a
 * `StableDiffusionXLModelEditingPipeline`.
 */
export interface EditingPipeline extends DrawingPipeline, EditableModel, Adapting {
  /** The edits in force, and their order. */
  readonly edits: EditStack<ModelEdit>;
  /** Encodes prompts; SDXL has a second one. */
  readonly textEncoder: CLIPTextModel;
  /** Splits prompts into tokens. */
  readonly tokenizer: CLIPTokenizer;
  /** Flags pictures that are not safe for work. */
  readonly safetyChecker?: StableDiffusionSafetyChecker;
  /** The components, to share with another pipeline. */
  readonly components: PipelineComponents | XLPipelineComponents;
  /** Edits an implicit assumption. */
  editModel(sourcePrompt: string, destinationPrompt: string, options?: EditModelOptions): Promise<EditReport>;
  /** Removes all edits. */
  resetModel(): void;
  /** Encodes prompts; SDXL pools them as well. The embeddings are the caller's. */
  encodePrompt(prompt: string | readonly string[] | undefined): Promise<PromptEmbeddings>;
  /** Compiles the kernels that {@linkcode generate} with the same arguments runs. */
  compileAhead(
    prompt: string | readonly string[] | undefined,
    options?: AnyGenerateOptions<keyof OutputTypes>,
  ): Promise<void>;
  /** Generates pictures from prompts. */
  generate<T extends keyof OutputTypes = "image">(
    prompt: string | readonly string[] | undefined,
    options?: AnyGenerateOptions<T>,
  ): Promise<GenerateResult<T>>;
  /** Saves the pipeline as one .safetensors file in the original layout. */
  saveSingleFile(path: string, options?: SaveOptions): Promise<void>;
  /** Saves the pipeline as a folder that diffusers loads. */
  savePretrained(directory: string, options?: SavePretrainedOptions): Promise<void>;
}
