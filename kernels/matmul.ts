import type { Gpu } from "../engine/gpu.ts";
import { ShapeError } from "../engine/errors.ts";
import { declareKernel, input, output } from "../engine/kernel.ts";
import { elements, Tensor } from "../engine/tensor.ts";
import { activate, type Activation } from "./activation.ts";
import { add } from "./linear_combination.ts";
import { tileConstantNames, tileConstants, tileFor, tileGrid, type TileShape, tileWgsl } from "./tile.ts";

/**
 * Matrix product on the register-tile core of tile.ts: y = activation(scale · A·B + bias) + residual.
 *
 * A is read four elements of k at a time, B as blocks of 4 × 4, transposed in registers when B is stored [N, K] (as torch stores a Linear's
 * weight): that costs a fifth of the speed of the untransposed form on lavapipe, 30 against 37 GFLOPS at 1024³, where four scalar loads in
 * place of a vec4 cost half.
 */
const matmulKernel = declareKernel({
  name: "matmul",
  bindings: {
    a: input("A_LANES"),
    b: input("B_LANES"),
    bias: input(1),
    residual: input("Y_LANES"),
    y: output("Y_LANES"),
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
    finish: "u32",
  },
  constants: [
    "A_LANES",
    "B_LANES",
    "Y_LANES",
    "TRANSPOSE_A",
    "TRANSPOSE_B",
    ...tileConstantNames,
  ],
  subgroups: true,
  wgsl: (constants) => matmulWgsl + resultWgsl(constants.Y_LANES) + tileWgsl(constants),
  grid: ({ m, n, batch }, constants) => tileGrid(constants, m, n, batch),
  cost: ({ m, n, k, batch }) => ({ flops: 2 * batch * m * n * k, bytes: 4 * batch * (m * k + k * n + m * n) }),
});

const matmulWgsl = /* wgsl */ `
struct Row { start: u32 }
fn tile_row(batch: u32, row: u32) -> Row {
  let start = params.a_offset + batch / params.inner * params.a_outer + batch % params.inner * params.a_inner;
  return Row(start + select(row * params.a_row, row, TRANSPOSE_A));
}
fn a_one(r: Row, k: u32) -> f32 {
  let at = min(k, params.k - 1u);
  let value = vec4f(a_at(r.start + select(at, at * params.a_row, TRANSPOSE_A))).x;
  return select(0.0, value, k < params.k);
}
fn tile_a(r: Row, k: u32) -> vec4f { // the scale costs least here: A is loaded once for many columns
  if (A_LANES == 4) { return vec4f(a_at((r.start + k) / 4u)) * params.scale; }
  return params.scale * vec4f(a_one(r, k), a_one(r, k + 1u), a_one(r, k + 2u), a_one(r, k + 3u));
}

struct Column { start: u32, at: u32 }
fn tile_column(batch: u32, column: u32) -> Column {
  let start = params.b_offset + batch / params.inner * params.b_outer + batch % params.inner * params.b_inner;
  return Column(start, column);
}
fn b_row4(c: Column, k: u32) -> vec4f { // B stored [K, N]
  let start = c.start + min(k, params.k - 1u) * params.b_row;
  if (B_LANES == 4) { return vec4f(b_at((start + min(c.at, params.n - 4u)) / 4u)); }
  let last = params.n - 1u;
  return vec4f(vec4f(b_at(start + min(c.at, last))).x, vec4f(b_at(start + min(c.at + 1u, last))).x,
    vec4f(b_at(start + min(c.at + 2u, last))).x, vec4f(b_at(start + min(c.at + 3u, last))).x);
}
fn b_column4(c: Column, offset: u32, k: u32) -> vec4f { // B stored [N, K]
  let start = c.start + min(c.at + offset, params.n - 1u) * params.b_row;
  if (B_LANES == 4) { return vec4f(b_at((start + k) / 4u)); }
  let last = params.k - 1u;
  return vec4f(vec4f(b_at(start + min(k, last))).x, vec4f(b_at(start + min(k + 1u, last))).x,
    vec4f(b_at(start + min(k + 2u, last))).x, vec4f(b_at(start + min(k + 3u, last))).x);
}
fn tile_b(c: Column, k: u32) -> mat4x4f {
  if (TRANSPOSE_B) { return transpose(mat4x4f(b_column4(c, 0u, k), b_column4(c, 1u, k), b_column4(c, 2u, k), b_column4(c, 3u, k))); }
  return mat4x4f(b_row4(c, k), b_row4(c, k + 1u), b_row4(c, k + 2u), b_row4(c, k + 3u));
}

fn tile_row_start(batch: u32, row: u32) -> f32 { return select(0.0, bias_at(row), params.bias_axis == 2u); }
fn tile_column_start(batch: u32, column: u32) -> vec4f {
  let last = params.n - 1u;
  let bias = vec4f(bias_at(min(column, last)), bias_at(min(column + 1u, last)), bias_at(min(column + 2u, last)), bias_at(min(column + 3u, last)));
  return select(vec4f(), bias, params.bias_axis == 1u);
}
fn tile_sum(batch: u32, row: u32, column: u32, sum: vec4f) -> vec4f { return sum; }
fn place(batch: u32, row: u32, column: u32) -> u32 {
  return params.y_offset + batch / params.inner * params.y_outer + batch % params.inner * params.y_inner + row * params.y_row + column;
}
`;

