/** Reads tensors of adapter files and refuses what is not finite, by name. */

import { findNonFinite } from "../checkpoint/safetensors/finite.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import { AdapterError } from "../errors.ts";
import { nameText } from "../safe_text.ts";
import type { HostTensor } from "./weight_change.ts";

/** Reads a tensor as f32. @throws {AdapterError} if it holds NaN or an infinity */
export async function readFinite(weights: Weights, key: string): Promise<HostTensor> {
  const data = await weights.float32(key);
  checkFinite(weights, key, new Uint8Array(data.buffer), "f32");
  return { shape: weights.info(key).shape, data };
}

/** @throws {AdapterError} if the bytes of a tensor hold NaN or an infinity */
export function checkFinite(weights: Weights, key: string, bytes: Uint8Array<ArrayBuffer>, type: "f32" | "f16"): void {
  const at = findNonFinite(bytes, type);
  if (at < 0) return;
  throw new AdapterError(
    `Cannot load ${weights.name} as its tensor ${nameText(key)} holds NaN or an infinity (element ${at}): ` +
      "the file is damaged, or its training diverged",
    { source: weights.name, keys: [key] },
  );
}
