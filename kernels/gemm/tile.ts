import { GpuError } from "../../engine/errors.ts";
import type { Gpu, WgslExtension } from "../../engine/gpu.ts";
import type { ConstantValues, Grid } from "../../engine/kernel/kernel.ts";
import { matrixDepth, unsupportedReason } from "../policy.ts";
import { each, fmaChain, rowLoop } from "../wgsl/text.ts";

/**
 * The register-tile core of C = A·B that matmul and conv2d share: generated WGSL, because naga
 * keeps an accumulator in a register only when it has a name of its own.
 *
 * A kernel says what A, B and C are by defining, beside `params.m`, `params.n` and `params.k`:
 *
 * - `struct Row` and `tile_row(batch, row) -> Row`: a row of A, its address worked out once
 * - `tile_a(Row, k) -> vec4f`: the row's elements k … k+3, zero from `params.k` on
 * - `struct Column` and `tile_column(batch, column) -> Column`: four (WIDE: eight) neighbouring
 *   columns of B
 * - `tile_b(Column, k) -> mat4x4f`: their elements; member j is row k+j, finite from `params.k` on
 * - `tile_end(batch, row, column, vec4f) -> vec4f`: what becomes of a sum (bias, activation,
 *   residual)
 * - `tile_put(batch, row, column, vec4f)`: stores four neighbouring results of a row, `row <
 *   params.m`, `column < params.n`
 *
 * Rows and columns may lie beyond the edge, and must then be clamped, in the first four.
 *
 * Where the constant WIDE holds, all sizes and strides divide by eight, and in place of `tile_a`,
 * `tile_b`, `tile_end` and `tile_put` there are
 *
 * - `tile_a8(Row, k) -> mat2x4f`: elements k … k+7
 * - `tile_b8(Column, k) -> Block`: elements k … k+7 of eight columns, as four mat4x4f:
 *   `upper_left`, `upper_right` (k … k+3), `lower_left`, `lower_right`
 * - `tile_end8`, `tile_put8`: as their narrow namesakes, for eight results
 *
 * Where the constant GATED holds (workgroup strategy, two vec4 a thread), B has 2 · `params.n`
 * columns, and a thread's second vec4 are the columns that gate the first: `tile_gate(batch, row,
 * column, vec4f, vec4f) -> vec4f` makes one of both in place of `tile_end`.
 *
 * Two things make lavapipe's compiler slow, and shape this file. Each memory access in the text
 * costs it some 10 ms, and an unrolled epilogue has several for every accumulator: so results are
 * ended and stored in a loop over rows, which takes its row out of the accumulators by a tree of
 * selects (an array of accumulators took it 15 s). And it compiles a kernel anew for each value of
 * a uniform that bounds a loop: so loops count from a number that depends on the workgroup. A tile
 * of 32 × 2 with bias and residual compiled in 4.2 s with all accesses unrolled, in 0.8 s with the
 * stores unrolled alone, and in 0.5 s like this. For the same reason what can be told by a
 * parameter is no constant: a variant less is half a second less.
 */

/**
 * How the tile is computed.
 *
 * - `subgroup`: a workgroup is one subgroup of `lanes`. A lane owns `columns` vec4 of each of
 *   `rows` rows; rows of A are loaded once by the subgroup and handed round by `subgroupBroadcast`.
 *   For software devices, where a load costs as much as some 40 fma and nothing hides it.
 * - `workgroup`: `lanes` = `threadsX` × `threadsY` threads share blocks of A and B, 16 deep,
 *   through workgroup memory; a thread owns `rows` rows × `columns` vec4. For GPUs.
 * - `matrix`: `lanes` threads are subgroups, `threadsX` of them side by side; a subgroup owns
 *   `rows` × `columns` subgroup matrices of results. Blocks of A and B pass through workgroup
 *   memory, rounded to f16; sums are f32. For devices with tensor cores, and for products that may
 *   be rounded:
 *
 *       |y − A·B| ≤ (2 · 2⁻¹¹ + 2⁻²²) · |A|·|B|, beside the rounding of an f32 sum
 *
 *   where a's and b's magnitudes are from 2⁻¹⁴ to 65,504: beyond, f16 overflows to infinity, and
 *   below, it errs by up to 2⁻²⁵ instead. (2⁻¹⁰ in place of 2⁻¹¹ where a device cuts off instead of
 *   rounding to the nearest, which WGSL allows.) Of random operands, errors cancel: ‖y − A·B‖ /
 *   ‖A·B‖ was 2.7·10⁻⁴ for k = 64, 320, 1280 and 5120 (numbers from −1 to 1, lavapipe of Mesa
 *   26.2), against 1.4·10⁻⁷ to 1.3·10⁻⁶ in f32.
 */