const resultWgsl = (lanes: unknown) =>
  lanes === 4
    ? /* wgsl */ `
fn tile_put(batch: u32, row: u32, column: u32, value: vec4f) { y_put(place(batch, row, column) / 4u, value); }
fn tile_get(batch: u32, row: u32, column: u32) -> vec4f { return y_at(place(batch, row, column) / 4u); }
fn tile_end(batch: u32, row: u32, column: u32, value: vec4f) -> vec4f {
  return value + residual_at(place(batch, row, column) / 4u);
}
`
    : /* wgsl */ `
fn tile_put(batch: u32, row: u32, column: u32, value: vec4f) {
  let at = place(batch, row, column);
  y_put(at, value.x);
  if (column + 1u < params.n) { y_put(at + 1u, value.y); }
  if (column + 2u < params.n) { y_put(at + 2u, value.z); }
  if (column + 3u < params.n) { y_put(at + 3u, value.w); }
}
fn tile_get(batch: u32, row: u32, column: u32) -> vec4f {
  let at = place(batch, row, column);
  let last = params.n - 1u - column;
  return vec4f(y_at(at), y_at(at + min(1u, last)), y_at(at + min(2u, last)), y_at(at + min(3u, last)));
}
fn tile_end(batch: u32, row: u32, column: u32, value: vec4f) -> vec4f {
  let at = place(batch, row, column);
  let last = params.n - 1u - column;
  return value
    + vec4f(residual_at(at), residual_at(at + min(1u, last)), residual_at(at + min(2u, last)), residual_at(at + min(3u, last)));
}
`;

/** A batch of matrices inside a tensor, for products of parts of tensors (the heads of attention, say). All numbers count elements. */
export interface MatrixView {
  readonly tensor: Tensor;
  /** First element of the first matrix. Default: 0. */
  readonly offset?: number;
  /** From one stored row to the next. */
  readonly rowStride: number;
  /** From one matrix to the next along the outer batch axis; 0 shares one matrix. Default: 0. */
  readonly outerStride?: number;
  /** The same along the inner batch axis. Default: 0. */
  readonly innerStride?: number;
}

/** Sizes and epilogue of {@linkcode gemm}. */
export interface GemmOptions {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Lengths of the two batch axes. Default: 1. */
  readonly outer?: number;
  readonly inner?: number;
  /** A is stored [K, M], B is stored [N, K]. Default: false. */
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  readonly bias?: Tensor;
  /** Whether the bias belongs to the columns ([N]) or the rows ([M]) of the result. Default: "column". */
  readonly biasAxis?: "row" | "column";
  /** Added last; laid out like the result. */
  readonly residual?: Tensor;
  /** Factor of the product. Default: 1. */
  readonly scale?: number;
  /** For the tuner and the tests. Default: by device and size. */
  readonly tile?: TileShape;
}

/** y = scale · A·B + bias + residual on views, written into `y`. {@linkcode matmul} is the form for whole tensors. */
export function gemm(gpu: Gpu, a: MatrixView, b: MatrixView, y: MatrixView, options: GemmOptions): void {
  const { m, n, k, outer = 1, inner = 1, transposeA = false, transposeB = false, bias, residual, scale = 1 } = options;
  const inFours = ({ offset = 0, rowStride, outerStride = 0, innerStride = 0 }: MatrixView) =>
    [offset, rowStride, outerStride, innerStride].every((stride) => stride % 4 === 0);
  const strides = ({ offset = 0, rowStride, outerStride = 0, innerStride = 0 }: MatrixView) =>
    [offset, rowStride, outerStride, innerStride] as const;
  const [a_offset, a_row, a_outer, a_inner] = strides(a);
  const [b_offset, b_row, b_outer, b_inner] = strides(b);
  const [y_offset, y_row, y_outer, y_inner] = strides(y);
  // A binding must hold something even where it does not count; of one type, so that it makes no variant of its own.
  const operands = [a.tensor, b.tensor];
  const noBias = operands.find(({ dtype }) => dtype === "f16") ?? a.tensor;
  const noResidual = operands.find(({ dtype }) => dtype === "f32") ?? a.tensor;
  matmulKernel.run(
    gpu,
    { a: a.tensor, b: b.tensor, bias: bias ?? noBias, residual: residual ?? noResidual, y: y.tensor },
    {
      ...{ m, n, k, inner, scale, batch: outer * inner },
      bias_axis: bias ? (options.biasAxis === "row" ? 2 : 1) : 0,
      finish: residual ? 1 : 0,
      ...{ a_offset, a_row, a_outer, a_inner, b_offset, b_row, b_outer, b_inner, y_offset, y_row, y_outer, y_inner },
    },
    {
      A_LANES: !transposeA && k % 4 === 0 && inFours(a) ? 4 : 1,
      B_LANES: (transposeB ? k : n) % 4 === 0 && inFours(b) ? 4 : 1,
      Y_LANES: n % 4 === 0 && inFours(y) ? 4 : 1,
      TRANSPOSE_A: transposeA,
      TRANSPOSE_B: transposeB,
      ...tileConstants(options.tile ?? tileFor(gpu, m, n, { k, inFours: n % 4 === 0 })),
    },
  );
}

