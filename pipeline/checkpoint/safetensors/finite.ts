/**
 * A scan of stored floats for NaN and infinities: the values whose exponent bits are all ones.
 *
 * @module
 */

/** Exponent bits of the types that weights are stored in. */
const layouts = {
  f32: { mask: 0x7f800000, step: 0x00800000, carry: 0x80000000 | 0, perWord: 1 },
  f16: { mask: 0x7c007c00, step: 0x04000400, carry: 0x80008000 | 0, perWord: 2 },
} as const;

/**
 * Index of the first element that is NaN or infinite; -1 if there is none. Adding one to an
 * exponent of all ones carries into the sign bit, so a word is tested by one mask and one sum,
 * whether it holds one f32 or two f16.
 *
 * @param bytes little-endian, whole elements
 */
export function findNonFinite(bytes: Uint8Array<ArrayBuffer>, type: "f32" | "f16"): number {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  const words = new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength >> 2);
  const { mask, step, carry, perWord } = layouts[type];
  let carries = 0;
  for (let i = 0; i < words.length; i++) carries |= (words[i] & mask) + step;
  const hasTail = (aligned.byteLength & 2) !== 0; // an odd number of f16
  if ((carries & carry) === 0 && !hasTail) return -1;
  const elements = type === "f32" ? new Float32Array(words.buffer, words.byteOffset, words.length) : new Float16Array(
    aligned.buffer,
    aligned.byteOffset,
    words.length * perWord + Number(hasTail),
  );
  return elements.findIndex((value) => !Number.isFinite(value));
}