export interface TileShape {
  readonly strategy: "subgroup" | "workgroup" | "matrix";
  readonly lanes: number;
  readonly threadsX: number;
  /**
   * Rows an accumulator set holds: of the whole tile (subgroup), of a thread (workgroup); or
   * matrices below each other (matrix).
   */
  readonly rows: number;
  /** vec4 columns of a lane, or matrices of a subgroup side by side (matrix). */
  readonly columns: number;
}

/** The constants that make a kernel's variants differ by tile shape. */
export type TileConstants = ConstantValues<typeof tileConstantTypes>;

/** Types of {@linkcode TileConstants}, for declarations. MATRIX_… are 0 in tiles without matrices. */
export const tileConstantTypes = {
  STRATEGY: ["workgroup", "subgroup", "matrix"],
  LANES: "u32",
  THREADS_X: "u32",
  ROWS: "u32",
  COLUMNS: "u32",
  WIDE: "bool",
  MATRIX_M: "u32",
  MATRIX_N: "u32",
  MATRIX_K: "u32",
  MATRIX_LANES: "u32",
} as const;

/**
 * A shape as constants. `inEights` tells that the operands can be accessed so; whether they are is
 * the shape's matter, too.
 *
 * @throws {GpuError} when the shape wants subgroup matrices that are not in use
 */
export function tileConstants(
  gpu: Gpu,
  shape: TileShape,
  { inEights = false }: { inEights?: boolean } = {},
): TileConstants {
  const { strategy, lanes, threadsX, rows, columns } = shape;
  return {
    STRATEGY: strategy,
    LANES: lanes,
    THREADS_X: threadsX,
    ROWS: rows,
    COLUMNS: columns,
    WIDE: inEights && strategy === "subgroup" && columns % 2 === 0,
    ...(strategy === "matrix" ? matrixConstants(gpu, shape) : noMatrix),
  };
}

const noMatrix = { MATRIX_M: 0, MATRIX_N: 0, MATRIX_K: 0, MATRIX_LANES: 0 };

function matrixConstants(gpu: Gpu, shape: TileShape): typeof noMatrix {
  const why = unsupportedReason(gpu.info, shape);
  if (why) throw new GpuError(`Cannot compute a tile of subgroup matrices on ${gpu.info.name} as ${why}`);
  const { m, n, k, lanes } = gpu.info.subgroupMatrix!;
  return { MATRIX_M: m, MATRIX_N: n, MATRIX_K: k, MATRIX_LANES: lanes };
}

/** WGSL extensions that a tile's kernel uses. */
export function tileExtensions({ STRATEGY }: Pick<TileConstants, "STRATEGY">): readonly WgslExtension[] {
  return STRATEGY === "matrix" ? ["subgroups", "f16", "chromium_experimental_subgroup_matrix"] : ["subgroups"];
}

