/**
 * Blue Rose changes what a text-to-image model assumes (TIME, arXiv 2303.08084), and generates
 * pictures with the edited model: Stable Diffusion 1.x, 2.x and SDXL on WebGPU.
 *
 * ```ts
 * import { StableDiffusionModelEditingPipeline, TorchGenerator } from "@bluerose/bluerose";
 *
 * using pipe = await StableDiffusionModelEditingPipeline.fromPretrained("models/pocket");
 * const report = await pipe.editModel("A pack of roses", "A pack of blue roses");
 * console.log(`edited in ${report.ms.toFixed(0)} ms`);
 * const generator = new TorchGenerator(7);
 * const { images } = await pipe.generate("a field of roses", { generator, guidanceScale: 5 });
 * await images[0].write("field.png");
 * ```
 *
 * @module
 */

// Devices and tensors
export * from "./engine/mod.ts";

// Models
export { UNet2DConditionModel, type UNetLoadOptions } from "./pipeline/models/unet.ts";
export type { ActivationType, Observer } from "./pipeline/models/unet_blocks.ts";
export { type LayerStates, PromptContext } from "./pipeline/models/prompt_context.ts";
export { type LoadOptions, Model } from "./pipeline/models/load.ts";
export { AutoencoderKL } from "./pipeline/models/vae.ts";
export { AutoencoderTiny } from "./pipeline/models/tiny_vae.ts";
export {
  type Autoencoder,
  type AutoencoderSource,
  loadAutoencoder,
  type LoadAutoencoderOptions,
} from "./pipeline/models/autoencoder.ts";
export type { AddedConditions } from "./pipeline/models/added_conditions.ts";
export { CLIPTextEncoder, CLIPTextModel, type EncodeIdsOptions } from "./pipeline/models/clip_text.ts";
export { CLIPTextModelWithProjection } from "./pipeline/models/clip_text_projection.ts";
export { CLIPModel } from "./pipeline/models/clip.ts";
export { StableDiffusionSafetyChecker } from "./pipeline/models/safety_checker.ts";
export { CLIPImageProcessor } from "./pipeline/image/clip_image_processor.ts";
export { CLIPTokenizer } from "./pipeline/text/tokenizer.ts";

// Samplers
export * from "./schedulers/mod.ts";

// Pipelines
export { DrawingPipeline } from "./pipeline/drawing_pipeline.ts";
export { StableDiffusionPipeline } from "./pipeline/stable_diffusion.ts";
export { AdaptedPipeline } from "./pipeline/adapted_pipeline.ts";
export { StableDiffusionXLPipeline } from "./pipeline/stable_diffusion_xl.ts";
export type {
  PixelPair,
  XLEncodePromptOptions,
  XLGenerateOptions,
  XLPromptEmbeddings,
  XLPromptOptions,
  XLSettings,
} from "./pipeline/generation/xl_options.ts";
export type {
  GenerateOptions,
  GenerateResult,
  LoraDirectory,
  OutputTypes,
  PictureArray,
  PromptAndOptions,
} from "./pipeline/generation/options.ts";
export type { CallShape, EmbeddingsEdit } from "./pipeline/generation/call.ts";
export type { PromptSyntax } from "./pipeline/generation/tokenized_prompts.ts";
export type { NoiseSource, Seed } from "./pipeline/generation/generators.ts";
export type { HostTensor } from "./pipeline/generation/given_tensor.ts";
export type { OptionKind, OptionTable } from "./pipeline/options.ts";
export type {
  DrawingComponents,
  PipelineComponents,
  PipelineSettings,
  XLPipelineComponents,
  XLPipelineSettings,
} from "./pipeline/components.ts";
export type { AnyFromPretrainedOptions, FromPretrainedOptions, XLFromPretrainedOptions } from "./pipeline/load.ts";
export type { ComponentOverrides, XLComponentOverrides } from "./pipeline/overrides.ts";
export type {
  AnyFromSingleFileOptions,
  FromSingleFileOptions,
  XLFromSingleFileOptions,
} from "./pipeline/single_file.ts";
export type { BakedWeight, BakedWeights, SaveOptions, SavePretrainedOptions } from "./pipeline/saving.ts";
export type { DecodingOptions } from "./pipeline/generation/decoding.ts";
export type { StepCallback } from "./pipeline/generation/denoising_options.ts";
export type { EncodePromptOptions, PromptEmbeddings } from "./pipeline/generation/prompts.ts";
export {
  drawGrid,
  type GridAxis,
  type GridCell,
  type GridCellSettings,
  type GridOptions,
} from "./pipeline/generation/xy_grid.ts";
export {
  type EditingDefaults,
  type EditingGenerateOptions,
  StableDiffusionModelEditingPipeline,
} from "./pipeline/model_editing.ts";
export {
  StableDiffusionXLModelEditingPipeline,
  type XLEditingDefaults,
  type XLEditingGenerateOptions,
} from "./pipeline/model_editing_xl.ts";
export { openPipeline, type OpenPipelineOptions } from "./pipeline/open_pipeline.ts";
export type { Adapting, AnyGenerateOptions, EditingPipeline } from "./pipeline/editing_pipeline.ts";
export type { EditDefaults, EditModelOptions } from "./pipeline/editing/pipeline_edits.ts";

