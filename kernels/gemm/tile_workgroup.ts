import { each, fmaChain } from "../wgsl/text.ts";
import { type GatedTileConstants, put, skipStatement, type TileElement } from "./tile_shape.ts";

/** Depth of the blocks in workgroup memory. */
const depth = 16;

/**
 * The entry point of the `workgroup` strategy. In each iteration the threads load blocks of A and
 * B, of depth {@linkcode depth}, into workgroup memory. Then each thread multiplies its rows by its
 * columns.
 */
export function workgroupTile(
  { LANES: threads, THREADS_X: threadsX, ROWS: rows, COLUMNS: columns, GATED: isGated = false }: GatedTileConstants,
  element: TileElement,
): string {
  // Names in the generated text: c{row}_{column} sums of a thread; ra{i}, ka{i} row and depth of
  // its i-th load of A; jb{i}, qb{i}, kb{i} column, address and depth of its i-th load of B.
  const { vector, block } = element;
  const threadsY = threads / threadsX;
  const tileRows = rows * threadsY, columnVec4 = columns * threadsX, depthVec4 = depth / 4;
  const aLoads = Math.ceil(tileRows * depthVec4 / threads), bLoads = Math.ceil(columnVec4 * depthVec4 / threads);
  const aGuard = (i: number) =>
    (i + 1) * threads > tileRows * depthVec4 ? `if (thread + ${i * threads}u < ${tileRows * depthVec4}u)` : "";
  const bGuard = (i: number) =>
    (i + 1) * threads > columnVec4 * depthVec4 ? `if (thread + ${i * threads}u < ${columnVec4 * depthVec4}u)` : "";
  // block_a: [k / 4, row] of vec4 over k. block_b: [k, column / 4] of vec4 over columns.
  return /* wgsl */ `
var<workgroup> block_a: array<${vector}, ${tileRows * depthVec4}>;
var<workgroup> block_b: array<${vector}, ${columnVec4 * depth}>;
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let batch = group.z;
  let row = group.y * ${tileRows}u;
  let column = group.x * ${(isGated ? threadsX : columnVec4) * 4}u;
  ${skipStatement(element, "column", `row + ${tileRows}u`)}
  let x = thread % ${threadsX}u;
  let y = thread / ${threadsX}u;
  ${
    each(aLoads, (i) =>
      `let ra${i} = tile_row(batch, min(row + (thread + ${
        i * threads
      }u) / ${depthVec4}u, params.m - 1u)); let ka${i} = (thread + ${i * threads}u) % ${depthVec4}u;`)
  }
  ${
    each(bLoads, (i) =>
      `let jb${i} = (thread + ${i * threads}u) % ${columnVec4}u; let qb${i} = tile_column(batch, column + ${
        isGated ? `jb${i} % ${threadsX}u * 4u + select(0u, params.n, jb${i} >= ${threadsX}u)` : `jb${i} * 4u`
      }); let kb${i} = (thread + ${i * threads}u) / ${columnVec4}u;`)
  }
  ${each(rows, (i) => each(columns, (c) => `var c${i}_${c} = ${vector}();`, " "))}
  let first_k = batch * params.k;
  let end_k = first_k + params.k;
  for (var base = first_k; base < end_k; base += ${depth}u) {
    let k = base - first_k;
    ${
    each(aLoads, (i) =>
      `${
        aGuard(i)
      } { let at = k + ka${i} * 4u; var v = ${vector}(); if (at < params.k) { v = tile_a(ra${i}, at); } block_a[ka${i} * ${tileRows}u + (thread + ${
        i * threads
      }u) / ${depthVec4}u] = v; }`)
  }
    ${
    each(bLoads, (i) =>
      `${
        bGuard(i)
      } { let at = k + kb${i} * 4u; var v = ${block}(); if (at < params.k) { v = tile_b(qb${i}, at); } let to = kb${i} * ${
        4 * columnVec4
      }u + (thread + ${i * threads}u) % ${columnVec4}u; ${
        each(4, (j) =>
          `block_b[to + ${j * columnVec4}u] = ${element.row("v", j)};`, " ")
      } }`)
  }
    workgroupBarrier();
    for (var q = 0u; q < ${depthVec4}u; q++) {
      ${
    each(columns, (c) =>
      `let b${c} = ${block}(${
        each(4, (j) =>
          `block_b[(q * 4u + ${j}u) * ${columnVec4}u + x + ${c * threadsX}u]`, ", ")
      });`)
  }
      ${
    each(rows, (i) =>
      `{ let a = block_a[q * ${tileRows}u + y * ${rows}u + ${i}u]; ${
        each(columns, (c) =>
          fmaChain(`c${i}_${c}`, "a", (j) =>
            element.row(`b${c}`, j), vector), " ")
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
