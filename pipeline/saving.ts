import type { Tensor } from "../engine/tensor.ts";
import { componentEntries, componentTable, entriesOf } from "./component_table.ts";
import type { PipelineComponents, XLPipelineComponents } from "./components.ts";
import { CheckpointError } from "./errors.ts";
import { checkArgument, checkOptions, kind, kinds, oneOf, type OptionTable } from "./options.ts";
import { diffusersVersion } from "./checkpoint/ldm/config.ts";
import { type PartEntries, singleFileEntries } from "./checkpoint/ldm/single_file_entries.ts";
import { SingleFile } from "./checkpoint/ldm/single_file.ts";
import { configToStore, EntryWeights, misreadText, storedConfigKey } from "./checkpoint/ldm/stored_config.ts";
import type { ConfigJson, ModelOrigin } from "./checkpoint/source/origin.ts";
import { isFloat8 } from "./checkpoint/safetensors/float8.ts";
import type { SafetensorsDtype } from "./checkpoint/safetensors/format.ts";
import { tensorBytes, type TensorEntry } from "./checkpoint/safetensors/writer.ts";
import type { Weights } from "./checkpoint/safetensors/weights.ts";
import type { ComputedChange } from "./adapters/layer_updates.ts";
import { type MergedLora, mergedLoras } from "./adapters/merged_loras.ts";
import { AutoencoderTiny } from "./models/tiny_vae.ts";
import { checkModel, type ModelKind } from "./models/load.ts";
import { checkFolderName, checkTensorsName, saveSafetensors } from "./checkpoint/save.ts";
import { type FolderWriter, writeFolderAtomically } from "./output/folder.ts";
import { checkOutput, checkOutputFolder } from "./output/target.ts";
import { warn } from "./safe_text.ts";
import { refuseOwnSource } from "./saving_place.ts";
import { writeModelWeights } from "./checkpoint/safetensors/sharding.ts";
import {
  type ComputedDtype,
  computedEntry,
  type SavedDtype,
  streamedEntry,
} from "./checkpoint/safetensors/tensor_stream.ts";

/**
 * Returns the edited weight [out, in] of a key or value projection, or `undefined` if no edit
 * changes it. The caller disposes of the tensor. `merged` stands in for the layer's own weight,
 * where LoRAs have been merged into it.
 */
export type BakedWeight = (
  layerPath: string,
  projection: "to_k" | "to_v",
  merged?: Float32Array<ArrayBuffer>,
) => Tensor | undefined;

/** The edited weights of cross-attention projections, at one moment. */
export interface BakedWeights extends Disposable {
  /** The edited weight of a projection. */
  readonly weight: BakedWeight;
  /**
   * The edited weight of the layer that reads pooled embeddings (SDXL's `add_embedding.linear_1`),
   * as {@linkcode BakedWeight}.
   */
  readonly pooledProjection?: (merged?: Float32Array<ArrayBuffer>) => Tensor | undefined;
}

/** Edited weights while their owner holds them. */
type HeldWeights = Omit<BakedWeights, typeof Symbol.dispose>;

