/** Beyond this, hashing would take longer than many a picture. */
const largestBytes = 2 ** 29;

/**
 * The hash that A1111 and Civitai know a model by: the first ten digits of its file's SHA-256; of a folder, the UNet's. Files in the hub's cache
 * are named by theirs; others are read, if they are small.
 *
 * @returns undefined for what is neither, and for large files
 */
export async function modelHash(model: string): Promise<string | undefined> {
  const candidates = [
    model,
    `${model}/unet/diffusion_pytorch_model.safetensors`,
    `${model}/unet/diffusion_pytorch_model.fp16.safetensors`,
  ];
  for (const path of candidates) {
    const info = await Deno.stat(path).catch(() => undefined);
    if (!info?.isFile) continue;
    const blob = (await Deno.realPath(path)).split(/[\\/]/).at(-1)!;
    if (/^[0-9a-f]{64}$/.test(blob)) return blob.slice(0, 10);
    if (info.size > largestBytes) return undefined;
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await Deno.readFile(path)));
    return digest.toHex().slice(0, 10);
  }
  return undefined;
}
