import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import type { Tensor } from "../../engine/tensor.ts";
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
} from "./tile.ts";

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
    addressesWgsl + (constants.STRATEGY === "workgroup"
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

/** Operand loads of 8 elements. When B is stored [N, K], its blocks are transposed in registers. */
const wideOperandsWgsl = ({ TRANSPOSE_B }: { readonly TRANSPOSE_B: boolean }) => /* wgsl */ `
struct Row { start: u32 }
fn tile_row(batch: u32, row: u32) -> Row { return Row((a_start(batch) + row * params.a_row) / 8u); }
fn tile_a8(r: Row, k: u32) -> mat2x4f { return params.scale * a_at(r.start + k / 8u); }

struct Column { start: u32 }
struct Block { upper_left: mat4x4f, upper_right: mat4x4f, lower_left: mat4x4f, lower_right: mat4x4f }
fn tile_column(batch: u32, column: u32) -> Column {
  return Column((b_start(batch) + min(column, params.n - 8u)${TRANSPOSE_B ? " * params.b_row" : ""}) / 8u);
}
fn tile_b8(c: Column, k: u32) -> Block {
  let row = params.b_row / 8u;
  let start = c.start + k${TRANSPOSE_B ? " / 8u" : " * row"};
  ${Array.from({ length: 8 }, (_, i) => `let v${i} = b_at(start + ${i}u * row);`).join(" ")}
  let left_top = mat4x4f(v0[0], v1[0], v2[0], v3[0]);
  let right_top = mat4x4f(v0[1], v1[1], v2[1], v3[1]);
  let left_bottom = mat4x4f(v4[0], v5[0], v6[0], v7[0]);
  let right_bottom = mat4x4f(v4[1], v5[1], v6[1], v7[1]);
  ${
  TRANSPOSE_B
    ? "return Block(transpose(left_top), transpose(left_bottom), transpose(right_top), transpose(right_bottom));"
    : "return Block(left_top, right_top, left_bottom, right_bottom);"
}
}
`;

const operandsWgsl = /* wgsl */ `
struct Row { start: u32 }
fn tile_row(batch: u32, row: u32) -> Row {
  return Row(a_start(batch) + select(row * params.a_row, row, TRANSPOSE_A));
}
fn a_one(r: Row, k: u32) -> f32 {
  let at = min(k, params.k - 1u);
  let value = vec4f(a_at(r.start + select(at, at * params.a_row, TRANSPOSE_A))).x;
  return select(0.0, value, k < params.k);
}
fn tile_a(r: Row, k: u32) -> vec4f { // scaled here: A is loaded once for many columns
  if (A_WIDTH == 4) { return vec4f(a_at((r.start + k) / 4u)) * params.scale; }
  return params.scale * vec4f(a_one(r, k), a_one(r, k + 1u), a_one(r, k + 2u), a_one(r, k + 3u));
}

struct Column { start: u32, at: u32 }
fn tile_column(batch: u32, column: u32) -> Column {
  return Column(b_start(batch), column);
}
fn b_row4(c: Column, k: u32) -> vec4f { // B stored [K, N]
  let start = c.start + min(k, params.k - 1u) * params.b_row;
  let last = last_column();
  if (B_WIDTH == 4) { return vec4f(b_at((start + min(c.at, last - 3u)) / 4u)); }
  return vec4f(vec4f(b_at(start + min(c.at, last))).x, vec4f(b_at(start + min(c.at + 1u, last))).x,
    vec4f(b_at(start + min(c.at + 2u, last))).x, vec4f(b_at(start + min(c.at + 3u, last))).x);
}
fn b_column4(c: Column, offset: u32, k: u32) -> vec4f { // B stored [N, K]
  let start = c.start + min(c.at + offset, last_column()) * params.b_row;
  if (B_WIDTH == 4) { return vec4f(b_at((start + k) / 4u)); }
  let last = params.k - 1u;
  return vec4f(vec4f(b_at(start + min(k, last))).x, vec4f(b_at(start + min(k + 1u, last))).x,
    vec4f(b_at(start + min(k + 2u, last))).x, vec4f(b_at(start + min(k + 3u, last))).x);
}
fn tile_b(c: Column, k: u32) -> mat4x4f {
  if (TRANSPOSE_B) { return transpose(mat4x4f(b_column4(c, 0u, k), b_column4(c, 1u, k), b_column4(c, 2u, k), b_column4(c, 3u, k))); }
  return mat4x4f(b_row4(c, k), b_row4(c, k + 1u), b_row4(c, k + 2u), b_row4(c, k + 3u));
}
`;

const addressesWgsl = /* wgsl */ `
fn a_start(batch: u32) -> u32 { return params.a_offset + batch / params.inner * params.a_outer + batch % params.inner * params.a_inner; }
fn b_start(batch: u32) -> u32 { return params.b_offset + batch / params.inner * params.b_outer + batch % params.inner * params.b_inner; }
// the last column of B
fn last_column() -> u32 { return select(params.n, 2u * params.n, GATED) - 1u; }
fn place(batch: u32, row: u32, column: u32) -> u32 {
  return params.y_offset + batch / params.inner * params.y_outer + batch % params.inner * params.y_inner + row * params.y_row + column;
}
`;

const bias4Wgsl = /* wgsl */ `
fn bias4(row: u32, column: u32) -> vec4f {
  if (params.bias_axis == 0u) { return vec4f(); }
  if (params.bias_axis == 2u) { return vec4f(bias_at(row)); }
  let last = last_column();
  return vec4f(bias_at(column), bias_at(min(column + 1u, last)), bias_at(min(column + 2u, last)), bias_at(min(column + 3u, last)));
}
`;

const epilogueWgsl = (width: number) =>
  width === 8
    ? /* wgsl */ `
fn tile_end8(batch: u32, row: u32, column: u32, sum: mat2x4f) -> mat2x4f {
  var value = sum + mat2x4f(bias4(row, column), bias4(row, column + 4u));
  if (params.has_residual == 1u) { value += residual_at(place(batch, row, column) / 8u); }
  return value;
}
`
    : width === 4
    ? /* wgsl */ `
fn tile_end(batch: u32, row: u32, column: u32, sum: vec4f) -> vec4f {
  var value = sum + bias4(row, column);
  if (params.has_residual == 1u) { value += residual_at(place(batch, row, column) / 4u); }
  return value;
}
`
    : /* wgsl */ `
fn tile_end(batch: u32, row: u32, column: u32, sum: vec4f) -> vec4f {
  let value = sum + bias4(row, column);
  if (params.has_residual != 1u) { return value; }
  let at = place(batch, row, column);
  let last = params.n - 1u - column;
  return value
    + vec4f(residual_at(at), residual_at(at + min(1u, last)), residual_at(at + min(2u, last)), residual_at(at + min(3u, last)));
}
`;

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
   * Whether the elements of A (after `scale`) and B may be rounded to f16, a relative error of 2⁻¹¹
   * each. They are rounded only where subgroup matrices or f16 arithmetic are in use. See
   * {@linkcode TileShape} for the error bounds. Default: false.
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
  const shape = options.tile ?? policyOf(gpu).tileFor(m, n, { vec4: n % 4 === 0, allowF16Operands });
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
  matmulKernel.run(
    gpu,
    { a: a.tensor, b: b.tensor, bias: bias ?? noBias, residual: residual ?? noResidual, y: y.tensor },
    {
      ...{ m, n, k, inner, scale, batch: outer * inner },
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
