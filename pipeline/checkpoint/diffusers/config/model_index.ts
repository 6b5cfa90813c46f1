/** `model_index.json`. @module */

import { Fields } from "./fields.ts";

/** The parts of a Stable Diffusion checkpoint that `model_index.json` names. */
export type ComponentName =
  | "vae"
  | "text_encoder"
  | "tokenizer"
  | "unet"
  | "scheduler"
  | "safety_checker"
  | "feature_extractor";

/** `model_index.json`: the class of each part of a checkpoint. */
export interface ModelIndex {
  /** The pipeline that saved it. */
  readonly className: string;
  /** The class of each part, without its library; `null` for a part that is left out. */
  readonly components: Readonly<Record<ComponentName, string | null>>;
  /** Whether the checkpoint asks for a safety checker. */
  readonly requiresSafetyChecker: boolean;
}

/** Pipelines whose checkpoints have the parts of a Stable Diffusion model and no others. */
const pipelineClasses = [
  "StableDiffusionPipeline",
  "StableDiffusionModelEditingPipeline",
  "StableDiffusionImg2ImgPipeline",
  "StableDiffusionPipelineSafe",
  "LatentConsistencyModelPipeline",
];

const componentClasses: Record<Exclude<ComponentName, "scheduler">, readonly string[]> = {
  vae: ["AutoencoderKL", "AutoencoderTiny"],
  text_encoder: ["CLIPTextModel"],
  tokenizer: ["CLIPTokenizer", "CLIPTokenizerFast"],
  unet: ["UNet2DConditionModel"],
  safety_checker: ["StableDiffusionSafetyChecker"],
  feature_extractor: ["CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPFeatureExtractor"],
};

const optionalComponents: readonly string[] = ["safety_checker", "feature_extractor"];

/** Models that other pipelines' names stand for. */
const otherPipelines: readonly (readonly [name: RegExp, what: string])[] = [
  [/XL.*Refiner/i, "an SDXL refiner"],
  [/XL/, "SDXL"],
  [/StableDiffusion3/, "Stable Diffusion 3"],
  [/Flux/, "Flux"],
  [/ControlNet/, "a ControlNet with its model"],
  [/Inpaint/, "an inpainting model"],
  [/Depth2Img/, "a depth-to-image model"],
  [/InstructPix2Pix/, "an instruct-pix2pix model"],
  [/Upscale/, "an upscaler"],
  [/UnCLIP|ImageVariation/, "a model that is conditioned on pictures"],
  [/GLIGEN/, "a model that is conditioned on boxes"],
];

/**
 * Reads `model_index.json`.
 *
 * @param options.without Parts that come from elsewhere: they are `null`, whatever the file says.
 * @throws {ConfigError} if the pipeline is not supported (SDXL, inpainting), or a part is missing
 *   or has an unknown class.
 */
export function parseModelIndex(
  json: unknown,
  file: string,
  options: { without?: readonly ComponentName[] } = {},
): ModelIndex {
  const fields = new Fields(json, file);
  const given = fields.value("_class_name");
  const named = typeof given === "string" ? given : "";
  const other = pipelineClasses.includes(named) ? undefined : otherPipelines.find(([name]) => name.test(named));
  if (other) fields.refuse("_class_name", `${pipelineClasses.join(", ")} (this is ${other[1]})`);
  const className = fields.oneOf("_class_name", "", pipelineClasses);

  const classOf = (name: string): string | null => {
    if (options.without?.some((part) => part === name)) return null;
    const value: unknown = fields.value(name) ?? [null, null];
    const found: unknown = Array.isArray(value) && value.length === 2 ? value[1] : undefined;
    if (found === null && optionalComponents.includes(name)) return null;
    return typeof found === "string" ? found : fields.refuse(name, "a library and a class");
  };
  const components: Partial<Record<ComponentName, string | null>> = { scheduler: classOf("scheduler") };
  for (const [name, supported] of Object.entries(componentClasses)) {
    const found = classOf(name);
    if (found !== null && !supported.includes(found)) fields.refuse(name, supported.join(", "));
    components[name as ComponentName] = found;
  }
  for (const [name, value] of Object.entries(json as Record<string, unknown>)) {
    const isPart = Array.isArray(value) && value.length === 2 && value[1] !== null;
    if (isPart && !Object.hasOwn(components, name)) {
      fields.refuse(name, `no part but ${Object.keys(components).join(", ")}`);
    }
  }
  return {
    className,
    components: components as Record<ComponentName, string | null>,
    requiresSafetyChecker: fields.boolean("requires_safety_checker", true),
  };
}
