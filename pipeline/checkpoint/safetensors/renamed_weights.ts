/**
 * Tensors under other names: a checkpoint in one layout, read as if it were in another. Nothing is
 * copied.
 */

import { bitsOf, type TensorInfo } from "./format.ts";
import { Weights } from "./weights.ts";

/** The place of a renamed tensor in the underlying weights. */
export interface TensorView {
  /** The tensor's name there. */
  readonly key: string;
  /** The shape here. */
  readonly shape: readonly number[];
  /** The first byte in the tensor there: for rows in the middle of it. Default: 0. */
  readonly fromByte?: number;
  /** Whether the matrix there is transposed here. It is read whole. Default: false. */
  readonly isTransposed?: boolean;
}

/** A view of other weights: tensors renamed, reshaped, or cut from larger ones by rows. */
export class RenamedWeights extends Weights {
  readonly name: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly #base: Weights;
  readonly #views: ReadonlyMap<string, TensorView>;

  /** @throws {SafetensorsError} if the base lacks a tensor that a view looks at. */
  constructor(base: Weights, views: ReadonlyMap<string, TensorView>) {
    super();
    this.name = base.name;
    this.#base = base;
    this.#views = views;
    const infoOf = ({ key, shape, fromByte = 0 }: TensorView): TensorInfo => {
      const { dtype, bytes, shape: baseShape, offset } = base.info(key);
      const share = bytes === 0 ? 0 : elementsOf(shape) / elementsOf(baseShape);
      return { dtype, shape, offset: offset + fromByte, bytes: bytes * share };
    };
    this.tensors = new Map([...views].map(([name, view]) => [name, infoOf(view)]));
  }

  /** The names in the base that the views look at. */
  get baseKeys(): ReadonlySet<string> {
    return new Set([...this.#views.values()].map(({ key }) => key));
  }

  get metadata(): Readonly<Record<string, string>> {
    return this.#base.metadata;
  }

  async readRange(
    name: string,
    from: number,
    to: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>> {
    this.info(name); // says which tensor is not there
    const { key, fromByte = 0, isTransposed = false } = this.#views.get(name)!;
    if (isTransposed) {
      const part = transposed(await this.#base.read(key), this.#base.info(key)).subarray(from, to);
      if (into === undefined) return part;
      into.set(part);
      return into.subarray(0, part.length);
    }
    return await this.#base.readRange(key, fromByte + from, fromByte + to, into);
  }

  /** Closes what the view looks at. */
  close(): void {
    this.#base.close();
  }
}

/** The bytes of a matrix, transposed. */
export function transposed(
  bytes: Uint8Array<ArrayBuffer>,
  { shape: [rows, columns], dtype }: Pick<TensorInfo, "shape" | "dtype">,
): Uint8Array<ArrayBuffer> {
  const size = bitsOf[dtype] / 8, result = new Uint8Array(bytes.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const from = (row * columns + column) * size, to = (column * rows + row) * size;
      for (let i = 0; i < size; i++) result[to + i] = bytes[from + i];
    }
  }
  return result;
}

function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}
