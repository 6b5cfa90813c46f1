import type { DType } from "../../engine/dtype.ts";
import { each, eachInLine, fmaChain } from "../wgsl/text.ts";
import type { TileConstants } from "./tile_shape.ts";

/** Elements of k that one access loads, and adjacent columns of a lane. */
const access = 8;
/** Parts of a deep block that a lane loads in one turn of a loop. */
const partsPerTurn = 2;
/** The rows and columns of quarters of a `Block`, whose fields are `upper_left` and so on. */
const quarterRows = ["upper", "lower"], quarterColumns = ["left", "right"];

/**
 * Depths of a block of B, in elements of k: those that 1, 1.5 or 2 accesses of all lanes load of a
 * row of A. Deeper blocks compile for seconds.
 */
export function stationaryDepths(lanes: number): { least: number; middle: number; most: number } {
  const least = access * lanes;
  return { least, middle: 1.5 * least, most: 2 * least };
}

/**
 * Whether a result can hold sums over a part of k without rounding them: in f32, or where no sums
 * wait in it, as all of k is one block.
 */
export const canHoldSums = (dtype: DType, { k, lanes }: { readonly k: number; readonly lanes: number }): boolean =>
  dtype === "f32" || k <= stationaryDepths(lanes).least;

/** Why blocks of B cannot be so deep on subgroups of `lanes`; undefined if they can. */
export function unsupportedDepthReason(lanes: number, depth: number): string | undefined {
  const { least, most } = stationaryDepths(lanes), unit = partsPerTurn * access;
  return depth % unit === 0 && depth >= least && depth <= most
    ? undefined
    : `depth must be a multiple of ${unit} from ${least} to ${most}: ${depth}`;
}

/** What the parts of the text depend on. */
interface Context {
  readonly lanes: number;
  /** Elements of k of a block of B. */
  readonly depth: number;
  /** Parts of a block of B, each as deep as one access. */
  readonly parts: number;
  /** Accesses of a lane to a row of A for a block: 1 or 2. In the second, some lanes may rest. */
  readonly accesses: number;
  readonly hasColumnEnd: boolean;
  readonly hasRowStart: boolean;
}

/** The place of the lane's columns in the result, as arguments. */
const place = "batch, row, column";

/**
 * The entry point of the `stationary` strategy: a workgroup is one subgroup and uses no workgroup
 * memory. A lane owns eight adjacent columns. It holds a block of B in variables, `depth` elements
 * of k deep, while the rows of A pass by: all lanes together load a row's elements with one or two
 * accesses each, and `subgroupBroadcast` passes them on. Between blocks, the result holds the sums.
 * So the loop over rows carries no variables, and more rows compile no longer.
 *
 * Names in the generated text:
 *
 * - `a{i}`: the lane's elements of a row of A in access i, from `own_k{i}` on; `shared0`,
 *   `shared1`: the two vec4 of another lane
 * - `b{n}`: part n of the block of B, 8 k deep. It meets the elements of A of lane n % lanes, in
 *   its access ⌊n / lanes⌋
 * - `left`, `right`: the sums of a row, of four columns each
 * - `from_row`, `to_row`: as many rows as lanes, which load what the rows' sums start from together
 */
