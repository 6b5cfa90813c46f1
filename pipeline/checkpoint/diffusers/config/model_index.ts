/** `model_index.json`. @module */

import { CheckpointError } from "../../../errors.ts";
import { nameText } from "../../../safe_text.ts";
import type { FileTree } from "../../source/file_tree.ts";
import { Fields, readConfig } from "./fields.ts";

/** The parts of a Stable Diffusion checkpoint that `model_index.json` names. */
export type ComponentName =
  | "vae"
  | "text_encoder"
  | "text_encoder_2"
  | "tokenizer"
  | "tokenizer_2"
  | "unet"
  | "scheduler"
  | "safety_checker"
  | "feature_extractor";

/** Stable Diffusion 1.x and 2.x, or SDXL. */
export type ModelFamily = "sd" | "sdxl";

/** `model_index.json`: the class of each part of a checkpoint. */
export interface ModelIndex {
  /** The family of the pipeline. */
  readonly family: ModelFamily;
  /** The pipeline that saved it. */
  readonly className: string;
  /**
   * The class of each part, without its library; `null` for a part that is left out, or that the
   * family does not have.
   */
  readonly components: Readonly<Record<ComponentName, string | null>>;
  /** Whether the checkpoint asks for a safety checker. */
  readonly requiresSafetyChecker: boolean;
  /** Whether missing negative prompts are zeros rather than encoded empty texts, in SDXL. */
  readonly forceZerosForEmptyPrompt: boolean;
}

/** Pipelines whose checkpoints have the parts of a family and no others. */
const pipelineClasses: Readonly<Record<ModelFamily, readonly string[]>> = {
  sd: [
    "StableDiffusionPipeline",
    "StableDiffusionModelEditingPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionPipelineSafe",
    "LatentConsistencyModelPipeline",
  ],
  sdxl: ["StableDiffusionXLPipeline"],
};

/** Names of families, and the classes that load them. */
const families: Readonly<Record<ModelFamily, { readonly name: string; readonly loader: string }>> = {
  sd: { name: "Stable Diffusion 1.x or 2.x", loader: "StableDiffusionPipeline" },
  sdxl: { name: "SDXL", loader: "StableDiffusionXLPipeline" },
};

