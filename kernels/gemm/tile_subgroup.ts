import { each, fmaChain, heldParams, rowLoop, rowsInLanes } from "../wgsl/text.ts";
import { put, skipStatement, type TileConstants, type TileElement } from "./tile_shape.ts";

/**
 * The entry point of the `subgroup` strategy: a workgroup is one subgroup and uses no workgroup
 * memory. A lane owns `columns` vec4 of every row of the tile.
 */
export function subgroupTile(
  { LANES: lanes, ROWS: rows, COLUMNS: columns, WIDE: wide }: TileConstants,
  element: TileElement,
  { hasColumnEnd = false, hasRowStart = false }: {
    readonly hasColumnEnd?: boolean;
    readonly hasRowStart?: boolean;
  } = {},
): string {
  // Names in the generated text: c{row}_{column} sums; r{i} and a{i}_{h} rows of A that this lane
  // loads, and s{i} what their sums start from; q{g} and b{column}_{h} columns of B; e{column} what
  // is added to each of its sums; x{h} a row of A after the broadcast. h counts the vec4 of k.
  const loads = Math.ceil(rows / lanes);
  const accessVec4 = wide ? 2 : 1; // vec4 per access: adjacent columns of B, consecutive k of A
  const blocks = columns / accessVec4;
  const { rowOf, ofRow } = rowsInLanes(lanes);
  const place = (c: number) => `column + ${(Math.floor(c / accessVec4) * lanes * accessVec4 + c % accessVec4) * 4}u`;
  const sums = (row: number, text: (acc: string, c: number) => string) =>
    each(columns, (c) => text(`c${row}_${c}`, c), " ");
  const ended = (c: number, sum: (c: number) => string) => hasColumnEnd ? `${sum(c)} + e${c}` : sum(c);
  const access = wide
    ? {
      a: (i: number) => `let w${i} = tile_a8(r${i}, k); let a${i}_0 = w${i}[0]; let a${i}_1 = w${i}[1];`,
      b: (g: number) =>
        `let e${g} = tile_b8(q${g}, k); let b${2 * g}_0 = e${g}.upper_left; let b${2 * g + 1}_0 = e${g}.upper_right; ` +
        `let b${2 * g}_1 = e${g}.lower_left; let b${2 * g + 1}_1 = e${g}.lower_right;`,
      put: (g: number, sum: (c: number) => string) =>
        put(`batch, row + i, ${place(2 * g)}`, `mat2x4f(${ended(2 * g, sum)}, ${ended(2 * g + 1, sum)})`, 8),
    }
    : {
      a: (i: number) => `let a${i}_0 = tile_a(r${i}, k);`,
      b: (g: number) => `let b${g}_0 = tile_b(q${g}, k);`,
      put: (g: number, sum: (c: number) => string) => put(`batch, row + i, ${place(g)}`, ended(g, sum)),
    };
  return /* wgsl */ `
${heldParams.declaration}
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  ${heldParams.copy}
  let batch = group.z;
  let row = group.y * ${rows}u;
  let column = group.x * ${4 * lanes * columns}u + lane * ${4 * accessVec4}u;
  ${skipStatement(element, `group.x * ${4 * lanes * columns}u`, `row + ${rows}u`)}
  ${each(loads, (i) => `let r${i} = tile_row(batch, ${rowOf(i)});`)}
  ${each(blocks, (g) => `let q${g} = tile_column(batch, ${place(g * accessVec4)});`)}
  ${hasRowStart ? each(loads, (i) => `let s${i} = tile_row_start(batch, ${rowOf(i)});`) : ""}
  ${each(rows, (i) => sums(i, (acc) => `var ${acc} = ${element.vector}(${hasRowStart ? ofRow("s", i) : ""});`))}
  let first_k = batch * params.k;
  let end_k = first_k + params.k;
  for (var at = first_k; at < end_k; at += ${4 * accessVec4}u) {
    let k = at - first_k;
    ${each(blocks, access.b)}
    ${each(loads, access.a)}
    ${
    each(rows, (i) =>
      `{ ${
        each(accessVec4, (h) => `let x${h} = ${ofRow("a", i, `_${h}`)};`, " ")
      } ${
        sums(i, (acc, c) =>
          each(accessVec4, (h) =>
            fmaChain(acc, `x${h}`, (j) => element.row(`b${c}_${h}`, j), element.vector), " "))
      } }`)
  }
  }
  ${hasColumnEnd ? each(columns, (c) => `let e${c} = tile_column_end(${place(c)});`) : ""}
  let first_row = batch * params.k; // depends on the workgroup: see tile.ts
  ${
    rowLoop({ rows, columns, from: "first_row" }, (sum) =>
      each(blocks, (g) => `if (${place(g * accessVec4)} < held.n) { ${access.put(g, sum)} }`))
  }
}`;
}
