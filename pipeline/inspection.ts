/**
 * Reports the kind and contents of a folder or file, and the reasons why it would not load. Needs
 * no device and reads no weights.
 */

import { elements } from "../engine/tensor.ts";
import { componentEntries, componentTable } from "./components.ts";
import { readEdit } from "./editing/edit_file.ts";
import { CheckpointError } from "./errors.ts";
import { CLIPImageProcessor } from "./image/clip_image_processor.ts";
import type { ByteSource } from "./checkpoint/source/byte_source.ts";
import type { FileTree } from "./checkpoint/source/file_tree.ts";
import { isPickle, pickleMessage } from "./checkpoint/source/pickle.ts";
import { readAll } from "./checkpoint/source/byte_source.ts";
import { recognizeCheckpoint } from "./checkpoint/diffusers/checkpoint_kind.ts";
import { parseCLIPTextConfig } from "./checkpoint/diffusers/config/clip.ts";
import { type ComponentName, parseModelIndex } from "./checkpoint/diffusers/config/model_index.ts";
import { parseUNetConfig } from "./checkpoint/diffusers/config/unet.ts";
import { readConfig } from "./checkpoint/diffusers/config/fields.ts";
import { inspectLora, type LoraModelConfigs } from "./adapters/inspect_lora.ts";
import { readTextualInversions } from "./adapters/textual_inversion.ts";
import { variantsOf } from "./checkpoint/diffusers/pipeline_files.ts";
import { isSafetensors } from "./checkpoint/safetensors/format.ts";
import { SafetensorsFile } from "./checkpoint/safetensors/safetensors_file.ts";
import type { Weights } from "./checkpoint/safetensors/weights.ts";
import { SingleFile, type SingleFileOptions, type SingleFilePart } from "./checkpoint/ldm/single_file.ts";
import { listVariants, openWeights, weightFiles } from "./checkpoint/safetensors/weight_files.ts";
import { clipKind } from "./models/clip.ts";
import { textEncoderKind } from "./models/clip_text.ts";
import { checkModel, type ModelKind } from "./models/load.ts";
import { safetyCheckerKind } from "./models/safety_checker.ts";
import { unetKind, type UNetLoadOptions } from "./models/unet.ts";
import { vaeKind } from "./models/vae.ts";
import { CLIPTokenizer } from "./text/tokenizer.ts";

/** The contents of one component of a model. */
export interface PartInspection {
  /** "unet", "vae", …; "" for a standalone model. */
  readonly part: string;
  /** The class name, or a short description. */
  readonly kind: string;
  /** Size of the weight files in bytes; 0 without weights. */
  readonly bytes: number;
  readonly parameters: number;
  /** Number of elements by dtype in the file: `{ F16: 859520964 }`. */
  readonly dtypes: Readonly<Record<string, number>>;
  /** Weight variants in the folder: "default", "fp16". */
  readonly variants: readonly string[];
  /** Reasons why it would not load; empty if it would. */
  readonly problems: readonly string[];
}

/** The result of inspecting a folder or a file. */
export interface Inspection {
  readonly name: string;
  /** Description: "a Stable Diffusion 1.x checkpoint (single file)". */
  readonly description: string;
  readonly parts: readonly PartInspection[];
  /** Reasons why the whole would not load. Each part lists its own. */
  readonly problems: readonly string[];
  /** Further information. */
  readonly notes: readonly string[];
}

/** All reasons why the inspected source would not load, parts included. */
export function problemsOf({ problems, parts }: Inspection): string[] {
  return [...problems, ...parts.flatMap(({ part, problems }) => problems.map((why) => part ? `${part}: ${why}` : why))];
}

/** Model folders that can be inspected on their own. */
const modelKinds: readonly ModelKind<unknown, unknown>[] = [
  unetKind,
  vaeKind,
  textEncoderKind,
  safetyCheckerKind,
  clipKind,
];

/**
 * Inspects a folder: a pipeline in diffusers' layout, one of its parts, or a CLIP model.
 *
 * @param options.variant the weight variant to inspect, as in `fromPretrained`
 */
export async function inspectFolder(tree: FileTree, options: { variant?: string } = {}): Promise<Inspection> {
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
  if (await tree.has("vocab.json")) return await single("a tokenizer", () => CLIPTokenizer.fromPretrained(tree));
  const files = (await tree.list()).filter((file) => isSafetensors(file) || isPickle(file));
  const hint = files.length > 0 ? `: it holds ${files.join(", ")}, to be inspected one by one` : "";
  return {
    name,
    description: "no model",
    parts: [],
    problems: [`Cannot load ${name} as it has neither model_index.json nor config.json${hint}`],
    notes: [],
  };
}

