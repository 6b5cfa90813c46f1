/**
 * Facts of the safetensors format (https://github.com/huggingface/safetensors#format): element
 * types, their sizes and the header's limit.
 *
 * @module
 */

/** The name of an element type, as it stands in a header. */
export type SafetensorsDtype =
  | ("BOOL" | "F4" | "F6_E2M3" | "F6_E3M2" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0")
  | ("F8_E4M3FNUZ" | "F8_E5M2FNUZ")
  | ("I16" | "U16" | "F16" | "BF16")
  | ("I32" | "U32" | "F32")
  | ("C64" | "F64" | "I64" | "U64");

/**
 * Element types with their sizes in bits, by rising alignment. Files store tensors in the reverse
 * order, widest first.
 */
export const bitsOf: Readonly<Record<SafetensorsDtype, number>> = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
};

export const dtypesByAlignment = Object.keys(bitsOf) as SafetensorsDtype[];

/** The format's limit on the header's length, which bounds memory use. */
export const maxHeaderBytes = 100_000_000;

/** A tensor's entry in a header. */
export interface TensorInfo {
  /** The dtype in the file. */
  readonly dtype: SafetensorsDtype;
  /** Lengths of the axes, row-major. */
  readonly shape: readonly number[];
  /** Byte offset in the file. */
  readonly offset: number;
  /** Length in bytes. */
  readonly bytes: number;
}

/** Whether a value is a list of sizes without gaps: integers from 0 up. */
export function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && [...value].every((size) => Number.isSafeInteger(size) && size >= 0);
}

/**
 * The bits of a tensor, or null where they cannot be counted. As in the reference implementation,
 * each partial product must fit into 64 bits, even where a later size is zero.
 */
export function bitsIn(shape: readonly number[], dtype: SafetensorsDtype): number | null {
  let product = 1n;
  for (const size of [...shape, bitsOf[dtype]]) {
    product *= BigInt(size);
    if (product >= 2n ** 64n) return null;
  }
  return product <= Number.MAX_SAFE_INTEGER ? Number(product) : null;
}

/** Whether a file's name or path ends as safetensors files do. */
export function isSafetensors(path: string): boolean {
  return /\.(safetensors|sft)$/i.test(path);
}

/** The floating-point types that `Weights.float32()` reads. */
export const floatDtypes: readonly SafetensorsDtype[] = ["F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2"];
