import type { Tensor } from "../engine/tensor.ts";
import { CheckpointError } from "./errors.ts";
import { diffusersVersion } from "./checkpoint/ldm/config.ts";
import { type PartEntries, singleFileEntries } from "./checkpoint/ldm/single_file_entries.ts";
import type { ConfigJson, ModelOrigin } from "./checkpoint/source/origin.ts";
import { tensorBytes, type TensorEntry } from "./checkpoint/safetensors/writer.ts";
import type { Weights } from "./checkpoint/safetensors/weights.ts";
import { type FolderWriter, liesIn, saveSafetensors, writeFolderAtomically } from "./checkpoint/save.ts";
import { writeModelWeights } from "./checkpoint/safetensors/sharding.ts";
import { computedEntry, type SavedDtype, savedDtype, streamedEntry } from "./checkpoint/safetensors/tensor_stream.ts";
import type { WeightsBaseName } from "./checkpoint/safetensors/weight_files.ts";
import type { PipelineComponents } from "./stable_diffusion.ts";

/**
 * The weight of a key or value projection [out, in] as an edit leaves it, or `undefined` where none
 * touches it. The caller disposes of it.
 */
export type BakedWeight = (layerPath: string, projection: "to_k" | "to_v") => Tensor | undefined;

/** How a pipeline is saved as a single file. */
export interface SaveOptions {
  /** Precision of the saved weights. Default: that of the files that they came from. */
  readonly dtype?: SavedDtype;
  /** Told how many bytes have been written. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/** How a pipeline is saved as a folder. */
export interface SavePretrainedOptions extends SaveOptions {
  /** Weights beyond this go into several files with an index. Default: 5e9. */
  readonly maxShardBytes?: number;
  /** Whether a folder that holds something may have its parts replaced. Default: false. */
  readonly overwrite?: boolean;
}

/** A component that can be written again. */
interface Savable {
  readonly origin?: ModelOrigin;
}

/** A model on its way to a file. */
interface OpenPart extends PartEntries {
  readonly weights: Weights;
}

/**
 * Writes a folder in diffusers' layout. Weights are streamed from the files that they came from,
 * never whole in memory; only edited ones come from the device.
 *
 * @throws {CheckpointError} if a component's files are not known, or the folder is taken, or is the
 *   one that is read from
 */
export async function saveFolder(
  components: PipelineComponents,
  directory: string,
  baked: BakedWeight,
  options: SavePretrainedOptions & { requiresSafetyChecker?: boolean } = {},
): Promise<void> {
  const { dtype, maxShardBytes = 5e9, overwrite = false, onProgress, requiresSafetyChecker = false } = options;
  if (!(maxShardBytes > 0)) throw new RangeError(`Cannot save as maxShardBytes must be above 0: ${maxShardBytes}`);
  const { tokenizer, scheduler, textEncoder, unet, vae, safetyChecker, featureExtractor } = components;
  const models: Record<string, Savable> = {
    text_encoder: textEncoder,
    unet,
    vae,
    ...(safetyChecker ? { safety_checker: safetyChecker } : {}),
  };
  await refuseOwnSource(Object.values(models), directory);
  const open: Record<string, OpenPart> = {};
  try {
    for (const [name, model] of Object.entries(models)) {
      open[name] = await openPart(name, model, dtype, name === "unet" ? bakedKeys(components, baked) : new Map());
    }
    const report = progress(Object.values(open).flatMap(({ entries }) => entries), onProgress);
    await writeFolderAtomically(directory, { overwrite }, async (folder) => {
      for (const [name, { config, entries }] of Object.entries(open)) {
        const baseName: WeightsBaseName = name === "unet" || name === "vae" ? "diffusion_pytorch_model" : "model";
        await writeJson(folder, `${name}/config.json`, dtyped(config, dtype));
        await writeModelWeights(folder, name, baseName, entries.map(report), { maxShardBytes });
      }
      await writeJson(folder, "scheduler/scheduler_config.json", scheduler);
      await writeTokenizer(folder, tokenizer.files);
      if (featureExtractor) await writeJson(folder, "feature_extractor/preprocessor_config.json", featureExtractor);
      if (featureExtractor) await writeJson(folder, "feature_extractor/preprocessor_config.json", featureExtractor);
      await writeJson(folder, "model_index.json", modelIndex(components, requiresSafetyChecker));
    });
  } finally {
    for (const { weights } of Object.values(open)) weights.close();
  }
}

/**
 * Writes one .safetensors file in the LDM layout, streamed as {@linkcode saveFolder} does.
 *
 * @throws {CheckpointError} if a component's files are not known, or the file is the one that is
 *   read from
 */
export async function saveSingleFile(
  components: PipelineComponents,
  path: string,
  baked: BakedWeight,
  options: SaveOptions = {},
): Promise<void> {
  const { dtype, onProgress } = options;
  const { textEncoder, unet, vae, scheduler } = components;
  await refuseOwnSource([textEncoder, unet, vae], path);
  const open: OpenPart[] = [];
  const part = async (name: string, model: Savable, edited = new Map<string, () => Tensor | undefined>()) => {
    const opened = await openPart(name, model, dtype, edited);
    open.push(opened);
    return opened;
  };
  try {
    const entries = singleFileEntries({
      textEncoder: await part("text_encoder", textEncoder),
      unet: await part("unet", unet, bakedKeys(components, baked)),
      vae: await part("vae", vae),
      predictionType: scheduler.config.prediction_type,
    });
    await saveSafetensors(path, entries.map(progress(entries, onProgress)), { metadata: { format: "pt" } });
  } finally {
    for (const { weights } of open) weights.close();
  }
}

async function openPart(
  name: string,
  { origin }: Savable,
  dtype: SavedDtype | undefined,
  edited: ReadonlyMap<string, () => Tensor | undefined>,
): Promise<OpenPart> {
  if (origin === undefined) {
    throw new CheckpointError(`Cannot save the ${name} as it was built from weights whose files are not known`, {
      source: name,
    });
  }
  const weights = await origin.openWeights();
  const entries = [...weights.tensors.keys()].map((key) => {
    const make = edited.get(key);
    return make === undefined ? streamedEntry(weights, key, { dtype }) : editedEntry(weights, key, { dtype, make });
  });
  return { config: origin.config, entries, weights };
}

/**
 * An edited weight, read back from the device when its turn comes. What turns out unedited comes
 * from the file.
 */
function editedEntry(
  weights: Weights,
  key: string,
  { dtype, make }: { dtype?: SavedDtype; make: () => Tensor | undefined },
): TensorEntry {
  const { shape, dtype: stored } = weights.info(key);
  const saved: SavedDtype = savedDtype(stored, dtype) === "F16" ? "f16" : "f32";
  const plain = streamedEntry(weights, key, { dtype: saved });
  const compute = async (tensor: Tensor): Promise<Float32Array<ArrayBuffer>> => {
    using made = tensor;
    return await made.data();
  };
  return {
    ...plain,
    async *chunks() {
      const tensor = make();
      yield* tensor === undefined ? plain.chunks() : computedEntry(key, shape, saved, () => compute(tensor)).chunks();
    },
  };
}

function bakedKeys(
  { unet }: PipelineComponents,
  baked: BakedWeight,
): Map<string, () => Tensor | undefined> {
  const projections = ["to_k", "to_v"] as const;
  return new Map(
    unet.crossAttentions.flatMap(({ path }) =>
      projections.map((projection) => [`${path}.${projection}.weight`, () => baked(path, projection)] as const)
    ),
  );
}

/**
 * After saving over its own files a pipeline would read its edits back as if they were the model's,
 * and apply them twice.
 */
async function refuseOwnSource(models: readonly Savable[], place: string): Promise<void> {
  for (const { origin } of models) {
    if (origin === undefined || !await liesIn(origin.name, place)) continue;
    throw new CheckpointError(`Cannot save to ${place} as the pipeline's own weights are read from there`, {
      source: place,
    });
  }
}

function modelIndex(
  { scheduler, safetyChecker, featureExtractor }: PipelineComponents,
  requiresSafetyChecker: boolean,
): ConfigJson {
  return {
    _class_name: "StableDiffusionPipeline",
    _diffusers_version: diffusersVersion,
    feature_extractor: featureExtractor ? ["transformers", "CLIPImageProcessor"] : [null, null],
    requires_safety_checker: requiresSafetyChecker,
    safety_checker: safetyChecker ? ["stable_diffusion", "StableDiffusionSafetyChecker"] : [null, null],
    scheduler: ["diffusers", scheduler.config._class_name],
    text_encoder: ["transformers", "CLIPTextModel"],
    tokenizer: ["transformers", "CLIPTokenizer"],
    unet: ["diffusers", "UNet2DConditionModel"],
    vae: ["diffusers", "AutoencoderKL"],
  };
}

/** transformers notes the precision of the weights in the configuration. */
function dtyped(config: ConfigJson, dtype: SavedDtype | undefined): ConfigJson {
  if (dtype === undefined || config.torch_dtype === undefined) return config;
  return { ...config, torch_dtype: dtype === "f16" ? "float16" : "float32" };
}

async function writeTokenizer(
  folder: FolderWriter,
  { vocab, merges, config, specialTokensMap, addedTokens }: PipelineComponents["tokenizer"]["files"],
): Promise<void> {
  await folder.writeText("tokenizer/vocab.json", JSON.stringify(vocab));
  await folder.writeText("tokenizer/merges.txt", merges);
  const others = {
    "tokenizer_config.json": config,
    "special_tokens_map.json": specialTokensMap,
    "added_tokens.json": addedTokens,
  };
  for (const [name, json] of Object.entries(others)) {
    if (json !== undefined && Object.keys(json).length > 0) await writeJson(folder, `tokenizer/${name}`, json);
  }
}

async function writeJson(folder: FolderWriter, path: string, json: unknown): Promise<void> {
  await folder.writeText(path, JSON.stringify(json, null, 2) + "\n");
}

/** Entries that report what has gone through them. */
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
