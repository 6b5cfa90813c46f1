/**
 * Named tensors and their conversion to typed arrays.
 *
 * @module
 */

import { SafetensorsError } from "../../errors.ts";
import type { SafetensorsDtype, TensorInfo } from "./format.ts";
import { bf16ToF32, f16ToF32 } from "./half.ts";

/**
 * Named tensors that can be read one by one: a safetensors file, or several that make one
 * checkpoint. The conversions below are the same for all.
 */
export abstract class Weights {
  /** What to call the weights in messages. */
  abstract readonly name: string;
  /** The tensors by name. */
  abstract readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Free text by key (`__metadata__`). */
  abstract readonly metadata: Readonly<Record<string, string>>;

  /**
   * The bytes `[from, to)` of a tensor, little-endian and in row-major order.
   *
   * @param into Room for the bytes, as in {@linkcode ByteSource.read}.
   * @throws {SafetensorsError} if there is no such tensor, or the range leaves it.
   */
  abstract readRange(
    name: string,
    from: number,
    to: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>>;

  /** Gives the files back to the system. */
  abstract close(): void;

  [Symbol.dispose](): void {
    this.close();
  }

  /** What the header says of a tensor. @throws {SafetensorsError} if there is no such tensor. */
  info(name: string): TensorInfo {
    const info = this.tensors.get(name);
    if (info !== undefined) return info;
    throw new SafetensorsError(
      `Cannot read tensor ${JSON.stringify(name)} as ${this.name} holds no such tensor among its ${this.tensors.size}`,
      { source: this.name, tensor: name },
    );
  }

  /** All bytes of a tensor. @throws {SafetensorsError} if there is no such tensor. */
  async read(name: string): Promise<Uint8Array<ArrayBuffer>> {
    return await this.readRange(name, 0, this.info(name).bytes);
  }

  /**
   * A tensor's numbers as float32, whatever real type they are stored in.
   *
   * @throws {SafetensorsError} if there is no such tensor, or its type has no such reading
   *   (complex, float8 and below).
   */
  async float32(name: string): Promise<Float32Array<ArrayBuffer>> {
    const { dtype } = this.info(name);
    const { buffer } = await this.read(name);
    if (dtype === "F32") return new Float32Array(buffer);
    if (dtype === "F16") return f16ToF32(new Uint16Array(buffer));
    if (dtype === "BF16") return bf16ToF32(new Uint16Array(buffer));
    return Float32Array.from(this.#numbers(name, dtype, buffer));
  }

  /** A tensor's numbers as float64. @throws {SafetensorsError} as `float32()` does. */
  async float64(name: string): Promise<Float64Array<ArrayBuffer>> {
    const { dtype } = this.info(name);
    if (dtype === "F16" || dtype === "BF16") return Float64Array.from(await this.float32(name));
    const { buffer } = await this.read(name);
    if (dtype === "F64") return new Float64Array(buffer);
    return Float64Array.from(this.#numbers(name, dtype, buffer));
  }

  /**
   * A tensor of whole numbers (or booleans) as int32: token ids, indices.
   *
   * @throws {SafetensorsError} if there is no such tensor, its type is no integer, or a value is
   *   out of range.
   */
  async int32(name: string): Promise<Int32Array<ArrayBuffer>> {
    const { dtype } = this.info(name);
    const { buffer } = await this.read(name);
    if (dtype === "I32") return new Int32Array(buffer);
    if (!/^([IU]\d+|BOOL)$/.test(dtype)) {
      throw new SafetensorsError(`Cannot read ${name} of ${this.name} as integers as its type is ${dtype}`, {
        source: this.name,
        tensor: name,
      });
    }
    const numbers = this.#numbers(name, dtype, buffer);
    const stranger = numbers.find((value) => value !== (value | 0));
    if (stranger !== undefined) {
      throw new SafetensorsError(`Cannot read ${name} of ${this.name} as int32 as it holds ${stranger}`, {
        source: this.name,
        tensor: name,
        actual: stranger,
      });
    }
    return Int32Array.from(numbers);
  }

  #numbers(name: string, dtype: SafetensorsDtype, buffer: ArrayBuffer): Numbers {
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
      case "F32":
        return new Float32Array(buffer);
      case "F64":
        return new Float64Array(buffer);
      case "I64":
        return Float64Array.from(new BigInt64Array(buffer), Number);
      case "U64":
        return Float64Array.from(new BigUint64Array(buffer), Number);
    }
    throw new SafetensorsError(
      `Cannot convert ${name} of ${this.name} as numbers of type ${dtype} are not supported: save it as F32, F16 or BF16`,
      { source: this.name, tensor: name },
    );
  }
}

type Numbers =
  | Uint8Array<ArrayBuffer>
  | Int8Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Float32Array<ArrayBuffer>
  | Float64Array<ArrayBuffer>;
