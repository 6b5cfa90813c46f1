import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { declareKernel, storage } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";
import { blockDepth, blockProduct } from "../gemm/tile_workgroup.ts";
import type { TileConstants } from "../gemm/tile_shape.ts";
import { policyOf } from "../policy.ts";
import { each, fmaChain } from "../wgsl/text.ts";
import { type Pair, sliceBits, type Sliced } from "./slices.ts";

/**
 * Matrix products without rounding, in f32 alone, for devices that lack f64 (Ozaki, Ogita, Oishi,
 * Rump: "Error-free transformations of matrix multiplication by using fast routines of matrix
 * multiplication", Numerical Algorithms 59, 2012).
 *
 * 1. A matrix is split into slices of 9 bits: x = 2^e (q₀ 2⁻⁹ + q₁ 2⁻¹⁸ + …), with integers |q| ≤
 *    256 and one exponent e per row of A or per column of B.
 * 2. A product of two slices, summed over 256 terms, is an integer of at most 2²⁴. So every step is
 *    exact in f32, in any order of the terms and with or without fma. (Double-float arithmetic has
 *    no such guarantee, because shader compilers may reassociate.)
 * 3. These sums are added in i32. A factor of 2⁻⁹ per level is carried from level to level, as in
 *    long multiplication. Only the last step rounds.
 *
 * Measurements: docs/tuning.md.
 */

/** Number of terms whose sum is exact in f32: 256 · 256 · 256 = 2²⁴. */
const exactTerms = 256;
/**
 * Number of levels computed. Level l holds the products of slices s and t with s + t = l, of weight
 * 2⁻⁹ˡ. Omitted levels weigh at most 2⁻⁵⁴ of level 0.
 */
const mostLevels = 6;
/** Sums of 2²⁴ that are added in one i32, which holds 127 of them. */
const mostSums = 120;

/** Types of {@linkcode Policy.exactProduct}. */
const exactConstantTypes = {
  SUBGROUP: "bool",
  LANES: "u32",
  THREADS_X: "u32",
  ROWS: "u32",
  COLUMNS: "u32",
  LOOPED: "bool",
} as const;

const productKernel = declareKernel({
  name: "exact_product",
  bindings: {
    a: storage("read", "array<vec4f>"),
    b: storage("read", "array<vec4f>"),
    a_scales: storage("read", "array<f32>"),
    b_scales: storage("read", "array<vec4f>"),
    high: storage("write", "array<vec4f>"),
    low: storage("write", "array<vec4f>"),
  },
  params: { m: "u32", n4: "u32", k: "u32" },
  constants: {
    A_SLICES: "u32",
    B_SLICES: "u32",
    LOWER: "bool",
    PAIR: "bool",
    WHOLE: "bool",
    ...exactConstantTypes,
  },
  extensions: ["subgroups"],
  wgsl: (constants) =>
    finishWgsl + (constants.SUBGROUP ? subgroupProduct(constants.LANES) : workgroupProduct(constants)),
  grid: ({ m, n4 }, { SUBGROUP, LANES, THREADS_X, ROWS, COLUMNS }) =>
    SUBGROUP
      ? [Math.ceil(n4 / LANES), Math.ceil(m / subgroupRows), 1]
      : [Math.ceil(n4 / (THREADS_X * COLUMNS)), Math.ceil(m / (ROWS * LANES / THREADS_X)), 1],
  cost: ({ m, n4, k }, { A_SLICES, B_SLICES, LOWER, PAIR }) => {
    const share = LOWER ? 0.5 : 1, n = 4 * n4, pairs = slicePairs(A_SLICES, B_SLICES);
    return {
      flops: 2 * share * m * n * k * pairs,
      bytes: 4 * (share * m * k * A_SLICES + k * n * B_SLICES + m * n * (PAIR ? 2 : 1)),
    };
  },
});

function slicePairs(a: number, b: number): number {
  let pairs = 0;
  for (let s = 0; s < a; s++) pairs += Math.max(0, Math.min(b, mostLevels - s));
  return pairs;
}

/**
 * An accumulator is a fixed-point number: an integer (i32, in units of the current level) and 54
 * fraction bits (27 and 27), which receive the low digits of the integer when the level rises.
 * Rounding happens in `finish` only, on the magnitude, so that all parts have the same sign.
 */
const finishWgsl = /* wgsl */ `
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

const subgroupRows = 16;

function subgroupProduct(lanes: number): string {
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
 * The product on blocks in workgroup memory; see tile_workgroup.ts. With WHOLE, k is a multiple of
 * the blocks' depth, and no load checks it.
 */
function workgroupProduct(
  constants: Pick<TileConstants, "LANES" | "THREADS_X" | "ROWS" | "COLUMNS" | "LOOPED"> & { readonly WHOLE: boolean },
): string {
  const { LANES: threads, THREADS_X: threadsX, ROWS: rows, COLUMNS: columns, WHOLE } = constants;
  const threadsY = threads / threadsX, tileRows = rows * threadsY;
  const { a, b, multiply } = blockProduct(constants, "vec4f", { a: "k", b: "lines" });
  const names = Array.from({ length: rows * columns }, (_, i) => `${Math.floor(i / columns)}_${i % columns}`);
  const inside = (at: string, last: string) => WHOLE ? at : `min(${at}, ${last})`;
  const loadA = (i: number) => {
    const value = `a[a_slice + ra${i} + ${inside("next + deep", "end / 4u - 1u")}]`;
    return WHOLE ? value : `select(vec4f(), ${value}, next + deep < end / 4u)`;
  };
  const loadB = (i: number) => `b[(b_slice + ${inside(`next * 4u + kb${i}`, "end - 1u")}) * columns4 + qb${i}]`;
  return /* wgsl */ `
