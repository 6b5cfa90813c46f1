import { each, fmaChain } from "../wgsl/text.ts";
import { put, type TileConstants, tileSize } from "./tile_shape.ts";

/**
 * Depth of the blocks in workgroup memory, and length of the sums in f16. Longer sums save
 * conversions and additions in f32, and err more: see {@linkcode TileShape} and
 * docs/performance.md.
 */
export const halfDepth = 16;

/**
 * The entry point of the `half` strategy: as the workgroup strategy, but operands are rounded to
 * f16 when they are stored in workgroup memory. Sums over {@linkcode halfDepth} elements are f16,
 * in packed halves where the device has them; these are added up in f32.
 *
 * Thread (x, y) owns rows y, y + threadsY, … and vec4 columns x, x + threadsX, … The arrays are
 * nested such that the only indices that naga clamps are the thread's coordinates.
 */
export function halfTile(constants: TileConstants): string {
  const { LANES: threads, THREADS_X: threadsX, ROWS: rows, COLUMNS: columns } = constants;
  // Names in the generated text: c{row}_{column} sums of a thread in f32, h{row}_{column} in f16;
  // ra{i} row of its i-th load of A, qb{i} columns of its i-th load of B.
  const threadsY = threads / threadsX, depthVec4 = halfDepth / 4;
  const { rows: tileRows, columns: tileColumns } = tileSize(constants);
  const columnVec4 = tileColumns / 4;
  // Loads of A are vec4 along k; loads of B are blocks of 4 × 4.
  const aLoads = tileRows * depthVec4, bLoads = columnVec4 * depthVec4;
  const loads = (total: number, text: (i: number, index: string) => string) =>
    each(Math.ceil(total / threads), (i) => {
      const index = `(thread + ${i * threads}u)`;
      return (i + 1) * threads > total ? `if (${index} < ${total}u) { ${text(i, index)} }` : `{ ${text(i, index)} }`;
    });
  const turns = (total: number) => Math.ceil(total / threads);
  // Threads that follow each other load along k, which is adjacent in A, and in B stored [N, K].
  const lineOf = (index: string) => `(${index} / ${depthVec4}u)`;
  const perSum = (text: (sum: string, i: number, c: number) => string) =>
    each(rows, (i) => each(columns, (c) => text(`${i}_${c}`, i, c), " "));
  return /* wgsl */ `
var<workgroup> block_a: array<array<array<vec4<f16>, ${threadsY}>, ${rows}>, ${depthVec4}>;
var<workgroup> block_b: array<array<array<vec4<f16>, ${threadsX}>, ${columns}>, ${halfDepth}>;
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let batch = group.z;
  let row = group.y * ${tileRows}u;
  let column = group.x * ${tileColumns}u;
  let x = thread % ${threadsX}u;
  let y = thread / ${threadsX}u;
  ${
    each(turns(aLoads), (i) =>
      `let ra${i} = tile_row(batch, min(row + ${lineOf(`(thread + ${i * threads}u)`)}, params.m - 1u));`)
  }
  ${
    each(turns(bLoads), (i) =>
      `let qb${i} = tile_column(batch, column + ${lineOf(`(thread + ${i * threads}u)`)} * 4u);`)
  }
  ${perSum((sum) => `var c${sum} = vec4f();`)}
  let first_k = batch * params.k; // depends on the workgroup: see tile.ts
  let end_k = first_k + params.k;
  for (var base = first_k; base < end_k; base += ${halfDepth}u) {
    let k = base - first_k;
    ${
    loads(aLoads, (i, index) =>
      `let q = ${index} % ${depthVec4}u; let r = ${lineOf(index)}; let at = k + q * 4u; var v = vec4f();
      if (at < params.k) { v = tile_a(ra${i}, at); }
      block_a[q][r / ${threadsY}u][r % ${threadsY}u] = vec4<f16>(v);`)
  }
    ${
    loads(bLoads, (i, index) =>
      `let q = ${index} % ${depthVec4}u; let c = ${lineOf(index)}; let at = k + q * 4u; var v = mat4x4f();
      if (at < params.k) { v = tile_b(qb${i}, at); }
      ${
        each(4, (j) => `block_b[q * 4u + ${j}u][c / ${threadsX}u][c % ${threadsX}u] = vec4<f16>(v[${j}]);`, " ")
      }`)
  }
    workgroupBarrier();
    ${perSum((sum) => `var h${sum} = vec4<f16>();`)}
    ${
    each(depthVec4, (q) =>
      `{ ${
        each(columns, (c) =>
          each(4, (j) => `let b${j}_${c} = block_b[${4 * q + j}][${c}][x];`, " "), " ")
      }
    ${
        each(rows, (i) =>
          `{ let a = block_a[${q}][${i}][y]; ${
            each(columns, (c) => fmaChain(`h${i}_${c}`, "a", (j) => `b${j}_${c}`, "vec4<f16>"), " ")
          } }`)
      } }`)
  }
    ${perSum((sum) => `c${sum} += vec4f(h${sum});`)}
    workgroupBarrier();
  }
  ${
    each(rows, (i) =>
      `if (row + y + ${i * threadsY}u < params.m) { ${
        each(columns, (c) => {
          const at = `column + (x + ${c * threadsX}u) * 4u`;
          return `if (${at} < params.n) { ${put(`batch, row + y + ${i * threadsY}u, ${at}`, `c${i}_${c}`)} }`;
        }, " ")
      } }`)
  }
}`;
}
