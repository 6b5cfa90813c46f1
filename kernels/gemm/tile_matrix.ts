import { matrixDepth } from "./tile_support.ts";
import { subgroupMatrixWgsl } from "../wgsl/subgroup_matrix.ts";
import { each, threadIndex, threadLoads } from "../wgsl/text.ts";
import { type TileConstants, tileSize } from "./tile_shape.ts";
import type { BlockLoads } from "./tile_workgroup.ts";

/**
 * Padding of each row of the f16 blocks, in vec4h: 16 bytes. It keeps the required alignment and
 * places the rows of a column in different memory banks.
 */
const padding = 2;
/** vec4 of a row of the blocks, without padding. */
const depthVec4 = matrixDepth / 4;
/** Distance between rows of the blocks, in vec4. */
const stride = depthVec4 + padding;

/**
 * The entry point of the `matrix` strategy, on Dawn's experimental subgroup matrices.
 *
 * In each iteration the threads load blocks of A (rows × {@linkcode matrixDepth}) and of B (columns
 * × depth) into workgroup memory, in f16 and along k. So a lane reads its part of a row of A or of
 * a column of B as vectors. Then each subgroup multiplies its `ROWS` matrices of A by its `COLUMNS`
 * matrices of B. The driver may make subgroups smaller than MATRIX_LANES. The surplus subgroups
 * only load and store.
 *
 * The epilogue processes one matrix of each subgroup at a time, because a whole tile of sums would
 * take 64 KiB of workgroup memory.
 *
 * Names in the generated text: `a_row{i}` and `b_column{i}` are what load i of a thread reads;
 * `a{r}` and `b` the operands of a subgroup, `sum{r}_{c}` its results. An example is printed by
 * `deno task wgsl "matmul.*1024" matrices`.
 *
 * Tested on lavapipe, which has matrices of 8 × 8 × 8. It has not run on tensor cores yet. Figures:
 * docs/tuning.md.
 */
export function matrixTile(constants: TileConstants, loads: BlockLoads): string {
  const { LANES: threads, THREADS_X: subgroupsX, ROWS: rows, COLUMNS: columns } = constants;
  const { MATRIX_M: m, MATRIX_N: n, MATRIX_K: k, MATRIX_LANES: lanes } = constants;
  const matrix = subgroupMatrixWgsl({ m, n, k });
  const subgroups = threads / lanes;
  const { rows: tileRows, columns: tileColumns } = tileSize(constants);
  const loadA = loadAlongK("a", { lines: tileRows, threads });
  const loadB = loads.b === "k"
    ? loadAlongK("b", { lines: tileColumns, threads })
    : loadColumns({ columns: tileColumns, threads });
  return /* wgsl */ `
var<workgroup> block_a: array<vec4h, ${tileRows * stride}>;
var<workgroup> block_b: array<vec4h, ${tileColumns * stride}>;
var<workgroup> sums: array<vec4f, ${subgroups * m * n / 4}>;
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32, @builtin(subgroup_id) subgroup: u32) {
  let batch = group.z;
  let row = group.y * ${tileRows}u;
  let column = group.x * ${tileColumns}u;
  let top = subgroup / ${subgroupsX}u * ${rows * m}u; // the subgroup's position in the tile
  let left = subgroup % ${subgroupsX}u * ${columns * n}u;
  ${loadA.places}
  ${loadB.places}
  ${each(rows, (r) => each(columns, (c) => `var sum${r}_${c} = ${matrix.zero};`, " "))}
  let first_k = batch * params.k; // depends on the workgroup: see tile.ts
  let end_k = first_k + params.k;
  for (var base = first_k; base < end_k; base += ${matrixDepth}u) {
    let k = base - first_k;
    ${loadA.load}
    ${loadB.load}
    workgroupBarrier();
    if (subgroup < ${subgroups}u) {
      for (var k4 = 0u; k4 < ${depthVec4}u; k4 += ${k / 4}u) { // within the block
        ${
    each(rows, (r) => `let a${r} = ${matrix.loadLeft("block_a", `(top + ${r * m}u) * ${stride}u + k4`, stride)};`)
  }
        ${
    each(columns, (c) =>
      `{ let b = ${matrix.loadRight("block_b", `(left + ${c * n}u) * ${stride}u + k4`, stride)};
        ${each(rows, (r) => matrix.multiply(`sum${r}_${c}`, `a${r}`, "b"), " ")} }`)
  }
      }
    }
    workgroupBarrier();
  }
  ${epilogue(constants)}
}`;
}