${a.declaration}
${b.declaration}
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let row = group.y * ${tileRows}u;
  let column4 = group.x * ${threadsX * columns}u;
  let x = thread % ${threadsX}u;
  let y = thread / ${threadsX}u;
  let deep = thread % ${blockDepth / 4}u;
  let line = thread / ${blockDepth / 4}u;
  let columns4 = params.n4;
  ${each(a.loads, (i) => `let ra${i} = min(row + ${a.place(i)}, params.m - 1u) * (params.k / 4u);`)}
  ${
    each(b.loads, (i) =>
      `let qb${i} = min(column4 + (${b.place(i)}) / 4u, params.n4 - 1u); let kb${i} = ${b.depth(i)};`)
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
        ${each(a.loads, (i) => `var la${i} = ${loadA(i)};`)}
        ${each(b.loads, (i) => `var lb${i} = ${loadB(i)};`)}
        for (var k4 = first / 4u; k4 < end / 4u; k4 += ${blockDepth / 4}u) {
          ${each(a.loads, (i) => a.store(i, `la${i}`))}
          ${each(b.loads, (i) => b.store(i, `lb${i}`))}
          workgroupBarrier();
          next = min(k4 + ${blockDepth / 4}u, (end - 1u) / ${blockDepth}u * ${blockDepth / 4}u);
          ${each(a.loads, (i) => `la${i} = ${loadA(i)};`)}
          ${each(b.loads, (i) => `lb${i} = ${loadB(i)};`)}
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

/** Options of {@linkcode exactProduct}. */
export interface ExactProductOptions {
  /** Whether A is lower triangular; elements above its diagonal are not read. Default: false. */
  readonly lowerA?: boolean;
}

function checked(a: Sliced, b: Sliced): { gpu: Gpu; m: number; n: number; k: number } {
  const [m, k, n] = [a.rows, a.columns, b.columns];
  if (a.along !== "rows" || b.along !== "columns" || k !== b.rows || k % 4 !== 0 || n % 4 !== 0) {
    throw new ShapeError(
      `Cannot multiply a matrix [${m}, ${k}] sliced along ${a.along} by one [${b.rows}, ${n}] sliced along ${b.along} as A must be sliced along rows, B along columns, ` +
        "the depths must agree, and they and B's columns must be multiples of 4",
      [[m, k], [b.rows, n]],
    );
  }
  const sums = Math.min(a.count, b.count) * Math.ceil(k / exactTerms);
  if (sums > mostSums) {
    throw new ShapeError(
      `Cannot multiply ${a.count} by ${b.count} slices of depth ${k} exactly as at most ${mostSums} sums of ${exactTerms} terms fit in i32: ${sums}`,
      [[m, k], [k, n]],
    );
  }
  return { gpu: a.digits.gpu, m, n, k };
}

function run(a: Sliced, b: Sliced, pair: boolean, lowerA: boolean): { high: Tensor; low: Tensor } {
  const { gpu, m, n, k } = checked(a, b);
  const high = Tensor.empty(gpu, [m, n]);
  const low = pair ? Tensor.empty(gpu, [m, n]) : Tensor.empty(gpu, [4]);
  productKernel.run(
    gpu,
    { a: a.digits, b: b.digits, a_scales: a.scales, b_scales: b.scales, high, low },
    { m, n4: n / 4, k },
    {
      A_SLICES: a.count,
      B_SLICES: b.count,
      LOWER: lowerA,
      PAIR: pair,
      WHOLE: !policyOf(gpu).exactProduct.SUBGROUP && k % blockDepth === 0,
      ...policyOf(gpu).exactProduct,
    },
  );
  return { high, low };
}

/**
 * A·B [m, n] of sliced matrices, rounded once, to f32.
 *
 * @throws {ShapeError} when the slices do not match
 */
export function exactProduct(a: Sliced, b: Sliced, options: ExactProductOptions = {}): Tensor {
  const { high, low } = run(a, b, false, options.lowerA ?? false);
  low[Symbol.dispose]();
  return high;
}

/**
 * A·B [m, n] of sliced matrices as the sum of two f32, with about 45 bits below the largest terms.
 *
 * @throws {ShapeError} when the slices do not match
 */
export function exactProductPair(a: Sliced, b: Sliced, options: ExactProductOptions = {}): Pair {
  const { high, low } = run(a, b, true, options.lowerA ?? false);
  const dispose = () => [high, low].forEach((tensor) => tensor[Symbol.dispose]());
  return { high, low, [Symbol.dispose]: dispose };
}
