import type { Gpu } from "../engine/gpu.ts";
import { type DeviceTiles, parseTileTable, type TileTable, useTiles } from "../kernels/policy.ts";
import { environmentVariable } from "./environment.ts";

/**
 * Where tuned tiles are kept: `$BLUEROSE_TILES`, or `bluerose/tiles.json` in the user's cache
 * folder.
 */
export function tileFile(): string {
  const home = environmentVariable("HOME") ?? environmentVariable("USERPROFILE") ?? ".";
  const cache = environmentVariable("XDG_CACHE_HOME") ?? `${home}/.cache`;
  return environmentVariable("BLUEROSE_TILES") ?? `${cache}/bluerose/tiles.json`;
}

/** The saved table; an empty one where nothing has been tuned. */
async function savedTiles(path: string): Promise<TileTable> {
  try {
    return parseTileTable(await Deno.readTextFile(path), path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotCapable) return {};
    throw error;
  }
}

/** Uses what `bluerose bench --tune` has found out about this device, if anything. */
export async function useSavedTiles(gpu: Gpu): Promise<void> {
  useTiles(gpu, await savedTiles(tileFile()));
}

/** Saves tiles beside those of other adapters, all or nothing. Returns the path. */
export async function saveTiles(adapter: string, tiles: DeviceTiles): Promise<string> {
  const path = tileFile();
  const table = { ...await savedTiles(path), [adapter]: tiles };
  await Deno.mkdir(path.replace(/[/\\][^/\\]*$/, ""), { recursive: true });
  await Deno.writeTextFile(`${path}.part`, JSON.stringify(table, null, 2) + "\n");
  await Deno.rename(`${path}.part`, path);
  return path;
}
