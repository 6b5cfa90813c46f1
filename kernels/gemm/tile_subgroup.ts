import { each, eachInLine, fmaChain, rowLoop, type RowsInLanes, rowsInLanes } from "../wgsl/text.ts";
import { put, skipStatement, type TileConstants, type TileElement } from "./tile_shape.ts";

/** What the parts of the text depend on. */
interface Context {
  readonly lanes: number;
  readonly rows: number;
  /** Vec4 of a lane in each row. */
  readonly columns: number;
  /** Vec4 per access, 1 or 2: of adjacent columns of B, and of consecutive k. */
  readonly accessVec4: number;
  /** Loads of a lane of B. */
  readonly columnLoads: number;
  /** How the lanes load the rows of A. */
  readonly inLanes: RowsInLanes;
  readonly element: TileElement;
  readonly hasColumnEnd: boolean;
  readonly hasRowStart: boolean;
}

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
  { LANES: lanes, ROWS: rows, COLUMNS: columns, WIDE: isWide }: TileConstants,
  element: TileElement,
  { hasColumnEnd = false, hasRowStart = false }: {
    readonly hasColumnEnd?: boolean;
    readonly hasRowStart?: boolean;
  } = {},
): string {
  const accessVec4 = isWide ? 2 : 1, columnLoads = columns / accessVec4, inLanes = rowsInLanes({ rows, lanes });
  const c: Context = { lanes, rows, columns, accessVec4, columnLoads, inLanes, element, hasColumnEnd, hasRowStart };
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let batch = group.z;
  let row = group.y * ${rows}u;
  let column = group.x * ${4 * lanes * columns}u + lane * ${4 * accessVec4}u;
  ${skipStatement(element, `group.x * ${4 * lanes * columns}u`, `row + ${rows}u`)}
  ${placeOperands(c)}
  ${startSums(c)}
  let first_k = batch * params.k; // depends on the workgroup: see tile.ts
  let end_k = first_k + params.k;
  for (var at = first_k; at < end_k; at += ${4 * accessVec4}u) {
    let k = at - first_k;
    ${each(columnLoads, (g) => loadColumns(c, g))}
    ${each(inLanes.loads, (i) => loadRow(c, i))}
    ${each(rows, (i) => addProducts(c, i))}
  }
  ${store(c)}
}`;
}

/** The first column of the lane's vec4 number `vec4`. */
function columnOf({ lanes, accessVec4 }: Context, vec4: number): string {
  const load = Math.floor(vec4 / accessVec4);
  return `column + ${(load * lanes * accessVec4 + vec4 % accessVec4) * 4}u`;
}

/** The rows of A and the columns of B that the lane loads. */
const placeOperands = (c: Context) => /* wgsl */ `
  ${each(c.inLanes.loads, (i) => `let a_row${i} = tile_row(batch, ${c.inLanes.rowOf(i)});`)}
  ${each(c.columnLoads, (g) => `let b_columns${g} = tile_column(batch, ${columnOf(c, g * c.accessVec4)});`)}`;

/** The sums start from what the kernel gives for their row, or from 0. */
function startSums({ rows, columns, inLanes, element, hasRowStart }: Context): string {
  const { loads, rowOf, ofRow } = inLanes;
  const start = (row: number) => `${element.vector}(${hasRowStart ? ofRow("start", row) : ""})`;
  return /* wgsl */ `
  ${hasRowStart ? each(loads, (i) => `let start${i} = tile_row_start(batch, ${rowOf(i)});`) : ""}
  ${each(rows, (row) => eachInLine(columns, (column) => `var c${row}_${column} = ${start(row)};`))}`;
}

/** The lane's load g of B. */
function loadColumns({ accessVec4 }: Context, g: number): string {
  if (accessVec4 === 1) return `let b${g}_0 = tile_b(b_columns${g}, k);`;
  const [left, right] = [2 * g, 2 * g + 1];
  return `let block${g} = tile_b8(b_columns${g}, k);
    let b${left}_0 = block${g}.upper_left; let b${right}_0 = block${g}.upper_right;
    let b${left}_1 = block${g}.lower_left; let b${right}_1 = block${g}.lower_right;`;
}

/** The lane's load i of A. */
const loadRow = ({ accessVec4 }: Context, i: number) =>
  accessVec4 === 1
    ? `let a${i}_0 = tile_a(a_row${i}, k);`
    : `let all${i} = tile_a8(a_row${i}, k); let a${i}_0 = all${i}[0]; let a${i}_1 = all${i}[1];`;

/** Adds the products of an access to the sums of a row. */
function addProducts({ columns, accessVec4, inLanes, element }: Context, row: number): string {
  const add = (column: number, h: number) =>
    fmaChain(`c${row}_${column}`, `shared${h}`, (j) => element.row(`b${column}_${h}`, j), element.vector);
  return `{ ${eachInLine(accessVec4, (h) => `let shared${h} = ${inLanes.ofRow("a", row, `_${h}`)};`)} ${
    eachInLine(columns, (column) => eachInLine(accessVec4, (h) => add(column, h)))
  } }`;
}

/** The epilogue: a loop over rows that stores their sums, with what is added to their columns. */
function store(c: Context): string {
  const { rows, columns, accessVec4, columnLoads, hasColumnEnd } = c;
  return /* wgsl */ `
  ${
    hasColumnEnd
      ? each(columns, (column) => `let column_term${column} = tile_column_end(${columnOf(c, column)});`)
      : ""
  }
  ${
    rowLoop({ rows, columns, from: "first_k" }, (sum) =>
      each(columnLoads, (g) => {
        const ended = (column: number) => hasColumnEnd ? `${sum(column)} + column_term${column}` : sum(column);
        const first = columnOf(c, g * accessVec4), place = `batch, row + i, ${first}`;
        const stored = accessVec4 === 1
          ? put(place, ended(g))
          : put(place, `mat2x4f(${ended(2 * g)}, ${ended(2 * g + 1)})`, 8);
        return `if (${first} < params.n) { ${stored} }`;
      }))
  }`;
}
