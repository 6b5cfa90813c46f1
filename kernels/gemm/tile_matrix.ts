import { matrixDepth } from "./tile_support.ts";
import { each } from "../wgsl/text.ts";
import { put, type TileConstants, tileSize } from "./tile_shape.ts";

/**
 * Padding of each row of the f16 blocks, in vec4h: 16 bytes. It keeps the required alignment and
 * places the rows of a column in different memory banks.
 */
const padding = 2;

/**
 * The entry point of the `matrix` strategy, on Dawn's experimental subgroup matrices. Their WGSL
 * types name columns before rows.
 *
 * Blocks of A (rows × {@linkcode matrixDepth}) and B (depth × columns) are stored in workgroup
 * memory by rows, as vec4h. Consecutive threads load four vec4 along k before the next four columns
 * of B, which reads 64 contiguous bytes where B is stored [N, K] and 128 where it is [K, N].
 *
 * The driver may make subgroups smaller than MATRIX_LANES. The surplus subgroups only load and
 * store.
 *
 * The epilogue (`tile_end`, `tile_put`) processes one matrix of each subgroup at a time, because a
 * whole tile of sums would take 64 KiB of workgroup memory.
 *
 * Tested on lavapipe, which has matrices of 8 × 8 × 8. It has not run on tensor cores yet. Figures:
 * docs/tuning.md.
 */
export function matrixTile(constants: TileConstants): string {
  const { LANES: threads, THREADS_X: across, ROWS: rows, COLUMNS: columns } = constants;
  const { MATRIX_M: m, MATRIX_N: n, MATRIX_K: k, MATRIX_LANES: lanes } = constants;
  const subgroups = threads / lanes;
  const { rows: tileRows, columns: tileColumns } = tileSize(constants);
  const depthVec4 = matrixDepth / 4, columnVec4 = tileColumns / 4;
  const aStride = depthVec4 + padding, bStride = columnVec4 + padding;
  // Loads of A are vec4; loads of B are blocks of 4 × 4.
  const aLoads = tileRows * depthVec4, bLoads = columnVec4 * depthVec4;
  const loads = (total: number, text: (i: number, index: string) => string) =>
    each(Math.ceil(total / threads), (i) => {
      const index = `(thread + ${i * threads}u)`;
      return `${(i + 1) * threads > total ? `if ${index} < ${total}u ` : ""}{ ${text(i, index)} }`;
    });
  const rowOf = (index: string) => `${index} / ${depthVec4}u`;
  const columnOf = (index: string) => `${index} / 4u % ${columnVec4}u`;
  const depthOf = (index: string) => `(${index} % 4u + ${index} / ${4 * columnVec4}u * 4u)`;
  const sumVec4 = m * n / 4;
  return /* wgsl */ `
var<workgroup> block_a: array<vec4h, ${tileRows * aStride}>;
var<workgroup> block_b: array<vec4h, ${matrixDepth * bStride}>;
var<workgroup> sums: array<vec4f, ${subgroups * sumVec4}>;
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32, @builtin(subgroup_id) subgroup: u32) {
  let batch = group.z;
  let row = group.y * ${tileRows}u;
  let column = group.x * ${tileColumns}u;
  let top = subgroup / ${across}u * ${rows * m}u; // the subgroup's position in the tile
  let left = subgroup % ${across}u * ${columns * n / 4}u; // in vec4
  ${
    each(Math.ceil(aLoads / threads), (i) =>
      `let ra${i} = tile_row(batch, min(row + ${rowOf(`(thread + ${i * threads}u)`)}, params.m - 1u));`)
  }
  ${
    each(Math.ceil(bLoads / threads), (i) =>
      `let qb${i} = tile_column(batch, column + ${columnOf(`(thread + ${i * threads}u)`)} * 4u);`)
  }
  ${each(rows, (i) => each(columns, (c) => `var c${i}_${c} = subgroup_matrix_result<f32, ${n}, ${m}>();`, " "))}
  let first_k = batch * params.k; // depends on the workgroup: see tile.ts
  let end_k = first_k + params.k;
  for (var base = first_k; base < end_k; base += ${matrixDepth}u) {
    let k = base - first_k;
    ${
    loads(aLoads, (i, index) =>
      `let deep = ${index} % ${depthVec4}u; let at = k + deep * 4u; var v = vec4f(); ` +
      `if (at < params.k) { v = tile_a(ra${i}, at); } block_a[${rowOf(index)} * ${aStride}u + deep] = vec4h(v);`)
  }
    ${
    loads(bLoads, (i, index) =>
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
      if (to_row < params.m && to_column < params.n) { ${put("batch, to_row, to_column", "sums[q]")} }
    }
    workgroupBarrier();
  }
}`;
}
