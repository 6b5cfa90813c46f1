import type { AdapterTuning } from "../kernels/policy.ts";
import { savedTuning, tuningFile } from "../pipeline/tuning_file.ts";

/**
 * Saves the tuning of an adapter beside those of others, all or nothing. Returns the path.
 *
 * @throws {TuningError} when the present file cannot be read or is not a tuning; it stays as it is
 */
export async function saveTuning(adapter: string, tuning: AdapterTuning): Promise<string> {
  const path = tuningFile();
  const all = { ...await savedTuning({ requireRead: true }), [adapter]: tuning };
  await Deno.mkdir(path.replace(/[/\\][^/\\]*$/, ""), { recursive: true });
  await Deno.writeTextFile(`${path}.part`, JSON.stringify(all, null, 2) + "\n");
  await Deno.rename(`${path}.part`, path);
  return path;
}
