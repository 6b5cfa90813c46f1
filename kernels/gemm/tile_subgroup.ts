import { each, fmaChain, rowLoop, rowsInLanes } from "../wgsl/text.ts";
import { put, skipStatement, type TileConstants, type TileElement } from "./tile_shape.ts";

/**
 * The entry point of the `subgroup` strategy: a workgroup is one subgroup and uses no workgroup
 * memory. A lane owns `columns` vec4 of every row of the tile. In each iteration over k it loads
 * elements of its columns of B, and of one row of A in every `lanes`, which `subgroupBroadcast`
 * passes to the other lanes.
 *
 * Names in the generated text, where h counts the vec4 of k in an access:
 *
 * - `c{row}_{column}`: the lane's sums
 * - `a_row{i}`, `a{i}_{h}`, `start{i}`: of the lane's load i of A, the row, its elements, and what
 *   the sums of the row start from
 * - `b_columns{g}`, `b{column}_{h}`: of its load g of B, the columns, and their elements
 * - `shared{h}`: the elements of a row of A after the broadcast
 * - `column_term{column}`: what is added to the sums of a column
 */
export function subgroupTile(
  { LANES: lanes, ROWS: rows, COLUMNS: columns, WIDE: wide }: TileConstants,
  element: TileElement,
  { hasColumnEnd = false, hasRowStart = false }: {
    readonly hasColumnEnd?: boolean;
    readonly hasRowStart?: boolean;
  } = {},
): string {
  const accessVec4 = wide ? 2 : 1; // vec4 per access: adjacent columns of B, consecutive k of A
  const blocks = columns / accessVec4;
  const { loads, rowOf, ofRow } = rowsInLanes({ rows, lanes });
  /** The first column of the lane's vec4 c. */
  const place = (c: number) => `column + ${(Math.floor(c / accessVec4) * lanes * accessVec4 + c % accessVec4) * 4}u`;
  const sums = (row: number, text: (acc: string, c: number) => string) =>
    each(columns, (c) => text(`c${row}_${c}`, c), " ");
  /** A sum, with what is added to its column. */
  const ended = (c: number, sum: (c: number) => string) => hasColumnEnd ? `${sum(c)} + column_term${c}` : sum(c);
  const access = wide
    ? {
      a: (i: number) => `let all${i} = tile_a8(a_row${i}, k); let a${i}_0 = all${i}[0]; let a${i}_1 = all${i}[1];`,
      b: (g: number) => {
        const [left, right] = [2 * g, 2 * g + 1];
        return `let block${g} = tile_b8(b_columns${g}, k);
    let b${left}_0 = block${g}.upper_left; let b${right}_0 = block${g}.upper_right;
    let b${left}_1 = block${g}.lower_left; let b${right}_1 = block${g}.lower_right;`;
      },
      put: (g: number, sum: (c: number) => string) =>
        put(`batch, row + i, ${place(2 * g)}`, `mat2x4f(${ended(2 * g, sum)}, ${ended(2 * g + 1, sum)})`, 8),
    }
    : {
      a: (i: number) => `let a${i}_0 = tile_a(a_row${i}, k);`,
      b: (g: number) => `let b${g}_0 = tile_b(b_columns${g}, k);`,
      put: (g: number, sum: (c: number) => string) => put(`batch, row + i, ${place(g)}`, ended(g, sum)),
    };
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let batch = group.z;
  let row = group.y * ${rows}u;
  let column = group.x * ${4 * lanes * columns}u + lane * ${4 * accessVec4}u;
  ${skipStatement(element, `group.x * ${4 * lanes * columns}u`, `row + ${rows}u`)}
  ${each(loads, (i) => `let a_row${i} = tile_row(batch, ${rowOf(i)});`)}
  ${each(blocks, (g) => `let b_columns${g} = tile_column(batch, ${place(g * accessVec4)});`)}
  ${hasRowStart ? each(loads, (i) => `let start${i} = tile_row_start(batch, ${rowOf(i)});`) : ""}
  ${each(rows, (i) => sums(i, (acc) => `var ${acc} = ${element.vector}(${hasRowStart ? ofRow("start", i) : ""});`))}
  let first_k = batch * params.k;
  let end_k = first_k + params.k;
  for (var at = first_k; at < end_k; at += ${4 * accessVec4}u) {
    let k = at - first_k;
    ${each(blocks, access.b)}
    ${each(loads, access.a)}
    ${
    each(rows, (i) =>
      `{ ${
        each(accessVec4, (h) => `let shared${h} = ${ofRow("a", i, `_${h}`)};`, " ")
      } ${
        sums(i, (acc, c) =>
          each(accessVec4, (h) =>
            fmaChain(acc, `shared${h}`, (j) => element.row(`b${c}_${h}`, j), element.vector), " "))
      } }`)
  }
  }
  ${hasColumnEnd ? each(columns, (c) => `let column_term${c} = tile_column_end(${place(c)});`) : ""}
  let first_row = batch * params.k; // depends on the workgroup: see tile.ts
  ${
    rowLoop({ rows, columns, from: "first_row" }, (sum) =>
      each(blocks, (g) => `if (${place(g * accessVec4)} < params.n) { ${access.put(g, sum)} }`))
  }
}`;
}
