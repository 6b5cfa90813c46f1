import { ShapeError } from "../../engine/errors.ts";
import { declareKernel, storage } from "../../engine/kernel/kernel.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { each, fmaChain, rowLoop } from "../wgsl/text.ts";
import { policyOf } from "../policy.ts";

/**
 * Products of blocks of matrices over `real`, f32 or f64: the workhorse of the edit's solver, which
 * is made of little else.
 *
 * Two forms of register tile, as in tile.ts: on software devices a workgroup is one subgroup, whose
 * lanes own columns and hand rows of A round by `subgroupBroadcast`; elsewhere 64 threads share
 * blocks through workgroup memory. All numbers travel as vec4<real>, so the width of every matrix
 * and the first column of every block is a multiple of four.
 *
 * Lavapipe on two cores, 32 rows × 2 vec4 a lane: 768³ at 23 GFLOPS in f64 (25 with B transposed),
 * 44 in f32 (31); A transposed at two thirds of that, as its numbers are rowsPerSelect out of vec4
 * one by one.
 */

/** The type that the solver counts in. */
export type Real = "f32" | "f64";

/** A rectangle of a matrix [height, width] whose numbers are f32 or f64. */
export interface Block {
  readonly matrix: Tensor;
  /** First row. Default: 0. */
  readonly row?: number;
  /** First column, a multiple of 4. Default: 0. */
  readonly column?: number;
  /** Default: all that follow. */
  readonly rows?: number;
  /** A multiple of 4. Default: all that follow. */
  readonly columns?: number;
}

/** How {@linkcode addProduct} multiplies. */
export interface ProductOptions {
  /** B is stored [columns, depth]. Default: false. */
  readonly transposeB?: boolean;
  /** A is stored [depth, rows]. Default: false. */
  readonly transposeA?: boolean;
  /** What happens to the product. Default: "set". */
  readonly mode?: "set" | "add" | "subtract";
  /**
   * Whether only tiles that touch the lower triangle of the result are computed. Default: false.
   */
  readonly lowerOnly?: boolean;
}

type TileConstants = Record<"LANES" | "ROWS" | "COLUMNS" | "THREADS_X", number>;

