/** Autoencoders of either kind, and loading them from wherever they are. */

import { CheckpointError } from "../errors.ts";
import { type HubOptions, openHub } from "../checkpoint/hub/hub.ts";
import { listVariants, weightFiles } from "../checkpoint/safetensors/weight_files.ts";
import { SafetensorsFile } from "../checkpoint/safetensors/safetensors_file.ts";
import { type ByteSource, isByteSource } from "../checkpoint/source/byte_source.ts";
import { isMissingFolder, openSource, openTree } from "../checkpoint/source/disk.ts";
import type { ModelFamily } from "../checkpoint/diffusers/config/model_index.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import type { ConfigJson, ModelOrigin } from "../checkpoint/source/origin.ts";
import { mayBeHubId } from "../checkpoint/source/model_source.ts";
import { isPickle, pickleMessage } from "../checkpoint/source/pickle.ts";
import { isWeightsFile } from "../checkpoint/source/weights_file.ts";
import { readVaeFile } from "../checkpoint/vae_file.ts";
import type { LoadOptions, ModelKind } from "./load.ts";
import { AutoencoderTiny, tinyVaeKind } from "./tiny_vae.ts";
import { AutoencoderKL, vaeKind } from "./vae.ts";

/** An autoencoder that decodes the latents of Stable Diffusion. */
export type Autoencoder = AutoencoderKL | AutoencoderTiny;

/**
 * Where an autoencoder is: a .safetensors file, a folder (its own, or that of a pipeline), or a
 * model of the hub.
 */
export type AutoencoderSource = string | URL | FileTree | ByteSource;

/** How an autoencoder is loaded: on which device, and how the hub is asked. */
export interface LoadAutoencoderOptions
  extends LoadOptions, Pick<HubOptions, "cacheDir" | "endpoint" | "localFilesOnly" | "token" | "signal"> {
  /** Keys of the configuration that a file without one is given in place of what shapes tell. */
  readonly config?: ConfigJson;
  /**
   * The models whose latents a file without configuration decodes: those of SDXL are scaled by
   * another factor, and decoding them overflows f16. Default: "sd", Stable Diffusion 1.x and 2.x.
   */
  readonly family?: ModelFamily;
}

/** The kind of an autoencoder, by the class that its configuration names. */
export function autoencoderKind(className: unknown): ModelKind<unknown, unknown> {
  return className === tinyVaeKind.className ? tinyVaeKind : vaeKind;
}

/**
 * Loads an autoencoder of its own, in the layout of LDM, of diffusers, or of TAESD.
 *
 * @throws {CheckpointError} if there is none at the source; the message says what there is
 */
export async function loadAutoencoder(
  source: AutoencoderSource,
  options: LoadAutoencoderOptions,
): Promise<Autoencoder> {
  const path = source instanceof URL ? source.pathname : source;
  if (typeof path === "string" && isWeightsFile(path) || isByteSource(source)) {
    return await loadVaeFile(() => openSource(source as string | URL | ByteSource), options);
  }
  const tree = await openVaeTree(source as string | URL | FileTree, options);
  for (const folder of [tree, tree.subtree("vae")]) {
    if (await folder.has("config.json")) return await loadAutoencoderFolder(folder, options);
  }
  const files = (await tree.list()).filter((file) => file.endsWith(".safetensors"));
  if (files.length === 1) {
    return await loadVaeFile(() => tree.open(files[0]), options);
  }
  throw new CheckpointError(
    `Cannot load an autoencoder (VAE) from ${tree.name} as it has neither config.json nor vae/config.json, nor one .safetensors file`,
    { source: tree.name },
  );
}

/** Loads a folder with `config.json`, of the class that it names. */
export async function loadAutoencoderFolder(folder: FileTree, options: LoadOptions): Promise<Autoencoder> {
  const config = await folder.readJson("config.json") as { _class_name?: unknown } | null;
  return config?._class_name === tinyVaeKind.className
    ? await AutoencoderTiny.fromPretrained(folder, options)
    : await AutoencoderKL.fromPretrained(folder, options);
}

async function openVaeTree(source: string | URL | FileTree, options: LoadAutoencoderOptions): Promise<FileTree> {
  try {
    return await openTree(source);
  } catch (error) {
    if (typeof source !== "string" || !isMissingFolder(error) || !await mayBeHubId(source)) throw error;
    const tree = await openHub(source, { ...options, onProgress: undefined });
    const folder = await tree.has("config.json") ? "" : "vae/";
    const part = folder === "" ? tree : tree.subtree("vae");
    if (await part.has("config.json")) {
      const { variant } = options;
      const isThere = variant !== undefined && (await listVariants(part, vaeKind.weightsName)).includes(variant);
      const files = await weightFiles(part, vaeKind.weightsName, isThere ? { variant } : {});
      await tree.prefetch(["config.json", ...files].map((file) => folder + file));
    }
    return tree;
  }
}

async function loadVaeFile(
  openBytes: () => Promise<ByteSource>,
  options: LoadAutoencoderOptions,
): Promise<Autoencoder> {
  const open = async () => {
    const bytes = await openBytes();
    if (isPickle(bytes.name)) throw new CheckpointError(pickleMessage(bytes.name), { source: bytes.name });
    const file = await SafetensorsFile.open(bytes);
    try {
      return readVaeFile(file, options);
    } catch (error) {
      file.close();
      throw error;
    }
  };
  const { className, config, weights } = await open();
  using opened = weights;
  const origin: ModelOrigin = { name: weights.name, config, openWeights: async () => (await open()).weights };
  const label = `${weights.name}, vae`;
  return className === "AutoencoderTiny"
    ? await AutoencoderTiny.fromWeights(tinyVaeKind.parseConfig(config, label), opened, { ...options, origin })
    : await AutoencoderKL.fromWeights(vaeKind.parseConfig(config, label), opened, { ...options, origin });
}
