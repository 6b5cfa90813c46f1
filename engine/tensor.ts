import { byteText, inspectAs } from "./inspect.ts";
import type { Storage } from "./context.ts";
import { bytesPerElement, decodeFloat32, type DType, dtypeOf, encode, type HostArray } from "./dtype.ts";
import { DTypeError, GpuError, ShapeError } from "./errors.ts";
import type { Gpu } from "./gpu.ts";

/** Windows start at multiples of this many bytes: the largest alignment that WebGPU allows. */
export const alignmentBytes = 256;

/**
 * A range of a tensor's elements, to bind a tensor that is larger than a storage binding may be.
 */
export interface TensorWindow {
  /** The tensor. */
  readonly tensor: Tensor;
  /** Start of the range, in bytes. */
  readonly byteOffset: number;
  /** Length of the range, in bytes. */
  readonly bytes: number;
}

/**
 * An n-dimensional array in GPU memory, row-major and contiguous.
 *
 * {@linkcode Gpu.scope} disposes of the tensors made inside it, except those that it returns. A
 * tensor made outside any scope belongs to the caller: declare it with `using`, or dispose of it.
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using x = Tensor.from(gpu, new Float32Array([1, 2, 3, 4]), [2, 2]);
 * console.log(x.shape, await x.data());
 * ```
 */
