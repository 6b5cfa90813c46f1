import { Gpu, type GpuOptions } from "../engine/gpu.ts";
import { parseTuning, policyOf, type Tuning } from "../kernels/policy.ts";

/**
 * The file that `bluerose bench --tune` writes: `$BLUEROSE_TILES`, or `bluerose/tiles.json` in the
 * user's cache folder.
 */
export function tuningFile(): string {
  const home = variable("HOME") ?? variable("USERPROFILE") ?? ".";
  return variable("BLUEROSE_TILES") ?? `${variable("XDG_CACHE_HOME") ?? `${home}/.cache`}/bluerose/tiles.json`;
}

/**
 * The saved tuning. It is empty where nothing was tuned, where the file may not be read, and in
 * browsers.
 *
 * @throws {TuningError} when the file is not a tuning
 */
export async function savedTuning(): Promise<Tuning> {
  const path = tuningFile();
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch {
    return {};
  }
  return parseTuning(text, path);
}

/**
 * Opens a device with its saved tuning.
 *
 * @throws {TuningError} when the file is not a tuning, or the device cannot run what it says
 */
export async function openTunedGpu(options: GpuOptions = {}): Promise<Gpu> {
  const gpu = await Gpu.request({ tuning: await savedTuning(), ...options });
  try {
    policyOf(gpu); // reports a tuning that the device cannot run now, and not at the first kernel
    return gpu;
  } catch (error) {
    gpu[Symbol.dispose]();
    throw error;
  }
}

/** An environment variable; undefined where it may not be read. */
function variable(name: string): string | undefined {
  try {
    return Deno.env.get(name) || undefined;
  } catch {
    return undefined;
  }
}
