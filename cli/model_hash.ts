import { isHubId, openHub } from "../pipeline/checkpoint/hub/hub.ts";
import { HubError } from "../pipeline/errors.ts";
import { exists, isFile } from "../pipeline/output/paths.ts";

/** Larger files are not hashed: that would take longer than drawing. */
const largestBytes = 2 ** 29;

/**
 * The model hash of A1111 and Civitai: the first ten digits of the SHA-256 of the model's file; for
 * a folder, of the UNet's file. Files in the hub's cache are named by their hash; other files are
 * read and hashed up to 512 MiB.
 *
 * @returns undefined if there is no such file, and for larger files
 */
export async function modelHash(
  { model, revision, variant }: { model: string; revision?: string; variant?: string },
): Promise<string | undefined> {
  if (isAddress(model)) return undefined;
  const path = await weightsPath(await snapshotOf(model, revision) ?? model, variant);
  if (path === undefined) return undefined;
  const blob = (await Deno.realPath(path)).split(/[\\/]/).at(-1)!;
  if (/^[0-9a-f]{64}$/.test(blob)) return blob.slice(0, 10);
  const { isFile, size } = await Deno.stat(path);
  if (!isFile || size > largestBytes) return undefined;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await Deno.readFile(path)));
  return digest.toHex().slice(0, 10);
}

/** Whether a model is named by a URL. */
export function isAddress(model: string): boolean {
  return /^[a-z]+:\/\//i.test(model);
}

/** The folder of a hub model in the cache; undefined for local paths. */
export async function snapshotOf(model: string, revision: string | undefined): Promise<string | undefined> {
  if (!isHubId(model) || await exists(model)) return undefined;
  try {
    return (await openHub(model, { revision, localFilesOnly: true })).name;
  } catch (error) {
    if (error instanceof HubError) return undefined; // it is not in the cache
    throw error;
  }
}

async function weightsPath(place: string, variant: string | undefined): Promise<string | undefined> {
  const names = ["diffusion_pytorch_model.safetensors", `diffusion_pytorch_model.${variant}.safetensors`];
  for (const path of [place, ...names.map((name) => `${place}/unet/${name}`).toReversed()]) {
    if (await isFile(path)) return path;
  }
  return undefined;
}