/** Rows and columns (in numbers) that one workgroup computes. */
export function tileSize(
  { STRATEGY, LANES, THREADS_X, ROWS, COLUMNS, MATRIX_M, MATRIX_N, MATRIX_LANES }: TileConstants,
): { rows: number; columns: number } {
  switch (STRATEGY) {
    case "subgroup":
      return { rows: ROWS, columns: 4 * LANES * COLUMNS };
    case "matrix":
      return { rows: ROWS * MATRIX_M * (LANES / MATRIX_LANES / THREADS_X), columns: THREADS_X * COLUMNS * MATRIX_N };
    case "workgroup":
      return { rows: ROWS * (LANES / THREADS_X), columns: 4 * THREADS_X * COLUMNS };
  }
}

/** Constants of a tile whose B may have gate columns. */
type GatedTileConstants = TileConstants & { readonly GATED?: boolean };

/** Workgroups that cover an m × n result, `batch` times. */
export function tileGrid(c: GatedTileConstants, m: number, n: number, batch: number): Grid {
  const { rows, columns } = tileSize(c);
  return [Math.ceil(n / (c.GATED ? columns / 2 : columns)), Math.ceil(m / rows), batch];
}

/** The entry point `main` for a shape. */
export function tileWgsl(constants: GatedTileConstants): string {
  return { workgroup: workgroupTile, subgroup: subgroupTile, matrix: matrixTile }[constants.STRATEGY](constants);
}

/** Ends and stores a sum. */
export const put = (place: string, sum: string, eight: 8 | "" = "") =>
  `tile_put${eight}(${place}, tile_end${eight}(${place}, ${sum}));`;

function subgroupTile({ LANES: lanes, ROWS: rows, COLUMNS: columns, WIDE: wide }: TileConstants): string {
  const loads = Math.ceil(rows / lanes);
  const quads = wide ? 2 : 1; // vec4 of an access: neighbouring columns of B, consecutive k of A
  const blocks = columns / quads;
  const place = (c: number) => `column + ${(Math.floor(c / quads) * lanes * quads + c % quads) * 4}u`;
  const sums = (row: number, text: (acc: string, c: number) => string) =>
    each(columns, (c) => text(`c${row}_${c}`, c), " ");
  const access = wide
    ? {
      a: (i: number) => `let w${i} = tile_a8(r${i}, k); let a${i}_0 = w${i}[0]; let a${i}_1 = w${i}[1];`,
      b: (g: number) =>
        `let e${g} = tile_b8(q${g}, k); let b${2 * g}_0 = e${g}.upper_left; let b${2 * g + 1}_0 = e${g}.upper_right; ` +
        `let b${2 * g}_1 = e${g}.lower_left; let b${2 * g + 1}_1 = e${g}.lower_right;`,
      put: (g: number, sum: (c: number) => string) =>
        put(`batch, row + i, ${place(2 * g)}`, `mat2x4f(${sum(2 * g)}, ${sum(2 * g + 1)})`, 8),
    }
    : {
      a: (i: number) => `let a${i}_0 = tile_a(r${i}, k);`,
      b: (g: number) => `let b${g}_0 = tile_b(q${g}, k);`,
      put: (g: number, sum: (c: number) => string) => put(`batch, row + i, ${place(g)}`, sum(g)),
    };
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let batch = group.z;
  let row = group.y * ${rows}u;
  let column = group.x * ${4 * lanes * columns}u + lane * ${4 * quads}u;
  ${each(loads, (i) => `let r${i} = tile_row(batch, min(row + ${i * lanes}u + lane, params.m - 1u));`)}
  ${each(blocks, (g) => `let q${g} = tile_column(batch, ${place(g * quads)});`)}
  ${each(rows, (i) => sums(i, (acc) => `var ${acc} = vec4f();`))}
  let first_k = batch * params.k;
  let end_k = first_k + params.k;
  for (var at = first_k; at < end_k; at += ${4 * quads}u) {
    let k = at - first_k;
    ${each(blocks, access.b)}
    ${each(loads, access.a)}
    ${
    each(rows, (i) =>
      `{ ${
        each(quads, (h) => `let x${h} = subgroupBroadcast(a${Math.floor(i / lanes)}_${h}, ${i % lanes}u);`, " ")
      } ${
        sums(i, (acc, c) => each(quads, (h) => fmaChain(acc, `x${h}`, (j) => `b${c}_${h}[${j}]`), " "))
      } }`)
  }
  }
  let first_row = batch * params.k; // for lavapipe: see above
  ${
    rowLoop({ rows, columns, from: "first_row" }, (sum) =>
      each(blocks, (g) => `if (${place(g * quads)} < params.n) { ${access.put(g, sum)} }`))
  }
}`;
}

/** Depth of the blocks in workgroup memory. */
const depth = 16;

function workgroupTile(
  { LANES: threads, THREADS_X: threadsX, ROWS: rows, COLUMNS: columns, GATED: isGated = false }: GatedTileConstants,
): string {
  const threadsY = threads / threadsX;
  const tileRows = rows * threadsY, tileQuads = columns * threadsX, quadsDeep = depth / 4;
  const aLoads = Math.ceil(tileRows * quadsDeep / threads), bLoads = Math.ceil(tileQuads * quadsDeep / threads);
  const aGuard = (i: number) =>
    (i + 1) * threads > tileRows * quadsDeep ? `if (thread + ${i * threads}u < ${tileRows * quadsDeep}u)` : "";
  const bGuard = (i: number) =>
    (i + 1) * threads > tileQuads * quadsDeep ? `if (thread + ${i * threads}u < ${tileQuads * quadsDeep}u)` : "";
  // A block: vec4 over k, k-major so that threads of one row group read neighbours. B block: vec4
  // over columns.
  return /* wgsl */ `
