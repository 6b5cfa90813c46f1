import { each, fmaChain } from "../wgsl/text.ts";
import { type GatedTileConstants, skipStatement, type TileConstants, type TileElement } from "./tile_shape.ts";

/** Depth of the blocks in workgroup memory: in elements, and in vec4 along k. */
export const blockDepth = 16;
const depthVec4 = blockDepth / 4;

/**
 * How the workgroup strategy loads an operand. One load is one vec4.
 *
 * - `k`: four consecutive k of one row of A or column of B
 * - `lines`: one k of four consecutive rows of A or columns of B. A then requires that an
 *   invocation has a multiple of four rows
 */
export interface BlockLoads {
  readonly a: "k" | "lines";
  readonly b: "k" | "lines";
}

/**
 * The entry point of the `workgroup` strategy. In each iteration the threads load blocks of A and
 * B, of depth {@linkcode blockDepth}, into workgroup memory. Then each thread multiplies its rows
 * by its columns. Thread (x, y) owns rows y, y + threadsY, … and vec4 columns x, x + threadsX, …
 *
 * The loop holds little but fma:
 *
 * - naga clamps every index that is not a constant. The arrays are nested such that those that vary
 *   are the thread's coordinates, which do not change in the loop; the rest become the offsets of
 *   instructions. Hence the loop over the block's depth is unrolled, too.
 * - All threads load, one vec4 at a time, without branches. B is turned by naming its elements.
 * - What does not depend on the row (bias, place of the result) is computed once.
 *
 * Workgroup memory is padded by 32 bytes per four k, so that the lanes that store a block hit
 * different memory banks.
 *
 * The constant LOOPED keeps the loop over the block's depth, for software devices: they gain
 * nothing from unrolled code and compile it slowly.
 */
export function workgroupTile(constants: GatedTileConstants, element: TileElement, loads: BlockLoads): string {
  const { LANES: threads, THREADS_X: threadsX, ROWS: rows, COLUMNS: columns, GATED: isGated = false } = constants;
  // Names in the generated text: c{row}_{column} sums of a thread; ra{i} and ka{i} row and depth of
  // its i-th load of A, qb{i} and kb{i} column and depth of its i-th load of B; e{c} and f{r} what
  // the epilogue adds to a column and to a row.
  const { vector } = element;
  const threadsY = threads / threadsX;
  const tileRows = rows * threadsY, columnVec4 = columns * threadsX;
  const { a, b, multiply } = blockProduct(constants, element.vector, loads);
  return /* wgsl */ `
${a.declaration}
${b.declaration}
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let batch = group.z;
  let row = group.y * ${tileRows}u;
  let column = group.x * ${(isGated ? threadsX : columnVec4) * 4}u;
  ${skipStatement(element, "column", `row + ${tileRows}u`)}
  let x = thread % ${threadsX}u;
  let y = thread / ${threadsX}u;
  let deep = thread % ${depthVec4}u;
  let line = thread / ${depthVec4}u;
  ${
    each(a.loads, (i) =>
      `let ra${i} = tile_row(batch, min(row + ${a.place(i)}, params.m - 1u)); let ka${i} = ${a.depth(i)};`)
  }
  ${
    each(b.loads, (i) => {
      return `let jb${i} = ${b.place(i)}; let qb${i} = tile_column(batch, column + ${
        isGated ? `jb${i} % ${4 * threadsX}u + select(0u, params.n, jb${i} >= ${4 * threadsX}u)` : `jb${i}`
      }); let kb${i} = ${b.depth(i)};`;
    })
  }
  ${each(rows, (i) => each(columns, (c) => `var c${i}_${c} = ${vector}();`, " "))}
  let end = (params.k + 3u) / 4u;
  for (var k4 = 0u; k4 < end; k4 += ${depthVec4}u) {
    ${
    each(a.loads, (i) =>
      a.store(i, loads.a === "k" ? `tile_a(ra${i}, (k4 + ka${i}) * 4u)` : `tile_a_line(ra${i}, k4 * 4u + ka${i})`))
  }
    ${
    each(b.loads, (i) =>
      b.store(i, loads.b === "k" ? `tile_b_k(qb${i}, (k4 + kb${i}) * 4u)` : `tile_b_line(qb${i}, k4 * 4u + kb${i})`))
  }
    workgroupBarrier();
    ${multiply}
    workgroupBarrier();
  }
  ${epilogue(constants, loads)}
}`;
}

