/**
 * The two 8-bit floating-point types that models are published in (arXiv 2209.05433), widened to
 * float16, which holds all of their values exactly.
 *
 * @module
 */

/** An 8-bit floating-point type, as safetensors names it. */
export type Float8 = "F8_E4M3" | "F8_E5M2";

/** Whether a type is one of the two. */
export function isFloat8(dtype: string): dtype is Float8 {
  return dtype === "F8_E4M3" || dtype === "F8_E5M2";
}

/**
 * Widens bytes to float16, exactly.
 *
 * - `F8_E4M3` is torch's `float8_e4m3fn`: 4 bits of exponent (bias 7), 3 of mantissa, no infinity;
 *   0x7f and 0xff are NaN.
 * - `F8_E5M2` is the upper byte of a float16, infinity and NaN included.
 */
export function widenFloat8(bytes: Uint8Array, dtype: Float8): Float16Array<ArrayBuffer> {
  const bits = new Uint16Array(bytes.length);
  if (dtype === "F8_E5M2") { for (let i = 0; i < bytes.length; i++) bits[i] = bytes[i] << 8; }
  else for (let i = 0; i < bytes.length; i++) bits[i] = float16OfE4M3[bytes[i]];
  return new Float16Array(bits.buffer);
}

/** The bits of the float16 equal to each `F8_E4M3`. */
const float16OfE4M3: Uint16Array = new Uint16Array(
  Float16Array.from({ length: 256 }, (_, byte) => {
    const sign = byte & 0x80 ? -1 : 1;
    const exponent = byte >> 3 & 15, mantissa = byte & 7;
    if (exponent === 15 && mantissa === 7) return NaN;
    return sign * (exponent === 0 ? mantissa * 2 ** -9 : (8 + mantissa) * 2 ** (exponent - 10));
  }).buffer,
);