// Edits, independent of a pipeline
export { ModelEdit } from "./pipeline/editing/model_edit.ts";
export type { ModelEditOptions } from "./pipeline/editing/edit_options.ts";
export type { EditReport } from "./pipeline/editing/edit_report.ts";
export type { LayerOperator, LayerReport } from "./pipeline/editing/edit_operators.ts";
export type { EditMethod, MethodOptions, RowTokens } from "./pipeline/editing/prompts/method.ts";
export type { ConceptMove, ConceptMoves } from "./pipeline/editing/moves.ts";
export type { RetainedReport } from "./pipeline/editing/prepare_edit.ts";
export type { NullSpaceReport } from "./pipeline/editing/solve/null_space.ts";
export type { LayerChange } from "./pipeline/editing/layer_changes.ts";
export { EditStack, type StackEntry } from "./pipeline/editing/edit_stack.ts";
export type { EditChoice } from "./pipeline/editing/edits_per_row.ts";
export { EditOperator, type OperatorReport } from "./pipeline/editing/operator.ts";
export { parseEditPairs } from "./pipeline/editing/prompts/pair_file.ts";
export type { EditPair, EditRecipe, PairRecord, WeightedPrompt } from "./pipeline/editing/prompts/recipe.ts";
export {
  type Foretold,
  type PredictableEdit,
  type PredictedLeakage,
  suggestPreserve,
} from "./pipeline/editing/leakage.ts";
export type { LoraExportOptions, LoraReport } from "./pipeline/editing/lora_export.ts";
export type { EditableModel } from "./pipeline/editing/editable_model.ts";
export type { HeldTexts } from "./pipeline/editing/encode_batches.ts";

// Pictures
export { decodePicture, encodePicture, fromJimp, type JimpImage, type Picture } from "./pipeline/image/picture.ts";
export { contactSheet } from "./pipeline/image/contact_sheet.ts";
export { pictureGrid } from "./pipeline/image/picture_grid.ts";
export {
  type LatentFactors,
  type PreviewDecoder,
  previewFromLatents,
  stableDiffusionLatentFactors,
} from "./pipeline/image/preview.ts";
export { readPngText, withPngText } from "./pipeline/image/png_text.ts";
export { readJpegText, withJpegText } from "./pipeline/image/jpeg_text.ts";
export { readPictureText } from "./pipeline/image/picture_text.ts";
export {
  type PictureSettings,
  type ReadPictureSettings,
  readPictureSettings,
} from "./pipeline/generation/picture_settings.ts";
export type { ExactAdapter, ExactComponent, ExactEdit, ExactSettings } from "./pipeline/generation/exact_settings.ts";

// What a model is, and what it takes
export {
  type AdapterOptions,
  type AskedMemory,
  inspectFile,
  inspectFolder,
  type Inspection,
  type MemoryOptions,
  type MemoryPrediction,
  type ModelConfigs,
  modelConfigsOf,
  type PartInspection,
  predictMemory,
  type Probe,
  probeOf,
} from "./pipeline/inspection.ts";

