import { each, fmaChain } from "../wgsl/text.ts";
import type { TileConstants } from "./tile_shape.ts";

/** Elements of one access, and adjacent columns of a lane. */
const access = 8;
/** Elements of k that a lane loads in one turn of the loop that loads a deep block. */
const turn = 2 * access;
/** The vec4 of an access, and the fields of a `Block` that hold their rows: see tile.ts. */
const halves = ["upper", "lower"] as const;

/** Elements of k that one access of all lanes loads of a row of A: the least depth of a block. */
export const stationaryDepth = (lanes: number): number => access * lanes;

/** Why blocks of B cannot be so deep on subgroups of `lanes`; undefined if they can. */
export function unsupportedDepthReason(lanes: number, depth: number): string | undefined {
  const least = stationaryDepth(lanes), most = 2 * least; // deeper blocks compile for seconds
  return depth % turn === 0 && depth >= least && depth <= most
    ? undefined
    : `depth must be a multiple of ${turn} from ${least} to ${most}: ${depth}`;
}

/**
 * The entry point of the `stationary` strategy: a workgroup is one subgroup and uses no workgroup
 * memory. A lane owns eight adjacent columns. It holds a block of B in variables, `depth` elements
 * of k deep, while the rows of A pass by: all lanes together load a row's elements with one or two
 * accesses each, and `subgroupBroadcast` passes them on. Between blocks, the result holds the sums.
 * So the loop over rows carries no variables, and more rows compile no longer.
 *
 * Names in the generated text:
 *
 * - `a{i}`: the lane's elements of a row of A in access i; `shared0`, `shared1`: the two vec4 of
 *   another lane
 * - `b{n}`: part n of the block of B, 8 k deep. It meets the elements of A of lane n % lanes, in
 *   its access ⌊n / lanes⌋
 * - `left`, `right`: the sums of a row, of four columns each
 */
export function stationaryTile(
  { LANES: lanes, DEPTH: depth }: TileConstants,
  { hasColumnEnd = false, hasRowStart = false }: {
    readonly hasColumnEnd?: boolean;
    readonly hasRowStart?: boolean;
  } = {},
): string {
  const parts = depth / access, accesses = Math.ceil(parts / lanes);
  const place = "batch, row, column";
  /** The products of part n of the block. */
  const products = (n: number) =>
    `{ ${
      each(2, (h) =>
        `let shared${h} = subgroupBroadcast(a${Math.floor(n / lanes)}[${h}], ${n % lanes}u); ${
          each(2, (side) => {
            const name = ["left", "right"][side];
            return fmaChain(name, `shared${h}`, (j) =>
              `b${n}.${halves[h]}_${name}[${j}]`);
          }, " ")
        }`, " ")
    } }`;
  /** The lane's elements of a row in access i, which may be that of the first lanes only. */
  const loadA = (i: number) => {
    const own = parts - i * lanes;
    return own >= lanes
      ? `var a${i} = tile_a8(a_row, min(own_k${i}, last_k));
        if (own_k${i} > last_k) { a${i} = mat2x4f(); }`
      : `var a${i} = mat2x4f();
        if (lane < ${own}u && own_k${i} <= last_k) { a${i} = tile_a8(a_row, own_k${i}); }`;
  };
  const load = (n: number) => `tile_b8(b_columns, min(load_k + ${n * access}u, last_k));`;
  // Compile time grows with the number of loads in the text. So a deep block is loaded in turns,
  // two parts each, and the parts before move up.
  const loadB = accesses === 1
    ? `let load_k = k;
    ${each(parts, (n) => `let b${n} = ${load(n)}`)}`
    : `${each(parts, (n) => `var b${n}: Block;`, " ")}
    for (var load_at = at; load_at < at + ${depth}u; load_at += ${turn}u) {
      let load_k = load_at - first_k;
      ${each(parts - 2, (n) => `b${n} = b${n + 2};`, " ")}
      ${each(2, (n) => `b${parts - 2 + n} = ${load(n)}`)}
    }`;
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
    ${loadB}
    ${each(accesses, (i) => `let own_k${i} = k + (${i * lanes}u + lane) * ${access}u;`)}
    for (var part = first_row; part < end_row; part += ${lanes}u) {
      ${hasRowStart ? "let starts = tile_row_start(batch, min(part + lane, params.m - 1u));" : ""}
      let end_part = min(part + ${lanes}u, end_row);
      for (var row = part; row < end_part; row++) {
        let a_row = tile_row(batch, row);
        ${each(accesses, loadA)}
        let start = ${hasRowStart ? "vec4f(select(subgroupShuffle(starts, row - part), 0.0, k > 0u))" : "vec4f()"};
        var sum = mat2x4f(start, start);
        if (k > 0u || tile_accumulates()) { sum += y_at(place(${place}) / ${access}u); }
        var left = sum[0]; var right = sum[1];
        ${each(parts, products)}
        sum = mat2x4f(left, right);
        if (own_column < params.n) {
          if (is_last) { sum = tile_end8(${place}, sum${hasColumnEnd ? " + column_term" : ""}); }
          tile_put8(${place}, sum);
        }
      }
    }
  }
}`;
}
