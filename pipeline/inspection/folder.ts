/** Inspects folders: pipelines in diffusers' layout, their parts, and CLIP models. */

import { advise } from "../advice.ts";
import { configOf, loraFileNames } from "../adapters/open_adapter.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { AdapterOptions } from "./adapter.ts";
import { ofFolder } from "./null_components.ts";
import { inspectFile } from "./file.ts";
import { componentEntries, componentTable } from "../component_table.ts";
import { CLIPImageProcessor } from "../image/clip_image_processor.ts";
import { isDenied } from "../checkpoint/source/byte_source.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { isSafetensors } from "../checkpoint/safetensors/format.ts";
import { describeSurplus } from "../checkpoint/surplus.ts";
import { isPickle } from "../checkpoint/source/pickle.ts";
import { parseCLIPTextConfig } from "../checkpoint/diffusers/config/clip.ts";
import {
  type ComponentName,
  type ModelFamily,
  parseModelIndex,
  partsOf,
} from "../checkpoint/diffusers/config/model_index.ts";
import { parseUNetConfig } from "../checkpoint/diffusers/config/unet.ts";
import { readConfig } from "../checkpoint/diffusers/config/fields.ts";
import { variantsOf } from "../checkpoint/diffusers/pipeline_files.ts";
import { listVariants, openWeights, weightFiles } from "../checkpoint/safetensors/weight_files.ts";
import { clipKind } from "../models/clip.ts";
import { textEncoderKind } from "../models/clip_text.ts";
import { projectedTextEncoderKind } from "../models/clip_text_projection.ts";
import { checkModel, type ModelKind } from "../models/load.ts";
import { safetyCheckerKind } from "../models/safety_checker.ts";
import { unetKind, type UNetLoadOptions } from "../models/unet.ts";
import { tinyVaeKind } from "../models/tiny_vae.ts";
import { vaeKind } from "../models/vae.ts";
import { CLIPTokenizer } from "../text/tokenizer.ts";
import {
  type AskedMemory,
  contentsOf,
  failuresOf,
  type Inspection,
  memoryNote,
  memoryOf,
  messageOf,
  noWeights,
  type PartInspection,
  type WeightsContents,
} from "./report.ts";

/** Model folders that can be inspected on their own. */
const modelKinds: readonly ModelKind<unknown, unknown>[] = [
  unetKind,
  vaeKind,
  tinyVaeKind,
  textEncoderKind,
  projectedTextEncoderKind,
  safetyCheckerKind,
  clipKind,
];

/**
 * Inspects a folder: a pipeline in diffusers' layout, one of its parts, a CLIP model, or a LoRA
 * under the name that diffusers or PEFT gives it.
 *
 * @param options.variant the weight variant to inspect, as in `fromPretrained`
 * @param options.model as for `inspectFile`
 * @param options.memory what to predict the memory of drawing for. Default: no prediction.
 */
export async function inspectFolder(
  tree: FileTree,
  options: { variant?: string; memory?: AskedMemory } & Pick<AdapterOptions, "model"> = {},
): Promise<Inspection> {
  if (await tree.has("model_index.json")) return await inspectPipeline(tree, options);
  if (await tree.has("config.json")) return await inspectModelFolder(tree, options);
  const { name } = tree;
  const single = async (kind: string, load: () => Promise<unknown>): Promise<Inspection> => {
    const part = { ...noWeights, part: "", kind, problems: await failuresOf(load) };
    return { name, description: `${kind}, a part of a model`, parts: [part], problems: [], notes: [] };
  };
  if (await tree.has("scheduler_config.json")) {
    return await single("a scheduler", () => componentTable.scheduler.load(tree, noDevice));
  }
  if (await tree.has("preprocessor_config.json")) {
    return await single("a feature extractor", () => CLIPImageProcessor.fromPretrained(tree));
  }
  if (await tree.has("vocab.json") || await tree.has("tokenizer.json")) {
    return await single("a tokenizer", () => CLIPTokenizer.fromPretrained(tree));
  }
  for (const path of loraFileNames) {
    if (!await tree.has(path)) continue;
    const adapterConfig = (weights: Weights) => configOf(tree, "", weights);
    return await inspectFile(await tree.open(path), { adapterConfig, model: options.model });
  }
  const files = (await tree.list()).filter((file) => isSafetensors(file) || isPickle(file));
  const hint = files.length > 0 ? `. Inspect its files one by one: ${files.join(", ")}` : "";
  return {
    name,
    description: "not a model",
    parts: [],
    problems: [`Cannot load ${name} as it has neither model_index.json nor config.json${hint}`],
    notes: [],
  };
}