// Files
export { blobSource, type ByteSource, bytesSource } from "./pipeline/checkpoint/source/byte_source.ts";
export { type FileTree, memoryTree } from "./pipeline/checkpoint/source/file_tree.ts";
export type { ByteSink } from "./pipeline/output/byte_sink.ts";
export { checkOutput, checkOutputFolder } from "./pipeline/output/target.ts";
export { SafetensorsFile } from "./pipeline/checkpoint/safetensors/safetensors_file.ts";
export type { Weights } from "./pipeline/checkpoint/safetensors/weights.ts";

// Types that the signatures above name
export type { Linear } from "./pipeline/layers/linear.ts";
export type { Key } from "./pipeline/models/keyed_slot.ts";
export type { ModelWeights } from "./pipeline/checkpoint/bind.ts";
export type { ComponentName, ModelFamily } from "./pipeline/checkpoint/diffusers/config/model_index.ts";
export type { HubOptions, HubProgress } from "./pipeline/checkpoint/hub/hub.ts";
export type { PipelineConfigs, PredictionType } from "./pipeline/checkpoint/ldm/config.ts";
export type { Attention, KeysValues } from "./pipeline/layers/attention.ts";
export type { LoadTextualInversionOptions } from "./pipeline/adapters/added_tokens.ts";
export type { LoadLoraOptions } from "./pipeline/adapters/loras.ts";
export type { AdapterFileOptions, AdapterSource } from "./pipeline/adapters/open_adapter.ts";
export type {
  ClipActivation,
  CLIPConfig,
  CLIPTextConfig,
  CLIPTransformerConfig,
  CLIPVisionConfig,
} from "./pipeline/checkpoint/diffusers/config/clip.ts";
export type { CLIPImageProcessorConfig } from "./pipeline/checkpoint/diffusers/config/clip_image_processor.ts";
export type {
  DownBlockType,
  TextTimeConfig,
  UNet2DConditionConfig,
  UpBlockType,
} from "./pipeline/checkpoint/diffusers/config/unet.ts";
export type { AutoencoderKLConfig } from "./pipeline/checkpoint/diffusers/config/vae.ts";
export type { AutoencoderTinyConfig } from "./pipeline/checkpoint/diffusers/config/tiny_vae.ts";
export type { SingleFileOptions } from "./pipeline/checkpoint/ldm/single_file.ts";
export type { SafetensorsDtype, TensorInfo } from "./pipeline/checkpoint/safetensors/format.ts";
export type { SavedDtype } from "./pipeline/checkpoint/safetensors/tensor_stream.ts";
export type { ModelSourceOptions } from "./pipeline/checkpoint/source/model_source.ts";
export type { ConfigJson, ModelOrigin } from "./pipeline/checkpoint/source/origin.ts";
export type { EditedStates, StackableEdit } from "./pipeline/editing/edit_stack.ts";
export type { CrossAttentionLayer, LayerChoice } from "./pipeline/editing/editable_model.ts";
export type { ExportableEdit, LoraFormat } from "./pipeline/editing/lora_export.ts";
export type { EditRoute, OperatorFactors } from "./pipeline/editing/operator.ts";
export type { Alignment, AlignmentTokenizer, PositionPair, TokenPair } from "./pipeline/editing/prompts/alignment.ts";
export type { EditSystemOptions } from "./pipeline/editing/solve/edit_system.ts";
export type { SheetCell, SheetOptions, SheetRow } from "./pipeline/image/contact_sheet.ts";
export type { PictureFormat } from "./pipeline/image/picture.ts";
export type { FindTokenizerOptions } from "./pipeline/text/find_tokenizer.ts";
export type { TokenizerFiles } from "./pipeline/text/tokenizer_files.ts";

// Errors
export * from "./pipeline/errors.ts";
export { AlignmentError, IllConditionedError, LambdaError } from "./pipeline/editing/errors.ts";
