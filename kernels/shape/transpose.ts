import type { DType } from "../../engine/dtype.ts";
import { ShapeError } from "../../engine/errors.ts";
import { declareKernel, input, output, spread } from "../../engine/kernel/kernel.ts";
import { elements, Tensor } from "../../engine/tensor.ts";
import { launchOverRanges } from "../wgsl/launch.ts";

/**
 * Each invocation transposes a block of 4 × 4 elements in registers. A workgroup of 8 × 8
 * invocations transposes 32 × 32, so that loads and stores cover whole 128-byte lines without
 * workgroup memory. If either axis is not a multiple of 4, an invocation moves one element.
 */
const transposeKernel = declareKernel({
  name: "transpose",
  bindings: { x: input("X_WIDTH"), residual: input("X_WIDTH"), y: output("X_WIDTH") },
  // rows and columns count blocks of X_WIDTH elements; starts count accesses of X_WIDTH elements.
  params: {
    matrices: "u32",
    rows: "u32",
    columns: "u32",
    x_start: "u32",
    y_start: "u32",
    residual_start: "u32",
    has_residual: "u32",
  },
  constants: { X_WIDTH: "u32" },
  wgsl: ({ X_WIDTH }) => /* wgsl */ `
fn put(at: u32, value: ${X_WIDTH === 4 ? "vec4f" : "f32"}) {
  if (params.has_residual == 1u) { y_put(at, value + residual_at(at - params.y_start + params.residual_start)); } else { y_put(at, value); }
}
@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) lane: vec3u) {
  let workgroup = group.x + group.y * groups.x;
  let across = (params.columns + 7u) / 8u;
  let down = (params.rows + 7u) / 8u;
  let matrix = workgroup / across / down;
  let row = workgroup / across % down * 8u + lane.y;
  let column = workgroup % across * 8u + lane.x;
  if (matrix >= params.matrices || row >= params.rows || column >= params.columns) { return; }
  let size = params.rows * params.columns * X_WIDTH;
  let x_at_block = params.x_start + matrix * size + row * X_WIDTH * params.columns + column;
  let y_at_block = params.y_start + matrix * size + column * X_WIDTH * params.rows + row;
  ${
    X_WIDTH === 1 ? "put(y_at_block, x_at(x_at_block));" : `
  let block = transpose(mat4x4f(
    x_at(x_at_block),
    x_at(x_at_block + params.columns),
    x_at(x_at_block + 2u * params.columns),
    x_at(x_at_block + 3u * params.columns),
  ));
  put(y_at_block, block[0]);
  put(y_at_block + params.rows, block[1]);
  put(y_at_block + 2u * params.rows, block[2]);
  put(y_at_block + 3u * params.rows, block[3]);`
  }
}`,
  grid: ({ matrices, rows, columns }) => spread(matrices * Math.ceil(rows / 8) * Math.ceil(columns / 8)),
  cost: ({ matrices, rows, columns }, { X_WIDTH }) => ({
    flops: 0,
    bytes: 8 * matrices * rows * columns * X_WIDTH ** 2,
  }),
});

/**
 * Swaps the last two axes: y[…, n, m] = x[…, m, n] + residual[…, n, m].
 *
 * @param x [..., M, N], f32 or f16
 * @param options.residual [..., N, M], f32 or f16
 * @param options.dtype dtype of the result; f16 requires M and N to be multiples of 4. Default:
 *   x's dtype
 * @returns [..., N, M]
 * @throws {ShapeError} when `x` has fewer than two axes, one matrix exceeds the binding limit, or
 *   the residual's shape differs from the result's
 * @throws {DTypeError} when the result is f16 and M or N is not a multiple of 4
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using x = Tensor.from(gpu, new Float32Array([1, 2, 3, 4, 5, 6]), [2, 3]);
 * using y = transpose(x); // [[1, 4], [2, 5], [3, 6]]
 * ```
 */
export function transpose(x: Tensor, options: { residual?: Tensor; dtype?: DType } = {}): Tensor {
  const { gpu, shape } = x;
  const { residual, dtype = x.dtype } = options;
  if (shape.length < 2) {
    throw new ShapeError(`Cannot transpose [${shape.join(", ")}] as two axes are needed: ${shape.length}`, [shape]);
  }
  const outer = shape.slice(0, -2), [rows, columns] = shape.slice(-2);
  const transposed = [...outer, columns, rows];
  if (residual && residual.shape.join() !== transposed.join()) {
    throw new ShapeError(
      `Cannot transpose [${shape.join(", ")}] and add [${residual.shape.join(", ")}] as that must be [${
        transposed.join(", ")
      }]`,
      [shape, residual.shape],
    );
  }
  return Tensor.filled(gpu, transposed, dtype, (y) => {
    const vectorWidth = rows % 4 === 0 && columns % 4 === 0 ? 4 : 1;
    const size = rows * columns;
    launchOverRanges(
      gpu,
      elements(outer),
      { x: { tensor: x, unit: size }, residual: { tensor: residual ?? x, unit: size }, y: { tensor: y, unit: size } },
      ({ count, windows, starts }) =>
        transposeKernel.run(
          gpu,
          windows,
          {
            matrices: count,
            rows: rows / vectorWidth,
            columns: columns / vectorWidth,
            x_start: starts.x,
            y_start: starts.y,
            residual_start: starts.residual,
            has_residual: residual ? 1 : 0,
          },
          { X_WIDTH: vectorWidth },
        ),
      { vectorWidth },
    );
  });
}