/** Options of saving a pipeline as a single file. */
export interface SaveOptions {
  /**
   * Precision of the saved weights. Default: the precision of the source files. Of float8 files,
   * weights that edits or LoRAs change are saved in f16; of f64 files, they have the digits of f32.
   */
  readonly dtype?: SavedDtype;
  /**
   * Adds the loaded LoRAs, with their present weights, to the weights of the UNet and the text
   * encoders; edits map what the result reads, as when drawing. Default: false: they are left out.
   */
  readonly mergeLoras?: boolean;
  /** Called with the number of bytes written. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/** The options of `saveSingleFile` and their kinds. */
const saveTable: OptionTable<SaveOptions> = {
  dtype: oneOf("f32", "f16"),
  mergeLoras: kinds.flag,
  onProgress: kinds.callback,
};

/** Options of saving a pipeline as a folder. */
export interface SavePretrainedOptions extends SaveOptions {
  /** Larger weights are split into several files with an index. Default: 5e9. */
  readonly maxShardBytes?: number;
  /** Whether components in a non-empty folder may be replaced. Default: false. */
  readonly overwrite?: boolean;
}

/** The options of `savePretrained` and their kinds. */
const savePretrainedTable: OptionTable<SavePretrainedOptions> = {
  ...saveTable,
  maxShardBytes: kind("a number above 0", (value) => typeof value === "number" && value > 0),
  overwrite: kinds.flag,
};

/** Settings of a pipeline that `model_index.json` holds. */
export type IndexedSettings =
  | { readonly requiresSafetyChecker: boolean }
  | { readonly forceZerosForEmptyPrompt: boolean };

/** A component whose source files are known, so that it can be saved. */
interface Savable {
  readonly origin?: ModelOrigin;
}

/** A model that is being saved, with its open source files. */
interface OpenPart extends PartEntries {
  readonly weights: Weights;
}

/**
 * Writes a folder in diffusers' layout. Weights are streamed from their source files; only edited
 * weights are read back from the device.
 *
 * @throws {CheckpointError} if a component's source files are unknown, the folder is not empty
 *   (without `overwrite`), it is the source of the weights, or a LoRA cannot be merged
 */
export async function saveFolder(
  components: PipelineComponents | XLPipelineComponents,
  directory: string,
  baked: HeldWeights,
  options: SavePretrainedOptions = {},
  indexed: IndexedSettings = { requiresSafetyChecker: false },
): Promise<void> {
  checkArgument("save a pipeline", "directory", directory, kinds.text);
  checkOptions(`save to ${directory}`, options, savePretrainedTable);
  const { dtype, mergeLoras = false, maxShardBytes = 5e9, overwrite = false, onProgress } = options;
  using loras = mergeLoras ? mergedLoras(components) : undefined; // as they are now
  const present = componentEntries.flatMap(([key, entry]) => {
    const part: unknown = (components as Partial<Record<typeof key, unknown>>)[key];
    return part ? [{ ...entry, kind: entry.kindOf?.(entry.className(part)) ?? entry.kind, part }] : [];
  });
  const models = present.filter(({ kind }) => kind !== undefined);
  await refuseOwnSource(models.map(({ part }) => part as Savable), directory);
  checkFolderName(directory);
  await checkOutputFolder(directory);
  using open = new DisposableStack();
  const parts: Record<string, OpenPart> = {};
  for (const { folder, kind, part } of models) {
    const edited = part === components.unet ? bakedKeys(components, baked) : undefined;
    const changes = { edited, merged: loras?.of(folder) };
    parts[folder] = open.adopt(await openPart(folder, kind!, part as Savable, dtype, changes), closePart);
  }
  const report = progress(Object.values(parts).flatMap(({ entries }) => entries), onProgress);
  await writeFolderAtomically(directory, { overwrite }, async (writer) => {
    for (const { folder, kind, part, files } of present) {
      if (kind) {
        const { config, entries } = parts[folder];
        await writeJson(writer, `${folder}/config.json`, dtyped(config, dtype));
        await writeModelWeights(writer, folder, kind.weightsName, entries.map(report), { maxShardBytes });
      }
      for (const [name, content] of Object.entries(files?.(part) ?? {})) {
        if (typeof content === "string") await writer.writeText(`${folder}/${name}`, content);
        else await writeJson(writer, `${folder}/${name}`, content);
      }
    }
    await writeJson(writer, "model_index.json", modelIndex(components, indexed));
  });
}

/**
 * Writes one .safetensors file in the LDM layout, streamed as {@linkcode saveFolder} does.
 *
 * @throws {CheckpointError} if a component's source files are unknown, the file is the source of
 *   the weights, or a LoRA cannot be merged
 */
export async function saveSingleFile(
  components: PipelineComponents | XLPipelineComponents,
  path: string,
  baked: HeldWeights,
  options: SaveOptions = {},
): Promise<void> {
  checkArgument("save a single file", "path", path, kinds.text);
  checkOptions(`save to ${path}`, options, saveTable);
  const { dtype, mergeLoras = false, onProgress } = options;
  using loras = mergeLoras ? mergedLoras(components) : undefined; // as they are now
  const { textEncoder, unet, vae, scheduler } = components;
  const textEncoder2 = "textEncoder2" in components ? components.textEncoder2 : undefined;
  if (vae instanceof AutoencoderTiny) {
    throw new CheckpointError(
      `Cannot save ${path} as a single file as the layout has no place for an AutoencoderTiny: save a folder, or use an AutoencoderKL`,
      { source: path },
    );
  }
  await refuseOwnSource([textEncoder, ...(textEncoder2 ? [textEncoder2] : []), unet, vae], path);
  checkTensorsName(path);
  await checkOutput(path);
  using open = new DisposableStack();
  const part = async (
    key: "textEncoder" | "textEncoder2" | "unet" | "vae",
    model: Savable,
    edited?: EditedWeights,
  ) => {
    const { folder, kind } = componentTable[key];
    const changes = { edited, merged: loras?.of(folder) };
    return open.adopt(await openPart(folder, kind!, model, dtype, changes), closePart);
  };
  const parts = {
    textEncoder: await part("textEncoder", textEncoder),
    ...(textEncoder2 ? { textEncoder2: await part("textEncoder2", textEncoder2) } : {}),
    unet: await part("unet", unet, bakedKeys(components, baked)),
    vae: await part("vae", vae),
  };
  const entries = singleFileEntries({
    ...parts,
    predictionType: scheduler.config.prediction_type,
    zeroTerminalSnr: scheduler.config.rescale_betas_zero_snr === true,
  });
  const stored = configToStore(path, {
    unet: parts.unet.config,
    vae: parts.vae.config,
    text_encoder: parts.textEncoder.config,
    ...(parts.textEncoder2 ? { text_encoder_2: parts.textEncoder2.config } : {}),
    scheduler: scheduler.config as unknown as ConfigJson,
  }, (await SingleFile.of(new EntryWeights(path, entries))).configs());
  const hasMore = Object.keys(stored).length > 0;
  await saveSafetensors(path, entries.map(progress(entries, onProgress)), {
    metadata: { format: "pt", ...(hasMore ? { [storedConfigKey]: JSON.stringify(stored) } : {}) },
  });
  const misread = misreadText(stored);
  if (misread === "") return;
  warn(
    `${path} holds configuration that the layout has no place for, in its metadata, where Blue Rose alone reads it. ` +
      `Other programs will load the file as another model: save a folder for them (${misread})`,
  );
}

/**
 * Edited weights by key, computed lazily from a weight with LoRAs merged into it or the model's
 * own; `undefined` for weights that no edit changes.
 */
type EditedWeights = ReadonlyMap<string, (merged?: Float32Array<ArrayBuffer>) => Tensor | undefined>;

/** What changes the weights of a model. */
interface WeightChanges {
  readonly edited?: EditedWeights;
  /** What LoRAs add, by key. */
  readonly merged?: MergedLora;
}

function closePart({ weights }: OpenPart): void {
  weights.close();
}

/** Opens what a model was built on. Keys that it does not read are left out. */
async function openPart(
  name: string,
  kind: ModelKind<unknown, unknown>,
  { origin }: Savable,
  dtype: SavedDtype | undefined,
  { edited, merged = new Map() }: WeightChanges,
): Promise<OpenPart> {
  if (origin === undefined) {
    throw new CheckpointError(
      `Cannot save the ${name} as its source files are unknown: load it with fromPretrained, or give fromWeights an origin`,
      { source: name },
    );
  }
  const weights = await origin.openWeights();
  const surplus = new Set(checkModel(kind, kind.parseConfig(origin.config, `${origin.name}, ${name}`), weights));
  const lacking = [...merged.keys()].find((key) => !weights.tensors.has(key));
  if (lacking !== undefined) {
    weights.close();
    throw new CheckpointError(
      `Cannot merge the LoRAs into the ${name} as they add ${lacking}, which the model does not have: ` +
        "save without them, and load them beside it",
      { source: name },
    );
  }
  const entries = [...weights.tensors.keys()].filter((key) => !surplus.has(key)).map((key) => {
    const make = edited?.get(key), change = merged.get(key);
    return make === undefined && change === undefined
      ? streamedEntry(weights, key, { dtype })
      : changedEntry(weights, key, { dtype, make, change });
  });
  return { config: origin.config, entries, weights };
}

/**
 * The entry of a weight that edits or LoRAs may change. When it is written, an edited weight is
 * computed and read back from the device; an unedited weight is read from the source file.
 */
function changedEntry(
  weights: Weights,
  key: string,
  { dtype, make, change }: {
    dtype?: SavedDtype;
    make?: (merged?: Float32Array<ArrayBuffer>) => Tensor | undefined;
    change?: ComputedChange;
  },
): TensorEntry {
  const { shape, dtype: stored } = weights.info(key);
  const saved = changedDtype(stored, dtype);
  const plain = streamedEntry(weights, key, { dtype: dtype ?? (isFloat8(stored) ? "f16" : undefined) });
  const compute = async (tensor: Tensor): Promise<Float32Array<ArrayBuffer>> => {
    using made = tensor;
    return await made.data();
  };
  return {
    ...plain,
    async *chunks() {
      const merged = change && await sumOf(weights, key, change);
      const tensor = make?.(merged);
      if (tensor) yield* computedEntry(key, shape, saved, () => compute(tensor)).chunks();
      else if (merged) yield* computedEntry(key, shape, saved, () => Promise.resolve(merged)).chunks();
      else yield* plain.chunks();
    },
  };
}

/** A weight of the file with what LoRAs add to it. */
async function sumOf(weights: Weights, key: string, change: ComputedChange): Promise<Float32Array<ArrayBuffer>> {
  const added = await change();
  return (await weights.float32(key)).map((value, i) => value + added[i]);
}

/**
 * The precision that changed weights are written in: that of their file, but f16 for float8, which
 * is too coarse for edits.
 */
function changedDtype(stored: SafetensorsDtype, dtype: SavedDtype | undefined): ComputedDtype {
  if (dtype !== undefined) return dtype;
  if (stored === "F16" || isFloat8(stored)) return "f16";
  return stored === "BF16" ? "bf16" : stored === "F64" ? "f64" : "f32";
}

function bakedKeys({ unet }: Pick<PipelineComponents, "unet">, baked: HeldWeights): EditedWeights {
  const { pooledProjection } = baked, projections = ["to_k", "to_v"] as const;
  const keys = new Map<string, (merged?: Float32Array<ArrayBuffer>) => Tensor | undefined>(
    unet.crossAttentions.flatMap(({ path }) =>
      projections.map((projection) =>
        [`${path}.${projection}.weight`, (merged) => baked.weight(path, projection, merged)] as const
      )
    ),
  );
  if (pooledProjection) keys.set("add_embedding.linear_1.weight", pooledProjection);
  return keys;
}

function modelIndex(components: PipelineComponents | XLPipelineComponents, indexed: IndexedSettings): ConfigJson {
  const isXL = "textEncoder2" in components;
  const classes = entriesOf(isXL ? "sdxl" : "sd")
    .map(([key, { folder, library, className }]) => {
      const part = (components as Partial<Record<typeof key, unknown>>)[key];
      return [folder, part ? [library, className(part)] : [null, null]] as const;
    })
    .toSorted(([a], [b]) => a < b ? -1 : 1);
  return {
    _class_name: isXL ? "StableDiffusionXLPipeline" : "StableDiffusionPipeline",
    _diffusers_version: diffusersVersion,
    ...("requiresSafetyChecker" in indexed
      ? { requires_safety_checker: indexed.requiresSafetyChecker }
      : { force_zeros_for_empty_prompt: indexed.forceZerosForEmptyPrompt }),
    ...Object.fromEntries(classes),
  };
}

/** Updates the dtype that transformers stores in the configuration. */
function dtyped(config: ConfigJson, dtype: SavedDtype | undefined): ConfigJson {
  if (dtype === undefined || config.torch_dtype === undefined) return config;
  return { ...config, torch_dtype: dtype === "f16" ? "float16" : "float32" };
}

async function writeJson(folder: FolderWriter, path: string, json: unknown): Promise<void> {
  await folder.writeText(path, JSON.stringify(json, null, 2) + "\n");
}

/** Wraps entries so that the bytes written are reported. */
function progress(
  entries: readonly TensorEntry[],
  onProgress: SaveOptions["onProgress"],
): (entry: TensorEntry) => TensorEntry {
  const totalBytes = entries.reduce((sum, entry) => sum + tensorBytes(entry), 0);
  let doneBytes = 0;
  return (entry) => ({
    ...entry,
    async *chunks() {
      for await (const chunk of entry.chunks()) {
        yield chunk;
        doneBytes += chunk.byteLength;
        onProgress?.(doneBytes, totalBytes);
      }
    },
  });
}
