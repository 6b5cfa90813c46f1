import { bytesPerElement } from "../../engine/dtype.ts";
import { DTypeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { declareKernel, storage } from "../../engine/kernel/kernel.ts";
import type { Tensor } from "../../engine/tensor.ts";
import {
  elementwise,
  elementwiseConstantTypes,
  elementwiseGrid,
  elementwiseParams,
  elementwiseWgsl,
} from "../wgsl/elementwise.ts";
import { bindFrom, stretches } from "../wgsl/launch.ts";

/** Numbers are moved as words of four bytes, whatever they are: one word an access, or four. */
const copyKernel = declareKernel({
  name: "copy_block",
  bindings: { x: storage("read", "array<word>"), y: storage("write", "array<word>") },
  params: { ...elementwiseParams, x_start: "u32", x_stride: "u32", y_start: "u32", y_stride: "u32" },
  constants: { word: "type", ...elementwiseConstantTypes },
  wgsl: /* wgsl */ `
fn element(row: u32, column: u32) {
  y[params.y_start + row * params.y_stride + column] = x[params.x_start + row * params.x_stride + column];
}
${elementwiseWgsl}`,
  grid: (params, constants) => elementwiseGrid(params, constants),
  cost: ({ rows, columns }, { word }) => ({ flops: 0, bytes: rows * columns * (word === "u32" ? 8 : 32) }),
});

/** Where a block of rows lies in a tensor; all numbers count elements. */
export interface Block {
  readonly tensor: Tensor;
  readonly start: number;
  readonly stride: number;
}

/**
 * Copies `rows` rows of `length` elements, in fours where everything divides: what slicing and
 * joining are made of.
 *
 * A software device copies between buffers at memory's speed, ten times a kernel's (2²² numbers:
 * 1.3 ms against 9.7; 10 µs a copy); on a GPU leaving the compute pass for it costs more than the
 * copy.
 *
 * @throws {DTypeError} when f16 rows do not begin and end on whole words of four bytes
 */
export function copyBlock(from: Block, to: Block, { rows, length }: { rows: number; length: number }): void {
  const { gpu, dtype } = to.tensor;
  const width = bytesPerElement[dtype];
  if (rows === 0 || length === 0) return;
  if (from.stride === length && to.stride === length || rows === 1) {
    // One long row.
    length *= rows;
    rows = 1;
    [from, to] = [{ ...from, stride: length }, { ...to, stride: length }];
  }
  const measures = [length, from.start, from.stride, to.start, to.stride].map((count) => count * width);
  if (measures.some((bytes) => bytes % 4 !== 0)) {
    throw new DTypeError(
      `Cannot copy rows of ${length} ${dtype} elements as rows must begin and end on whole words of 4 bytes`,
    );
  }
  if (gpu.info.deviceClass === "software" && length * width >= bytesWorthACopy) {
    for (let row = 0; row < rows; row++) {
      const source = (from.start + row * from.stride) * width, target = (to.start + row * to.stride) * width;
      gpu.context.recorder.copy({
        source: from.tensor.buffer,
        sourceOffset: source,
        target: to.tensor.buffer,
        targetOffset: target,
        bytes: length * width,
      });
    }
    return;
  }
  const elementsPerWord = (measures.every((bytes) => bytes % 16 === 0) ? 16 : 4) / width;
  for (const piece of pieces(gpu, Math.max(from.stride, to.stride) * width, rows, length, 16 / width)) {
    const { row, column } = piece;
    const reach = (stride: number) => (piece.rows - 1) * stride + piece.columns;
    const x = bindFrom(from.tensor, from.start + row * from.stride + column, reach(from.stride));
    const y = bindFrom(to.tensor, to.start + row * to.stride + column, reach(to.stride));
    const { params, constants } = elementwise(gpu, piece.rows, piece.columns / elementsPerWord);
    copyKernel.run(
      gpu,
      { x: x.window, y: y.window },
      {
        ...params,
        x_start: x.start / elementsPerWord,
        x_stride: from.stride / elementsPerWord,
        y_start: y.start / elementsPerWord,
        y_stride: to.stride / elementsPerWord,
      },
      { word: elementsPerWord * width === 4 ? "u32" : "vec4u", ...constants },
    );
  }
}

/** Rows from here on are copied apart on software devices. */
const bytesWorthACopy = 8192;

/**
 * Parts of a block that the device can bind: whole rows together, or parts of one row, which begin
 * on multiples of `step` columns.
 */
function* pieces(
  gpu: Gpu,
  strideBytes: number,
  rows: number,
  length: number,
  step: number,
): Generator<{ row: number; rows: number; column: number; columns: number }> {
  const limit = gpu.info.limits.maxStorageBufferBindingSize;
  if (strideBytes + 256 <= limit) {
    for (const { first, count } of stretches(gpu, rows, strideBytes)) {
      yield { row: first, rows: count, column: 0, columns: length };
    }
    return;
  }
  for (let row = 0; row < rows; row++) {
    for (const { first, count } of stretches(gpu, Math.ceil(length / step), 16)) {
      const column = first * step;
      yield { row, rows: 1, column, columns: Math.min(count * step, length - column) };
    }
  }
}