export class Tensor implements Disposable {
  /** The device that holds the elements. */
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
   * A tensor with the elements of `data`, row-major.
   *
   * @param dtype the type to store. Default: the array's own (`Uint16Array` holds f16 bit
   *   patterns).
   * @throws {DTypeError} when `data` is no such array
   * @throws {ShapeError} when the length of `data` does not match `shape`
   */
  static from(gpu: Gpu, data: HostArray, shape: readonly number[], dtype: DType = dtypeOf(data)): Tensor {
    if (data.length !== elements(shape)) {
      throw new ShapeError(
        `Cannot make a tensor [${shape.join(", ")}] from ${data.length} elements: the shape holds ${elements(shape)}`,
        [shape],
      );
    }
    const bytes = encode(data, dtype);
    return Tensor.filled(gpu, shape, dtype, (tensor) => tensor.write(bytes));
  }

  /**
   * A tensor with undefined content, for kernels that write all of it. `exact` asks for memory
   * without slack, for weights.
   *
   * @throws {ShapeError} when a length is no integer from 0 on
   * @throws {OutOfMemoryError} when the tensor is larger than the device's largest buffer. Also
   *   when the device is out of memory: that is thrown by the next wait, because WebGPU reports it
   *   later
   */
  static empty(gpu: Gpu, shape: readonly number[], dtype: DType = "f32", options: { exact?: boolean } = {}): Tensor {
    if (!shape.every((length) => Number.isSafeInteger(length) && length >= 0)) {
      throw new ShapeError(`Cannot make a tensor [${shape.join(", ")}]: axis lengths must be integers ≥ 0`, [
        shape,
      ]);
    }
    if (!Object.hasOwn(bytesPerElement, dtype)) {
      throw new DTypeError(
        `Cannot make a tensor of ${dtype} as a dtype must be ${Object.keys(bytesPerElement).join(", ")}`,
      );
    }
    const bytes = elements(shape) * bytesPerElement[dtype];
    return new Tensor(gpu, [...shape], dtype, gpu.context.allocate(bytes, options.exact));
  }

  /**
   * A new tensor whose elements `fill` writes, all of them. It is disposed of where `fill` throws.
   */
  static filled(gpu: Gpu, shape: readonly number[], dtype: DType, fill: (tensor: Tensor) => void): Tensor {
    const tensor = Tensor.empty(gpu, shape, dtype);
    try {
      fill(tensor);
    } catch (error) {
      tensor[Symbol.dispose]();
      throw error;
    }
    return tensor;
  }

  /** Whether the tensor has been disposed of. */
  get isDisposed(): boolean {
    return this.#disposed;
  }

  /** Size of the elements, in bytes. */
  get bytes(): number {
    return this.size * bytesPerElement[this.dtype];
  }

  /**
   * The tensor's buffer.
   * @throws {GpuError} when the tensor has been disposed
   */
  get buffer(): GPUBuffer {
    if (this.#disposed) throw new GpuError(`Cannot use a tensor [${this.shape.join(", ")}] after it was disposed`);
    return this.#storage.buffer;
  }

  /**
   * The shape as a tuple of `rank` lengths: `const [batch, channels, height, width] = x.dims(4);`
   * @throws {ShapeError} when the tensor has another rank
   */
  dims(rank: 1): [number];
  /** For rank 2. */
  dims(rank: 2): [number, number];
  /** For rank 3. */
  dims(rank: 3): [number, number, number];
  /** For rank 4. */
  dims(rank: 4): [number, number, number, number];
  dims(rank: number): number[] {
    if (this.shape.length !== rank) {
      throw new ShapeError(
        `Expected a tensor of rank ${rank}: [${this.shape.join(", ")}] has rank ${this.shape.length}`,
        [
          this.shape,
        ],
      );
    }
    return [...this.shape];
  }

  /**
   * The same elements in another shape, without a copy. Both tensors share one buffer, which is
   * freed with the last of them.
   * @throws {ShapeError} when the number of elements differs
   */
  reshape(shape: readonly number[]): Tensor {
    if (elements(shape) !== this.size) {
      throw new ShapeError(
        `Cannot reshape [${this.shape.join(", ")}] to [${
          shape.join(", ")
        }]: the number of elements must be the same, ${this.size} ≠ ${elements(shape)}`,
        [this.shape, shape],
      );
    }
    this.buffer; // throws when disposed
    return new Tensor(this.gpu, [...shape], this.dtype, this.#storage);
  }

  /**
   * The range of `count` elements from `first`. It must begin at a multiple of 256 bytes.
   *
   * @throws {ShapeError} when the range is not inside the tensor, or begins off the alignment
   */
  window(first: number, count: number): TensorWindow {
    const width = bytesPerElement[this.dtype];
    const isWhole = (number: number) => Number.isSafeInteger(number) && number >= 0;
    const refuse = (why: string) => {
      throw new ShapeError(
        `Cannot take ${count} elements from ${first} on of a tensor [${this.shape.join(", ")}] as ${why}`,
        [this.shape],
      );
    };
    if (!(isWhole(first) && isWhole(count))) refuse("both must be whole numbers of at least 0");
    if (first + count > this.size) refuse(`it holds ${this.size} elements`);
    if (first * width % alignmentBytes !== 0) {
      refuse(`a window of ${this.dtype} must begin at a multiple of ${alignmentBytes / width} elements`);
    }
    return { tensor: this, byteOffset: first * width, bytes: count * width };
  }

  /**
   * Overwrites the bytes from `byteOffset`. Work recorded before still reads the old elements.
   *
   * @throws {ShapeError} when the bytes exceed the tensor, or are not whole 4-byte words (only the
   *   tensor's last word may be partial)
   */
  write(bytes: Uint8Array<ArrayBuffer>, byteOffset = 0): void {
    checkWrite(this, bytes, byteOffset);
    this.gpu.context.write(this.buffer, bytes, byteOffset);
  }

  /**
   * Reads the elements back as f32. Waits for all recorded work, so avoid it in loops.
   * @throws {GpuError} when recorded work failed
   */
  async data(): Promise<Float32Array<ArrayBuffer>> {
    return decodeFloat32(await this.gpu.context.read(this.buffer, this.bytes), this.dtype, this.size);
  }

  /**
   * Reads an f64 tensor back without rounding, or widens an f32 one.
   * @throws {DTypeError} for other dtypes
   */
  async float64(): Promise<Float64Array<ArrayBuffer>> {
    const bytes = await this.gpu.context.read(this.buffer, this.bytes);
    if (this.dtype === "f64") return new Float64Array(bytes, 0, this.size);
    if (this.dtype === "f32") return Float64Array.from(new Float32Array(bytes, 0, this.size));
    throw new DTypeError(`Cannot read ${this.dtype} elements as f64: only f64 and f32 tensors`);
  }

  /** Removes the tensor from its scope: from now on it belongs to the caller. */
  keep(): this {
    this.gpu.context.scopes.abandon(this);
    return this;
  }

  /** Frees the memory once no other tensor shares it. Disposing twice is harmless. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.gpu.context.scopes.abandon(this);
    if (--this.#storage.owners === 0) this.gpu.context.free(this.#storage);
  }
}

/**
 * Refuses a tensor of another device than the one that it is used on, before it is recorded: WebGPU
 * would report it later, and reject all work that was recorded with it.
 *
 * @param what what was asked for, for the message
 * @throws {GpuError} when the tensor belongs to another {@linkcode Gpu}
 */
export function checkDevice(gpu: Gpu, tensor: Tensor, what: string): void {
  if (tensor.gpu === gpu) return;
  throw new GpuError(
    `Cannot ${what} [${tensor.shape.join(", ")}] as it belongs to another Gpu: tensors of one operation must be of ` +
      "one Gpu. Make it there, for example from its data()",
  );
}

/**
 * Checks bytes that are to be written into a tensor: WebGPU writes whole words.
 *
 * @throws {ShapeError} when the bytes exceed the tensor, or are not whole 4-byte words (only the
 *   tensor's last word may be partial)
 */
export function checkWrite(tensor: Tensor, { byteLength }: Uint8Array, byteOffset: number): void {
  const end = byteOffset + byteLength;
  if (
    byteOffset % 4 === 0 && byteOffset >= 0 && end <= tensor.bytes && (byteLength % 4 === 0 || end === tensor.bytes)
  ) return;
  throw new ShapeError(
    `Cannot write ${byteLength} bytes at ${byteOffset} of a tensor [${
      tensor.shape.join(", ")
    }] of ${tensor.bytes} bytes: whole 4-byte words inside the tensor are required`,
    [tensor.shape],
  );
}

/** The number of elements of a shape: 1 for a scalar's empty shape. */
export function elements(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}

inspectAs(Tensor.prototype, (tensor) => {
  if (!(tensor instanceof Tensor)) return "Tensor";
  return `Tensor [${tensor.shape.join(", ")}] ${tensor.dtype}, ${byteText(tensor.bytes)}${
    tensor.isDisposed ? ", disposed" : ""
  }`;
});
