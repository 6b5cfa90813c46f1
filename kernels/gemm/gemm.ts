import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import { bytesPerElement } from "../../engine/dtype.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { alignmentBytes, bindableRanges, type UnitRange } from "../wgsl/launch.ts";
import { policyOf } from "../policy.ts";
import { blockOperandsWgsl } from "./block_operands.ts";
import {
  storeWgsl,
  tileConstants,
  tileConstantTypes,
  tileExtensions,
  tileGrid,
  type TileShape,
  tileWgsl,
  usesBlocks,
} from "./tile.ts";
import { addressesWgsl, bias4Wgsl, epilogueWgsl, operandsWgsl, wideOperandsWgsl } from "./gemm_wgsl.ts";

/**
 * Batched matrix product with an epilogue: y = scale · A·B + bias + residual.
 *
 * Shapes, for each matrix of the batch:
 *
 * - A: [M, K], or [K, M] with TRANSPOSE_A
 * - B: [K, N], or [N, K] with TRANSPOSE_B (as torch stores the weight of a Linear layer)
 * - bias: [N] or [M], chosen by `bias_axis` (0: none, 1: column, 2: row)
 * - residual and y: [M, N]
 *
 * Every operand is addressed by an offset, a row stride and two batch strides, in elements. So
 * attention heads are multiplied in place, and matmul() runs the parts of a split K as a batch.
 *
 * Workgroup (x, y, z) computes tile (row y, column x) of matrix z. tile.ts holds the loop over K
 * and describes the strategies; this file supplies the loads, the epilogue and the stores.
 *
 * A_WIDTH, B_WIDTH and Y_WIDTH are the elements of one memory access: 8 or 4 where sizes and
 * strides divide by it, else 1. Wide accesses matter most on software devices, where loads take as
 * long as arithmetic.
 *
 * With GATED, B and the bias have 2·N columns: see {@linkcode GemmOptions.gated}. Other activations
 * are no part of this kernel: matmul() applies them in a separate pass.
 */
const matmulKernel = declareKernel({
  name: "matmul",
  bindings: {
    a: input("A_WIDTH"),
    b: input("B_WIDTH"),
    bias: input(1),
    residual: input("Y_WIDTH"),
    y: output("Y_WIDTH"),
  },
  params: {
    m: "u32",
    n: "u32",
    k: "u32",
    inner: "u32",
    scale: "f32",
    a_offset: "u32",
    a_row: "u32",
    a_outer: "u32",
    a_inner: "u32",
    b_offset: "u32",
    b_row: "u32",
    b_outer: "u32",
    b_inner: "u32",
    y_offset: "u32",
    y_row: "u32",
    y_outer: "u32",
    y_inner: "u32",
    batch: "u32",
    bias_axis: "u32",
    has_residual: "u32",
  },
  constants: {
    A_WIDTH: "u32",
    B_WIDTH: "u32",
    Y_WIDTH: "u32",
    TRANSPOSE_A: "bool",
    TRANSPOSE_B: "bool",
    GATED: "bool",
    ...tileConstantTypes,
  },
  extensions: tileExtensions,
  wgsl: (constants) =>
    addressesWgsl + (usesBlocks(constants.STRATEGY)
      ? blockOperandsWgsl(constants)
      : (constants.WIDE ? wideOperandsWgsl(constants) : operandsWgsl) + bias4Wgsl + storeWgsl(constants.Y_WIDTH) +
        epilogueWgsl(constants.Y_WIDTH)) +
    tileWgsl(constants, { loads: { a: "k", b: constants.TRANSPOSE_B ? "k" : "lines" } }),
  grid: ({ m, n, batch }, constants) => tileGrid(constants, m, n, batch),
  cost: ({ m, n, k, batch }, { GATED }) => {
    const columns = GATED ? 2 * n : n;
    return { flops: 2 * batch * m * columns * k, bytes: 4 * batch * (m * k + k * columns + m * n) };
  },
});

/**
 * A batch of matrices inside a tensor, such as the heads of attention. Offsets and strides are in
 * elements.
 */
export interface MatrixView {
  readonly tensor: Tensor;
  /** First element of the first matrix. Default: 0. */
  readonly offset?: number;
  /** Distance between stored rows. */
  readonly rowStride: number;
  /** Distance between matrices along the outer batch axis; 0 shares one matrix. Default: 0. */
  readonly outerStride?: number;
  /** Distance between matrices along the inner batch axis; 0 shares one matrix. Default: 0. */
  readonly innerStride?: number;
}

/** Sizes and epilogue of {@linkcode gemm}. */
export interface GemmOptions {
  /** Rows of the result. */
  readonly m: number;
  /** Columns of the result. */
  readonly n: number;
  /** Length of the reduction axis. */
  readonly k: number;
  /** Length of the outer batch axis. Default: 1. */
  readonly outer?: number;
  /** Length of the inner batch axis. Default: 1. */
  readonly inner?: number;
  /** Whether A is stored [K, M]. Default: false. */
  readonly transposeA?: boolean;
  /** Whether B is stored [N, K]. Default: false. */
  readonly transposeB?: boolean;
  /** Added to each row or column of the result. Default: none. */
  readonly bias?: Tensor;
  /**
   * Whether the bias belongs to the columns ([N]) or the rows ([M]) of the result. Default:
   * "column".
   */
  readonly biasAxis?: "row" | "column";
  /** Added last; laid out like the result. */
  readonly residual?: Tensor;
  /** Factor of the product. Default: 1. */
  readonly scale?: number;
  /**
   * Whether B and the bias have 2·N columns, the second half of which gates the first: y = (scale ·
   * A·B₁ + bias₁) · gelu(scale · A·B₂ + bias₂). Requires a workgroup tile of two columns, N
   * divisible by 4, and no residual. See gatedProduct(). Default: false.
   */
  readonly gated?: boolean;
  /**
   * Whether the elements of A (in `half` tiles after `scale`) and B may be rounded to f16, a
   * relative error of 2⁻¹¹ each. They are rounded only where subgroup matrices or f16 arithmetic
   * are in use. See {@linkcode TileShape} for the error bounds. Default: false.
   */
  readonly allowF16Operands?: boolean;
  /** Tile shape, for the tuner and the tests. Default: by device and size. */
  readonly tile?: TileShape;
}

