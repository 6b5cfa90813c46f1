/** Streams the elements of weights from their files into tensors on the device. */

import type { DType } from "../../engine/dtype.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { Uploader } from "../../engine/memory/uploader.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { CheckpointError } from "../errors.ts";
import { elementsOf, toFloat32 } from "./safetensors/decode.ts";
import { findNonFinite } from "./safetensors/finite.ts";
import type { SafetensorsDtype } from "./safetensors/format.ts";
import type { Weights } from "./safetensors/weights.ts";

/**
 * Bytes read at a time. This bounds the host memory that loading takes, uploads in flight aside.
 */
const chunkBytes = 1 << 20;

/** A tensor that a module requests. */
export interface WeightRequest {
  readonly key: string;
  readonly dtype: SafetensorsDtype;
  /**
   * The tensor to fill. Plain weights are allocated in advance, repacked ones when their data
   * arrives.
   */
  readonly open: () => Tensor;
  readonly filled: (tensor: Tensor) => void;
}

/**
 * Reads requested tensors once, in the order of the file, in pieces.
 *
 * @param options.onProgress called as bytes arrive on the device
 * @throws {CheckpointError} if a tensor holds NaN or an infinity
 */
export async function fillWeights(
  gpu: Gpu,
  weights: Weights,
  requests: readonly WeightRequest[],
  { onProgress }: { readonly onProgress?: (doneBytes: number, totalBytes: number) => void },
): Promise<void> {
  // In file order, so that reads are sequential.
  const ordered = requests.map((request) => ({ ...request, ...weights.info(request.key) })).sort((a, b) =>
    a.offset - b.offset
  );
  // A null device holds no elements.
  if (gpu.context.isNull) return ordered.forEach(({ open, filled }) => filled(open()));
  const totalBytes = ordered.reduce((sum, { bytes }) => sum + bytes, 0);
  let doneBytes = 0;
  using uploader = new Uploader(gpu);
  const room = new Uint8Array(chunkBytes);
  const unfinished = new Set<Tensor>();
  try {
    for (const { key, dtype, bytes, open, filled } of ordered) {
      const tensor = open();
      unfinished.add(tensor);
      const { widening } = floatTypes[dtype]!;
      for (let from = 0; from < bytes; from += chunkBytes) {
        const chunk = await weights.readRange(key, from, Math.min(from + chunkBytes, bytes), room);
        const stored = toStored(chunk, dtype);
        checkFinite(weights, key, stored, { type: storedAs(dtype), firstByte: from * widening });
        await uploader.write(tensor, stored, from * widening);
        doneBytes += chunk.byteLength;
        onProgress?.(doneBytes, totalBytes);
      }
      uploader.afterwards(() => {
        filled(tensor);
        unfinished.delete(tensor);
      });
    }
    await uploader.finish();
  } catch (error) {
    for (const tensor of unfinished) tensor[Symbol.dispose]();
    throw error;
  }
}

/** @throws {CheckpointError} if a piece of a tensor, as it is stored, holds NaN or an infinity */
function checkFinite(
  weights: Weights,
  key: string,
  bytes: Uint8Array<ArrayBuffer>,
  { type, firstByte }: { type: DType; firstByte: number },
): void {
  const float = type === "f16" ? "f16" : "f32";
  const at = findNonFinite(bytes, float);
  if (at < 0) return;
  const element = firstByte / (float === "f16" ? 2 : 4) + at;
  throw new CheckpointError(
    `Cannot load ${weights.name} as its tensor ${key} holds NaN or an infinity (element ${element}): ` +
      "the file is damaged, or its training or merging diverged. Get another copy or version of the model",
    { source: weights.name },
  );
}

/**
 * How the file's types are stored on the device: f16 as it is, float8 as f16, bfloat16 and float64
 * as f32. All but float64 are exact. `widening` is stored bytes per byte of the file.
 */
export const floatTypes: Partial<Record<SafetensorsDtype, { dtype: DType; widening: number }>> = {
  F32: { dtype: "f32", widening: 1 },
  F16: { dtype: "f16", widening: 1 },
  BF16: { dtype: "f32", widening: 2 },
  F64: { dtype: "f32", widening: 0.5 },
  F8_E4M3: { dtype: "f16", widening: 2 },
  F8_E5M2: { dtype: "f16", widening: 2 },
};

/** Bytes on the device per byte of the file. */
export function wideningOf(dtype: SafetensorsDtype): number {
  return floatTypes[dtype]?.widening ?? 1;
}

/** The type of its elements on the device. */
export function storedAs(dtype: SafetensorsDtype): DType {
  return floatTypes[dtype]!.dtype;
}

function toStored(chunk: Uint8Array<ArrayBuffer>, dtype: SafetensorsDtype): Uint8Array<ArrayBuffer> {
  if (dtype === "F32" || dtype === "F16") return chunk;
  // The chunk is a view of a larger buffer.
  const elements = elementsOf(chunk.slice().buffer, dtype)!;
  return new Uint8Array((elements instanceof Float16Array ? elements : toFloat32(elements)).buffer);
}
