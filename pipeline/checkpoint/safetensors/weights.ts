/**
 * Named tensors and their conversion to typed arrays.
 *
 * @module
 */

import { countText } from "../../../engine/inspect.ts";
import { SafetensorsError } from "../../errors.ts";
import type { TensorInfo } from "./format.ts";
import { type Elements, elementsOf, toFloat32 } from "./decode.ts";

/**
 * Named tensors that are read one by one, from one safetensors file or from several that form one
 * checkpoint.
 */
export abstract class Weights {
  /** The file or folder, for messages. */
  abstract readonly name: string;
  /** The tensors by name. */
  abstract readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The free text of `__metadata__`, by key. */
  abstract readonly metadata: Readonly<Record<string, string>>;

  /**
   * The bytes `[from, to)` of a tensor, little-endian and in row-major order.
   *
   * @param into Receives the bytes if the source supports it, as in `ByteSource.read()`.
   * @throws {SafetensorsError} if there is no such tensor, or the range lies outside it
   */
  abstract readRange(
    name: string,
    from: number,
    to: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>>;

  /** Closes the files. */
  abstract close(): void;

  /** Closes the files. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Type, shape and position of a tensor. @throws {SafetensorsError} if there is no such tensor */
  info(name: string): TensorInfo {
    const info = this.tensors.get(name);
    if (info !== undefined) return info;
    throw new SafetensorsError(
      `Cannot read tensor ${JSON.stringify(name)}: ${this.name} has ${
        countText(this.tensors.size, "tensor")
      }, and none of that name`,
      { source: this.name, tensor: name },
    );
  }

  /** All bytes of a tensor. @throws {SafetensorsError} if there is no such tensor */
  async read(name: string): Promise<Uint8Array<ArrayBuffer>> {
    return await this.readRange(name, 0, this.info(name).bytes);
  }

  /**
   * A tensor's elements as float32.
   *
   * @throws {SafetensorsError} if there is no such tensor, or its type is complex or has no
   *   reading as a real number
   */
  async float32(name: string): Promise<Float32Array<ArrayBuffer>> {
    return toFloat32(await this.#elements(name));
  }

  /** A tensor's elements as float64. @throws {SafetensorsError} as `float32()` does */
  async float64(name: string): Promise<Float64Array<ArrayBuffer>> {
    const elements = await this.#elements(name);
    return elements instanceof Float64Array ? elements : new Float64Array(elements);
  }

  /**
   * A tensor of integers or booleans as int32: token ids, indices.
   *
   * @throws {SafetensorsError} if there is no such tensor, its type is no integer type, or a value
   *   is outside int32
   */
  async int32(name: string): Promise<Int32Array<ArrayBuffer>> {
    const { dtype } = this.info(name);
    if (!/^([IU]\d+|BOOL)$/.test(dtype)) {
      throw new SafetensorsError(
        `Cannot read tensor ${name} of ${this.name} as int32: its type is ${dtype}, not an integer type`,
        { source: this.name, tensor: name },
      );
    }
    const elements = await this.#elements(name);
    const outside = elements.find((value) => value !== (value | 0));
    if (outside !== undefined) {
      throw new SafetensorsError(`Cannot read tensor ${name} of ${this.name} as int32: it holds ${outside}`, {
        source: this.name,
        tensor: name,
        actual: outside,
      });
    }
    return elements instanceof Int32Array ? elements : Int32Array.from(elements);
  }

  async #elements(name: string): Promise<Elements> {
    const { dtype } = this.info(name);
    const elements = elementsOf((await this.read(name)).buffer, dtype);
    if (elements !== null) return elements;
    throw new SafetensorsError(
      `Cannot convert tensor ${name} of ${this.name}: type ${dtype} is not supported. Save it as F32, F16 or BF16`,
      { source: this.name, tensor: name },
    );
  }
}
