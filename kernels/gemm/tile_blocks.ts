import { each } from "../wgsl/text.ts";

/**
 * Depth of the blocks in workgroup memory, in elements. In f16 arithmetic it is the length of the
 * sums in f16, too. Longer ones would save conversions and additions in f32, and err more: see
 * {@linkcode TileShape} and docs/performance.md.
 */
export const blockDepth = 16;
/** The same, in vec4 along k. */
export const depthVec4 = blockDepth / 4;

/** A block in workgroup memory, and an invocation's part in loading it. */
export interface WorkgroupBlock {
  readonly declaration: string;
  /** Loads per invocation. */
  readonly loads: number;
  /** Row or (first) column of load i within the tile, and its depth: in vec4, or in k. */
  readonly place: (i: number) => string;
  readonly depth: (i: number) => string;
  /** The statement that stores load i. */
  readonly store: (i: number, value: string) => string;
  /** The invocation's vec4 at a depth. */
  readonly element: (depth: number | string, i: number) => string;
}

interface BlockSizes {
  readonly threads: number;
  readonly vector: string;
}

/** The condition under which invocations take part in a load of a block of `total` lines. */
const guard = (line: string, end: number, total: number) => end > total ? `if (${line} < ${total}u) ` : "";

/**
 * A as vec4 over k: [k / 4, i, y] for row i · threadsY + y. Adjacent lanes load the adjacent vec4
 * of a row, which reads whole cache lines.
 *
 * A load covers `group` values of i. Where that divides their number, i splits into [load, group],
 * which makes the first a constant.
 */
export function rowBlock(
  { rows, threadsY, threads, vector }: BlockSizes & { rows: number; threadsY: number },
): WorkgroupBlock {
  const total = rows * threadsY, perLoad = threads / depthVec4, loads = Math.ceil(total / perLoad);
  const divides = total % perLoad === 0 && perLoad % threadsY === 0;
  const group = divides ? perLoad / threadsY : loads === 1 ? rows : 1;
  const line = (i: number) => `(line + ${i * perLoad}u)`;
  const at = (i: number) =>
    divides || loads === 1
      ? `[${i}][line / ${threadsY}u][line % ${threadsY}u]`
      : `[${line(i)} / ${threadsY}u][0][${line(i)} % ${threadsY}u]`;
  return {
    declaration: `
struct BlockA { rows: array<array<array<${vector}, ${threadsY}>, ${group}>, ${
      rows / group
    }>, apart: array<${vector}, 2> }
var<workgroup> block_a: array<BlockA, ${depthVec4}>;`,
    loads,
    place: line,
    depth: () => "deep",
    store: (i, value) => `${guard(line(i), (i + 1) * perLoad, total)}{ block_a[deep].rows${at(i)} = ${value}; }`,
    element: (q, i) => `block_a[${q}].rows[${Math.floor(i / group)}][${i % group}][y]`,
  };
}

/**
 * B as vec4 over k: [k / 4, c, column % 4, x] for column (c · threadsX + x) · 4 + column % 4.
 * Adjacent lanes load the adjacent vec4 of a column, then the next column.
 *
 * c splits into [load, group] as i does in {@linkcode rowBlock}. Where a load covers less than one
 * value of c, x splits into [load, part].
 */
export function columnBlock(
  { columns, threadsX, threads, vector }: BlockSizes & { columns: number; threadsX: number },
): WorkgroupBlock {
  const across = 4 * threadsX, total = columns * across;
  const perLoad = threads / depthVec4, loads = Math.ceil(total / perLoad);
  const divides = total % perLoad === 0 && (perLoad % across === 0 || across % perLoad === 0) && perLoad % 4 === 0;
  const group = divides ? Math.max(1, perLoad / across) : 1;
  const part = divides ? Math.min(perLoad / 4, threadsX) : threadsX;
  const line = (i: number) => `(line + ${i * perLoad}u)`;
  const at = (i: number) => {
    if (!divides) {
      return `[${line(i)} / ${across}u][0][${line(i)} % 4u].x[0][${line(i)} / 4u % ${threadsX}u]`;
    }
    return perLoad >= across
      ? `[${i}][line / ${across}u][line % 4u].x[0][line / 4u % ${threadsX}u]`
      : `[${Math.floor(i * perLoad / across)}][0][line % 4u].x[${i * perLoad % across / perLoad}][line / 4u]`;
  };
  const apart = columns % 2 === 0 ? 2 : 6; // with four rows of threadsX + 1: 2 modulo 8 in all
  return {
    declaration: `
struct RowB { x: array<array<${vector}, ${part}>, ${threadsX / part}>, apart: ${vector} }
struct BlockB { columns: array<array<array<RowB, 4>, ${group}>, ${columns / group}>, apart: array<${vector}, ${apart}> }
var<workgroup> block_b: array<BlockB, ${depthVec4}>;`,
    loads,
    place: line,
    depth: () => "deep",
    store: (i, value) => `${guard(line(i), (i + 1) * perLoad, total)}{ block_b[deep].columns${at(i)} = ${value}; }`,
    element: (q, i) => {
      const c = Math.floor(i / 4), x = part === threadsX ? "[0][x]" : `[x / ${part}u][x % ${part}u]`;
      return `block_b[${q}].columns[${Math.floor(c / group)}][${c % group}][${i % 4}].x${x}`;
    },
  };
}

