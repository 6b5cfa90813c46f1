/** WGSL of the exact product; its mathematics and invariants: exact_product.ts. @module */

import { blockDepth } from "../gemm/tile_blocks.ts";
import { blockProduct } from "../gemm/tile_workgroup.ts";
import type { TileConstants } from "../gemm/tile_shape.ts";
import { each, fmaChain } from "../wgsl/text.ts";
import { sliceBits } from "./slices.ts";

/** Number of terms whose sum is exact in f32: 256 · 256 · 256 = 2²⁴. */
export const exactTerms = 256;
/**
 * Number of levels computed. Level l holds the products of slices s and t with s + t = l, of weight
 * 2⁻⁹ˡ. Omitted levels weigh at most 2⁻⁵⁴ of level 0.
 */
export const mostLevels = 6;

/**
 * An accumulator is a fixed-point number: an integer (i32, in units of the current level) and 54
 * fraction bits (27 and 27), which receive the low digits of the integer when the level rises.
 * Rounding happens in `finish` only, on the magnitude, so that all parts have the same sign.
 */
export const finishWgsl = /* wgsl */ `
const A_COUNT = u32(A_SLICES);
const B_COUNT = u32(B_SLICES);
const LEVELS = min(A_COUNT + B_COUNT - 1u, ${mostLevels}u);
struct Sum { whole: vec4i, upper: vec4u, lower: vec4u }
fn rise(sum: Sum) -> Sum { // to the next more significant level
  let digit = vec4u(sum.whole & vec4i(511));
  return Sum(sum.whole >> vec4u(9u), (sum.upper >> vec4u(9u)) | (digit << vec4u(18u)),
    (sum.lower >> vec4u(9u)) | ((sum.upper & vec4u(511u)) << vec4u(18u)));
}
fn finish(row: u32, column4: u32, sum: Sum) {
  if (row >= params.m || column4 >= params.n4) { return; }
  let mask = vec4u(${2 ** 27 - 1}u);
  let negative = sum.whole < vec4i();
  let lower = (vec4u(${2 ** 27}u) - sum.lower) & mask;
  let upper = (vec4u(${2 ** 27}u) - sum.upper - select(vec4u(), vec4u(1u), sum.lower != vec4u())) & mask;
  let borrow = select(vec4i(), vec4i(1), (sum.upper | sum.lower) != vec4u());
  let w = vec4u(select(sum.whole, -sum.whole - borrow, negative));
  let u = select(sum.upper, upper, negative);
  let l = select(sum.lower, lower, negative);
  let fraction = vec4f(l) * ${2 ** -54} + vec4f(u) * ${2 ** -27};
  let scale = select(vec4f(1.0), vec4f(-1.0), negative) * (a_scales[row] * ${
  2 ** (-2 * sliceBits)
} * b_scales[column4]);
  let at = row * params.n4 + column4;
  if (PAIR) {
    let leading = w & select(vec4u(0xffffffffu), vec4u(0xffffff80u), w >= vec4u(${
  2 ** 24
}u)); // at most 24 bits: exact in f32
    high[at] = vec4f(leading) * scale;
    low[at] = (vec4f(w - leading) + fraction) * scale;
  } else {
    high[at] = (vec4f(w) + fraction) * scale;
  }
}
`;

/**
 * The loops over levels, over pairs of slices of a level, and over ranges of {@linkcode
 * exactTerms}, around `body`, which adds to c{name}. The sums are s{name}.
 */
const levelsWgsl = (names: readonly string[], depth: string, body: string) => {
  const all = (text: (name: string) => string) => names.map(text).join(" ");
  return /* wgsl */ `
  ${all((i) => `var s${i} = Sum();`)}
  for (var level = LEVELS; level > 0u; level--) {
    ${all((i) => `s${i} = rise(s${i});`)}
    for (var s = 0u; s < A_COUNT; s++) {
      if (s >= level || level - 1u - s >= B_COUNT) { continue; }
      let t = level - 1u - s;
      for (var first = 0u; first < ${depth}; first += ${exactTerms}u) {
        let end = min(first + ${exactTerms}u, ${depth});
        ${all((i) => `var c${i} = vec4f();`)}
        ${body}
        ${all((i) => `s${i}.whole += vec4i(c${i});`)}
      }
    }
  }`;
};

/** Rows of the result that one subgroup computes. */
export const subgroupRows = 16;