const parts: Readonly<Record<ModelFamily, readonly ComponentName[]>> = {
  sd: ["scheduler", "vae", "text_encoder", "tokenizer", "unet", "safety_checker", "feature_extractor"],
  sdxl: ["scheduler", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet"],
};

/** The parts that checkpoints of a family have. */
export function partsOf(family: ModelFamily): readonly ComponentName[] {
  return parts[family];
}

const componentClasses: Record<Exclude<ComponentName, "scheduler">, readonly string[]> = {
  vae: ["AutoencoderKL", "AutoencoderTiny"],
  text_encoder: ["CLIPTextModel"],
  text_encoder_2: ["CLIPTextModelWithProjection"],
  tokenizer: ["CLIPTokenizer", "CLIPTokenizerFast"],
  tokenizer_2: ["CLIPTokenizer", "CLIPTokenizerFast"],
  unet: ["UNet2DConditionModel"],
  safety_checker: ["StableDiffusionSafetyChecker"],
  feature_extractor: ["CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPFeatureExtractor"],
};

const optionalComponents: readonly string[] = ["safety_checker", "feature_extractor"];

/** What to do with models that are related and not supported. */
export const useBaseModel = "load a base model of Stable Diffusion 1.x, 2.x or XL instead";

/** Models that other pipelines' names stand for. */
const otherPipelines: readonly (readonly [name: RegExp, what: string])[] = [
  [/XL.*Refiner|^StableDiffusionXLImg2Img/i, "an SDXL refiner, or SDXL for pictures from pictures"],
  [/XL.*Inpaint/, "an SDXL inpainting model"],
  [/XL.*InstructPix2Pix/, "an SDXL instruct-pix2pix model"],
  [/XL.*ControlNet/, "an SDXL ControlNet with its model"],
  [/XL/, "SDXL"],
  [/StableDiffusion3/, "Stable Diffusion 3"],
  [/Flux/, "Flux"],
  [/PixArt/, "PixArt, a diffusion transformer"],
  [/Kandinsky/, "Kandinsky"],
  [/Wuerstchen|StableCascade/, "Würstchen or Stable Cascade"],
  [/^IF/, "DeepFloyd IF"],
  [/HunyuanDiT|AuraFlow|Sana|Lumina|QwenImage|ZImage|CogView|Chroma/, "a diffusion transformer"],
  [/Video|AnimateDiff/, "a model of moving pictures"],
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
 * @param options.family The family that the checkpoint must be of. Default: any.
 * @throws {ConfigError} if the pipeline is not supported (inpainting) or of another family, or a
 *   part is missing or has an unknown class.
 */
export function parseModelIndex(
  json: unknown,
  file: string,
  options: { without?: readonly ComponentName[]; family?: ModelFamily } = {},
): ModelIndex {
  const fields = new Fields(json, file);
  const given = fields.value("_class_name");
  const named = typeof given === "string" ? given : "";
  const known = Object.keys(families) as ModelFamily[];
  const found = known.find((family) => pipelineClasses[family].includes(named));
  const supported = (options.family ? [options.family] : known).flatMap((family) => pipelineClasses[family]);
  if (found !== undefined && options.family !== undefined && found !== options.family) {
    const { name, loader } = families[found];
    fields.refuse("_class_name", `${supported.join(", ")} (this is ${name}: load it with ${loader})`);
  }
  const other = found === undefined ? otherPipelines.find(([name]) => name.test(named)) : undefined;
  if (other) fields.refuse("_class_name", `${supported.join(", ")} (this is ${other[1]}; ${useBaseModel})`);
  const family = found ?? fields.refuse("_class_name", supported.join(", "));

  const classOf = (name: string): string | null => {
    if (options.without?.some((part) => part === name)) return null;
    const value: unknown = fields.value(name) ?? [null, null];
    const found: unknown = Array.isArray(value) && value.length === 2 ? value[1] : undefined;
    if (found === null && optionalComponents.includes(name)) return null;
    return typeof found === "string"
      ? found
      : fields.refuse(name, `a library and a class, as the _class_name is ${JSON.stringify(named)}`);
  };
  const components: Partial<Record<ComponentName, string | null>> = { scheduler: classOf("scheduler") };
  for (const [name, supported] of Object.entries(componentClasses)) {
    if (!parts[family].includes(name as ComponentName)) continue;
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
  for (const name of Object.keys(componentClasses) as ComponentName[]) components[name] ??= null;
  return {
    family,
    className: named,
    components: components as Record<ComponentName, string | null>,
    requiresSafetyChecker: fields.boolean("requires_safety_checker", true),
    forceZerosForEmptyPrompt: fields.boolean("force_zeros_for_empty_prompt", true),
  };
}

/**
 * Reads the `model_index.json` of a folder: see {@linkcode parseModelIndex}.
 *
 * @throws {CheckpointError} if there is none; a part of a model, such as a ControlNet, is named
 */
export async function readModelIndex(
  tree: FileTree,
  options: { without?: readonly ComponentName[]; family?: ModelFamily } = {},
): Promise<ModelIndex> {
  if (!await tree.has("model_index.json") && await tree.has("config.json")) {
    const { _class_name: named, architectures } = await tree.readJson("config.json") as Record<string, unknown>;
    const found = named ?? (Array.isArray(architectures) ? architectures[0] : undefined);
    const className = typeof found === "string" ? nameText(found) : "a part of a model";
    const advice = /ControlNet|Adapter/i.test(className)
      ? "only LoRAs and textual inversions can be added to a model"
      : "load the folder of the whole model, which has one";
    throw new CheckpointError(
      `Cannot load ${tree.name} as it holds one part, ${className}, and no model_index.json: ${advice}`,
      { source: tree.name },
    );
  }
  if (!await tree.has("model_index.json")) {
    throw new CheckpointError(
      `Cannot load ${tree.name} as it has no model_index.json, which every model in diffusers' layout has: ` +
        "give the folder that holds one, or a .safetensors file",
      { source: tree.name },
    );
  }
  return await readConfig(tree, "model_index.json", (json, file) => parseModelIndex(json, file, options));
}
