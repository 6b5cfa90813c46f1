/** The report of an inspection, and what inspections of folders and files share. */

import { byteText } from "../../engine/inspect.ts";
import { elements } from "../../engine/tensor.ts";
import { wideningOf } from "../checkpoint/fill_weights.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import { CheckpointError, ConfigError } from "../errors.ts";
import { type MemoryOptions, type MemoryPrediction, predictOnNull } from "./memory.ts";
import type { LoadOnNull } from "./null_components.ts";

/** The contents of one component of a model. */
export interface PartInspection {
  /** "unet", "vae", …; "" for a standalone model. */
  readonly part: string;
  /** The class name, or a short description. */
  readonly kind: string;
  /** Size of the weight files in bytes; 0 without weights. */
  readonly bytes: number;
  /** Size of the largest tensor in the files, in bytes. */
  readonly largestBytes: number;
  /**
   * Bytes that the weights take on the device: those of bfloat16 and float8 files take twice as
   * many as the files.
   */
  readonly deviceBytes: number;
  /** Number of elements of all tensors in the files. */
  readonly parameters: number;
  /** Number of elements by dtype in the file: `{ F16: 859520964 }`. */
  readonly dtypes: Readonly<Record<string, number>>;
  /** Weight variants in the folder: "default", "fp16". */
  readonly variants: readonly string[];
  /** Reasons why it would not load; empty if it would. */
  readonly problems: readonly string[];
}

/** The result of inspecting a folder or a file. */
export interface Inspection {
  /** The file or folder. */
  readonly name: string;
  /** Description: "a Stable Diffusion 1.x checkpoint (single file)". */
  readonly description: string;
  /** Its components; one for a standalone model; none for what has no weights. */
  readonly parts: readonly PartInspection[];
  /** Reasons why the whole would not load. Each part lists its own. */
  readonly problems: readonly string[];
  /** Further information. */
  readonly notes: readonly string[];
  /** The memory that drawing takes, where it was asked for and the model would load. */
  readonly memory?: MemoryPrediction;
}

/**
 * What to predict the memory of drawing for. A function is called for models that would load alone:
 * it may open the device.
 */
export type AskedMemory = MemoryOptions | (() => Promise<MemoryOptions>) | undefined;

/** All reasons why the inspected source would not load, parts included. */
export function problemsOf({ problems, parts }: Inspection): string[] {
  return [...problems, ...parts.flatMap(({ part, problems }) => problems.map((why) => part ? `${part}: ${why}` : why))];
}

/** The contents of a part without weights. */
export const noWeights = { bytes: 0, largestBytes: 0, deviceBytes: 0, parameters: 0, dtypes: {}, variants: [] };

/** What the headers of weights say of their size. */
export type WeightsContents = Pick<
  PartInspection,
  "bytes" | "largestBytes" | "deviceBytes" | "parameters" | "dtypes" | "variants"
>;

/** Counts the parameters and bytes of weights, from their headers. */
export function contentsOf(weights: Weights): WeightsContents {
  const dtypes: Record<string, number> = {};
  let bytes = 0, largestBytes = 0, deviceBytes = 0, parameters = 0;
  for (const { dtype, shape, bytes: size } of weights.tensors.values()) {
    const count = elements(shape);
    dtypes[dtype] = (dtypes[dtype] ?? 0) + count;
    parameters += count;
    bytes += size;
    deviceBytes += size * wideningOf(dtype);
    largestBytes = Math.max(largestBytes, size);
  }
  return { bytes, largestBytes, deviceBytes, parameters, dtypes, variants: [] };
}

/**
 * What loading the parts takes on a device, as a note without its subject; `undefined` for fewer
 * than two with weights. Pictures, and the steps that draw them, take more.
 */
export function memoryNote(parts: readonly PartInspection[]): string | undefined {
  const loaded = parts.filter(({ deviceBytes }) => deviceBytes > 0);
  if (loaded.length < 2) return undefined;
  const total = loaded.reduce((sum, { deviceBytes }) => sum + deviceBytes, 0);
  return `weights take ${byteText(total)} on the device; drawing takes more`;
}

/**
 * Predicts the memory of a model that would load.
 *
 * @param asked undefined where no prediction is wanted
 * @returns the prediction, or why components that load do not fit each other
 */
export async function memoryOf(
  inspection: Pick<Inspection, "problems" | "parts">,
  load: () => LoadOnNull,
  asked: AskedMemory,
): Promise<Pick<Inspection, "memory"> & { readonly failures?: readonly string[] }> {
  if (asked === undefined || [inspection, ...inspection.parts].some(({ problems }) => problems.length > 0)) return {};
  try {
    return { memory: await predictOnNull(load(), typeof asked === "function" ? await asked() : asked) };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { failures: [messageOf(error)] };
  }
}

/** Runs an attempt. Returns the message of its error, or an empty list. */
export async function failuresOf(attempt: () => unknown): Promise<string[]> {
  try {
    await attempt();
    return [];
  } catch (error) {
    return [messageOf(error)];
  }
}

/**
 * An error as text.
 *
 * @throws the error itself if it is a programming error, which is not a finding about the files
 */
export function messageOf(error: unknown): string {
  const isTyped = error instanceof Error && !["TypeError", "ReferenceError"].includes(error.name);
  if (!isTyped && !(error instanceof CheckpointError)) throw error;
  return (error as Error).message;
}