var<workgroup> block_a: array<vec4f, ${tileRows * quadsDeep}>;
var<workgroup> block_b: array<vec4f, ${tileQuads * depth}>;
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let batch = group.z;
  let row = group.y * ${tileRows}u;
  let column = group.x * ${(isGated ? threadsX : tileQuads) * 4}u;
  let x = thread % ${threadsX}u;
  let y = thread / ${threadsX}u;
  ${
    each(aLoads, (i) =>
      `let ra${i} = tile_row(batch, min(row + (thread + ${
        i * threads
      }u) / ${quadsDeep}u, params.m - 1u)); let ka${i} = (thread + ${i * threads}u) % ${quadsDeep}u;`)
  }
  ${
    each(bLoads, (i) =>
      `let jb${i} = (thread + ${i * threads}u) % ${tileQuads}u; let qb${i} = tile_column(batch, column + ${
        isGated ? `jb${i} % ${threadsX}u * 4u + select(0u, params.n, jb${i} >= ${threadsX}u)` : `jb${i} * 4u`
      }); let kb${i} = (thread + ${i * threads}u) / ${tileQuads}u;`)
  }
  ${each(rows, (i) => each(columns, (c) => `var c${i}_${c} = vec4f();`, " "))}
  let first_k = batch * params.k;
  let end_k = first_k + params.k;
  for (var base = first_k; base < end_k; base += ${depth}u) {
    let k = base - first_k;
    ${
    each(aLoads, (i) =>
      `${
        aGuard(i)
      } { let at = k + ka${i} * 4u; var v = vec4f(); if (at < params.k) { v = tile_a(ra${i}, at); } block_a[ka${i} * ${tileRows}u + (thread + ${
        i * threads
      }u) / ${quadsDeep}u] = v; }`)
  }
    ${
    each(bLoads, (i) =>
      `${
        bGuard(i)
      } { let at = k + kb${i} * 4u; var v = mat4x4f(); if (at < params.k) { v = tile_b(qb${i}, at); } let to = kb${i} * ${
        4 * tileQuads
      }u + (thread + ${i * threads}u) % ${tileQuads}u; ${
        each(4, (j) =>
          `block_b[to + ${j * tileQuads}u] = v[${j}];`, " ")
      } }`)
  }
    workgroupBarrier();
    for (var q = 0u; q < ${quadsDeep}u; q++) {
      ${
    each(columns, (c) =>
      `let b${c} = mat4x4f(${
        each(4, (j) =>
          `block_b[(q * 4u + ${j}u) * ${tileQuads}u + x + ${c * threadsX}u]`, ", ")
      });`)
  }
      ${
    each(rows, (i) =>
      `{ let a = block_a[q * ${tileRows}u + y * ${rows}u + ${i}u]; ${
        each(columns, (c) =>
          fmaChain(`c${i}_${c}`, "a", (j) =>
            `b${c}[${j}]`), " ")
      } }`)
  }
    }
    workgroupBarrier();
  }
  ${
    each(rows, (i) =>
      `if (row + y * ${rows}u + ${i}u < params.m) { ${
        each(isGated ? 1 : columns, (c) => {
          const at = `column + (x + ${c * threadsX}u) * 4u`, place = `batch, row + y * ${rows}u + ${i}u, ${at}`;
          return `if (${at} < params.n) { ${
            isGated ? `tile_put(${place}, tile_gate(${place}, c${i}_0, c${i}_1));` : put(place, `c${i}_${c}`)
          } }`;
        }, " ")
      } }`)
  }
}`;
}

/**
 * Quads that the rows of f16 blocks are apart beyond their own: 16 bytes, as alignment wants, so
 * that a column's rows lie in other banks.
 */
const padding = 2;

/**
 * On subgroup matrices (Dawn's WGSL, which names columns before rows in their types). Blocks of A
 * (rows × {@linkcode matrixDepth}) and B (depth × columns) are stored row by row as vec4h, so that
 * `tile_a` and `tile_b` store as they load. Threads take B by four quads of k before the next
 * columns: 64 bytes in a row where B is stored [N, K], 128 where [K, N].
 *
 * Mesa's lavapipe has subgroup matrices, of 8 × 8 × 8, so that this can be tested without a GPU,
 * but not judged: 1024³ takes it 360 ms, where its own tiles take 62 to 92. It has not run on
 * tensor cores yet.
 *
 * There may be more subgroups than have work, where the driver makes them smaller than
 * MATRIX_LANES: these only load and store.
 *
 * Sums end as elsewhere, by `tile_end` and `tile_put`, one matrix of each subgroup at a time, since
 * whole tiles would want 64 KiB of workgroup memory.
 */
function matrixTile(constants: TileConstants): string {
  const { LANES: threads, THREADS_X: across, ROWS: rows, COLUMNS: columns } = constants;
  const { MATRIX_M: m, MATRIX_N: n, MATRIX_K: k, MATRIX_LANES: lanes } = constants;
  const subgroups = threads / lanes;
  const { rows: tileRows, columns: tileColumns } = tileSize(constants);
  const quadsDeep = matrixDepth / 4, tileQuads = tileColumns / 4;
  const aStride = quadsDeep + padding, bStride = tileQuads + padding;
  const aQuads = tileRows * quadsDeep, bQuads = tileQuads * quadsDeep; // loads: of four elements, of 4 × 4
  const loads = (quads: number, text: (i: number, index: string) => string) =>
    each(Math.ceil(quads / threads), (i) => {
      const index = `(thread + ${i * threads}u)`;
      return `${(i + 1) * threads > quads ? `if ${index} < ${quads}u ` : ""}{ ${text(i, index)} }`;
    });
  const rowOf = (index: string) => `${index} / ${quadsDeep}u`;
  const columnOf = (index: string) => `${index} / 4u % ${tileQuads}u`;
  const depthOf = (index: string) => `(${index} % 4u + ${index} / ${4 * tileQuads}u * 4u)`;
  const sumQuads = m * n / 4;
  return /* wgsl */ `
