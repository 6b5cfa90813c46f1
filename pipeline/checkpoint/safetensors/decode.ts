/**
 * Conversion of stored tensor bytes to typed arrays, and to bfloat16, which has none.
 *
 * @module
 */

import { widenFloat8 } from "./float8.ts";
import type { SafetensorsDtype } from "./format.ts";

/** A typed array that holds the elements of a tensor exactly, 64-bit integers excepted. */
export type Elements =
  | Uint8Array<ArrayBuffer>
  | Int8Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Float16Array<ArrayBuffer>
  | Float32Array<ArrayBuffer>
  | Float64Array<ArrayBuffer>;

/**
 * Reads a buffer as elements of a type. 64-bit integers become float64.
 *
 * @returns `null` for types without such a reading: complex, F8_E8M0 and smaller floats
 */
export function elementsOf(buffer: ArrayBuffer, dtype: SafetensorsDtype): Elements | null {
  switch (dtype) {
    case "BOOL":
    case "U8":
      return new Uint8Array(buffer);
    case "I8":
      return new Int8Array(buffer);
    case "U16":
      return new Uint16Array(buffer);
    case "I16":
      return new Int16Array(buffer);
    case "U32":
      return new Uint32Array(buffer);
    case "I32":
      return new Int32Array(buffer);
    case "F16":
      return new Float16Array(buffer);
    case "F8_E4M3":
    case "F8_E5M2":
      return widenFloat8(new Uint8Array(buffer), dtype);
    case "BF16":
      return widenBfloat16(new Uint16Array(buffer));
    case "F32":
      return new Float32Array(buffer);
    case "F64":
      return new Float64Array(buffer);
    case "I64":
      return Float64Array.from(new BigInt64Array(buffer), Number);
    case "U64":
      return Float64Array.from(new BigUint64Array(buffer), Number);
    default:
      return null;
  }
}

/** Elements as float32, rounded to nearest even where the type is wider. */
export function toFloat32(elements: Elements): Float32Array<ArrayBuffer> {
  return elements instanceof Float32Array ? elements : new Float32Array(elements);
}

/** Widens bfloat16, the upper half of a float32, exactly. */
function widenBfloat16(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const out = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = bits[i] << 16;
  return new Float32Array(out.buffer);
}

/** The largest bfloat16: (2 − 2⁻⁷) · 2¹²⁷. */
export const largestBfloat16 = (2 - 2 ** -7) * 2 ** 127;

/**
 * The bits of numbers in bfloat16, rounded to nearest even. Those beyond the largest become
 * infinite.
 */
export function roundBfloat16(values: Float32Array<ArrayBuffer>): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i];
    // Rounding may carry into the exponent, which is right, but must not make a NaN infinite.
    out[i] = Number.isNaN(values[i]) ? word >>> 16 | 0x40 : (word + 0x7fff + (word >>> 16 & 1)) >>> 16;
  }
  return out;
}