/** The product of one subgroup, which shares A by broadcasts. */
export function subgroupProduct(lanes: number): string {
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let row = group.y * ${subgroupRows}u;
  let column4 = group.x * ${lanes}u + lane;
  let here = min(column4, params.n4 - 1u);
  var depth = params.k;
  if (LOWER) { depth = min(depth, row + ${subgroupRows}u); }
  ${
    levelsWgsl(
      Array.from({ length: subgroupRows }, (_, i) => `${i}`),
      "depth",
      /* wgsl */ `for (var k = first; k < end; k += 4u) {
          let at = (t * params.k + k) * params.n4 + here;
          let b0 = b[at]; let b1 = b[at + params.n4]; let b2 = b[at + 2u * params.n4]; let b3 = b[at + 3u * params.n4];
          ${
        each(
          Math.ceil(subgroupRows / lanes),
          (i) =>
            `let a${i} = a[((s * params.m + min(row + ${i * lanes}u + lane, params.m - 1u)) * params.k + k) / 4u];`,
        )
      }
          ${
        each(
          subgroupRows,
          (i) =>
            `{ let v = subgroupBroadcast(a${Math.floor(i / lanes)}, ${i % lanes}u); ${
              fmaChain(`c${i}`, "v", (j) => `b${j}`)
            } }`,
        )
      }
        }`,
    )
  }
  ${each(subgroupRows, (i) => `finish(row + ${i}u, column4, s${i});`)}
}`;
}

/**
 * The product on blocks in workgroup memory; see gemm/tile_workgroup.ts. With WHOLE, k is a
 * multiple of the blocks' depth, and no load checks it.
 */
export function workgroupProduct(
  constants: Pick<TileConstants, "LANES" | "THREADS_X" | "ROWS" | "COLUMNS" | "LOOPED"> & { readonly WHOLE: boolean },
): string {
  const { LANES: threads, THREADS_X: threadsX, ROWS: rows, COLUMNS: columns, WHOLE } = constants;
  const threadsY = threads / threadsX, tileRows = rows * threadsY;
  const { a, b, multiply } = blockProduct(constants, "vec4f", { a: "k", b: "lines" });
  const names = Array.from({ length: rows * columns }, (_, i) => `${Math.floor(i / columns)}_${i % columns}`);
  const inside = (at: string, last: string) => WHOLE ? at : `min(${at}, ${last})`;
  const loadA = (i: number) => {
    const value = `a[a_slice + a_row${i} + ${inside("next + load_k4", "end / 4u - 1u")}]`;
    return WHOLE ? value : `select(vec4f(), ${value}, next + load_k4 < end / 4u)`;
  };
  const loadB = (i: number) =>
    `b[(b_slice + ${inside(`next * 4u + b_depth${i}`, "end - 1u")}) * columns4 + b_column${i}]`;
  return /* wgsl */ `
${a.declaration}
${b.declaration}
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let row = group.y * ${tileRows}u;
  let column4 = group.x * ${threadsX * columns}u;
  let x = thread % ${threadsX}u;
  let y = thread / ${threadsX}u;
  let load_k4 = thread % ${blockDepth / 4}u;
  let load_line = thread / ${blockDepth / 4}u;
  let columns4 = params.n4;
  ${each(a.loads, (i) => `let a_row${i} = min(row + ${a.place(i)}, params.m - 1u) * (params.k / 4u);`)}
  ${
    each(b.loads, (i) =>
      `let b_column${i} = min(column4 + (${b.place(i)}) / 4u, params.n4 - 1u); let b_depth${i} = ${b.depth(i)};`)
  }
  var depth = params.k;
  if (LOWER) { depth = min(depth, row + ${tileRows}u); }
  ${
    levelsWgsl(
      names,
      "depth",
      /* wgsl */ `let a_slice = s * params.m * params.k / 4u;
        let b_slice = t * params.k;
        var next = first / 4u;
        ${each(a.loads, (i) => `var next_a${i} = ${loadA(i)};`)}
        ${each(b.loads, (i) => `var next_b${i} = ${loadB(i)};`)}
        for (var k4 = first / 4u; k4 < end / 4u; k4 += ${blockDepth / 4}u) {
          ${each(a.loads, (i) => a.store(i, `next_a${i}`))}
          ${each(b.loads, (i) => b.store(i, `next_b${i}`))}
          workgroupBarrier();
          next = min(k4 + ${blockDepth / 4}u, (end - 1u) / ${blockDepth}u * ${blockDepth / 4}u);
          ${each(a.loads, (i) => `next_a${i} = ${loadA(i)};`)}
          ${each(b.loads, (i) => `next_b${i} = ${loadB(i)};`)}
          ${multiply}
          workgroupBarrier();
        }`,
    )
  }
  ${
    each(rows, (i) =>
      each(columns, (c) => `finish(row + y + ${i * threadsY}u, column4 + x + ${c * threadsX}u, s${i}_${c});`))
  }
}`;
}
