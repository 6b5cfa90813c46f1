/**
 * Where a pipeline may be saved: anywhere but where its own weights are read from.
 *
 * @module
 */

import { adapterFiles } from "./adapters/adapter_files.ts";
import type { ModelOrigin } from "./checkpoint/source/origin.ts";
import { CheckpointError } from "./errors.ts";
import { requireDisk } from "./output/target.ts";
import { exists, filesBelow, isFile, liesIn, parentOf, realPlace } from "./output/paths.ts";

/**
 * Refuses a place that a model is read from: the file or folder itself, one above it or one below
 * it, also through symbolic links. A pipeline saved over its own source files would read edited
 * weights as originals and apply the edits twice. The file of a loaded adapter is refused, too.
 *
 * @throws {CheckpointError} if a model is read from there
 */
export async function refuseOwnSource(
  models: readonly { readonly origin?: ModelOrigin }[],
  place: string,
): Promise<void> {
  requireDisk(place);
  await refuseAdapterFile(models, place);
  const sources = new Set<string>();
  for (const origin of await sourcesOf(models)) {
    sources.add(origin);
    // a component's folder belongs to a pipeline's
    if (await isFile(`${parentOf(origin)}/model_index.json`)) sources.add(parentOf(origin));
  }
  for (const source of sources) {
    if (await liesIn(source, place) || await liesIn(place, source) || await holds(source, place)) {
      throw new CheckpointError(
        `Cannot save to ${place} as the pipeline's own weights are read from there (${source}): choose another place`,
        { source: place },
      );
    }
  }
}

/**
 * Refuses a file that a model or one of its loaded adapters is read from, for edits and LoRAs,
 * which may lie beside it.
 *
 * @throws {CheckpointError} if it is one of the model's own files or of its adapters'
 */
export async function refuseSourceFile(models: readonly unknown[], path: string): Promise<void> {
  requireDisk(path);
  await refuseAdapterFile(models, path);
  const known = models.filter((model) => typeof model === "object" && model !== null && "origin" in model);
  for (const source of await sourcesOf(known as { readonly origin?: ModelOrigin }[])) {
    const isSame = await isFile(source) && await realPlace(source) === await realPlace(path);
    if (!isSame && !await holds(source, path)) continue;
    throw new CheckpointError(
      `Cannot write ${path} as the model's own weights are read from it: choose another name`,
      { source: path },
    );
  }
}

/** @throws {CheckpointError} for the file of an adapter that a model holds */
async function refuseAdapterFile(models: readonly unknown[], path: string): Promise<void> {
  for (const file of models.flatMap(adapterFiles)) {
    if (!await isFile(file) || await realPlace(file) !== await realPlace(path)) continue;
    throw new CheckpointError(
      `Cannot write ${path} as a loaded LoRA or textual inversion was read from it: choose another name`,
      { source: path },
    );
  }
}

/** The files and folders on disk that models are read from. */
async function sourcesOf(models: readonly { readonly origin?: ModelOrigin }[]): Promise<string[]> {
  const names = new Set(models.flatMap(({ origin }) => origin?.name ?? []));
  const found: string[] = [];
  for (const name of names) if (await exists(name)) found.push(name); // trees in memory have names, too
  return found;
}

/** Whether a folder holds a link to `place`, as snapshots in the hub's cache link to blobs. */
async function holds(folder: string, place: string): Promise<boolean> {
  if (!await isFile(place)) return false;
  const real = await realPlace(place);
  for (const file of await filesBelow(folder)) if (await realPlace(file) === real) return true;
  return false;
}
