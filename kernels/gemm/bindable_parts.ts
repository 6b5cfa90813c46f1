import { bytesPerElement } from "../../engine/dtype.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { mostWorkgroups } from "../../engine/kernel/kernel.ts";
import type { Tensor, TensorWindow } from "../../engine/tensor.ts";
import { unitsPerRange } from "../wgsl/launch.ts";
import type { GemmOptions, MatrixView } from "./gemm_options.ts";

/** A window begins at a multiple of this many elements: 256 bytes in f16, 512 in f32. */
const alignment = 128;

/** A view, and the part of its tensor that is bound. The view's offset counts from there. */
export interface BoundView extends MatrixView {
  readonly bound: Tensor | TensorWindow;
}

/** A product whose operands the device can bind; see {@linkcode bindableParts}. */
export interface ProductPart {
  readonly a: BoundView;
  readonly b: BoundView;
  readonly y: BoundView;
  readonly residual?: Tensor | TensorWindow;
  readonly bias?: Tensor | TensorWindow;
  readonly m: number;
  readonly outer: number;
  readonly inner: number;
}

type Name = "a" | "b" | "y";

/** A batch of products, which are the whole or a part of it. */
interface Product extends Readonly<Record<Name, MatrixView>> {
  /** First row of the result, which is that of a bias by rows. */
  readonly row: number;
  readonly m: number;
  readonly outer: number;
  readonly inner: number;
}

/** An axis along which a product is split. */
interface Split {
  readonly length: number;
  /** The most that a part takes of the length. */
  readonly count: number;
  readonly part: (first: number, count: number) => Product;
}

/**
 * Splits a batch of products into parts whose operands the device can bind and whose batch a grid
 * holds: whole if all tensors are small enough, otherwise by the outer batch, then the inner one,
 * then rows of the result. An operand that is still too large is bound as it is, which throws a
 * ShapeError.
 */
export function* bindableParts(
  gpu: Gpu,
  { a, b, y }: Record<Name, MatrixView>,
  options: GemmOptions,
): Generator<ProductPart> {
  const { m, outer = 1, inner = 1, residual, bias } = options;
  const limit = gpu.info.limits.maxStorageBufferBindingSize;
  const areBound = [a.tensor, b.tensor, y.tensor, residual].every((tensor) => !tensor || tensor.bytes <= limit);
  if (areBound && outer * inner <= mostWorkgroups) {
    const whole = (view: MatrixView) => ({ ...view, bound: view.tensor });
    yield { a: whole(a), b: whole(b), y: whole(y), residual, bias, m, outer, inner };
    return;
  }
  yield* partsOf(gpu, { a, b, y, row: 0, m, outer, inner }, options);
}

function* partsOf(gpu: Gpu, product: Product, options: GemmOptions): Generator<ProductPart> {
  const split = splitOf(gpu, product, options);
  if (!split) {
    yield boundPart(product, options);
    return;
  }
  const { length, count, part } = split;
  for (let first = 0; first < length; first += count) {
    yield* partsOf(gpu, part(first, Math.min(count, length - first)), options);
  }
}

/** The next split of a product; undefined where it fits, or where no split makes it fit. */
function splitOf(gpu: Gpu, product: Product, options: GemmOptions): Split | undefined {
  const { a, y, row, m, outer, inner } = product, { biasAxis, transposeA } = options;
  const limit = gpu.info.limits.maxStorageBufferBindingSize;
  const isBindable = Object.values(windowsOf(product, options)).every((window) => !window || window.bytes <= limit);
  if (isBindable && outer * inner <= mostWorkgroups) return undefined;
  if (outer > 1) {
    return {
      length: outer,
      count: isBindable ? Math.max(1, Math.floor(mostWorkgroups / inner)) : 1,
      part: (first, outer) => ({ ...moved(product, ({ outerStride = 0 }) => first * outerStride), outer }),
    };
  }
  if (inner > 1) {
    return {
      length: inner,
      count: isBindable ? mostWorkgroups : 1,
      part: (first, inner) => ({ ...moved(product, ({ innerStride = 0 }) => first * innerStride), inner }),
    };
  }
  // A bias by rows has no offset in the kernel, so its windows begin on the alignment.
  const unit = biasAxis === "row" ? alignment : 1;
  const count = unit * unitsPerRange(gpu, Math.ceil(m / unit), unit * rowBytes(product, options), 4 * alignment);
  if (count >= m) return undefined;
  const distances = { a: transposeA ? 1 : a.rowStride, b: 0, y: y.rowStride };
  return {
    length: m,
    count,
    part: (first, m) => ({ ...moved(product, (_, name) => first * distances[name]), row: row + first, m }),
  };
}

/** A product whose operands begin `by(operand)` elements further on. */
function moved(product: Product, by: (view: MatrixView, name: Name) => number): Product {
  const at = (name: Name): MatrixView => {
    const view = product[name];
    return { ...view, offset: (view.offset ?? 0) + by(view, name) };
  };
  return { ...product, a: at("a"), b: at("b"), y: at("y") };
}

/** Binds the windows of a product. Offsets then count from their beginnings. */
function boundPart(product: Product, options: GemmOptions): ProductPart {
  const { row, m, outer, inner } = product, { bias, biasAxis } = options;
  const { residual, ...windows } = windowsOf(product, options);
  const bound = (name: Name): BoundView => {
    const view = product[name];
    return { ...view, bound: windows[name], offset: (view.offset ?? 0) % alignment };
  };
  return {
    ...{ m, outer, inner, a: bound("a"), b: bound("b"), y: bound("y"), residual },
    bias: bias && biasAxis === "row" ? bias.window(row, m) : bias,
  };
}

/** The windows of the operands. That of a residual is laid out as the result's. */
function windowsOf(product: Product, options: GemmOptions): Record<Name, TensorWindow> & { residual?: TensorWindow } {
  const { a, b, y } = product, { residual } = options;
  const lengths = lengthsOf(product, options);
  return {
    a: windowOf(a.tensor, a.offset, lengths.a),
    b: windowOf(b.tensor, b.offset, lengths.b),
    y: windowOf(y.tensor, y.offset, lengths.y),
    residual: residual && windowOf(residual, y.offset, lengths.y),
  };
}

/** The elements of each operand from its offset to its last element. */
function lengthsOf({ a, b, y, m, outer, inner }: Product, options: GemmOptions): Record<Name, number> {
  const { k, transposeA, transposeB } = options;
  const columns = options.gated ? 2 * options.n : options.n;
  const length = ({ rowStride, outerStride = 0, innerStride = 0 }: MatrixView, rows: number, width: number) =>
    (outer - 1) * outerStride + (inner - 1) * innerStride + (rows - 1) * rowStride + width;
  return {
    a: transposeA ? length(a, k, m) : length(a, m, k),
    b: transposeB ? length(b, columns, k) : length(b, k, columns),
    y: length(y, m, options.n),
  };
}

/** The bytes of the longest row among those of the operands that have the result's rows. */
function rowBytes({ a, y }: Product, { transposeA, residual }: GemmOptions): number {
  const bytes = ({ tensor, rowStride }: MatrixView) => rowStride * bytesPerElement[tensor.dtype];
  return Math.max(transposeA ? 0 : bytes(a), bytes(y), residual ? y.rowStride * bytesPerElement[residual.dtype] : 0);
}

/** The window of `length` elements from `offset` on; it begins on the alignment before. */
function windowOf(tensor: Tensor, offset: number | undefined, length: number): TensorWindow {
  const first = offset ?? 0, start = first % alignment;
  return tensor.window(first - start, start + length);
}
