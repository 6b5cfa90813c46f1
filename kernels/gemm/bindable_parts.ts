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

interface Product {
  readonly a: MatrixView;
  readonly b: MatrixView;
  readonly y: MatrixView;
  /** First row of the result, which is that of a bias by rows. */
  readonly row: number;
  readonly m: number;
  readonly outer: number;
  readonly inner: number;
}

/**
 * Splits a batch of products into parts whose operands the device can bind and whose batch a grid
 * holds: whole if all tensors are small enough, otherwise by the outer batch, then the inner one,
 * then rows of the result. An operand that is still too large is bound as it is, which throws a
 * ShapeError.
 */
export function* bindableParts(
  gpu: Gpu,
  { a, b, y }: Record<"a" | "b" | "y", MatrixView>,
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
  const { a, b, y, row, m, outer, inner } = product;
  const { bias, residual, biasAxis, transposeA } = options;
  const limit = gpu.info.limits.maxStorageBufferBindingSize;
  const lengths = lengthsOf(product, options);
  const views = { a, b, y };
  const names = ["a", "b", "y"] as const;
  const windows = [
    ...names.map((name) => windowOf(views[name].tensor, views[name].offset, lengths[name])),
    ...residual ? [windowOf(residual, y.offset, lengths.y)] : [],
  ];
  const areBound = windows.every(({ bytes }) => bytes <= limit);
  const fits = areBound && outer * inner <= mostWorkgroups;
  const moved = (by: (view: MatrixView, name: typeof names[number]) => number, rest: Partial<Product>) => {
    const at = (name: typeof names[number]): MatrixView => {
      const view = views[name];
      return { ...view, offset: (view.offset ?? 0) + by(view, name) };
    };
    return partsOf(gpu, { ...product, a: at("a"), b: at("b"), y: at("y"), ...rest }, options);
  };
  if (!fits && outer > 1) {
    const count = areBound ? Math.max(1, Math.floor(mostWorkgroups / inner)) : 1;
    for (let i = 0; i < outer; i += count) {
      yield* moved(({ outerStride = 0 }) => i * outerStride, { outer: Math.min(count, outer - i) });
    }
    return;
  }
  if (!fits && inner > 1) {
    const count = areBound ? mostWorkgroups : 1;
    for (let i = 0; i < inner; i += count) {
      yield* moved(({ innerStride = 0 }) => i * innerStride, { inner: Math.min(count, inner - i) });
    }
    return;
  }
  // A bias by rows has no offset in the kernel, so its windows begin on the alignment.
  const unit = biasAxis === "row" ? alignment : 1;
  const rows = fits
    ? m
    : unit * unitsPerRange(gpu, Math.ceil(m / unit), unit * rowBytes(product, options), 4 * alignment);
  if (rows < m) {
    for (let first = 0; first < m; first += rows) {
      const count = Math.min(rows, m - first);
      const distances = { a: first * (transposeA ? 1 : a.rowStride), b: 0, y: first * y.rowStride };
      yield* moved((_, name) => distances[name], { row: row + first, m: count });
    }
    return;
  }
  const bind = (view: MatrixView, length: number): BoundView => ({
    ...view,
    bound: windowOf(view.tensor, view.offset, length),
    offset: (view.offset ?? 0) % alignment,
  });
  yield {
    m,
    outer,
    inner,
    a: bind(a, lengths.a),
    b: bind(b, lengths.b),
    y: bind(y, lengths.y),
    bias: bias && biasAxis === "row" ? bias.window(row, m) : bias,
    residual: residual && windowOf(residual, y.offset, lengths.y),
  };
}

/** The elements of each operand from its offset to its last element. */
function lengthsOf({ a, b, y, m, outer, inner }: Product, options: GemmOptions): Record<"a" | "b" | "y", number> {
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