export function stationaryTile(
  { LANES: lanes, DEPTH: depth }: TileConstants,
  { hasColumnEnd = false, hasRowStart = false }: {
    readonly hasColumnEnd?: boolean;
    readonly hasRowStart?: boolean;
  } = {},
): string {
  const parts = depth / access, accesses = Math.ceil(parts / lanes);
  const c: Context = { lanes, depth, parts, accesses, hasColumnEnd, hasRowStart };
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let batch = group.z;
  let first_row = group.y * params.tile_rows;
  let end_row = min(first_row + params.tile_rows, params.m);
  let own_column = group.x * ${access * lanes}u + lane * ${access}u;
  let column = min(own_column, params.n - ${access}u);
  let b_columns = tile_column(batch, column);
  ${hasColumnEnd ? `let column_term = mat2x4f(tile_column_end(column), tile_column_end(column + 4u));` : ""}
  let first_k = batch * params.k; // depends on the workgroup: see tile.ts
  let end_k = first_k + params.k;
  for (var at = first_k; at < end_k; at += ${depth}u) {
    let k = at - first_k;
    let last_k = params.k - ${access}u;
    let is_last = k + ${depth}u >= params.k;
    // Beyond the end of k, elements of A are zero and those of B repeat the last ones.
    ${accesses === 1 ? loadBlock(c) : loadDeepBlock(c)}
    ${each(accesses, (i) => `let own_k${i} = k + (${i * lanes}u + lane) * ${access}u;`)}
    for (var from_row = first_row; from_row < end_row; from_row += ${lanes}u) {
      ${hasRowStart ? "let starts = tile_row_start(batch, min(from_row + lane, params.m - 1u));" : ""}
      let to_row = min(from_row + ${lanes}u, end_row);
      for (var row = from_row; row < to_row; row++) {
        ${loadRow(c)}
        ${startSums(c)}
        ${each(parts, (n) => addProducts(c, n))}
        ${store(c)}
      }
    }
  }
}`;
}

/** The elements of part n of a block that begins at `load_k`. */
const loadPart = (n: number) => `tile_b8(b_columns, min(load_k + ${n * access}u, last_k));`;

/** Loads the block of B. */
const loadBlock = ({ parts }: Context) => /* wgsl */ `
    let load_k = k;
    ${each(parts, (n) => `let b${n} = ${loadPart(n)}`)}`;

/**
 * Loads the block of B in turns, a few parts each: with each turn, the parts before move up.
 * Compile time grows with the number of loads in the text.
 */
const loadDeepBlock = ({ depth, parts }: Context) => /* wgsl */ `
    ${eachInLine(parts, (n) => `var b${n}: Block;`)}
    for (var load_at = at; load_at < at + ${depth}u; load_at += ${partsPerTurn * access}u) {
      let load_k = load_at - first_k;
      ${eachInLine(parts - partsPerTurn, (n) => `b${n} = b${n + partsPerTurn};`)}
      ${each(partsPerTurn, (n) => `b${parts - partsPerTurn + n} = ${loadPart(n)}`)}
    }`;

/** The lane's elements of a row of A. */
const loadRow = ({ lanes, parts, accesses }: Context) => /* wgsl */ `
        let a_row = tile_row(batch, row);
        ${
  each(accesses, (i) => {
    const loading = parts - i * lanes; // lanes that load
    return loading >= lanes
      ? `var a${i} = tile_a8(a_row, min(own_k${i}, last_k));
        if (own_k${i} > last_k) { a${i} = mat2x4f(); }`
      : `var a${i} = mat2x4f();
        if (lane < ${loading}u && own_k${i} <= last_k) { a${i} = tile_a8(a_row, own_k${i}); }`;
  })
}`;

/** The sums start from the row's start in the first block, and from the result in the others. */
const startSums = ({ hasRowStart }: Context) => /* wgsl */ `
        let start = ${hasRowStart ? "vec4f(select(subgroupShuffle(starts, row - from_row), 0.0, k > 0u))" : "vec4f()"};
        var sum = mat2x4f(start, start);
        if (k > 0u || tile_accumulates()) { sum += y_at(place(${place}) / ${access}u); }
        var left = sum[0]; var right = sum[1];`;

/** Adds the products of part n of the block to the sums of a row. */
function addProducts({ lanes }: Context, n: number): string {
  const share = (h: number) => `let shared${h} = subgroupBroadcast(a${Math.floor(n / lanes)}[${h}], ${n % lanes}u);`;
  const products = quarterRows.map((quarterRow, h) => {
    const add = (sum: string) => fmaChain(sum, `shared${h}`, (j) => `b${n}.${quarterRow}_${sum}[${j}]`);
    return `${share(h)} ${quarterColumns.map(add).join(" ")}`;
  });
  return `{ ${products.join(" ")} }`;
}

/** The epilogue, after the last block of k; before it, the result holds the sums. */
const store = ({ hasColumnEnd }: Context) => /* wgsl */ `
        sum = mat2x4f(left, right);
        if (own_column < params.n) {
          if (is_last) { sum = tile_end8(${place}, sum${hasColumnEnd ? " + column_term" : ""}); }
          tile_put8(${place}, sum);
        }`;
