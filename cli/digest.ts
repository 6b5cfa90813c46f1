/** SHA-256 of the files that flags name, so that a change of them is noticed. */

import { sha256 } from "../pipeline/generation/exact_settings.ts";
import { ignoreAbsent, infoAt } from "../pipeline/output/paths.ts";
import { isAddress, snapshotOf } from "./model_hash.ts";

/** Larger files stand in a digest by their size alone: hashing them would take too long. */
const largestBytes = 2 ** 30;

/** Digests of files by path, size and time of change: one command asks for some of them twice. */
const known = new Map<string, Promise<string>>();

/**
 * SHA-256 of a file. For a folder, or a model in the hub's cache: of the names and hashes of its
 * files, those of the subfolder `part` included.
 *
 * @returns undefined where there is nothing of that name on this disk
 */
export async function digestOf(source: string, part?: string): Promise<string | undefined> {
  if (isAddress(source)) return undefined;
  const path = await snapshotOf(source, undefined) ?? source;
  const info = await infoAt(path);
  if (info?.isFile) return await fileDigest(path, info);
  if (!info?.isDirectory) return undefined;
  const lines = [path, ...(part === undefined ? [] : [`${path}/${part}`])].map(linesOf);
  return await sha256(new TextEncoder().encode((await Promise.all(lines)).flat().join("\n")));
}

async function linesOf(folder: string, place: number): Promise<string[]> {
  const names = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name).catch((error) =>
    ignoreAbsent(error) ?? []
  );
  const lines: string[] = [];
  for (const name of names.sort()) {
    const path = `${folder}/${name}`, info = await infoAt(path);
    if (info?.isFile) lines.push(`${place} ${name} ${await fileDigest(path, info)}`);
  }
  return lines;
}

async function fileDigest(path: string, { size, mtime }: Deno.FileInfo): Promise<string> {
  const key = JSON.stringify([path, size, mtime]);
  const read = async () =>
    await sha256(size > largestBytes ? new TextEncoder().encode(`${size} bytes`) : await Deno.readFile(path));
  const digest = known.get(key) ?? read();
  known.set(key, digest);
  return await digest;
}