const productKernel = declareKernel({
  name: "real_product",
  bindings: {
    a: storage("read", "array<vec4<real>>"),
    b: storage("read", "array<vec4<real>>"),
    y: storage("write", "array<vec4<real>>"),
  },
  // Rows are counted one by one; everything along a row in vec4.
  params: {
    m: "u32",
    n4: "u32",
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
  constants: {
    real: "type",
    TRANSPOSE_A: "bool",
    TRANSPOSE_B: "bool",
    SUBGROUP: "bool",
    LANES: "u32",
    ROWS: "u32",
    COLUMNS: "u32",
    THREADS_X: "u32",
  },
  extensions: ["subgroups"],
  wgsl: (constants) => accessWgsl + (constants.SUBGROUP ? subgroupTile(constants) : workgroupTile(constants)),
  grid: ({ m, n4 }, { SUBGROUP, LANES, ROWS, COLUMNS, THREADS_X }) =>
    SUBGROUP
      ? [Math.ceil(n4 / (LANES * COLUMNS)), Math.ceil(m / ROWS), 1]
      : [Math.ceil(n4 / (THREADS_X * COLUMNS)), Math.ceil(m / (ROWS * LANES / THREADS_X)), 1],
  cost: ({ m, n4, k, lower, before }, { real }) => {
    const share = lower === 1 ? 0.5 : 1, n = 4 * n4;
    const numbers = m * k + k * n + share * m * n * (before === 0 ? 1 : 2);
    return { flops: 2 * share * m * n * k, bytes: numbers * (real === "f64" ? 8 : 4) };
  },
});

const accessWgsl = /* wgsl */ `
struct Block4 { b0: vec4<real>, b1: vec4<real>, b2: vec4<real>, b3: vec4<real> }
fn flip(b: Block4) -> Block4 {
  return Block4(vec4<real>(b.b0.x, b.b1.x, b.b2.x, b.b3.x), vec4<real>(b.b0.y, b.b1.y, b.b2.y, b.b3.y),
    vec4<real>(b.b0.z, b.b1.z, b.b2.z, b.b3.z), vec4<real>(b.b0.w, b.b1.w, b.b2.w, b.b3.w));
}
fn one_a(at: u32, part: u32) -> real {
  let v = a[at];
  return select(select(v.x, v.y, part == 1u), select(v.z, v.w, part == 3u), part > 1u);
}
fn load_a(row: u32, k: u32) -> vec4<real> { // elements k to k + 3 of a row
  if (TRANSPOSE_A) {
    let at = params.a_start + k * params.a_row + row / 4u;
    let part = row % 4u;
    return vec4<real>(one_a(at, part), one_a(at + params.a_row, part), one_a(at + 2u * params.a_row, part),
      one_a(at + 3u * params.a_row, part));
  }
  return a[params.a_start + row * params.a_row + k / 4u];
}
fn load_b(column4: u32, k: u32) -> Block4 { // rows k to k + 3 of four columns
  let at = min(column4, params.n4 - 1u);
  if (TRANSPOSE_B) {
    let start = params.b_start + 4u * at * params.b_row + k / 4u;
    return flip(Block4(b[start], b[start + params.b_row], b[start + 2u * params.b_row], b[start + 3u * params.b_row]));
  }
  let start = params.b_start + k * params.b_row + at;
  return Block4(b[start], b[start + params.b_row], b[start + 2u * params.b_row], b[start + 3u * params.b_row]);
}
fn put(row: u32, column4: u32, sum: vec4<real>) {
  if (row < params.m && column4 < params.n4) {
    let at = params.y_start + row * params.y_row + column4;
    var value = sum * real(params.sign);
    if (params.before == 1u) { value = y[at] + value; }
    y[at] = value;
  }
}
`;

function subgroupTile({ LANES: lanes, ROWS: rows, COLUMNS: columns }: TileConstants): string {
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let row = group.y * ${rows}u;
  let column4 = group.x * ${lanes * columns}u + lane;
  if (params.lower * group.x * ${lanes * columns * 4}u >= row + ${rows}u) { return; }
  ${each(rows, (i) => each(columns, (c) => `var c${i}_${c} = vec4<real>();`, " "))}
  let first_k = group.z * params.k; // zero, but not to the compiler: see tile.ts
  for (var at = first_k; at < first_k + params.k; at += 4u) {
    let k = at - first_k;
    ${each(columns, (c) => `let b${c} = load_b(column4 + ${c * lanes}u, k);`)}
    ${each(Math.ceil(rows / lanes), (i) => `let a${i} = load_a(min(row + ${i * lanes}u + lane, params.m - 1u), k);`)}
    ${
    each(rows, (i) =>
      `{ let a = subgroupBroadcast(a${Math.floor(i / lanes)}, ${i % lanes}u); ${
        each(columns, (c) =>
          fmaChain(`c${i}_${c}`, "a", (j) =>
            `b${c}.b${j}`, "vec4<real>"), " ")
      } }`)
  }
  }
  ${
    rowLoop({ rows, columns, from: "first_k" }, (sum) =>
      each(columns, (c) => `put(row + i, column4 + ${c * lanes}u, ${sum(c)});`, " "))
  }
}`;
}

/** Depth of the blocks in workgroup memory. */
const depth = 16;

function workgroupTile({ LANES: threads, THREADS_X: threadsX, ROWS: rows, COLUMNS: columns }: TileConstants): string {
  const threadsY = threads / threadsX, tileRows = rows * threadsY, tileQuads = columns * threadsX;
  return /* wgsl */ `
var<workgroup> block_a: array<vec4<real>, ${tileRows * depth / 4}>; // [k / 4, row]
var<workgroup> block_b: array<vec4<real>, ${tileQuads * depth}>; // [k, column / 4]
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let row = group.y * ${tileRows}u;
  let column4 = group.x * ${tileQuads}u;
  if (params.lower * column4 * 4u >= row + ${tileRows}u) { return; }
  let x = thread % ${threadsX}u;
  let y = thread / ${threadsX}u;
  ${each(rows, (i) => each(columns, (c) => `var c${i}_${c} = vec4<real>();`, " "))}
  let first_k = group.z * params.k;
  for (var base = first_k; base < first_k + params.k; base += ${depth}u) {
    let k = base - first_k;
    for (var at = thread; at < ${tileRows * depth / 4}u; at += ${threads}u) {
      let ka = k + at / ${tileRows}u * 4u;
      var v = vec4<real>();
      if (ka < params.k) { v = load_a(min(row + at % ${tileRows}u, params.m - 1u), ka); }
      block_a[at] = v;
    }
    for (var at = thread; at < ${tileQuads * depth / 4}u; at += ${threads}u) {
      let kb = k + at / ${tileQuads}u * 4u;
      var v = Block4();
      if (kb < params.k) { v = load_b(column4 + at % ${tileQuads}u, kb); }
      let to = at / ${tileQuads}u * ${4 * tileQuads}u + at % ${tileQuads}u;
      ${each(4, (j) => `block_b[to + ${j * tileQuads}u] = v.b${j};`, " ")}
    }
    workgroupBarrier();
    for (var q = 0u; q < ${depth / 4}u; q++) {
      ${
    each(columns, (c) =>
      `let b${c} = Block4(${
        each(4, (j) =>
          `block_b[(q * 4u + ${j}u) * ${tileQuads}u + x + ${c * threadsX}u]`, ", ")
      });`)
  }
      ${
    each(rows, (i) =>
      `{ let a = block_a[q * ${tileRows}u + y * ${rows}u + ${i}u]; ${
        each(columns, (c) =>
          fmaChain(`c${i}_${c}`, "a", (j) =>
            `b${c}.b${j}`, "vec4<real>"), " ")
      } }`)
  }
    }
    workgroupBarrier();
  }
  ${
    each(rows, (i) =>
      each(columns, (c) => `put(row + y * ${rows}u + ${i}u, column4 + x + ${c * threadsX}u, c${i}_${c});`, " "))
  }
}`;
}

/** The block with its defaults worked out, checked against its matrix. */
function placed({ matrix, row = 0, column = 0, rows, columns }: Block) {
  const [height, width] = matrix.dims(2);
  const place = { matrix, row, column, rows: rows ?? height - row, columns: columns ?? width - column, width };
  const quads = [column, place.columns, width].every((count) => count % 4 === 0);
  if (!quads || row + place.rows > height || column + place.columns > width) {
    throw new ShapeError(
      `Cannot take ${place.rows} × ${place.columns} numbers from row ${row}, column ${column} of a matrix [${height}, ${width}] as a block must ` +
        "lie inside and its columns and the width be multiples of 4",
      [matrix.shape],
    );
  }
  return place;
}

/**
 * y ← A·B, y + A·B or y − A·B, on blocks. `y` may share no matrix with `a` or `b`. Its dtype is the
 * type that is counted in.
 *
 * @throws {ShapeError} when the blocks do not fit each other or their matrices
 */
export function addProduct(y: Block, [a, b]: readonly [Block, Block], options: ProductOptions = {}): void {
  const { transposeA = false, transposeB = false, mode = "set", lowerOnly = false } = options;
  const [placeY, placeA, placeB] = [placed(y), placed(a), placed(b)];
  const [m, depth] = transposeA ? [placeA.columns, placeA.rows] : [placeA.rows, placeA.columns];
  const [n, depthB] = transposeB ? [placeB.rows, placeB.columns] : [placeB.columns, placeB.rows];
  if (depth !== depthB || m !== placeY.rows || n !== placeY.columns || depth % 4 !== 0) {
    throw new ShapeError(
      `Cannot multiply blocks ${m} × ${depth} and ${depthB} × ${n} into ${placeY.rows} × ${placeY.columns} as the depths must agree and be a multiple of 4`,
      [[m, depth], [depthB, n], [placeY.rows, placeY.columns]],
    );
  }
  const start = ({ row, column, width }: { row: number; column: number; width: number }) => (row * width + column) / 4;
  productKernel.run(
    y.matrix.gpu,
    { a: a.matrix, b: b.matrix, y: y.matrix },
    {
      ...{ m, n4: n / 4, k: depth },
      ...{ a_start: start(placeA), a_row: placeA.width / 4 },
      ...{ b_start: start(placeB), b_row: placeB.width / 4 },
      ...{ y_start: start(placeY), y_row: placeY.width / 4 },
      lower: lowerOnly ? 1 : 0,
      before: mode === "set" ? 0 : 1,
      sign: mode === "subtract" ? -1 : 1,
    },
    {
      real: y.matrix.dtype,
      TRANSPOSE_A: transposeA,
      TRANSPOSE_B: transposeB,
      ...policyOf(y.matrix.gpu).realTile(m, n, depth),
    },
  );
}
