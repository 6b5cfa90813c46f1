import type { AdapterTuning } from "../kernels/tuning.ts";
import { writeJson } from "../pipeline/output/file.ts";
import { withLock } from "../pipeline/output/lock.ts";
import { savedTuning, tuningFile } from "../pipeline/tuning_file.ts";

/**
 * Saves the tuning of an adapter beside those of others, all or nothing. Returns the path.
 *
 * @throws {TuningError} when the present file cannot be read or is not a tuning; it stays as it is
 */
export async function saveTuning(adapter: string, tuning: AdapterTuning): Promise<string> {
  const path = tuningFile();
  await savedTuning({ requireRead: true }); // throws before anything is written
  // Two tuners of different adapters both keep their results.
  await withLock(path, async () => {
    await writeJson(path, { ...await savedTuning({ requireRead: true }), [adapter]: tuning });
  });
  return path;
}