/**
 * y = scale · A·B + bias + residual on views, written into `y`. {@linkcode matmul} is the form for
 * whole tensors.
 */
export function gemm(gpu: Gpu, a: MatrixView, b: MatrixView, y: MatrixView, options: GemmOptions): void {
  const { m, n, k, outer = 1, inner = 1, transposeA = false, transposeB = false, bias, residual, scale = 1 } = options;
  const { allowF16Operands } = options;
  const divides = (by: number, { offset = 0, rowStride, outerStride = 0, innerStride = 0 }: MatrixView) =>
    [offset, rowStride, outerStride, innerStride].every((stride) => stride % by === 0);
  const strides = ({ offset = 0, rowStride, outerStride = 0, innerStride = 0 }: MatrixView) =>
    [offset, rowStride, outerStride, innerStride] as const;
  const [a_offset, a_row, a_outer, a_inner] = strides(a);
  const [b_offset, b_row, b_outer, b_inner] = strides(b);
  const [y_offset, y_row, y_outer, y_inner] = strides(y);
  // Unused bindings get a tensor of the usual dtype, so that no extra kernel variant is compiled: a
  // residual has the dtype of the result, a bias that of the weight.
  const { gated = false } = options;
  const operands = [a.tensor, b.tensor];
  const noBias = operands.find(({ dtype }) => dtype !== y.tensor.dtype) ?? a.tensor;
  const noResidual = operands.find(({ dtype }) => dtype === y.tensor.dtype) ?? a.tensor;
  const shape = options.tile ?? policyOf(gpu).products.tileFor(m, n, { vec4: n % 4 === 0, allowF16Operands });
  if (gated && (shape.strategy !== "workgroup" || shape.columns !== 2 || residual || n % 4 !== 0)) {
    throw new ShapeError(
      `Cannot gate a product of ${n} columns on a ${shape.strategy} tile of ${shape.columns} vec4 columns as it requires a workgroup tile of 2, a multiple of 4 columns and no residual`,
      [[m, n]],
    );
  }
  const tile = tileConstants(gpu, shape, {
    k,
    allowVec8: !transposeA && k % 8 === 0 && n % 8 === 0 && [a, b, y].every((view) => divides(8, view)),
  });
  const vectorWidth = (length: number | false, view: MatrixView) =>
    tile.WIDE ? 8 : length !== false && length % 4 === 0 && divides(4, view) ? 4 : 1;
  const split = outer * inner === 1 && !transposeA && options.biasAxis !== "row" && y_offset + a_offset === 0;
  for (
    const { first, count } of split
      ? rowRanges(gpu, m, [a, y, ...(residual ? [{ ...y, tensor: residual }] : [])])
      : [{ first: 0, count: m }]
  ) {
    const isWhole = count === m;
    const rowsOf = (tensor: Tensor, stride: number) =>
      isWhole ? tensor : tensor.window(first * stride, Math.min(count * stride, tensor.size - first * stride));
    const unused = (tensor: Tensor) => isWhole ? tensor : tensor.window(0, Math.min(alignmentBytes, tensor.size));
    matmulKernel.run(
      gpu,
      {
        a: rowsOf(a.tensor, a_row),
        b: b.tensor,
        bias: bias ?? unused(noBias),
        residual: residual ? rowsOf(residual, y_row) : unused(noResidual),
        y: rowsOf(y.tensor, y_row),
      },
      {
        ...{ m: count, n, k, inner, scale, batch: outer * inner },
        bias_axis: bias ? (options.biasAxis === "row" ? 2 : 1) : 0,
        has_residual: residual ? 1 : 0,
        ...{ a_offset, a_row, a_outer, a_inner, b_offset, b_row, b_outer, b_inner, y_offset, y_row, y_outer, y_inner },
      },
      {
        A_WIDTH: vectorWidth(!transposeA && k, a),
        B_WIDTH: vectorWidth(transposeB ? k : n, b),
        Y_WIDTH: vectorWidth(n, y),
        TRANSPOSE_A: transposeA,
        TRANSPOSE_B: transposeB,
        GATED: gated,
        ...tile,
      },
    );
  }
}

/**
 * Rows that one dispatch computes: all of them, unless an operand is larger than the device binds.
 * Ranges start where a binding of each operand may start.
 */
function* rowRanges(
  gpu: Gpu,
  rows: number,
  operands: readonly Pick<MatrixView, "tensor" | "rowStride">[],
): Generator<UnitRange> {
  const rowBytes = operands.map(({ tensor, rowStride }) => rowStride * bytesPerElement[tensor.dtype]);
  const longest = Math.max(...rowBytes);
  if (rows * longest <= gpu.info.limits.maxStorageBufferBindingSize) return yield { first: 0, count: rows };
  let step = 1;
  while (rowBytes.some((bytes) => step * bytes % alignmentBytes !== 0)) step *= 2;
  for (const { first, count } of bindableRanges(gpu, Math.ceil(rows / step), step * longest)) {
    yield { first: first * step, count: Math.min(count * step, rows - first * step) };
  }
}
