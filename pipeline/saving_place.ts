/**
 * Where a pipeline may be saved: anywhere but where its own weights are read from.
 *
 * @module
 */

import type { ModelOrigin } from "./checkpoint/source/origin.ts";
import { CheckpointError } from "./errors.ts";
import { filesBelow, isFile, liesIn, parentOf, realPlace } from "./output/paths.ts";

/**
 * Refuses a place that a model is read from: the file or folder itself, one above it or one below
 * it, also through symbolic links. A pipeline saved over its own source files would read edited
 * weights as originals and apply the edits twice.
 *
 * @throws {CheckpointError} if a model is read from there
 */
export async function refuseOwnSource(
  models: readonly { readonly origin?: ModelOrigin }[],
  place: string,
): Promise<void> {
  const origins = new Set(models.flatMap(({ origin }) => origin?.name ?? []));
  const sources = new Set<string>();
  for (const origin of origins) {
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

/** Whether a folder holds a link to `place`, as snapshots in the hub's cache link to blobs. */
async function holds(folder: string, place: string): Promise<boolean> {
  if (!await isFile(place)) return false;
  const real = await realPlace(place);
  for (const file of await filesBelow(folder)) if (await realPlace(file) === real) return true;
  return false;
}
