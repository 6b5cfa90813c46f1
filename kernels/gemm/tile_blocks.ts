import { each, guard, threadIndex } from "../wgsl/text.ts";

/**
 * Depth of the blocks in workgroup memory, in elements. In f16 arithmetic it is the length of the
 * sums in f16, too. Longer ones would save conversions and additions in f32, and err more: see
 * {@linkcode TileShape} and docs/performance.md.
 */
export const blockDepth = 16;
/** The same, in vec4 along k. */
export const depthVec4 = blockDepth / 4;

/**
 * A block of A or B in workgroup memory, and a thread's part in loading it.
 *
 * Lines are rows of A, or columns of B. The texts refer to these variables of the entry point:
 *
 * - `thread`: index of the thread in its workgroup
 * - `load_k4` = thread % {@linkcode depthVec4} and `load_line` = thread / depthVec4: the vec4 along
 *   k and the line of the thread's first load, where it loads along k
 * - `x`, `y`: coordinates of the thread's vec4 columns and rows in the tile
 */
export interface WorkgroupBlock {
  /** WGSL that declares the array. */
  readonly declaration: string;
  /** Loads per thread. */
  readonly loads: number;
  /** Expression: the (first) line of load i, counted from the tile's first. */
  readonly place: (i: number) => string;
  /** Expression: where load i is along k, in vec4 or, for loads of lines, in elements. */
  readonly depth: (i: number) => string;
  /** Statement that stores load i. */
  readonly store: (i: number, value: string) => string;
  /**
   * Expression: the thread's vec4 number i. `depth` counts vec4 along k or, for blocks of lines,
   * elements.
   */
  readonly element: (depth: number | string, i: number) => string;
}

interface BlockSizes {
  readonly threads: number;
  /** WGSL type of the array's elements. */
  readonly vector: string;
}

/**
 * A as vec4 along k, at [k / 4, i, y] for row i · threadsY + y of the tile. Adjacent threads load
 * adjacent vec4 of a row, which reads whole cache lines.
 *
 * One load of all threads covers `group` values of i. Where that divides their number, i is stored
 * as [load, i % group], whose first index is a constant when a thread stores.
 */
export function rowBlock(
  { rows, threadsY, threads, vector }: BlockSizes & { rows: number; threadsY: number },
): WorkgroupBlock {
  const total = rows * threadsY, perLoad = threads / depthVec4, loads = Math.ceil(total / perLoad);
  const divides = total % perLoad === 0 && perLoad % threadsY === 0;
  const group = divides ? perLoad / threadsY : loads === 1 ? rows : 1;
  const line = (i: number) => `(load_line + ${i * perLoad}u)`;
  const at = (i: number) =>
    divides || loads === 1
      ? `[${i}][load_line / ${threadsY}u][load_line % ${threadsY}u]`
      : `[${line(i)} / ${threadsY}u][0][${line(i)} % ${threadsY}u]`;
  return {
    declaration: `
struct BlockA { rows: array<array<array<${vector}, ${threadsY}>, ${group}>, ${
      rows / group
    }>, padding: array<${vector}, 2> }
var<workgroup> block_a: array<BlockA, ${depthVec4}>;`,
    loads,
    place: line,
    depth: () => "load_k4",
    store: (i, value) => `${guard(line(i), (i + 1) * perLoad, total)}{ block_a[load_k4].rows${at(i)} = ${value}; }`,
    element: (q, i) => `block_a[${q}].rows[${Math.floor(i / group)}][${i % group}][y]`,
  };
}

/**
 * B as vec4 along k, at [k / 4, c, j, x] for column (c · threadsX + x) · 4 + j of the tile.
 * Adjacent threads load adjacent vec4 of a column, then the next column.
 *
 * c is stored as [load, c % group], as i is in {@linkcode rowBlock}. Where a load covers less than
 * one value of c, x is stored as [load, x % part].
 */
