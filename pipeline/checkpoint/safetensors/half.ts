/**
 * The two 16-bit floating-point formats of checkpoints, to and from float32.
 *
 * binary16 (IEEE 754): 1 sign, 5 exponent, 10 fraction bits; bfloat16: the upper half of a float32.
 */

let f16Table: Float32Array | undefined;

/**
 * Every binary16 value as float32: 256 KiB, made at first use, and faster than any arithmetic on
 * the bits.
 */
function tableOfF16(): Float32Array {
  if (f16Table !== undefined) return f16Table;
  f16Table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 0x1f;
    const fraction = bits & 0x3ff;
    f16Table[bits] = exponent === 0x1f
      ? (fraction === 0 ? sign * Infinity : NaN)
      : exponent === 0
      ? sign * fraction * 2 ** -24
      : sign * (1024 + fraction) * 2 ** (exponent - 25);
  }
  return f16Table;
}

/** Widens binary16 bits to float32, exactly. */
export function f16ToF32(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const table = tableOfF16();
  const out = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = table[bits[i]];
  return out;
}

/** Widens bfloat16 bits to float32, exactly. */
export function bf16ToF32(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const out = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = bits[i] << 16;
  return new Float32Array(out.buffer);
}

/**
 * Narrows float32 to binary16 bits, to nearest with ties to even. From 65520 on values become
 * infinite, as IEEE 754 has it; NaN stays NaN.
 */
export function f32ToF16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  const scratch = new Float32Array(1);
  const scratchBits = new Uint32Array(scratch.buffer);
  for (let i = 0; i < bits.length; i++) {
    const sign = (bits[i] >>> 16) & 0x8000;
    const magnitude = bits[i] & 0x7fffffff;
    let half: number;
    if (magnitude > 0x7f800000) {
      half = 0x7e00; // NaN
    } else if (magnitude >= 0x47800000) {
      half = 0x7c00; // 2^16 and more, which no rounding brings back
    } else if (magnitude < 0x38800000) {
      // Below 2^-14, halves are multiples of 2^-24, which is the unit in the last place of 0.5:
      // adding rounds to it.
      scratchBits[0] = magnitude;
      scratch[0] += 0.5;
      half = scratchBits[0] - 0x3f000000;
    } else {
      // Moves the exponent's bias from 127 to 15; just under half a unit plus the last kept bit
      // rounds ties to even.
      half = (magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13;
    }
    out[i] = sign | half;
  }
  return out;
}
