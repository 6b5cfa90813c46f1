import { each, fmaChain } from "../wgsl/text.ts";
import { type GatedTileConstants, put, skipStatement, type TileElement } from "./tile_shape.ts";

/** Depth of the blocks in workgroup memory. */
const depth = 16;

/**
 * The entry point of the `workgroup` strategy. In each turn the threads load blocks of A and B,
 * {@linkcode depth} deep, into workgroup memory; then a thread multiplies its rows by its columns.
 */
export function workgroupTile(
  { LANES: threads, THREADS_X: threadsX, ROWS: rows, COLUMNS: columns, GATED: isGated = false }: GatedTileConstants,
  element: TileElement,
): string {
  const { vector, block } = element;
  const threadsY = threads / threadsX;
  const tileRows = rows * threadsY, tileQuads = columns * threadsX, quadsDeep = depth / 4;
  const aLoads = Math.ceil(tileRows * quadsDeep / threads), bLoads = Math.ceil(tileQuads * quadsDeep / threads);
  const aGuard = (i: number) =>
    (i + 1) * threads > tileRows * quadsDeep ? `if (thread + ${i * threads}u < ${tileRows * quadsDeep}u)` : "";
  const bGuard = (i: number) =>
    (i + 1) * threads > tileQuads * quadsDeep ? `if (thread + ${i * threads}u < ${tileQuads * quadsDeep}u)` : "";
  // A block: vec4 over k, k-major so that threads of one row group read neighbors. B block: vec4
  // over columns.
  return /* wgsl */ `
var<workgroup> block_a: array<${vector}, ${tileRows * quadsDeep}>;
var<workgroup> block_b: array<${vector}, ${tileQuads * depth}>;
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let batch = group.z;
  let row = group.y * ${tileRows}u;
  let column = group.x * ${(isGated ? threadsX : tileQuads) * 4}u;
  ${skipStatement(element, "column", `row + ${tileRows}u`)}
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
      }u) / ${quadsDeep}u] = v; }`)
  }
    ${
    each(bLoads, (i) =>
      `${
        bGuard(i)
      } { let at = k + kb${i} * 4u; var v = ${block}(); if (at < params.k) { v = tile_b(qb${i}, at); } let to = kb${i} * ${
        4 * tileQuads
      }u + (thread + ${i * threads}u) % ${tileQuads}u; ${
        each(4, (j) =>
          `block_b[to + ${j * tileQuads}u] = ${element.row("v", j)};`, " ")
      } }`)
  }
    workgroupBarrier();
    for (var q = 0u; q < ${quadsDeep}u; q++) {
      ${
    each(columns, (c) =>
      `let b${c} = ${block}(${
        each(4, (j) =>
          `block_b[(q * 4u + ${j}u) * ${tileQuads}u + x + ${c * threadsX}u]`, ", ")
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