async function inspectPipeline(tree: FileTree, { variant }: { variant?: string }): Promise<Inspection> {
  const { name } = tree;
  let index;
  try {
    index = await readConfig(tree, "model_index.json", parseModelIndex);
  } catch (error) {
    return {
      name,
      description: "a pipeline of another kind, or a broken one",
      parts: [],
      problems: [messageOf(error)],
      notes: [],
    };
  }
  const { components } = index;
  const variantOf = await variantsOf(tree, variant);
  const parts: PartInspection[] = [];
  const entries = componentEntries.map(([, entry]) => entry);
  for (const part of Object.keys(components) as ComponentName[]) {
    const className = components[part];
    if (className === null) continue;
    const { kind, load } = entries.find(({ folder }) => folder === part)!;
    const folder = tree.subtree(part);
    if (kind) parts.push(await inspectWeights(folder, kind, { part, variant: variantOf(part) }));
    else parts.push({ ...noWeights, part, kind: className, problems: await failuresOf(() => load(folder, noDevice)) });
  }
  const isChecked = components.safety_checker !== null;
  const problems = isChecked && components.feature_extractor === null
    ? ["It names a safety_checker and no feature_extractor: it loads with safetyChecker: null alone"]
    : await widthProblems(tree);
  const notes = isChecked ? [] : ["It has no safety checker"];
  return { name, description: `a ${index.className} in diffusers' layout`, parts, problems, notes };
}

/**
 * The configurations of a folder's UNet and text encoder, to hold LoRAs against.
 *
 * @throws {CheckpointError} if one is missing; {ConfigError} if one is not supported
 */
export async function loraModelOf(tree: FileTree): Promise<LoraModelConfigs> {
  return {
    unet: await readConfig(tree.subtree("unet"), "config.json", parseUNetConfig),
    textEncoder: await readConfig(tree.subtree("text_encoder"), "config.json", parseCLIPTextConfig),
  };
}

/** Problems of components that load individually but do not fit each other. */
async function widthProblems(tree: FileTree): Promise<string[]> {
  try {
    const text = await readConfig(tree.subtree("text_encoder"), "config.json", parseCLIPTextConfig);
    const unet = await readConfig(tree.subtree("unet"), "config.json", parseUNetConfig);
    if (text.hiddenSize === unet.crossAttentionDim) return [];
    return [`Its text encoder writes ${text.hiddenSize} features and its UNet reads ${unet.crossAttentionDim}`];
  } catch {
    return []; // reported with the part already
  }
}

async function inspectModelFolder(tree: FileTree, options: { variant?: string }): Promise<Inspection> {
  const { name } = tree;
  let config: Record<string, unknown>;
  try {
    config = await tree.readJson("config.json") as Record<string, unknown>;
  } catch (error) {
    return { name, description: "a broken model folder", parts: [], problems: [messageOf(error)], notes: [] };
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
      description: `a model of another kind (${said})`,
      parts: [],
      problems: [`Cannot load ${name} as its config.json says ${said}; supported: ${known}`],
      notes: [],
    };
  }
  const part = await inspectWeights(tree, kind, { part: "", ...options });
  const problems = kind !== clipKind ? [] : [
    ...await failuresOf(() => CLIPTokenizer.fromPretrained(tree)),
    ...await failuresOf(() => CLIPImageProcessor.fromPretrained(tree)),
  ];
  return { name, description: `a ${kind.className} in a folder`, parts: [part], problems, notes: [] };
}

async function inspectWeights(
  folder: FileTree,
  kind: ModelKind<unknown, unknown>,
  { part, variant }: { part: string; variant?: string },
): Promise<PartInspection> {
  const { className, weightsName } = kind;
  let holds: Pick<PartInspection, "bytes" | "parameters" | "dtypes" | "variants"> = noWeights;
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
    checkModel(kind, kind.parseConfig(await folder.readJson("config.json"), `${folder.name}/config.json`), weights);
  });
  return { part, kind: className, ...holds, problems };
}

/** Options of {@linkcode inspectFile}: those of single files, and what LoRAs are held against. */
export interface InspectFileOptions extends SingleFileOptions {
  /** Finds the `adapter_config.json` that belongs to a LoRA. Default: there is none. */
  readonly adapterConfig?: (weights: Weights) => Promise<unknown>;
  /** The model to hold LoRAs against. Default: Stable Diffusion 1.x and 2.x. */
  readonly loraModel?: LoraModelConfigs;
}

/**
 * Inspects a file: a single-file checkpoint, a LoRA, a textual inversion or an edit.
 *
 * @param source closed by this function
 */
