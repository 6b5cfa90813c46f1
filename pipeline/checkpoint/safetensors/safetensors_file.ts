/**
 * One safetensors file, opened for reading.
 *
 * @module
 */

import { SafetensorsError } from "../../errors.ts";
import type { ByteSource } from "../source/byte_source.ts";
import type { TensorInfo } from "./format.ts";
import { type Header, readHeader } from "./header.ts";
import { Weights } from "./weights.ts";

/**
 * One safetensors file.
 *
 * @example
 * ```ts
 * using file = await SafetensorsFile.open(await fileSource("model.safetensors"));
 * const weight = await file.float32("conv_in.weight"); // row-major
 * ```
 */
export class SafetensorsFile extends Weights {
  /** The source's name, for errors. */
  readonly name: string;
  /** The tensors by name. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The header's `__metadata__`; empty if the file has none. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly #source: ByteSource;

  private constructor(source: ByteSource, header: Header) {
    super();
    this.name = source.name;
    this.tensors = header.tensors;
    this.metadata = header.metadata;
    this.#source = source;
  }

  /**
   * Reads and checks the header; the tensors stay where they are. The source is closed if it is
   * refused.
   *
   * @throws {SafetensorsError} if the file breaks a rule of the format, naming the file, the tensor
   *   and the numbers.
   */
  static async open(source: ByteSource): Promise<SafetensorsFile> {
    try {
      return new SafetensorsFile(source, await readHeader(source));
    } catch (error) {
      source.close?.();
      throw error;
    }
  }

  /** Reads bytes `from` to `to` of a tensor. */
  async readRange(
    name: string,
    from: number,
    to: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const { offset, bytes } = this.info(name);
    if (!(Number.isSafeInteger(from) && Number.isSafeInteger(to) && 0 <= from && from <= to && to <= bytes)) {
      throw new SafetensorsError(
        `Cannot read bytes ${from} to ${to} of tensor ${name} in ${this.name} as it has ${bytes} bytes`,
        { source: this.name, tensor: name, expected: bytes, actual: to },
      );
    }
    return await this.#source.read(offset + from, to - from, into);
  }

  /** Closes the source. */
  close(): void {
    this.#source.close?.();
  }
}
