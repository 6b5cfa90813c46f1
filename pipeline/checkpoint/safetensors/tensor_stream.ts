/**
 * Tensors on their way from one file to another: read in pieces, changed in precision where asked,
 * never whole in memory.
 */

import { advise } from "../../advice.ts";
import { SafetensorsError } from "../../errors.ts";
import { elementsOf, largestBfloat16, roundBfloat16, toFloat32 } from "./decode.ts";
import { isFloat8 } from "./float8.ts";
import type { SafetensorsDtype } from "./format.ts";
import { transposed } from "./renamed_weights.ts";
import type { TensorEntry } from "./writer.ts";
import type { Weights } from "./weights.ts";

/** Precisions that weights are saved in. */
export type SavedDtype = "f16" | "f32";

/** Precisions that computed weights are written in: those above, and those of their sources. */
export type ComputedDtype = SavedDtype | "bf16" | "f64";

const dtypeNames = { f16: "F16", bf16: "BF16", f32: "F32", f64: "F64" } as const;

const chunkBytes = 1 << 24;

/** The types that can change into each other. */
const floatTypes: readonly SafetensorsDtype[] = ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"];

/**
 * A tensor of opened weights, to be written under its own name or another.
 *
 * @param options.dtype Real numbers are converted to it; others, such as indices, stay what they
 *   are. Default: as they are.
 */
export function streamedEntry(
  weights: Weights,
  key: string,
  options: { name?: string; shape?: readonly number[]; dtype?: SavedDtype } = {},
): TensorEntry {
  const info = weights.info(key);
  const { name = key, shape = info.shape } = options;
  const dtype = savedDtype(info.dtype, options.dtype);
  return {
    name,
    dtype,
    shape,
    async *chunks() {
      for (let from = 0; from < info.bytes; from += chunkBytes) {
        const chunk = await weights.readRange(key, from, Math.min(from + chunkBytes, info.bytes));
        yield dtype === info.dtype ? chunk : encode(toFloat32(elementsOf(chunk.buffer, info.dtype)!), dtype, name);
      }
    },
  };
}

/**
 * Tensors one below the other, as the rows of one. Where their dtypes differ, as in files of mixed
 * precision and where a LoRA changed only some of float8, the result has one that holds them all.
 */
export function stackedEntry(entries: readonly TensorEntry[], name: string): TensorEntry {
  const [{ shape: [, ...inner] }] = entries, dtype = commonDtype(entries.map((entry) => entry.dtype));
  return {
    name,
    dtype,
    shape: [entries.reduce((rows, { shape }) => rows + shape[0], 0), ...inner],
    async *chunks() {
      for (const entry of entries) {
        // Chunks are whole elements: see streamedEntry() and computedEntry().
        for await (const chunk of entry.chunks()) {
          yield entry.dtype === dtype
            ? chunk
            : encode(toFloat32(elementsOf(chunk.slice().buffer, entry.dtype)!), dtype, name);
        }
      }
    },
  };
}

/** A dtype that holds the numbers of all given ones; f64 is rounded beside others. */
function commonDtype(dtypes: readonly SafetensorsDtype[]): SafetensorsDtype {
  const [first] = dtypes;
  if (dtypes.every((dtype) => dtype === first)) return first;
  return dtypes.every((dtype) => dtype === "F16" || isFloat8(dtype)) ? "F16" : "F32";
}

/** A matrix, transposed; it is held whole while it is written. */
export function transposedEntry(entry: TensorEntry): TensorEntry {
  return {
    ...entry,
    shape: entry.shape.toReversed(),
    async *chunks() {
      const chunks: Uint8Array<ArrayBuffer>[] = [];
      for await (const chunk of entry.chunks()) chunks.push(chunk.slice());
      yield transposed(new Uint8Array(await new Blob(chunks).arrayBuffer()), entry);
    },
  };
}

/**
 * Numbers that are made when their turn to be written comes.
 *
 * @throws {SafetensorsError} while it is written, for NaN and infinities, and for numbers beyond
 *   the largest of the dtype
 */
export function computedEntry(
  name: string,
  shape: readonly number[],
  dtype: ComputedDtype,
  compute: () => Promise<Float32Array<ArrayBuffer>>,
): TensorEntry {
  const saved = dtypeNames[dtype];
  return {
    name,
    dtype: saved,
    shape,
    async *chunks() {
      const values = await compute();
      const broken = values.find((value) => !Number.isFinite(value));
      if (broken !== undefined) {
        throw new SafetensorsError(
          `Cannot write tensor ${name} as it comes out as ${broken}: the strength of an edit or the weight of a LoRA is ` +
            "too large, or a weight of the model is broken",
          { source: "safetensors", tensor: name, actual: broken },
        );
      }
      yield encode(values, saved, name);
    },
  };
}

/** What a type becomes. */
function savedDtype(dtype: SafetensorsDtype, wanted?: SavedDtype): SafetensorsDtype {
  if (wanted === undefined || !floatTypes.includes(dtype)) return dtype;
  return wanted === "f16" ? "F16" : "F32";
}

function encode(values: Float32Array<ArrayBuffer>, dtype: SafetensorsDtype, name: string): Uint8Array<ArrayBuffer> {
  if (dtype === "F64") return new Uint8Array(Float64Array.from(values).buffer);
  if (dtype !== "F16" && dtype !== "BF16") return new Uint8Array(values.buffer);
  const rounded = dtype === "F16" ? new Float16Array(values) : roundBfloat16(values);
  const isBeyond = dtype === "F16"
    ? (i: number) => !Number.isFinite(rounded[i]) && Number.isFinite(values[i])
    : (i: number) => (rounded[i] & 0x7fff) === 0x7f80 && Number.isFinite(values[i]);
  const tooLarge = values.findIndex((_, i) => isBeyond(i));
  if (tooLarge >= 0) {
    const type = dtype.toLowerCase(), largest = dtype === "F16" ? 65504 : largestBfloat16;
    throw new SafetensorsError(
      `Cannot write tensor ${name} in ${type}: it holds ${values[tooLarge]}, and the largest ${type} is ${largest}. ${
        advise("saveInF32")
      }`,
      { source: "safetensors", tensor: name, expected: largest, actual: values[tooLarge] },
    );
  }
  return new Uint8Array(rounded.buffer);
}
