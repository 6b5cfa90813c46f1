import { bytesPerElement } from "../../engine/dtype.ts";
import { DTypeError } from "../../engine/errors.ts";
import { declareKernel, storage } from "../../engine/kernel/kernel.ts";
import { checkDevice, type Tensor } from "../../engine/tensor.ts";
import {
  elementwise,
  elementwiseConstantTypes,
  elementwiseGrid,
  elementwiseParams,
  elementwiseWgsl,
} from "../wgsl/elementwise.ts";
import { bindableBlocks, bindRange } from "../wgsl/launch.ts";
import { policyOf } from "../policy.ts";

/** Copies 32-bit words regardless of dtype: one word (u32) or four (vec4u) per access. */
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

/** Position of a block of rows in a tensor. `start` and `stride` count elements. */
export interface Block {
  readonly tensor: Tensor;
  readonly start: number;
  readonly stride: number;
}

/**
 * Copies `rows` rows of `length` elements; `slice` and `concat` use it.
 * Accesses are 16 bytes wide where all offsets and lengths allow.
 *
 * On software devices, long rows are copied from buffer to buffer, which is faster than a kernel.
 * On GPUs a kernel is faster, because a buffer copy ends the compute pass. Measurements:
 * docs/tuning.md.
 *
 * @throws {DTypeError} when f16 rows do not begin and end at multiples of 4 bytes
 * @throws {GpuError} when the tensors belong to different devices
 */
export function copyBlock(from: Block, to: Block, { rows, length }: { rows: number; length: number }): void {
  const { gpu, dtype } = to.tensor;
  checkDevice(gpu, from.tensor, "copy");
  const width = bytesPerElement[dtype];
  if (rows === 0 || length === 0) return;
  if (from.stride === length && to.stride === length || rows === 1) {
    // Contiguous rows form one long row.
    length *= rows;
    rows = 1;
    [from, to] = [{ ...from, stride: length }, { ...to, stride: length }];
  }
  const measures = [length, from.start, from.stride, to.start, to.stride].map((count) => count * width);
  if (measures.some((bytes) => bytes % 4 !== 0)) {
    throw new DTypeError(
      `Cannot copy rows of ${length} ${dtype} elements as rows must begin and end at multiples of 4 bytes`,
    );
  }
  if (policyOf(gpu).passes.copiesBuffers(length * width)) {
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
  const step = 16 / width; // elements of the widest access
  const blocks = bindableBlocks(gpu, {
    rows,
    columns: Math.ceil(length / step),
    rowBytes: Math.max(from.stride, to.stride) * width,
    columnBytes: 16,
  });
  for (const block of blocks) {
    const column = block.column * step, columns = Math.min(block.columns * step, length - column);
    const bind = ({ tensor, start, stride }: Block) =>
      bindRange(tensor, start + block.row * stride + column, (block.rows - 1) * stride + columns);
    const x = bind(from), y = bind(to);
    const { params, constants } = elementwise(gpu, block.rows, columns / elementsPerWord);
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