var<workgroup> block_a: array<vec4h, ${tileRows * aStride}>;
var<workgroup> block_b: array<vec4h, ${matrixDepth * bStride}>;
var<workgroup> sums: array<vec4f, ${subgroups * sumQuads}>;
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32, @builtin(subgroup_id) subgroup: u32) {
  let batch = group.z;
  let row = group.y * ${tileRows}u;
  let column = group.x * ${tileColumns}u;
  let top = subgroup / ${across}u * ${rows * m}u; // the subgroup's place in the tile
  let left = subgroup % ${across}u * ${columns * n / 4}u; // in quads
  ${
    each(Math.ceil(aQuads / threads), (i) =>
      `let ra${i} = tile_row(batch, min(row + ${rowOf(`(thread + ${i * threads}u)`)}, params.m - 1u));`)
  }
  ${
    each(Math.ceil(bQuads / threads), (i) =>
      `let qb${i} = tile_column(batch, column + ${columnOf(`(thread + ${i * threads}u)`)} * 4u);`)
  }
  ${each(rows, (i) => each(columns, (c) => `var c${i}_${c} = subgroup_matrix_result<f32, ${n}, ${m}>();`, " "))}
  let first_k = batch * params.k; // for lavapipe: see above
  let end_k = first_k + params.k;
  for (var base = first_k; base < end_k; base += ${matrixDepth}u) {
    let k = base - first_k;
    ${
    loads(aQuads, (i, index) =>
      `let deep = ${index} % ${quadsDeep}u; let at = k + deep * 4u; var v = vec4f(); ` +
      `if (at < params.k) { v = tile_a(ra${i}, at); } block_a[${rowOf(index)} * ${aStride}u + deep] = vec4h(v);`)
  }
    ${
    loads(bQuads, (i, index) =>
      `let deep = ${depthOf(index)} * 4u; let at = k + deep; var v = mat4x4f(); ` +
      `if (at < params.k) { v = tile_b(qb${i}, at); } let to = deep * ${bStride}u + ${columnOf(index)}; ` +
      each(4, (j) => `block_b[to + ${j * bStride}u] = vec4h(v[${j}]);`, " "))
  }
    workgroupBarrier();
    if (subgroup < ${subgroups}u) {
      for (var deep = 0u; deep < ${matrixDepth / 4}u; deep += ${k / 4}u) {
        ${
    each(rows, (i) =>
      `let a${i} = subgroupMatrixLoad<subgroup_matrix_left<f16, ${k}, ${m}>, row_major>(&block_a, (top + ${
        i * m
      }u) * ${aStride}u + deep, ${aStride}u);`)
  }
        ${
    each(columns, (c) =>
      `{ let b = subgroupMatrixLoad<subgroup_matrix_right<f16, ${n}, ${k}>, row_major>(&block_b, deep * ${
        4 * bStride
      }u + left + ${c * n / 4}u, ${bStride}u); ${
        each(rows, (i) =>
          `c${i}_${c} = subgroupMatrixMultiplyAccumulate(a${i}, b, c${i}_${c});`, " ")
      } }`)
  }
      }
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < ${rows * columns}u; i++) {
    if (subgroup < ${subgroups}u) {
      switch (i) {
        ${
    each(rows * columns, (i) =>
      `${i === 0 ? "default" : `case ${i}u`}: { subgroupMatrixStore<row_major>(&sums, subgroup * ${sumQuads}u, c${
        Math.floor(i / columns)
      }_${i % columns}, ${n / 4}u); }`)
  }
      }
    }
    workgroupBarrier();
    for (var q = thread; q < ${subgroups * sumQuads}u; q += ${threads}u) {
      let owner = q / ${sumQuads}u;
      let to_row = row + (owner / ${across}u * ${rows}u + i / ${columns}u) * ${m}u + q % ${sumQuads}u / ${n / 4}u;
      let to_column = column + (owner % ${across}u * ${columns}u + i % ${columns}u) * ${n}u + q % ${n / 4}u * 4u;
      if (to_row < params.m && to_column < params.n) { ${put("batch, to_row, to_column", "sums[q]")} }
    }
    workgroupBarrier();
  }
}`;
}