export async function inspectFile(source: ByteSource, options: InspectFileOptions = {}): Promise<Inspection> {
  const { name } = source;
  const only = (description: string, rest: Partial<Inspection> = {}): Inspection => ({
    name,
    description,
    parts: [],
    problems: [],
    notes: [],
    ...rest,
  });
  if (isPickle(name)) {
    source.close?.();
    return only("a pickle", { problems: [pickleMessage(name)] });
  }
  let weights: SafetensorsFile;
  try {
    weights = await SafetensorsFile.open(source);
  } catch (error) { // the callee has closed the file
    return only("no safetensors file, or a broken one", { problems: [messageOf(error)] });
  }
  using file = weights;
  const { family, description, advice } = recognizeCheckpoint(file);
  const whole: PartInspection = {
    ...noWeights,
    ...contentsOf(file),
    part: "",
    kind: "",
    bytes: source.size,
    problems: [],
  };
  if (file.metadata.format === "blue-rose-edit-1") {
    const problems: string[] = [];
    const notes: string[] = [];
    try {
      const { recipe, rank, width } = await readEdit(await readAll(source));
      notes.push(`rank ${rank} in ${width} dimensions, lambda ${recipe.lamb}`);
      for (const pair of recipe.pairs) notes.push(`${pair.source} -> ${JSON.stringify(pair.destination)}`);
      notes.push("draw with it: bluerose generate --edit");
    } catch (error) {
      problems.push(messageOf(error));
    }
    return only("an edit of Blue Rose", { parts: [whole], problems, notes });
  }
  if (family !== "other") {
    return only(`${description} (single file)`, { ...await inspectSingleFile(source, file, options) });
  }
  const problems: string[] = [];
  const notes = advice === undefined ? [] : [advice];
  if (description === "a LoRA") {
    const config = await options.adapterConfig?.(file);
    const lora = await inspectLora(file, { config, model: options.loraModel });
    notes.unshift(...lora.notes);
    problems.push(...lora.problems);
  } else if (description === "a textual inversion") {
    problems.push(
      ...await failuresOf(async () => {
        const width = widthOfInversion(file);
        const read = await readTextualInversions(file, { width });
        const model = width === 768 ? " (Stable Diffusion 1.x)" : width === 1024 ? " (Stable Diffusion 2.x)" : "";
        notes.unshift(
          ...read.map(({ token, vectors }) => `token ${token}: ${vectors.length} of width ${width}${model}`),
        );
      }),
    );
  } else {
    problems.push(`Cannot load ${name} as it is ${description}${advice === undefined ? "" : `; ${advice}`}`);
  }
  return only(description, { parts: [whole], problems, notes });
}

/** The width that a textual inversion's tensors have, which decides what model they are for. */
function widthOfInversion({ tensors }: Weights): number {
  const [first] = [...tensors].filter(([key]) => !key.startsWith("string_to_token"));
  return first?.[1].shape.at(-1) ?? 0;
}

async function inspectSingleFile(
  source: ByteSource,
  file: Weights,
  options: SingleFileOptions,
): Promise<Pick<Inspection, "parts" | "notes">> {
  // The caller closes the file.
  const { name, size } = source;
  const single = await SingleFile.open({ name, size, read: source.read }, options);
  const configs = single.configs();
  const kinds: Record<SingleFilePart, ModelKind<unknown, unknown>> = {
    unet: unetKind,
    vae: vaeKind,
    text_encoder: textEncoderKind,
  };
  const parts: PartInspection[] = [];
  for (const part of ["unet", "vae", "text_encoder"] as const) {
    const kind = kinds[part];
    const weights = single.part(part);
    const contents = contentsOf(weights);
    const problems = await failuresOf(() =>
      checkModel(kind, kind.parseConfig(configs[part], `${name}, ${part}`), weights)
    );
    parts.push({ part, kind: kind.className, ...contents, variants: [], problems });
  }
  const predicts = single.predictionType ?? "noise or v (found out when it is loaded)";
  const others = contentsOf(file).parameters - parts.reduce((sum, { parameters }) => sum + parameters, 0);
  return {
    parts,
    notes: [
      `it predicts ${predicts}`,
      "it has no tokenizer: that of the hub's cache is taken, or --tokenizer",
      ...(others > 0 ? [`${others.toLocaleString("en")} numbers that drawing does not need`] : []),
    ],
  };
}

/** Checks a component without weights by loading it; this needs no device. */
const noDevice = {} as UNetLoadOptions;

const noWeights = { bytes: 0, parameters: 0, dtypes: {}, variants: [] };

function contentsOf(weights: Weights): Pick<PartInspection, "bytes" | "parameters" | "dtypes" | "variants"> {
  const dtypes: Record<string, number> = {};
  let bytes = 0, parameters = 0;
  for (const { dtype, shape, bytes: size } of weights.tensors.values()) {
    const count = elements(shape);
    dtypes[dtype] = (dtypes[dtype] ?? 0) + count;
    parameters += count;
    bytes += size;
  }
  return { bytes, parameters, dtypes, variants: [] };
}

/**
 * What an attempt fails with: no error, or one. Only errors that tell of the files are findings.
 */
async function failuresOf(attempt: () => unknown): Promise<string[]> {
  try {
    await attempt();
    return [];
  } catch (error) {
    return [messageOf(error)];
  }
}

function messageOf(error: unknown): string {
  const isTyped = error instanceof Error && !["TypeError", "ReferenceError"].includes(error.name);
  if (!isTyped && !(error instanceof CheckpointError)) throw error;
  return `${(error as Error).name}: ${(error as Error).message}`;
}
