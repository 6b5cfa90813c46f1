/**
 * The pins of a sweep: the version of the program and hashes of the models, as found here.
 *
 * @module
 */
import { isHubId, openHub } from "../pipeline/checkpoint/hub/hub.ts";
import { Sha256 } from "../pipeline/checkpoint/hub/sha256.ts";
import type { SweepPins } from "../pipeline/evaluation/sweep/plan.ts";
import { parseCLIPConfig } from "../pipeline/checkpoint/diffusers/config/clip.ts";
import { readConfig } from "../pipeline/checkpoint/diffusers/config/fields.ts";
import { directoryTree, fileSource } from "../pipeline/checkpoint/source/disk.ts";
import { parseModelIndex } from "../pipeline/checkpoint/diffusers/config/model_index.ts";
import { pipelineFiles } from "../pipeline/checkpoint/diffusers/pipeline_files.ts";
import { openWeights } from "../pipeline/checkpoint/safetensors/weight_files.ts";
import { CLIPModel } from "../pipeline/models/clip.ts";
import { modelConfigsOf } from "../pipeline/inspection.ts";
import { SweepError } from "../pipeline/evaluation/sweep/sweep_error.ts";
import { exists, infoAt } from "../pipeline/output/paths.ts";
import { resolveModel } from "./embedded_model.ts";
import { packageVersion } from "./version.ts";

/** A model and the judge of a sweep. */
interface PinnedModels {
  readonly model: string;
  /** Branch, tag or commit of a model on the hub. Default: main. */
  readonly revision?: string;
  /** Which weights of a folder to load. Default: those of the default precision. */
  readonly variant?: string;
  readonly clip: string;
  readonly offline: boolean;
}

/**
 * What a plan is made for. A model on the hub is pinned by its commit, local files by their
 * SHA-256.
 *
 * @throws {HubError} where a model on the hub cannot be reached
 * @throws {CheckpointError} where a file of the model is missing, or no part has the variant
 * @throws {SweepError} where a local model or the CLIP model is not there, or a folder is no model
 */
export async function findPins({ model, revision, variant, clip, offline }: PinnedModels): Promise<SweepPins> {
  const path = await resolveModel(model), clipPath = await resolveModel(clip);
  const [found, foundClip] = [await infoAt(path), await infoAt(clipPath)];
  if (foundClip === undefined) {
    throw new SweepError(`Cannot judge by the CLIP model ${JSON.stringify(clip)} as there is no such folder`, {
      path: clip,
    });
  }
  // Before files are hashed: what is no such model would be found out in the first shard.
  await checkClip(clipPath);
  if (found) await checkModel(path, { ...found, variant });
  const clipHash = await hashOf(clipPath);
  if (found) return { version: packageVersion, modelHash: await hashOf(path), clipHash };
  if (!isHubId(path)) {
    throw new SweepError(
      `Cannot plan with the model ${
        JSON.stringify(model)
      } as it is no file or folder here, and no OWNER/NAME of the hub`,
      { path: model },
    );
  }
  const tree = await openHub(path, { revision, localFilesOnly: offline || undefined });
  if (variant !== undefined) await pipelineFiles(tree, { variant, without: undrawn });
  return { version: packageVersion, revision: tree.commit, clipHash };
}

/** Parts of a model that no sweep loads. */
const undrawn = ["safety_checker", "feature_extractor"] as const;

/** Checks by configurations and headers that a local model is one that can be edited. */
async function checkModel(
  path: string,
  { isFile, variant }: { readonly isFile: boolean; readonly variant?: string },
): Promise<void> {
  if (isFile) return void await modelConfigsOf(await fileSource(path));
  await checkFolder(path);
  const tree = await directoryTree(path);
  await readConfig(tree, "model_index.json", parseModelIndex);
  await modelConfigsOf(tree);
  await pipelineFiles(tree, { variant, without: undrawn });
}

/** Checks a CLIP model in the same way. */
async function checkClip(path: string): Promise<void> {
  await checkFolder(path);
  const tree = await directoryTree(path);
  const config = await readConfig(tree, "config.json", parseCLIPConfig);
  const weights = await openWeights(tree, "model");
  try {
    CLIPModel.checkWeights(config, weights);
  } finally {
    weights.close();
  }
}

/**
 * Refuses a folder that is no model before anything in it is read: any other may hold a whole disk.
 *
 * @throws {SweepError} then
 */
async function checkFolder(path: string): Promise<void> {
  if (await exists(`${path}/model_index.json`) || await exists(`${path}/config.json`)) return;
  throw new SweepError(
    `Cannot plan with ${path} as it is no model: it has neither model_index.json nor config.json`,
    { path },
  );
}

/** Files that a pipeline reads. Other folders, such as training data, may change. */
const readFile = /(\.safetensors|\.sft|\.ckpt|\.json|\.txt|\.model)$/i;

/** Folders of a model that no sweep reads. */
const unread = [...undrawn, "training", "evaluation", "clip"];

/**
 * SHA-256 over a file, or over the names and hashes of the files that a pipeline reads from a
 * folder. Undefined where there is neither.
 */
async function hashOf(path: string): Promise<string | undefined> {
  const info = await infoAt(path);
  if (info === undefined) return undefined;
  if (info.isFile) return await hashOfFile(path);
  const names = (await filesBelow(path, "")).sort();
  const hash = new Sha256();
  for (const name of names) hash.update(new TextEncoder().encode(`${name} ${await hashOfFile(`${path}/${name}`)}\n`));
  return hash.hex();
}

async function filesBelow(root: string, folder: string): Promise<string[]> {
  const files: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(`${root}/${folder}`)) {
    if (name.startsWith(".")) continue;
    const path = folder === "" ? name : `${folder}/${name}`;
    if (isDirectory) {
      // Parts of a model lie one folder deep.
      if (folder === "" && !unread.includes(path)) files.push(...await filesBelow(root, path));
    } else if (readFile.test(name)) files.push(path);
  }
  return files;
}

/** Web Crypto is faster, and takes a file in one piece. */
const largestAtOnce = 2 ** 29;

/** A link in the hub's cache leads to a file that is named by its hash. */
async function hashOfFile(path: string): Promise<string> {
  const name = (await Deno.realPath(path)).split(/[\\/]/).at(-1)!;
  if (/^[0-9a-f]{64}$/.test(name)) return name;
  const { isFile, size } = await Deno.stat(path);
  if (!isFile) throw new SweepError(`Cannot plan with ${path} as it is no regular file`, { path });
  if (size <= largestAtOnce) {
    return new Uint8Array(await crypto.subtle.digest("SHA-256", await Deno.readFile(path))).toHex();
  }
  const hash = new Sha256();
  using file = await Deno.open(path);
  const piece = new Uint8Array(1 << 20);
  for (let count = await file.read(piece); count !== null; count = await file.read(piece)) {
    hash.update(piece.subarray(0, count));
  }
  return hash.hex();
}
