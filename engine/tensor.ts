import type { Storage } from "./context.ts";
import { bytesPerElement, decodeFloat32, type DType, dtypeOf, encode, type HostArray } from "./dtype.ts";
import { DTypeError, GpuError, ShapeError } from "./errors.ts";
import type { Gpu } from "./gpu.ts";

/**
 * A stretch of a tensor's elements: what a kernel binds when a tensor is larger than one storage
 * binding may be.
 */
export interface TensorWindow {
  readonly tensor: Tensor;
  readonly byteOffset: number;
  readonly bytes: number;
}

/**
 * An n-dimensional array in GPU memory, row-major and contiguous.
 *
 * A tensor made inside {@linkcode Gpu.scope} is disposed when the scope ends, unless the scope
 * returns it; one made outside belongs to its maker: declare it with `using`, or dispose of it.
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using x = Tensor.from(gpu, new Float32Array([1, 2, 3, 4]), [2, 2]);
 * console.log(x.shape, await x.data());
 * ```
 */
export class Tensor implements Disposable {
  /** The device that holds the numbers. */
  readonly gpu: Gpu;
  /** Lengths of the axes, outermost first. */
  readonly shape: readonly number[];
  /** Type of the elements. */
  readonly dtype: DType;
  /** Number of elements. */
  readonly size: number;
  readonly #storage: Storage;
  #disposed = false;

  private constructor(gpu: Gpu, shape: readonly number[], dtype: DType, storage: Storage) {
    this.gpu = gpu;
    this.shape = shape;
    this.dtype = dtype;
    this.size = elements(shape);
    this.#storage = storage;
    storage.owners++;
    gpu.context.scopes.adopt(this);
  }

  /**
   * A tensor with the numbers of `data`, row-major.
   *
   * @param dtype the type to store; by default the array's own (`Uint16Array` holds f16 bit
   *   patterns)
   * @throws {ShapeError} when `data` does not hold as many numbers as `shape`
   */
  static from(gpu: Gpu, data: HostArray, shape: readonly number[], dtype: DType = dtypeOf(data)): Tensor {
    if (data.length !== elements(shape)) {
      throw new ShapeError(
        `Cannot make a tensor [${shape.join(", ")}] as it needs ${elements(shape)} numbers: ${data.length} were given`,
        [shape],
      );
    }
    const tensor = Tensor.empty(gpu, shape, dtype);
    tensor.write(encode(data, dtype));
    return tensor;
  }

  /**
   * A tensor whose content is undefined: for kernels that write all of it. `exact` asks for memory
   * without slack, for weights.
   */
  static empty(gpu: Gpu, shape: readonly number[], dtype: DType = "f32", options: { exact?: boolean } = {}): Tensor {
    if (!shape.every((length) => Number.isSafeInteger(length) && length >= 0)) {
      throw new ShapeError(`Cannot make a tensor [${shape.join(", ")}] as axis lengths are whole numbers from 0`, [
        shape,
      ]);
    }
    const bytes = elements(shape) * bytesPerElement[dtype];
    return new Tensor(gpu, [...shape], dtype, gpu.context.allocate(bytes, options.exact));
  }

  /** Number of bytes that the elements take. */
  get bytes(): number {
    return this.size * bytesPerElement[this.dtype];
  }

  /**
   * The buffer behind the tensor.
   * @throws {GpuError} when the tensor has been disposed
   */
  get buffer(): GPUBuffer {
    if (this.#disposed) throw new GpuError(`Cannot use a tensor [${this.shape.join(", ")}] after it was disposed`);
    return this.#storage.buffer;
  }

  /**
   * The shape as a tuple of `rank` numbers: `const [batch, channels, height, width] = x.dims(4);`
   * @throws {ShapeError} when the tensor has another rank
   */
  dims(rank: 1): [number];
  dims(rank: 2): [number, number];
  dims(rank: 3): [number, number, number];
  dims(rank: 4): [number, number, number, number];
  dims(rank: number): number[] {
    if (this.shape.length !== rank) {
      throw new ShapeError(`Expected a tensor of ${rank} axes: [${this.shape.join(", ")}] has ${this.shape.length}`, [
        this.shape,
      ]);
    }
    return [...this.shape];
  }

  /**
   * The same numbers under another shape. Nothing is copied: both tensors look at one buffer, which
   * is freed with the last of them.
   * @throws {ShapeError} when the number of elements differs
   */
  reshape(shape: readonly number[]): Tensor {
    if (elements(shape) !== this.size) {
      throw new ShapeError(
        `Cannot reshape [${this.shape.join(", ")}] to [${
          shape.join(", ")
        }] as both must hold as many numbers: ${this.size} ≠ ${elements(shape)}`,
        [this.shape, shape],
      );
    }
    this.buffer; // a disposed tensor has nothing to share
    return new Tensor(this.gpu, [...shape], this.dtype, this.#storage);
  }

  /**
   * `count` elements from `first`, to bind alone. `first` must fall on the device's binding
   * alignment (256 bytes at most).
   */
  window(first: number, count: number): TensorWindow {
    const width = bytesPerElement[this.dtype];
    return { tensor: this, byteOffset: first * width, bytes: count * width };
  }

  /**
   * Overwrites the bytes from `byteOffset` on. What was recorded before still reads the old
   * numbers.
   *
   * @throws {ShapeError} when the bytes leave the tensor, or are not whole words of 4 (only the
   *   tensor's last may be shorter)
   */
  write(bytes: Uint8Array<ArrayBuffer>, byteOffset = 0): void {
    if (byteOffset + bytes.byteLength > this.bytes) {
      throw new ShapeError(
        `Cannot write ${bytes.byteLength} bytes at ${byteOffset} of a tensor [${
          this.shape.join(", ")
        }] of ${this.bytes} bytes`,
        [this.shape],
      );
    }
    if (byteOffset % 4 !== 0 || bytes.byteLength % 4 !== 0 && byteOffset + bytes.byteLength < this.bytes) {
      throw new ShapeError(
        `Cannot write ${bytes.byteLength} bytes at ${byteOffset} of a tensor [${
          this.shape.join(", ")
        }] as WebGPU writes whole words of 4 bytes`,
        [this.shape],
      );
    }
    this.gpu.context.write(this.buffer, bytes, byteOffset);
  }

  /**
   * Reads the elements back as f32. Waits for all recorded work; each call is a fence (some 11 ms
   * in Deno).
   */
  async data(): Promise<Float32Array<ArrayBuffer>> {
    return decodeFloat32(await this.gpu.context.read(this.buffer, this.bytes), this.dtype, this.size);
  }

  /**
   * Reads an f64 tensor back without rounding; an f32 one is widened.
   * @throws {DTypeError} for other types
   */
  async float64(): Promise<Float64Array<ArrayBuffer>> {
    const bytes = await this.gpu.context.read(this.buffer, this.bytes);
    if (this.dtype === "f64") return new Float64Array(bytes, 0, this.size);
    if (this.dtype === "f32") return Float64Array.from(new Float32Array(bytes, 0, this.size));
    throw new DTypeError(`Cannot read ${this.dtype} elements as f64`);
  }

  /** Takes the tensor out of the scope it was made in: from here on it belongs to the caller. */
  keep(): this {
    this.gpu.context.scopes.abandon(this);
    return this;
  }

  /** Frees the memory, or this tensor's share of it. Disposing twice is harmless. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.gpu.context.scopes.abandon(this);
    if (--this.#storage.owners === 0) this.gpu.context.free(this.#storage);
  }
}

/** The number of elements of a shape; 1 for a scalar's empty shape. */
export function elements(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}
