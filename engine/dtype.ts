import { DTypeError } from "./errors.ts";

/**
 * Element types of tensors. Arithmetic is in f32. `f16` is a storage type that kernels unpack in
 * the shader, without a device feature. `f64` serves the edit's solver, on devices that support it.
 * `i32` and `u32` hold token ids and indices.
 */
export type DType = "f32" | "f16" | "f64" | "i32" | "u32";

/**
 * The typed arrays that hold tensor data on the host. A `Uint16Array` holds f16 bit patterns.
 */
export type HostArray = Float32Array | Float64Array | Int32Array | Uint32Array | Uint16Array | Float16Array;

/** Bytes of one element. */
export const bytesPerElement: Readonly<Record<DType, number>> = { f32: 4, f16: 2, f64: 8, i32: 4, u32: 4 };

/** The dtype of a typed array. @throws {DTypeError} for what is no {@linkcode HostArray} */
export function dtypeOf(data: HostArray): DType {
  if (data instanceof Float32Array) return "f32";
  if (data instanceof Float64Array) return "f64";
  if (data instanceof Int32Array) return "i32";
  if (data instanceof Uint32Array) return "u32";
  if (data instanceof Uint16Array || data instanceof Float16Array) return "f16";
  const given = Object.prototype.toString.call(data).slice(8, -1);
  throw new DTypeError(
    `Cannot take elements from ${given} as they must be in a Float32Array, Float64Array, Float16Array, Int32Array, Uint32Array or Uint16Array`,
  );
}

/**
 * Converts `data` to the bytes of a tensor of `dtype`. Narrowing rounds to nearest, ties to even.
 */
export function encode(data: HostArray, dtype: DType): Uint8Array<ArrayBuffer> {
  const own = dtypeOf(data);
  let array: ArrayBufferView = data;
  if (own !== dtype) {
    const elements = own === "f16" ? new Float16Array(data.buffer as ArrayBuffer, data.byteOffset, data.length) : data;
    if (dtype === "f32") array = Float32Array.from(elements);
    else if (dtype === "f16") array = Float16Array.from(elements);
    else if (dtype === "f64") array = Float64Array.from(elements);
    else if (dtype === "i32") array = Int32Array.from(elements);
    else array = Uint32Array.from(elements);
  }
  return new Uint8Array(array.buffer as ArrayBuffer, array.byteOffset, array.byteLength);
}

/** Converts `count` elements of `dtype` to f32. */
export function decodeFloat32(bytes: ArrayBuffer, dtype: DType, count: number): Float32Array<ArrayBuffer> {
  switch (dtype) {
    case "f32":
      return new Float32Array(bytes, 0, count);
    case "f16":
      return Float32Array.from(new Float16Array(bytes, 0, count));
    case "f64":
      return Float32Array.from(new Float64Array(bytes, 0, count));
    case "i32":
      return Float32Array.from(new Int32Array(bytes, 0, count));
    case "u32":
      return Float32Array.from(new Uint32Array(bytes, 0, count));
  }
}
