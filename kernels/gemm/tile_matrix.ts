import { matrixDepth } from "../policy.ts";
import { each } from "../wgsl/text.ts";
import { put, type TileConstants, tileSize } from "./tile_shape.ts";

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
export function matrixTile(constants: TileConstants): string {
  const { LANES: threads, THREADS_X: across, ROWS: rows, COLUMNS: columns } = constants;
  const { MATRIX_M: m, MATRIX_N: n, MATRIX_K: k, MATRIX_LANES: lanes } = constants;
  const subgroups = threads / lanes;
  const { rows: tileRows, columns: tileColumns } = tileSize(constants);
  const quadsDeep = matrixDepth / 4, tileQuads = tileColumns / 4;
  const aStride = quadsDeep + padding, bStride = tileQuads + padding;
  // loads: of four elements, of 4 × 4
  const aQuads = tileRows * quadsDeep, bQuads = tileQuads * quadsDeep;
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
  let first_k = batch * params.k; // depends on the workgroup: see tile.ts
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
