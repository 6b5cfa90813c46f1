import { bytesPerElement } from "../../engine/dtype.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { alignmentBytes, type Tensor, type TensorWindow } from "../../engine/tensor.ts";

export { alignmentBytes } from "../../engine/tensor.ts";

/*
 * Launching kernels on tensors that are larger than the device's largest binding. Such a tensor is
 * processed in ranges, one dispatch each. A tensor that fits takes one range.
 */

/** Consecutive units of a tensor (elements, rows, planes): `count` of them from `first` on. */
export interface UnitRange {
  readonly first: number;
  readonly count: number;
}

/**
 * Number of units per range when `total` units are split into ranges of about equal length that the
 * device can bind, each with up to `leadIn` bytes before its first unit. At least 1, even where a
 * unit is too large.
 */
export function unitsPerRange(gpu: Gpu, total: number, unitBytes: number, leadIn: number = alignmentBytes): number {
  const limit = gpu.info.limits.maxStorageBufferBindingSize;
  if (total * unitBytes + leadIn <= limit) return total;
  const most = Math.max(1, Math.floor((limit - leadIn) / unitBytes));
  return Math.ceil(total / Math.ceil(total / most));
}

/**
 * Splits `total` units into ranges of about equal length that the device can bind, including up to
 * {@linkcode alignmentBytes} before the first unit. A unit that is too large to bind forms a range
 * of its own; binding it throws a ShapeError.
 */
function* bindableRanges(gpu: Gpu, total: number, unitBytes: number): Generator<UnitRange> {
  const length = unitsPerRange(gpu, total, unitBytes);
  for (let first = 0; first < total; first += length) yield { first, count: Math.min(length, total - first) };
}

/** A block of a matrix: some whole rows, or some columns of one row. */
export interface RowBlock {
  readonly row: number;
  readonly rows: number;
  readonly column: number;
  readonly columns: number;
}

/** Splits a matrix into blocks that the device can bind: of whole rows, or of parts of one row. */
export function* bindableBlocks(
  gpu: Gpu,
  { rows, columns, rowBytes, columnBytes }: Record<"rows" | "columns" | "rowBytes" | "columnBytes", number>,
): Generator<RowBlock> {
  if (rowBytes + alignmentBytes <= gpu.info.limits.maxStorageBufferBindingSize) {
    for (const { first, count } of bindableRanges(gpu, rows, rowBytes)) {
      yield { row: first, rows: count, column: 0, columns };
    }
    return;
  }
  for (let row = 0; row < rows; row++) {
    for (const { first, count } of bindableRanges(gpu, columns, columnBytes)) {
      yield { row, rows: 1, column: first, columns: count };
    }
  }
}

/**
 * Binds `count` elements from `first` on. The window begins at the aligned element at or before
 * `first`; the kernel skips `start` elements.
 */
export function bindRange(tensor: Tensor, first: number, count: number): { window: TensorWindow; start: number } {
  const start = first % (alignmentBytes / bytesPerElement[tensor.dtype]);
  return { window: tensor.window(first - start, start + count), start };
}

/** A tensor that {@linkcode launchOverRanges} splits. */
export interface RangeOperand {
  readonly tensor: Tensor;
  /** Elements of one unit. */
  readonly unit: number;
  /** First element of the first unit. Default: 0. */
  readonly first?: number;
}

/** One range of {@linkcode launchOverRanges}, bound. */
export interface BoundRange<N extends string> extends UnitRange {
  /** The part of each operand that belongs to the range. */
  readonly windows: Record<N, TensorWindow>;
  /** Where the range begins in each window, in accesses of `vectorWidth` elements. */
  readonly starts: Record<N, number>;
}

/**
 * Calls `run` for each range of units that the device can bind: once, unless an operand is larger
 * than the device's largest binding.
 *
 * @param total units of every operand
 * @param options.vectorWidth elements of one access, which must divide every unit. Default: 1
 *
 * ```ts
 * launchOverRanges(gpu, rows, { x: { tensor: x, unit: width }, y: { tensor: y, unit: width } },
 *   ({ count, windows, starts }) =>
 *     kernel.run(gpu, windows, { rows: count, x_start: starts.x, y_start: starts.y }));
 * ```
 */
export function launchOverRanges<N extends string>(
  gpu: Gpu,
  total: number,
  operands: Readonly<Record<N, RangeOperand>>,
  run: (range: BoundRange<N>) => void,
  { vectorWidth = 1 }: { vectorWidth?: number } = {},
): void {
  const entries = Object.entries<RangeOperand>(operands) as [N, RangeOperand][];
  const unitBytes = Math.max(...entries.map(([, { tensor, unit }]) => unit * bytesPerElement[tensor.dtype]));
  for (const range of bindableRanges(gpu, total, unitBytes)) {
    const windows = {} as Record<N, TensorWindow>, starts = {} as Record<N, number>;
    for (const [name, { tensor, unit, first = 0 }] of entries) {
      const begin = first + range.first * unit;
      const { window, start } = bindRange(tensor, begin, Math.min(range.count * unit, tensor.size - begin));
      windows[name] = window;
      starts[name] = start / vectorWidth;
    }
    run({ ...range, windows, starts });
  }
}

/**
 * {@linkcode launchOverRanges} for kernels that treat all elements alike and read vec4: ranges
 * begin on the alignment, so the kernel needs no starts.
 *
 * @param run receives the windows and the vec4 in each, the last of which may be partial
 */
export function launchOverVec4<N extends string>(
  gpu: Gpu,
  tensors: Readonly<Record<N, Tensor>>,
  run: (windows: Record<N, TensorWindow>, vec4Count: number) => void,
): void {
  // A range of this many elements begins on the alignment whatever the dtype, of 1 byte or more.
  const unit = alignmentBytes;
  const names = Object.keys(tensors) as N[];
  const { size } = tensors[names[0]];
  const operands = Object.fromEntries(names.map((name) => [name, { tensor: tensors[name], unit }]));
  launchOverRanges(gpu, Math.ceil(size / unit), operands as Record<N, RangeOperand>, ({ first, count, windows }) => {
    run(windows, Math.ceil(Math.min(count * unit, size - first * unit) / 4));
  });
}