/** Sizes of a tile that {@linkcode blockProduct} needs. */
type BlockTile = Pick<TileConstants, "LANES" | "THREADS_X" | "ROWS" | "COLUMNS" | "LOOPED">;

/**
 * The blocks of A and B in workgroup memory, and the statements that add their product to the sums
 * c{row}_{column} of an invocation.
 */
export function blockProduct(
  { LANES: threads, THREADS_X: threadsX, ROWS: rows, COLUMNS: columns, LOOPED }: BlockTile,
  vector: string,
  loads: BlockLoads,
): { readonly a: WorkgroupBlock; readonly b: WorkgroupBlock; readonly multiply: string } {
  const threadsY = threads / threadsX;
  const a = loads.a === "k"
    ? rowBlock({ rows, threadsY, threads, vector })
    : lineBlock({ name: "a", count: rows / 4, inner: threadsY, threads, vector });
  const b = loads.b === "k"
    ? columnBlock({ columns, threadsX, threads, vector })
    : lineBlock({ name: "b", count: columns, inner: threadsX, threads, vector });
  const multiply = LOOPED
    ? `for (var q = 0u; q < ${depthVec4}u; q++) { ${multiplyAt("q")} }`
    : each(depthVec4, (q) => `{ ${multiplyAt(q)} }`);
  return { a, b, multiply };

  /** Multiplies the blocks' vec4 number `q` along k. */
  function multiplyAt(q: number | string): string {
    const deep = (j: number) => typeof q === "number" ? 4 * q + j : `${q} * 4u + ${j}u`;
    const components = (name: string, from: (j: number) => string, of: number) =>
      `let ${name} = ${vector}(${each(4, (j) => `${from(j)}.${"xyzw"[of]}`, ", ")});`;
    const readB = (c: number) =>
      loads.b === "k"
        ? each(4, (j) => `let v${c}_${j} = ${b.element(q, 4 * c + j)};`, " ") + " " +
          each(4, (j) => components(`b${c}_${j}`, (i) => `v${c}_${i}`, j), " ")
        : each(4, (j) => `let b${c}_${j} = ${b.element(deep(j), c)};`, " ");
    const readA = loads.a === "k"
      ? (i: number) => `let a${i} = ${a.element(q, i)};`
      : (i: number) =>
        (i % 4 === 0 ? each(4, (j) => `let w${i}_${j} = ${a.element(deep(j), i / 4)};`, " ") : "") +
        components(`a${i}`, (j) => `w${i - i % 4}_${j}`, i % 4);
    return `${each(columns, readB, " ")}
      ${
      each(rows, (i) =>
        `${readA(i)} ${
          each(columns, (c) => fmaChain(`c${i}_${c}`, `a${i}`, (j) => `b${c}_${j}`, vector), " ")
        }`)
    }`;
  }
}

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
function rowBlock(
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
function columnBlock(
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
function lineBlock(
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

/** Adds to the sums what the kernel's epilogue has for their row and column, and stores them. */
function epilogue(
  { LANES: threads, THREADS_X: threadsX, ROWS: rows, COLUMNS: columns, GATED }: GatedTileConstants,
  loads: BlockLoads,
): string {
  const threadsY = threads / threadsX;
  const ended = (i: number, c: number) => `tile_end(c${i}_${c}, e${c}, f${i})`;
  const below = (i: number) => loads.a === "k" ? i * threadsY : Math.floor(i / 4) * 4 * threadsY + i % 4;
  return `
  let first_row = row + y${loads.a === "k" ? "" : " * 4u"};
  ${each(rows, (i) => `let f${i} = tile_row_end(batch, min(first_row + ${below(i)}u, params.m - 1u));`)}
  let first = tile_place(batch, first_row);
  ${
    each(GATED ? 1 : columns, (c) =>
      `{
    let at = column + (x + ${c * threadsX}u) * 4u;
    if (at < params.n) {
      let e${c} = tile_column_end(at);
      ${GATED ? "let e1 = tile_column_end(at + params.n);" : ""}
      ${
        each(rows, (i) =>
          `if (first_row + ${below(i)}u < params.m) { tile_store(first + tile_step(${below(i)}u), at, ${
            GATED ? `tile_gate(${ended(i, 0)}, ${ended(i, 1)})` : ended(i, c)
          }); }`)
      }
    }
  }`)
  }`;
}
