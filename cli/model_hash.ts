import { isHubId, openHub } from "../pipeline/checkpoint/hub/hub.ts";

/** Beyond this, hashing would take longer than many a picture. */
const largestBytes = 2 ** 29;

/**
 * The hash that A1111 and Civitai know a model by: the first ten digits of its file's SHA-256; of a
 * folder, the UNet's. Files in the hub's cache are named by theirs; others are read, if they are
 * small.
 *
 * @returns undefined for what is neither, and for large files
 */
export async function modelHash(
  { model, revision, variant }: { model: string; revision?: string; variant?: string },
): Promise<string | undefined> {
  const path = await weightsPath(await snapshotOf(model, revision) ?? model, variant);
  if (path === undefined) return undefined;
  const blob = (await Deno.realPath(path)).split(/[\\/]/).at(-1)!;
  if (/^[0-9a-f]{64}$/.test(blob)) return blob.slice(0, 10);
  if ((await Deno.stat(path)).size > largestBytes) return undefined;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await Deno.readFile(path)));
  return digest.toHex().slice(0, 10);
}

/** Where the hub's cache keeps a model that is no folder here. */
async function snapshotOf(model: string, revision: string | undefined): Promise<string | undefined> {
  if (!isHubId(model) || await Deno.stat(model).then(() => true, () => false)) return undefined;
  return await openHub(model, { revision, localFilesOnly: true }).then(({ name }) => name, () => undefined);
}

async function weightsPath(place: string, variant: string | undefined): Promise<string | undefined> {
  const names = ["diffusion_pytorch_model.safetensors", `diffusion_pytorch_model.${variant}.safetensors`];
  for (const path of [place, ...names.map((name) => `${place}/unet/${name}`).toReversed()]) {
    if ((await Deno.stat(path).catch(() => undefined))?.isFile) return path;
  }
  return undefined;
}