async function inspectPipeline(
  tree: FileTree,
  { variant, memory: asked }: { variant?: string; memory?: AskedMemory },
): Promise<Inspection> {
  const { name } = tree;
  let index;
  try {
    index = await readConfig(tree, "model_index.json", parseModelIndex);
  } catch (error) {
    return {
      name,
      description: "an unsupported or damaged pipeline",
      parts: [],
      problems: [messageOf(error)],
      notes: [],
    };
  }
  const { components } = index;
  const variantOf = await variantsOf(tree, variant);
  const parts: PartInspection[] = [];
  const surplus: string[] = [];
  const entries = componentEntries.map(([, entry]) => entry);
  for (const part of Object.keys(components) as ComponentName[]) {
    const className = components[part];
    if (className === null) continue;
    const { kind, kindOf, load } = entries.find(({ folder }) => folder === part)!;
    const folder = tree.subtree(part);
    if (kind) {
      // Loading, too, goes by the class in the part's own configuration.
      const found = kindOf?.(await classNameIn(folder)) ?? kind;
      parts.push(await inspectWeights(folder, found, { part, variant: variantOf(part), surplus }));
      continue;
    }
    parts.push({
      ...noWeights,
      part,
      kind: className,
      problems: await failuresOf(() => load(folder, { ...noDevice, className })),
    });
  }
  const isChecked = components.safety_checker !== null;
  const problems = isChecked && components.feature_extractor === null
    ? [`It has a safety_checker but no feature_extractor: ${advise("skipChecker")}`]
    : await widthProblems(tree, index.family);
  const { failures = [], ...memory } = await memoryOf({ parts, problems }, () => ofFolder(tree, { variant }), asked);
  const weights = memory.memory ? undefined : memoryNote(parts);
  const notes = [
    ...(weights === undefined ? [] : [`Its ${weights}`]),
    ...(isChecked || index.family === "sdxl" ? [] : ["It has no safety checker"]),
    ...(surplus.length > 0 ? [`It holds ${describeSurplus(surplus)}`] : []),
  ];
  return {
    name,
    description: `${articled(index.className)} in diffusers' layout`,
    parts,
    problems: [...problems, ...failures],
    notes,
    ...memory,
  };
}

/** Problems of components that load individually but do not fit each other. */
async function widthProblems(tree: FileTree, family: ModelFamily): Promise<string[]> {
  try {
    const encoders = partsOf(family).filter((part) => part.startsWith("text_encoder"));
    const widths: number[] = [];
    for (const part of encoders) {
      widths.push((await readConfig(tree.subtree(part), "config.json", parseCLIPTextConfig)).hiddenSize);
    }
    const unet = await readConfig(tree.subtree("unet"), "config.json", parseUNetConfig);
    if (widths.reduce((sum, width) => sum + width) !== unet.crossAttentionDim) {
      const have = widths.length > 1 ? "text encoders have widths" : "text encoder has width";
      return [`Its ${have} ${widths.join(" + ")}, but its UNet reads ${unet.crossAttentionDim} features`];
    }
    const isXL = unet.textTime !== null;
    if (isXL === (family === "sdxl")) return [];
    return [`Its UNet is one of ${isXL ? "SDXL" : "Stable Diffusion 1.x or 2.x"}, and its pipeline is not`];
  } catch {
    return []; // already reported with the part
  }
}

async function inspectModelFolder(tree: FileTree, options: { variant?: string }): Promise<Inspection> {
  const { name } = tree;
  let config: Record<string, unknown>;
  try {
    config = await tree.readJson("config.json") as Record<string, unknown>;
  } catch (error) {
    return { name, description: "a damaged model folder", parts: [], problems: [messageOf(error)], notes: [] };
  }
  const names = [config._class_name, ...Array.isArray(config.architectures) ? config.architectures : []];
  const kind = modelKinds.find(({ className }) => names.includes(className)) ??
    (config.model_type === "clip_text_model" ? textEncoderKind : undefined) ??
    (config.model_type === "clip" ? clipKind : undefined);
  if (kind === undefined) {
    const said = JSON.stringify(config._class_name ?? config.architectures ?? config.model_type ?? null);
    const known = modelKinds.map(({ className }) => className).join(", ");
    return {
      name,
      description: `an unsupported model (${said})`,
      parts: [],
      problems: [`Cannot load ${name} as its config.json says ${said}; supported: ${known}`],
      notes: [],
    };
  }
  const surplus: string[] = [];
  const part = await inspectWeights(tree, kind, { part: "", ...options, surplus });
  const notes = surplus.length > 0 ? [`It holds ${describeSurplus(surplus)}`] : [];
  const problems = kind !== clipKind ? [] : [
    ...await failuresOf(() => CLIPTokenizer.fromPretrained(tree)),
    ...await failuresOf(() => CLIPImageProcessor.fromPretrained(tree)),
  ];
  return { name, description: `${articled(kind.className)} in a folder`, parts: [part], problems, notes };
}

async function inspectWeights(
  folder: FileTree,
  kind: ModelKind<unknown, unknown>,
  { part, variant, surplus }: { part: string; variant?: string; surplus: string[] },
): Promise<PartInspection> {
  const { className, weightsName } = kind;
  let holds: WeightsContents = noWeights;
  const problems = await failuresOf(async () => {
    const variants = (await listVariants(folder, weightsName)).map((name) => name ?? "default");
    using weights = await openWeights(folder, weightsName, { variant });
    holds = { ...contentsOf(weights), variants };
    const files = await weightFiles(folder, weightsName, { variant });
    let bytes = 0;
    for (const file of files) {
      const source = await folder.open(file);
      bytes += source.size;
      source.close?.();
    }
    holds = { ...holds, bytes };
    const config = kind.parseConfig(await folder.readJson("config.json"), `${folder.name}/config.json`);
    for (const key of checkModel(kind, config, weights)) surplus.push(key);
  });
  return { part, kind: className, ...holds, problems };
}

/**
 * The class that a model's configuration names; `undefined` if it cannot be read, which is reported
 * later.
 */
async function classNameIn(folder: FileTree): Promise<unknown> {
  const config = await folder.readJson("config.json").catch((error) => {
    if (isDenied(error)) throw error;
  });
  return (config as { _class_name?: unknown } | null | undefined)?._class_name;
}

/** Checks a component without weights by loading it; this needs no device. */
const noDevice = {} as UNetLoadOptions;

/** A class with its article: "an AutoencoderKL", "a UNet2DConditionModel". */
function articled(className: string): string {
  return `${/^[AEIO]/.test(className) ? "an" : "a"} ${className}`;
}
