/** Tokenizers for checkpoints that come without one: single files hold weights only. */

import { CheckpointError } from "../errors.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { openHub } from "../checkpoint/hub/hub.ts";
import { CLIPTokenizer } from "./tokenizer.ts";

/** Where to look for a tokenizer. */
export interface FindTokenizerOptions {
  /** The cache's folder. Default: as the environment has it for Python's client. */
  readonly cacheDir?: string;
  /** Asks no network. Default: as the environment has it for Python's client. */
  readonly localFilesOnly?: boolean;
  /** The hub's address. Default: as the environment has it for Python's client. */
  readonly endpoint?: string;
}

/** A place on the hub, and the pad token where it is to be another than the one there. */
interface Place {
  readonly id: string;
  readonly folder?: string;
  readonly padToken?: string;
}

const clip: Place = { id: "openai/clip-vit-large-patch14" };
const sd14: Place = { id: "CompVis/stable-diffusion-v1-4", folder: "tokenizer" };
const sd15: Place = { id: "stable-diffusion-v1-5/stable-diffusion-v1-5", folder: "tokenizer" };
/** Where each family's tokenizer lies. All have one vocabulary; that of 2.x pads with "!". */
const places: Readonly<Record<"sd1" | "sd2", readonly Place[]>> = {
  sd1: [clip, sd14, sd15],
  sd2: [
    { id: "stabilityai/stable-diffusion-2", folder: "tokenizer" },
    ...[clip, sd14, sd15].map((place) => ({ ...place, padToken: "!" })),
  ],
};

/**
 * The tokenizer that a family of models was trained with, from the hub's cache, or else from the
 * hub.
 *
 * @throws {CheckpointError} if it is in neither; the message says how to give one
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
    reasons.length = 0; // what the hub says is more to the point
    for (const place of places[family]) {
      const found = await attempt(place, undefined);
      if (found) return found;
    }
  }
  const [{ id, folder }] = places[family];
  const wanted = folder === undefined ? id : `${id}, folder ${folder}`;
  throw new CheckpointError(
    `Cannot find a tokenizer, which single files lack: give the option tokenizer, a folder with vocab.json and merges.txt, or bring ` +
      `that of ${wanted} into the hub's cache (${reasons[0]})`,
    { source: id },
  );
}
