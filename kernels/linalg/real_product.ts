import { ShapeError } from "../../engine/errors.ts";
import { declareKernel, storage } from "../../engine/kernel/kernel.ts";
import type { Tensor, TensorWindow } from "../../engine/tensor.ts";
import {
  tileConstants,
  tileConstantTypes,
  type TileElement,
  tileExtensions,
  tileGrid,
  tileWgsl,
} from "../gemm/tile.ts";
import { policyOf } from "../policy.ts";
import { launchOverRanges } from "../wgsl/launch.ts";

/**
 * Products of matrix blocks in f32 or f64, on the register tiles of gemm/tile.ts. The edit's solver
 * consists mostly of them.
 *
 * Elements are loaded as vec4<real>, so the width of every matrix and the first column of every
 * block are multiples of 4. A transposed A is slower, because each of its elements is selected from
 * a vec4 of its own.
 */

/** The dtypes of the solver. */
export type Real = "f32" | "f64";

/** A rectangle of a matrix [height, width] in f32 or f64. */
export interface Block {
  readonly matrix: Tensor;
  /** First row. Default: 0. */
  readonly row?: number;
  /** First column, a multiple of 4. Default: 0. */
  readonly column?: number;
  /** Number of rows. Default: all from `row` on. */
  readonly rows?: number;
  /** Number of columns, a multiple of 4. Default: all from `column` on. */
  readonly columns?: number;
}

/** Options of {@linkcode addProduct}. */
export interface ProductOptions {
  /** B is stored [columns, depth]. Default: false. */
  readonly transposeB?: boolean;
  /** A is stored [depth, rows]. Default: false. */
  readonly transposeA?: boolean;
  /** Whether the product replaces y, is added to it or subtracted from it. Default: "set". */
  readonly mode?: "set" | "add" | "subtract";
  /**
   * Whether only tiles that touch the lower triangle of the result are computed. Default: false.
   */
  readonly lowerOnly?: boolean;
}

/** vec4 of f32 or f64; WGSL has no matrices of f64. */
const realElement: TileElement = {
  vector: "vec4<real>",
  block: "Block",
  row: (block, j) => `${block}.row${j}`,
  skips: (column, endRow) => `params.lower * (${column}) >= ${endRow}`,
};

const productKernel = declareKernel({
  name: "real_product",
  bindings: {
    a: storage("read", "array<vec4<real>>"),
    b: storage("read", "array<vec4<real>>"),
    y: storage("write", "array<vec4<real>>"),
  },
  // Starts and row strides are counted in vec4.
  params: {
    m: "u32",
    n: "u32",
    k: "u32",
    a_start: "u32",
    a_row: "u32",
    b_start: "u32",
    b_row: "u32",
    y_start: "u32",
    y_row: "u32",
    lower: "u32",
    before: "u32",
    sign: "f32",
  },
  constants: { real: "type", TRANSPOSE_A: "bool", TRANSPOSE_B: "bool", ...tileConstantTypes },
  extensions: tileExtensions,
  wgsl: (constants) =>
    constants.STRATEGY === "workgroup"
      ? blockAccessWgsl(constants) +
        tileWgsl(constants, {
          element: realElement,
          loads: { a: constants.TRANSPOSE_A ? "lines" : "k", b: constants.TRANSPOSE_B ? "k" : "lines" },
        })
      : accessWgsl + tileWgsl(constants, { element: realElement }),
  grid: (params, constants) => tileGrid(constants, params),
  cost: ({ m, n, k, lower, before }, { real }) => {
    const share = lower === 1 ? 0.5 : 1;
    const elements = m * k + k * n + share * m * n * (before === 0 ? 1 : 2);
    return { flops: 2 * share * m * n * k, bytes: elements * (real === "f64" ? 8 : 4) };
  },
});