/**
 * A block of vec4 over lines (columns of B, or rows of A): [k, c, coordinate] for lines
 * (c · inner + coordinate) · 4 and the three after it.
 *
 * @param sizes.count vec4 per invocation
 * @param sizes.inner invocations along the lines
 */
export function lineBlock(
  { name, count, inner, threads, vector }: BlockSizes & { name: "a" | "b"; count: number; inner: number },
): WorkgroupBlock {
  const across = count * inner, total = across * blockDepth, loads = Math.ceil(total / threads);
  const divides = threads % across === 0 && total % threads === 0;
  const group = divides ? threads / across : 1;
  const index = (i: number) => i === 0 ? "thread" : `(thread + ${i * threads}u)`;
  const depth = (i: number) => `${index(i)} / ${across}u`;
  const lane = (i: number) => `${divides ? "thread" : index(i)} % ${across}u`;
  const at = (i: number) => divides ? `[${i}][${depth(0)}]` : `[${depth(i)}][0]`;
  return {
    declaration: `
var<workgroup> block_${name}: array<array<array<array<${vector}, ${inner}>, ${count}>, ${group}>, ${
      blockDepth / group
    }>;`,
    loads,
    place: (i) => `${lane(i)} * 4u`,
    depth,
    store: (i, value) =>
      `${guard(index(i), (i + 1) * threads, total)}{ block_${name}${at(i)}[${lane(i)} / ${inner}u][${
        lane(i)
      } % ${inner}u] = ${value}; }`,
    element: (k, c) => {
      const coordinate = name === "a" ? "y" : "x";
      return typeof k === "number"
        ? `block_${name}[${Math.floor(k / group)}][${k % group}][${c}][${coordinate}]`
        : `block_${name}[(${k}) / ${group}u][(${k}) % ${group}u][${c}][${coordinate}]`;
    },
  };
}

/**
 * B in f16 as vec4 over columns, as {@linkcode lineBlock} has it, for loads along k: [k / 4, k % 4,
 * c, x, half] in pairs of columns. A thread loads four k of two adjacent columns and turns them
 * when it stores them, because turning packed halves when they are read takes an instruction each.
 */
export function columnPairBlock(
  { columns, threadsX, threads }: { columns: number; threadsX: number; threads: number },
): WorkgroupBlock {
  const across = 2 * threadsX, total = columns * across, perLoad = threads / depthVec4; // in pairs
  const line = (i: number) => `(line + ${Math.floor(i / 2) * perLoad}u)`;
  return {
    declaration: `
struct BlockB { k: array<array<array<array<vec2<f16>, 2>, ${threadsX}>, ${columns}>, 4>, apart: array<vec2<f16>, 16> }
var<workgroup> block_b: array<BlockB, ${depthVec4}>;`,
    loads: 2 * Math.ceil(total / perLoad),
    place: (i) => `${line(i)} * 2u + ${i % 2}u`,
    depth: () => "deep",
    store: (i, value) =>
      i % 2 === 0
        ? `let pair${i} = ${value};`
        : `${guard(line(i), Math.ceil(i / 2) * perLoad, total)}{ let odd = ${value}; ${
          each(4, (j) => {
            const at = `[${line(i)} / ${across}u][${line(i)} / 2u % ${threadsX}u][${line(i)} % 2u]`;
            return `block_b[deep].k[${j}]${at} = vec2<f16>(pair${i - 1}.${"xyzw"[j]}, odd.${"xyzw"[j]});`;
          }, " ")
        } }`,
    element: (k, c) => {
      const row = typeof k === "number" ? `[${Math.floor(k / 4)}].k[${k % 4}]` : `[(${k}) / 4u].k[(${k}) % 4u]`;
      return `vec4<f16>(block_b${row}[${c}][x][0], block_b${row}[${c}][x][1])`;
    },
  };
}
