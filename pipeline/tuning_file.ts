import { Gpu, type GpuOptions } from "../engine/gpu.ts";
import { policyOf } from "../kernels/policy.ts";
import { exists, textAt } from "./output/paths.ts";
import { environmentVariable, userCacheFolder } from "./environment.ts";
import { parseTuning, type Tuning, TuningError } from "../kernels/tuning.ts";

/**
 * The file that `bluerose bench --tune` writes: `$BLUEROSE_TILES`, or `bluerose/tiles.json` in the
 * user's cache folder.
 *
 * @throws Deno's error where the variables that name that folder may not be read
 */
export function tuningFile(): string {
  return environmentVariable("BLUEROSE_TILES") ?? `${userCacheFolder()}/bluerose/tiles.json`;
}

/** Options of {@linkcode savedTuning}. */
export interface SavedTuningOptions {
  /**
   * Whether denied permission to read is an error too. Saving needs this: it would otherwise
   * replace a file that it could not read. Default: false.
   */
  readonly requireRead?: boolean;
}

/**
 * The saved tuning. It is empty where there is no file, where permission to read it is denied, and
 * in browsers.
 *
 * @throws {TuningError} when the file cannot be read for any other reason, or is not a tuning
 */
export async function savedTuning({ requireRead = false }: SavedTuningOptions = {}): Promise<Tuning> {
  if (typeof Deno === "undefined") return {};
  let path = "its file";
  try {
    path = tuningFile();
    const text = await textAt(path);
    if (text !== undefined) return parseTuning(text, path);
    if (!await exists(path)) return {};
    throw new TuningError(`Cannot read the tuning from ${path} as it is no regular file`);
  } catch (error) {
    const { NotCapable, PermissionDenied } = Deno.errors;
    const isDenied = error instanceof NotCapable || error instanceof PermissionDenied;
    if (isDenied && !requireRead) return {};
    const what = error instanceof TuningError
      ? error.message
      : `Cannot read the tuning from ${path} as ${error instanceof Error ? error.message : error}`;
    const action = isDenied ? "Allow reading it" : "Repair or remove it";
    throw new TuningError(`${what}. ${action}, or set BLUEROSE_TILES to another path`, { cause: error });
  }
}

/**
 * Opens a device with its saved tuning.
 *
 * @throws {TuningError} as {@linkcode savedTuning}, or when the device cannot run what the file
 *   says
 */
export async function openTunedGpu(options: GpuOptions = {}): Promise<Gpu> {
  const gpu = await Gpu.request({ tuning: await savedTuning(), ...options });
  try {
    // throws here, and not at the first kernel, when the device cannot run the tuning
    policyOf(gpu);
    return gpu;
  } catch (error) {
    gpu[Symbol.dispose]();
    if (!(error instanceof TuningError) || options.tuning !== undefined) throw error;
    throw new TuningError(
      `${error.message}. ${tuningFile()} says so: bluerose bench --tune replaces what the device cannot run, or remove ` +
        "the file",
    );
  }
}
