import { matrixDepth } from "./tile_support.ts";
import { each } from "../wgsl/text.ts";
import { type TileConstants, tileSize } from "./tile_shape.ts";
import type { BlockLoads } from "./tile_workgroup.ts";

/**
 * Padding of each row of the f16 blocks, in vec4h: 16 bytes. It keeps the required alignment and
 * places the rows of a column in different memory banks.
 */
const padding = 2;

/**
 * The entry point of the `matrix` strategy, on Dawn's experimental subgroup matrices. Their WGSL
 * types name columns before rows.
 *
 * Blocks of A (rows × {@linkcode matrixDepth}) and B (columns × depth) are stored in workgroup
 * memory along k, as vec4h. So a lane reads its part of a row of A or of a column of B as vectors.
 *
 * A load is a vec4 along k; consecutive threads load consecutive vec4, then the next row or column.
 * Where B is [K, N], a load is a block of 4 × 4, which the thread transposes: four threads load
 * along k before the next four columns, which reads 128 contiguous bytes.
 *
 * The driver may make subgroups smaller than MATRIX_LANES. The surplus subgroups only load and
 * store.
 *
 * The epilogue processes one matrix of each subgroup at a time, because a whole tile of sums would
 * take 64 KiB of workgroup memory.
 *
 * Tested on lavapipe, which has matrices of 8 × 8 × 8. It has not run on tensor cores yet. Figures:
 * docs/tuning.md.
 */
export function matrixTile(constants: TileConstants, { b: loadsOfB }: BlockLoads): string {
  const { LANES: threads, THREADS_X: across, ROWS: rows, COLUMNS: columns } = constants;
  const { MATRIX_M: m, MATRIX_N: n, MATRIX_K: k, MATRIX_LANES: lanes } = constants;
  const subgroups = threads / lanes;
  const { rows: tileRows, columns: tileColumns } = tileSize(constants);
  const depthVec4 = matrixDepth / 4, columnVec4 = tileColumns / 4;
  const stride = depthVec4 + padding;
  const isByLines = loadsOfB === "lines";
  const aLoads = tileRows * depthVec4, bLoads = (isByLines ? columnVec4 : tileColumns) * depthVec4;
  const perThread = (total: number, text: (i: number, index: string) => string) =>
    each(Math.ceil(total / threads), (i) => text(i, i === 0 ? "thread" : `(thread + ${i * threads}u)`));
  const guarded = (total: number, text: (i: number, index: string) => string) =>
    perThread(
      total,
      (i, index) =>
        `${
          (i + 1) * threads > total ? `if ${index === "thread" ? "(thread" : index.slice(0, -1)} < ${total}u) ` : ""
        }{ ${text(i, index)} }`,
    );
  const lineOf = (index: string) => `${index} / ${depthVec4}u`;
  const deepOf = (index: string) => `${index} % ${depthVec4}u`;
  // With blocks of 4 × 4:
  const columnOf = (index: string) => `${index} / 4u % ${columnVec4}u * 4u`;
  const blockDeepOf = (index: string) => `(${index} % 4u + ${index} / ${4 * columnVec4}u * 4u)`;
  const loadB = isByLines
    ? (i: number, index: string) =>
      `let deep = ${blockDeepOf(index)}; let at = k + deep * 4u;
      let v = transpose(mat4x4h(${each(4, (j) => `tile_b_line(qb${i}, at + ${j}u)`, ", ")}));
      let to = ${columnOf(index)} * ${stride}u + deep;
      ${each(4, (j) => `block_b[to + ${j * stride}u] = v[${j}];`, " ")}`
    : (i: number, index: string) =>
      `block_b[${lineOf(index)} * ${stride}u + ${deepOf(index)}] = tile_b_k(qb${i}, k + ${deepOf(index)} * 4u);`;
  const sumVec4 = m * n / 4;
  return /* wgsl */ `
var<workgroup> block_a: array<vec4h, ${tileRows * stride}>;
var<workgroup> block_b: array<vec4h, ${tileColumns * stride}>;
var<workgroup> sums: array<vec4f, ${subgroups * sumVec4}>;
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32, @builtin(subgroup_id) subgroup: u32) {
  let batch = group.z;
  let row = group.y * ${tileRows}u;
  let column = group.x * ${tileColumns}u;
  let top = subgroup / ${across}u * ${rows * m}u; // the subgroup's position in the tile
  let left = subgroup % ${across}u * ${columns * n}u;
  ${perThread(aLoads, (i, index) => `let ra${i} = tile_row(batch, min(row + ${lineOf(index)}, params.m - 1u));`)}
  ${
    perThread(bLoads, (i, index) =>
      `let qb${i} = tile_column(batch, column + ${isByLines ? columnOf(index) : lineOf(index)});`)
  }
  ${each(rows, (i) => each(columns, (c) => `var c${i}_${c} = subgroup_matrix_result<f32, ${n}, ${m}>();`, " "))}
  let first_k = batch * params.k; // depends on the workgroup: see tile.ts
  let end_k = first_k + params.k;
  for (var base = first_k; base < end_k; base += ${matrixDepth}u) {
    let k = base - first_k;
    ${
    guarded(aLoads, (i, index) =>
      `block_a[${lineOf(index)} * ${stride}u + ${deepOf(index)}] = tile_a(ra${i}, k + ${deepOf(index)} * 4u);`)
  }
    ${guarded(bLoads, loadB)}
    workgroupBarrier();
    if (subgroup < ${subgroups}u) {
      for (var deep = 0u; deep < ${depthVec4}u; deep += ${k / 4}u) {
        ${
    each(rows, (i) =>
      `let a${i} = subgroupMatrixLoad<subgroup_matrix_left<f16, ${k}, ${m}>, row_major>(&block_a, (top + ${
        i * m
      }u) * ${stride}u + deep, ${stride}u);`)
  }
        ${
    each(columns, (c) =>
      `{ let b = subgroupMatrixLoad<subgroup_matrix_right<f16, ${n}, ${k}>, col_major>(&block_b, (left + ${
        c * n
      }u) * ${stride}u + deep, ${stride}u); ${
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
      `${i === 0 ? "default" : `case ${i}u`}: { subgroupMatrixStore<row_major>(&sums, subgroup * ${sumVec4}u, c${
        Math.floor(i / columns)
      }_${i % columns}, ${n / 4}u); }`)
  }
      }
    }
    workgroupBarrier();
    for (var q = thread; q < ${subgroups * sumVec4}u; q += ${threads}u) {
      let owner = q / ${sumVec4}u;
      let to_row = row + (owner / ${across}u * ${rows}u + i / ${columns}u) * ${m}u + q % ${sumVec4}u / ${n / 4}u;
      let to_column = column + (owner % ${across}u * ${columns}u + i % ${columns}u) * ${n}u + q % ${n / 4}u * 4u;
      if (to_row < params.m && to_column < params.n) {
        tile_store(tile_place(batch, to_row), to_column, tile_end(sums[q], tile_column_end(to_column), tile_row_end(batch, to_row)));
      }
    }
    workgroupBarrier();
  }
}`;
}
