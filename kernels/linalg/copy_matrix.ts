import { ShapeError } from "../../engine/errors.ts";
import { declareKernel, storage } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";
import { flatGrid, flatWgsl } from "../wgsl/elementwise.ts";
import type { Block, Real } from "./real_product.ts";

/** Options of {@linkcode copyMatrix}. */
export interface CopyMatrixOptions {
  /** Shape of the copy. Elements outside the block are 0. Default: the block's shape. */
  readonly shape?: readonly [number, number];
  /** Dtype of the copy. Default: the matrix's dtype. */
  readonly real?: Real;
  /** Diagonal elements outside the block. Default: 0. */
  readonly padDiagonal?: number;
  /** Added to the diagonal within the block; one element per row. Default: none. */
  readonly addDiagonal?: Tensor;
  /** Factors of the columns, one element per column. Default: none. */
  readonly scaleColumns?: Tensor;
}

const copyKernel = declareKernel({
  name: "copy_matrix",
  bindings: {
    x: storage("read", "array<source>"),
    diagonal: storage("read", "array<diagonal_real>"),
    scale: storage("read", "array<scale_real>"),
    y: storage("write", "array<result>"),
  },
  // Columns, starts and strides count accesses: one element, or one vec4.
  params: {
    rows: "u32",
    columns: "u32",
    from_rows: "u32",
    from_columns: "u32",
    start: "u32",
    stride: "u32",
    pad: "f32",
  },
  constants: {
    source: "type",
    diagonal_real: "type",
    scale_real: "type",
    real: "type",
    result: "type",
    DIAGONAL: "bool",
    SCALE: "bool",
  },
  wgsl: /* wgsl */ `
fn element(at: u32) {
  let row = at / params.columns;
  let column = at % params.columns;
  var value = result();
  if (row < params.from_rows && column < params.from_columns) {
    value = result(x[params.start + row * params.stride + column]);
    if (SCALE) { value = value * result(scale[column]); }
    if (DIAGONAL) { if (row == column) { value = value + result(diagonal[row]); } }
  } else if (row == column) {
    value = result(real(params.pad));
  }
  y[at] = value;
}
${flatWgsl("params.rows * params.columns")}`,
  grid: ({ rows, columns }) => flatGrid(rows * columns),
  cost: ({ rows, columns, from_rows, from_columns }, { source, result }) => ({
    flops: 0,
    bytes: rows * columns * bytesOf(result) + from_rows * from_columns * bytesOf(source),
  }),
});

const bytesOf = (type: string) => (type.startsWith("vec4") ? 4 : 1) * (type.includes("f64") ? 8 : 4);

/**
 * Copies a block of an f32 or f64 matrix. Options pad it, convert it, scale its columns and add to
 * its diagonal, in that order of effect: y = block · diag(scaleColumns) + diag(addDiagonal).
 *
 * @throws {ShapeError} when the block exceeds its matrix
 */
export function copyMatrix(block: Block, options: CopyMatrixOptions = {}): Tensor {
  const { matrix, row = 0, column = 0 } = block;
  const [height, width] = matrix.dims(2);
  const blockRows = block.rows ?? height - row, blockColumns = block.columns ?? width - column;
  if (row + blockRows > height || column + blockColumns > width) {
    throw new ShapeError(
      `Cannot copy ${blockRows} × ${blockColumns} elements from row ${row}, column ${column} as the block must lie inside the matrix: [${height}, ${width}]`,
      [matrix.shape],
    );
  }
  const [rows, columns] = options.shape ?? [blockRows, blockColumns];
  const real = options.real ?? matrix.dtype;
  return Tensor.filled(matrix.gpu, [rows, columns], real, (y) => {
    const { padDiagonal = 0, addDiagonal, scaleColumns } = options;
    const plain = padDiagonal === 0 && !addDiagonal && !scaleColumns;
    const vectorWidth = plain && [width, column, blockColumns, columns].every((count) => count % 4 === 0) ? 4 : 1;
    const type = (dtype: string) => vectorWidth === 4 ? `vec4<${dtype}>` : dtype;
    copyKernel.run(
      matrix.gpu,
      { x: matrix, diagonal: addDiagonal ?? matrix, scale: scaleColumns ?? matrix, y },
      {
        rows,
        columns: columns / vectorWidth,
        from_rows: Math.min(blockRows, rows),
        from_columns: Math.min(blockColumns, columns) / vectorWidth,
        start: (row * width + column) / vectorWidth,
        stride: width / vectorWidth,
        pad: padDiagonal,
      },
      {
        source: type(matrix.dtype),
        diagonal_real: addDiagonal?.dtype ?? type(matrix.dtype),
        scale_real: scaleColumns?.dtype ?? type(matrix.dtype),
        real,
        result: type(real),
        DIAGONAL: addDiagonal !== undefined,
        SCALE: scaleColumns !== undefined,
      },
    );
  });
}