/** The operand and result functions of workgroup tiles; see gemm/tile.ts. */
const blockAccessWgsl = ({ WHOLE }: { readonly WHOLE: boolean }) => {
  const inside = (k: string, last: string) => WHOLE ? k : `min(${k}, params.k - ${last})`;
  const zeroed = (value: string) => WHOLE ? value : `select(vec4<real>(), ${value}, k < params.k)`;
  return /* wgsl */ `
struct Row { start: u32 }
fn tile_row(batch: u32, row: u32) -> Row {
  return Row(params.a_start + select(row * params.a_row, min(row, params.m - 4u) / 4u, TRANSPOSE_A));
}
fn tile_a(r: Row, k: u32) -> vec4<real> { return ${zeroed(`a[r.start + ${inside("k", "4u")} / 4u]`)}; }
fn tile_a_line(r: Row, k: u32) -> vec4<real> { return ${zeroed(`a[r.start + ${inside("k", "1u")} * params.a_row]`)}; }
struct Column { start: u32 }
fn tile_column(batch: u32, column: u32) -> Column {
  if (TRANSPOSE_B) { return Column(params.b_start + min(column, params.n - 1u) * params.b_row); }
  return Column(params.b_start + min(column, params.n - 4u) / 4u);
}
fn tile_b_k(c: Column, k: u32) -> vec4<real> { return b[c.start + ${inside("k", "4u")} / 4u]; }
fn tile_b_line(c: Column, k: u32) -> vec4<real> { return b[c.start + ${inside("k", "1u")} * params.b_row]; }
fn tile_row_end(batch: u32, row: u32) -> u32 { return 0u; }
fn tile_column_end(column: u32) -> u32 { return 0u; }
fn tile_end(sum: vec4<real>, of_column: u32, of_row: u32) -> vec4<real> { return sum * real(params.sign); }
fn tile_place(batch: u32, row: u32) -> u32 { return params.y_start + row * params.y_row; }
fn tile_step(rows: u32) -> u32 { return rows * params.y_row; }
fn tile_store(start: u32, column: u32, value: vec4<real>) {
  let at = start + column / 4u;
  if (params.before == 1u) { y[at] += value; } else { y[at] = value; }
}
`;
};

/** The operand and result functions of the other tiles; see gemm/tile.ts. */
const accessWgsl = /* wgsl */ `
struct Block { row0: vec4<real>, row1: vec4<real>, row2: vec4<real>, row3: vec4<real> }
fn transposed(b: Block) -> Block {
  return Block(
    vec4<real>(b.row0.x, b.row1.x, b.row2.x, b.row3.x), vec4<real>(b.row0.y, b.row1.y, b.row2.y, b.row3.y),
    vec4<real>(b.row0.z, b.row1.z, b.row2.z, b.row3.z), vec4<real>(b.row0.w, b.row1.w, b.row2.w, b.row3.w));
}
struct Row { start: u32, part: u32 }
fn tile_row(batch: u32, row: u32) -> Row {
  if (TRANSPOSE_A) { return Row(params.a_start + row / 4u, row % 4u); }
  return Row(params.a_start + row * params.a_row, 0u);
}
fn a_one(r: Row, k: u32) -> real { // A stored [K, M]
  let v = a[r.start + k * params.a_row];
  return select(select(v.x, v.y, r.part == 1u), select(v.z, v.w, r.part == 3u), r.part > 1u);
}
fn tile_a(r: Row, k: u32) -> vec4<real> {
  if (TRANSPOSE_A) { return vec4<real>(a_one(r, k), a_one(r, k + 1u), a_one(r, k + 2u), a_one(r, k + 3u)); }
  return a[r.start + k / 4u];
}
struct Column { start: u32 }
fn tile_column(batch: u32, column: u32) -> Column {
  let at = min(column, params.n - 4u);
  return Column(params.b_start + select(at / 4u, at * params.b_row, TRANSPOSE_B));
}
fn tile_b(c: Column, k: u32) -> Block {
  let at = c.start + select(k * params.b_row, k / 4u, TRANSPOSE_B);
  let block = Block(b[at], b[at + params.b_row], b[at + 2u * params.b_row], b[at + 3u * params.b_row]);
  if (TRANSPOSE_B) { return transposed(block); }
  return block;
}
fn place(row: u32, column: u32) -> u32 { return params.y_start + row * params.y_row + column / 4u; }
fn tile_end(batch: u32, row: u32, column: u32, sum: vec4<real>) -> vec4<real> {
  let value = sum * real(params.sign);
  if (params.before == 1u) { return y[place(row, column)] + value; }
  return value;
}
fn tile_put(batch: u32, row: u32, column: u32, value: vec4<real>) { y[place(row, column)] = value; }
`;

/** A block with its defaults filled in, and its matrix's width. */
interface Place extends Required<Block> {
  readonly width: number;
}