/** How all threads load a block into workgroup memory. */
interface BlockLoad {
  /** Statements before the loop over k: what each load of a thread reads. */
  readonly places: string;
  /** Statements in the loop: the loads. */
  readonly load: string;
}

/** `text` for each load of a thread, which receives the load and its {@linkcode threadIndex}. */
const places = (
  { total, threads }: { total: number; threads: number },
  text: (i: number, index: string) => string,
) => each(Math.ceil(total / threads), (i) => text(i, threadIndex(i, threads)));

/**
 * Loads of one vec4 along k, of rows of A or of columns of B. Consecutive threads load consecutive
 * vec4, then the next line.
 */
function loadAlongK(name: "a" | "b", { lines, threads }: { lines: number; threads: number }): BlockLoad {
  const sizes = { total: lines * depthVec4, threads };
  const line = (index: string) => `${index} / ${depthVec4}u`, k4 = (index: string) => `${index} % ${depthVec4}u`;
  const [place, load] = name === "a" ? ["a_row", "tile_a"] : ["b_column", "tile_b_k"];
  return {
    places: places(
      sizes,
      (i, index) =>
        name === "a"
          ? `let a_row${i} = tile_row(batch, min(row + ${line(index)}, params.m - 1u));`
          : `let b_column${i} = tile_column(batch, column + ${line(index)});`,
    ),
    load: threadLoads(
      sizes,
      (i, index) =>
        `block_${name}[${line(index)} * ${stride}u + ${k4(index)}] = ${load}(${place}${i}, k + ${k4(index)} * 4u);`,
    ),
  };
}

/**
 * Loads of B [K, N]: blocks of 4 × 4, which the thread transposes. Four threads load along k before
 * the next four columns, which reads 128 contiguous bytes.
 */
function loadColumns({ columns, threads }: { columns: number; threads: number }): BlockLoad {
  const columnVec4 = columns / 4, sizes = { total: columnVec4 * depthVec4, threads };
  const columnOf = (index: string) => `${index} / 4u % ${columnVec4}u * 4u`;
  return {
    places: places(sizes, (i, index) => `let b_column${i} = tile_column(batch, column + ${columnOf(index)});`),
    load: threadLoads(
      sizes,
      (i, index) =>
        `let k4 = (${index} % 4u + ${index} / ${4 * columnVec4}u * 4u); let at = k + k4 * 4u;
      let v = transpose(mat4x4h(${each(4, (j) => `tile_b_line(b_column${i}, at + ${j}u)`, ", ")}));
      let to = ${columnOf(index)} * ${stride}u + k4;
      ${each(4, (j) => `block_b[to + ${j * stride}u] = v[${j}];`, " ")}`,
    ),
  };
}

/** Stores the sums: matrix i of each subgroup at a time passes through workgroup memory. */
function epilogue(constants: TileConstants): string {
  const { LANES: threads, THREADS_X: subgroupsX, ROWS: rows, COLUMNS: columns } = constants;
  const { MATRIX_M: m, MATRIX_N: n, MATRIX_K: k, MATRIX_LANES: lanes } = constants;
  const matrix = subgroupMatrixWgsl({ m, n, k });
  const subgroups = threads / lanes, sumVec4 = m * n / 4;
  const store = (i: number) => {
    const sum = `sum${Math.floor(i / columns)}_${i % columns}`;
    return matrix.storeResult("sums", `subgroup * ${sumVec4}u`, sum, n / 4);
  };
  return /* wgsl */ `
  for (var i = 0u; i < ${rows * columns}u; i++) {
    if (subgroup < ${subgroups}u) {
      switch (i) {
        ${each(rows * columns, (i) => `${i === 0 ? "default" : `case ${i}u`}: { ${store(i)} }`)}
      }
    }
    workgroupBarrier();
    for (var q = thread; q < ${subgroups * sumVec4}u; q += ${threads}u) {
      let owner = q / ${sumVec4}u; // subgroup
      let to_row = row + (owner / ${subgroupsX}u * ${rows}u + i / ${columns}u) * ${m}u + q % ${sumVec4}u / ${n / 4}u;
      let to_column = column + (owner % ${subgroupsX}u * ${columns}u + i % ${columns}u) * ${n}u + q % ${n / 4}u * 4u;
      if (to_row < params.m && to_column < params.n) {
        tile_store(tile_place(batch, to_row), to_column, tile_end(sums[q], tile_column_end(to_column), tile_row_end(batch, to_row)));
      }
    }
    workgroupBarrier();
  }`;
}
