import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import { policyOf } from "../policy.ts";
import { bindableParts, type BoundView, type ProductPart } from "./bindable_parts.ts";
import { blockOperandsWgsl } from "./block_operands.ts";
import type { GemmOptions, MatrixView } from "./gemm_options.ts";
import {
  canGate,
  storeWgsl,
  tileConstants,
  tileConstantTypes,
  tileExtensions,
  tileGrid,
  tileSize,
  tileWgsl,
  usesWorkgroupMemory,
} from "./tile.ts";
import { canHoldSums } from "./tile_stationary.ts";
import { addressesWgsl, biasWgsl, epilogueWgsl, operandsWgsl, rowStartWgsl, wideOperandsWgsl } from "./gemm_wgsl.ts";

export type { GemmOptions, MatrixView } from "./gemm_options.ts";

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
    tile_rows: "u32",
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
    addressesWgsl + (usesWorkgroupMemory(constants.STRATEGY)
      ? blockOperandsWgsl(constants)
      : (constants.B_WIDTH === 8 ? wideOperandsWgsl(constants) : operandsWgsl) +
        biasWgsl + rowStartWgsl + storeWgsl(constants.Y_WIDTH) +
        epilogueWgsl(constants.Y_WIDTH)) +
    tileWgsl(constants, {
      loads: { a: "k", b: constants.TRANSPOSE_B ? "k" : "lines" },
      hasColumnEnd: true,
      hasRowStart: true,
    }),
  grid: (params, constants) => tileGrid(constants, params),
  cost: ({ m, n, k, batch }, { GATED }) => {
    const columns = GATED ? 2 * n : n;
    return { flops: 2 * batch * m * columns * k, bytes: 4 * batch * (m * k + k * columns + m * n) };
  },
});

/**
 * y = scale · A·B + bias + residual on views, written into `y`. {@linkcode matmul} is the form for
 * whole tensors. One dispatch, or several where a tensor is larger than the device can bind.
 */
export function gemm(gpu: Gpu, a: MatrixView, b: MatrixView, y: MatrixView, options: GemmOptions): void {
  for (const part of bindableParts(gpu, { a, b, y }, options)) runPart(gpu, part, options);
}

function runPart(gpu: Gpu, part: ProductPart, options: GemmOptions): void {
  const { a, b, y, m, outer, inner, bias, residual } = part;
  const { n, k, transposeA = false, transposeB = false, scale = 1, gated = false, allowF16Operands } = options;
  const { products } = policyOf(gpu), batch = outer * inner;
  const isVec8 = !transposeA && k > 0 && k % 8 === 0 && n % 8 === 0 && [a, b, y].every((view) => divides(8, view));
  const fits = { isVec8, canHoldSums: canHoldSums(y.tensor.dtype, { k, lanes: gpu.info.subgroupSize }) };
  const shape = options.tile ?? products.tileFor(m, n, { k, vec4: n % 4 === 0, ...fits, allowF16Operands });
  if (gated && (!canGate(shape) || residual || n % 4 !== 0)) {
    throw new ShapeError(
      `Cannot gate a product of ${n} columns on a ${shape.strategy} tile of ${shape.columns} vec4 columns as it requires a workgroup or half tile of 2, a multiple of 4 columns and no residual`,
      [[m, n]],
    );
  }
  const tile = tileConstants(gpu, shape, { k, ...fits });
  const isStationary = tile.STRATEGY === "stationary", isWide = isStationary || tile.WIDE;
  const width = (rowLength: number, view: MatrixView) => isWide ? 8 : rowLength % 4 === 0 && divides(4, view) ? 4 : 1;
  const unused = unusedBindings(part);
  const [a_offset, a_row, a_outer, a_inner] = stridesOf(a);
  const [b_offset, b_row, b_outer, b_inner] = stridesOf(b);
  const [y_offset, y_row, y_outer, y_inner] = stridesOf(y);
  matmulKernel.run(
    gpu,
    { a: a.bound, b: b.bound, bias: bias ?? unused.bias, residual: residual ?? unused.residual, y: y.bound },
    {
      ...{ m, n, k, inner, scale, batch },
      bias_axis: bias ? (options.biasAxis === "row" ? 2 : 1) : 0,
      has_residual: residual ? 1 : 0,
      tile_rows: isStationary
        ? products.stationaryRows(m, batch * Math.ceil(n / tileSize(tile).columns), shape.rows)
        : 1,
      ...{ a_offset, a_row, a_outer, a_inner, b_offset, b_row, b_outer, b_inner, y_offset, y_row, y_outer, y_inner },
    },
    {
      A_WIDTH: transposeA ? 1 : width(k, a), // consecutive k of a transposed A are a row apart
      B_WIDTH: width(transposeB ? k : n, b),
      Y_WIDTH: width(n, y),
      TRANSPOSE_A: transposeA,
      TRANSPOSE_B: transposeB,
      GATED: gated,
      ...tile,
    },
  );
}

/** The offset of a view and the distances of its rows and matrices, in elements. */
const stridesOf = ({ offset = 0, rowStride, outerStride = 0, innerStride = 0 }: MatrixView) =>
  [offset, rowStride, outerStride, innerStride] as const;

/** Whether all rows of a view begin at multiples of `width` elements. */
const divides = (width: number, view: MatrixView) => stridesOf(view).every((stride) => stride % width === 0);

/**
 * What is bound in place of a bias or residual that a product lacks: tensors of the usual dtype, so
 * that no extra kernel variant is compiled. A residual has the dtype of the result, a bias that of
 * the weight.
 */
function unusedBindings({ a, b, y }: ProductPart): Record<"bias" | "residual", BoundView["bound"]> {
  const isOfResult = ({ tensor }: BoundView) => tensor.dtype === y.tensor.dtype;
  const weight = [a, b].find((view) => !isOfResult(view)) ?? a, result = [a, b].find(isOfResult) ?? a;
  return { bias: weight.bound, residual: result.bound };
}