/** Fills in the defaults of a block and checks it against its matrix. */
function resolveBlock({ matrix, row = 0, column = 0, rows, columns }: Block): Place {
  const [height, width] = matrix.dims(2);
  const place = { matrix, row, column, rows: rows ?? height - row, columns: columns ?? width - column, width };
  const isVec4 = [column, place.columns, width].every((count) => count % 4 === 0);
  if (!isVec4 || row + place.rows > height || column + place.columns > width) {
    throw new ShapeError(
      `Cannot multiply a block of ${place.rows} × ${place.columns} elements at row ${row}, column ${column} of a matrix [${height}, ${width}] as it must ` +
        "lie inside the matrix, and its first column, its columns and the matrix's must be multiples of 4",
      [matrix.shape],
    );
  }
  return place;
}

/**
 * Computes y ← A·B, y + A·B or y − A·B on blocks, in the dtype of `y`. `y` must not share a matrix
 * with `a` or `b`.
 *
 * Aᵀ·B of matrices that are larger than the device's largest binding, such as all rows of an edit,
 * is a sum of products over ranges of rows that the device can bind.
 *
 * @throws {ShapeError} when the blocks do not match each other or exceed their matrices, and for
 *   another product of a matrix that is larger than the device's largest binding
 */
export function addProduct(y: Block, [a, b]: readonly [Block, Block], options: ProductOptions = {}): void {
  const { transposeA = false, transposeB = false, mode = "set", lowerOnly = false } = options;
  const [placeY, placeA, placeB] = [resolveBlock(y), resolveBlock(a), resolveBlock(b)];
  const [m, depth] = transposeA ? [placeA.columns, placeA.rows] : [placeA.rows, placeA.columns];
  const [n, depthB] = transposeB ? [placeB.rows, placeB.columns] : [placeB.columns, placeB.rows];
  if (depth !== depthB || m !== placeY.rows || n !== placeY.columns || depth % 4 !== 0) {
    throw new ShapeError(
      `Cannot multiply blocks ${m} × ${depth} and ${depthB} × ${n} into ${placeY.rows} × ${placeY.columns} as both depths must be the same multiple of 4, and the result must have the product's shape`,
      [[m, depth], [depthB, n], [placeY.rows, placeY.columns]],
    );
  }
  const { gpu } = y.matrix;
  const run = (
    operands: { a: Tensor | TensorWindow; b: Tensor | TensorWindow },
    { k, aStart, bStart, isFirst }: { k: number; aStart: number; bStart: number; isFirst: boolean },
  ) =>
    productKernel.run(
      gpu,
      { ...operands, y: y.matrix },
      {
        ...{ m, n, k },
        ...{ a_start: aStart, a_row: placeA.width / 4 },
        ...{ b_start: bStart, b_row: placeB.width / 4 },
        ...{ y_start: startOf(placeY), y_row: placeY.width / 4 },
        lower: lowerOnly ? 1 : 0,
        before: mode === "set" && isFirst ? 0 : 1,
        sign: mode === "subtract" ? -1 : 1,
      },
      {
        real: y.matrix.dtype,
        TRANSPOSE_A: transposeA,
        TRANSPOSE_B: transposeB,
        ...tileConstants(gpu, policyOf(gpu).solver.realTile(m, n, k), { k }),
      },
    );
  const limit = gpu.info.limits.maxStorageBufferBindingSize;
  const fits = a.matrix.bytes <= limit && b.matrix.bytes <= limit;
  if (fits || !transposeA || transposeB) {
    const whole = { k: depth, aStart: startOf(placeA), bStart: startOf(placeB), isFirst: true };
    return run({ a: a.matrix, b: b.matrix }, whole);
  }
  // Rows in fours, as the kernel reads the depth.
  const rowsOf = ({ matrix, row, width }: Place) => ({ tensor: matrix, unit: 4 * width, first: row * width });
  launchOverRanges(gpu, depth / 4, { a: rowsOf(placeA), b: rowsOf(placeB) }, ({ first, count, windows, starts }) => {
    const [aStart, bStart] = [starts.a + placeA.column / 4, starts.b + placeB.column / 4];
    run(windows, { k: 4 * count, aStart, bStart, isFirst: first === 0 });
  }, { vectorWidth: 4 });
}

/** Where a block begins in its matrix, in vec4. */
function startOf({ row, column, width }: Place): number {
  return (row * width + column) / 4;
}