/** Options of {@linkcode matmul}; see {@linkcode GemmOptions}. */
export interface MatmulOptions extends Omit<GemmOptions, "m" | "n" | "k" | "outer" | "inner"> {
  /** A pass of its own: few products have one, and each would compile a tile of its own. */
  readonly activation?: Activation;
}

/**
 * y = activation(scale · A·B + bias) + residual.
 *
 * @param a [..., M, K], or [..., K, M] with `transposeA`; f32 or f16
 * @param b [..., K, N], or [..., N, K] with `transposeB`; f32 or f16. Either may lack the batch axes: it is then shared by all.
 * @returns [..., M, N], f32
 * @throws {ShapeError} when inner axes, batch axes, bias or residual do not fit
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using x = Tensor.from(gpu, new Float32Array(6).fill(1), [2, 3]);
 * using weight = Tensor.from(gpu, new Float32Array(12).fill(2), [4, 3]);
 * using y = matmul(x, weight, { transposeB: true }); // [2, 4] of sixes
 * ```
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const { transposeA = false, transposeB = false, bias, residual } = options;
  const refuse = (why: string) => {
    throw new ShapeError(`Cannot multiply a [${a.shape.join(", ")}] by b [${b.shape.join(", ")}] as ${why}`, [
      a.shape,
      b.shape,
    ]);
  };
  if (a.shape.length < 2 || b.shape.length < 2) refuse("both need two axes at least");
  const [aRows, aColumns] = a.shape.slice(-2), [bRows, bColumns] = b.shape.slice(-2);
  const [m, k] = transposeA ? [aColumns, aRows] : [aRows, aColumns];
  const [bk, n] = transposeB ? [bColumns, bRows] : [bRows, bColumns];
  if (k !== bk) {
    refuse(`a's ${transposeA ? "first" : "last"} axis must equal b's ${transposeB ? "last" : "first"}: ${k} ≠ ${bk}`);
  }
  const aBatch = a.shape.slice(0, -2), bBatch = b.shape.slice(0, -2);
  const batchShape = aBatch.length >= bBatch.length ? aBatch : bBatch;
  for (const batch of [aBatch, bBatch]) {
    if (batch.length > 0 && batch.join() !== batchShape.join()) {
      refuse(`the batch axes must agree: [${aBatch}] ≠ [${bBatch}]`);
    }
  }
  const axis = options.biasAxis === "row" ? m : n;
  if (bias && bias.size !== axis) refuse(`the bias must hold ${axis} numbers: ${bias.size}`);
  const shape = [...batchShape, m, n];
  if (residual && residual.shape.join() !== shape.join()) {
    refuse(`the residual must have the result's shape: [${residual.shape.join(", ")}] ≠ [${shape.join(", ")}]`);
  }
  if (options.activation) {
    const { activation, residual, ...linear } = options;
    return a.gpu.scope(() => {
      const activated = activate(matmul(a, b, linear), activation);
      return residual ? add(activated, residual) : activated;
    });
  }
  const y = Tensor.empty(a.gpu, shape);
  let batch = elements(batchShape), rows = m;
  // One weight for all: the batch is then only more rows, and tiles fill better.
  if (bBatch.length === 0 && !transposeA && options.biasAxis !== "row") [batch, rows] = [1, batch * m];
  gemm(
    a.gpu,
    { tensor: a, rowStride: aColumns, outerStride: aBatch.length > 0 ? m * k : 0 },
    { tensor: b, rowStride: bColumns, outerStride: bBatch.length > 0 ? k * n : 0 },
    { tensor: y, rowStride: n, outerStride: m * n },
    { ...options, m: rows, n, k, outer: batch },
  );
  return y;
}