export function columnBlock(
  { columns, threadsX, threads, vector }: BlockSizes & { columns: number; threadsX: number },
): WorkgroupBlock {
  const across = 4 * threadsX, total = columns * across;
  const perLoad = threads / depthVec4, loads = Math.ceil(total / perLoad);
  const divides = total % perLoad === 0 && (perLoad % across === 0 || across % perLoad === 0) && perLoad % 4 === 0;
  const group = divides ? Math.max(1, perLoad / across) : 1;
  const part = divides ? Math.min(perLoad / 4, threadsX) : threadsX;
  const line = (i: number) => `(load_line + ${i * perLoad}u)`;
  const at = (i: number) => {
    if (!divides) {
      return `[${line(i)} / ${across}u][0][${line(i)} % 4u].x[0][${line(i)} / 4u % ${threadsX}u]`;
    }
    return perLoad >= across
      ? `[${i}][load_line / ${across}u][load_line % 4u].x[0][load_line / 4u % ${threadsX}u]`
      : `[${Math.floor(i * perLoad / across)}][0][load_line % 4u].x[${i * perLoad % across / perLoad}][load_line / 4u]`;
  };
  // With four rows of threadsX + 1 vec4 per c, a block's length is 2 modulo 8 vec4.
  const padding = columns % 2 === 0 ? 2 : 6;
  return {
    declaration: `
struct RowB { x: array<array<${vector}, ${part}>, ${threadsX / part}>, padding: ${vector} }
struct BlockB { columns: array<array<array<RowB, 4>, ${group}>, ${
      columns / group
    }>, padding: array<${vector}, ${padding}> }
var<workgroup> block_b: array<BlockB, ${depthVec4}>;`,
    loads,
    place: line,
    depth: () => "load_k4",
    store: (i, value) => `${guard(line(i), (i + 1) * perLoad, total)}{ block_b[load_k4].columns${at(i)} = ${value}; }`,
    element: (q, i) => {
      const c = Math.floor(i / 4), x = part === threadsX ? "[0][x]" : `[x / ${part}u][x % ${part}u]`;
      return `block_b[${q}].columns[${Math.floor(c / group)}][${c % group}][${i % 4}].x${x}`;
    },
  };
}

/**
 * B as vec4 across columns, at [k, c, x] for the four columns from (c · inner + x) · 4 of the tile
 * on; or A as vec4 across rows, with y in place of x.
 *
 * k is stored as [load, k % group], as i is in {@linkcode rowBlock}.
 *
 * @param sizes.count vec4 per thread
 * @param sizes.inner threads along the lines
 */
export function lineBlock(
  { name, count, inner, threads, vector }: BlockSizes & { name: "a" | "b"; count: number; inner: number },
): WorkgroupBlock {
  const across = count * inner, total = across * blockDepth, loads = Math.ceil(total / threads);
  const divides = threads % across === 0 && total % threads === 0;
  const group = divides ? threads / across : 1;
  const index = (i: number) => threadIndex(i, threads);
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
 * B in f16 as vec4 across columns, but loaded along k: at [k / 4, k % 4, c, x, pair], in pairs of
 * columns. A thread loads four k of two adjacent columns and transposes them when it stores them.
 * To transpose when they are read, as {@linkcode columnBlock} allows, would take an instruction for
 * each pair of f16.
 */
export function columnPairBlock(
  { columns, threadsX, threads }: { columns: number; threadsX: number; threads: number },
): WorkgroupBlock {
  const across = 2 * threadsX, total = columns * across, perLoad = threads / depthVec4; // in pairs
  const line = (i: number) => `(load_line + ${Math.floor(i / 2) * perLoad}u)`;
  return {
    declaration: `
struct BlockB { k: array<array<array<array<vec2<f16>, 2>, ${threadsX}>, ${columns}>, 4>, padding: array<vec2<f16>, 16> }
var<workgroup> block_b: array<BlockB, ${depthVec4}>;`,
    loads: 2 * Math.ceil(total / perLoad),
    place: (i) => `${line(i)} * 2u + ${i % 2}u`,
    depth: () => "load_k4",
    store: (i, value) =>
      i % 2 === 0
        ? `let pair${i} = ${value};`
        : `${guard(line(i), Math.ceil(i / 2) * perLoad, total)}{ let odd = ${value}; ${
          each(4, (j) => {
            const at = `[${line(i)} / ${across}u][${line(i)} / 2u % ${threadsX}u][${line(i)} % 2u]`;
            return `block_b[load_k4].k[${j}]${at} = vec2<f16>(pair${i - 1}.${"xyzw"[j]}, odd.${"xyzw"[j]});`;
          }, " ")
        } }`,
    element: (k, c) => {
      const row = typeof k === "number" ? `[${Math.floor(k / 4)}].k[${k % 4}]` : `[(${k}) / 4u].k[(${k}) % 4u]`;
      return `vec4<f16>(block_b${row}[${c}][x][0], block_b${row}[${c}][x][1])`;
    },
  };
}
