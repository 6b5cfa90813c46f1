/**
 * Blue Rose edits what a text-to-image model takes for granted (TIME, arXiv 2303.08084), and draws with the edited model, on raw WebGPU.
 *
 * ```ts
 * import { StableDiffusionModelEditingPipeline, TorchGenerator } from "@bluerose/bluerose";
 *
 * using pipe = await StableDiffusionModelEditingPipeline.fromPretrained("models/pocket");
 * const report = await pipe.editModel("A pack of roses", "A pack of blue roses");
 * console.log(`edited in ${report.ms.toFixed(0)} ms`);
 * const { images } = await pipe.generate("a field of roses", { generator: new TorchGenerator(7), guidanceScale: 5 });
 * await images[0].write("field.png");
 * ```
 *
 * @module
 */

// Devices and tensors
export * from "./engine/mod.ts";

// Models
export { UNet2DConditionModel } from "./pipeline/models/unet.ts";
export { AutoencoderKL } from "./pipeline/models/vae.ts";
export { CLIPTextModel } from "./pipeline/models/clip_text.ts";
export { CLIPTokenizer } from "./pipeline/text/tokenizer.ts";

// Samplers
export * from "./schedulers/mod.ts";

// Pipelines
export {
  type FromPretrainedOptions,
  type GenerateOptions,
  type GenerateResult,
  type PipelineComponents,
  StableDiffusionPipeline,
} from "./pipeline/stable_diffusion_pipeline.ts";
