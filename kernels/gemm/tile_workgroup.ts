import { each, eachInLine, fmaChain } from "../wgsl/text.ts";
import { columnBlock, columnPairBlock, depthVec4, lineBlock, rowBlock, type WorkgroupBlock } from "./tile_blocks.ts";
import { type GatedTileConstants, skipStatement, type TileConstants, type TileElement } from "./tile_shape.ts";

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
 * Names in the generated text: `c{row}_{column}` are a thread's sums. `a_row{i}` and `a_depth{i}`
 * tell which row of A, and where along k, the thread's load i reads; `b_column{i}` and `b_depth{i}`
 * the same of B. See {@linkcode WorkgroupBlock} for `load_k4`, `load_line`, `x` and `y`. An example
 * is printed by `deno task wgsl "matmul.*1024" nvidia`.
 *
 * The loop holds little but fma:
 *
 * - naga clamps every array index that is not a constant, an integer instruction per access. The
 *   arrays in workgroup memory are therefore nested such that only the coordinates of the thread
 *   (x and y) are no constants. Their clamps move out of the loop, and the constant indices become
 *   offsets in the load instructions. For the same reason the loop over the block's depth is
 *   unrolled.
 * - All threads load, one vec4 at a time, without branches.
 * - Where B is loaded along k, four vec4 are transposed by naming their elements, which takes no
 *   instruction.
 * - What does not depend on the row (bias, place of the result) is computed once.
 *
 * Workgroup memory is padded by 32 bytes per four k, so that the lanes that store a block hit
 * different memory banks.
 *
 * The constant LOOPED keeps the loop over the block's depth, for software devices. They gain
 * nothing from unrolled code and compile it slowly.
 *
 * With the strategy `half`, operands are f16 when they are loaded. Sums over a block are f16, two
 * of them in one register where the device multiplies f16 in pairs; they are added up in f32.
 */
export function workgroupTile(constants: GatedTileConstants, element: TileElement, loads: BlockLoads): string {
  const { LANES: threads, THREADS_X: threadsX, ROWS: rows, COLUMNS: columns, GATED: isGated = false } = constants;
  const { vector } = element;
  const tileRows = rows * (threads / threadsX), tileColumns = 4 * threadsX * (isGated ? 1 : columns);
  const { a, b, multiply } = blockProduct(constants, constants.STRATEGY === "half" ? halfVector : vector, loads);
  return /* wgsl */ `
${a.declaration}
${b.declaration}
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let batch = group.z;
  let row = group.y * ${tileRows}u;
  let column = group.x * ${tileColumns}u;
  ${skipStatement(element, "column", `row + ${tileRows}u`)}
  let x = thread % ${threadsX}u;
  let y = thread / ${threadsX}u;
  let load_k4 = thread % ${depthVec4}u;
  let load_line = thread / ${depthVec4}u;
  ${each(a.loads, (i) => placeLoadOfA(a, i))}
  ${each(b.loads, (i) => placeLoadOfB(b, i, isGated ? 4 * threadsX : undefined))}
  ${each(rows, (i) => eachInLine(columns, (c) => `var c${i}_${c} = ${vector}();`))}
  let end = (params.k + 3u) / 4u;
  for (var k4 = 0u; k4 < end; k4 += ${depthVec4}u) {
    ${each(a.loads, (i) => a.store(i, loadOfA(loads, i)))}
    ${each(b.loads, (i) => b.store(i, loadOfB(loads, i)))}
    workgroupBarrier();
    ${multiply}
    workgroupBarrier();
  }
  ${epilogue(constants, loads)}
}`;
}

/** What load i of a thread reads of A: computed before the loop. */
const placeLoadOfA = (a: WorkgroupBlock, i: number) =>
  `let a_row${i} = tile_row(batch, min(row + ${a.place(i)}, params.m - 1u)); let a_depth${i} = ${a.depth(i)};`;

/**
 * The same of B.
 *
 * @param firstGate the tile's first column of gates; undefined without gates. Those of B are
 *   `params.n` columns after their values
 */
function placeLoadOfB(b: WorkgroupBlock, i: number, firstGate: number | undefined): string {
  const line = `b_line${i}`;
  const column = firstGate === undefined
    ? line
    : `${line} % ${firstGate}u + select(0u, params.n, ${line} >= ${firstGate}u)`;
  return `let b_line${i} = ${b.place(i)}; let b_column${i} = tile_column(batch, column + ${column}); ` +
    `let b_depth${i} = ${b.depth(i)};`;
}

/** Load i of a thread of A. */
const loadOfA = ({ a }: BlockLoads, i: number) =>
  a === "k" ? `tile_a(a_row${i}, (k4 + a_depth${i}) * 4u)` : `tile_a_line(a_row${i}, k4 * 4u + a_depth${i})`;

/** Load i of a thread of B. */
const loadOfB = ({ b }: BlockLoads, i: number) =>
  b === "k" ? `tile_b_k(b_column${i}, (k4 + b_depth${i}) * 4u)` : `tile_b_line(b_column${i}, k4 * 4u + b_depth${i})`;

/** Sizes of a tile that {@linkcode blockProduct} needs. */
type BlockTile = Pick<TileConstants, "LANES" | "THREADS_X" | "ROWS" | "COLUMNS" | "LOOPED">;
/** The type of blocks in f16 arithmetic. */
const halfVector = "vec4<f16>";

/**
 * The blocks of A and B in workgroup memory, and the statements that add their product to the sums
 * c{row}_{column} of an invocation. Blocks of vec4<f16> are multiplied in f16, in sums
 * h{row}_{column}, and added to the sums in f32.
 */
export function blockProduct(
  { LANES: threads, THREADS_X: threadsX, ROWS: rows, COLUMNS: columns, LOOPED: isLooped }: BlockTile,
  vector: string,
  loads: BlockLoads,
): { readonly a: WorkgroupBlock; readonly b: WorkgroupBlock; readonly multiply: string } {
  const threadsY = threads / threadsX, isHalf = vector === halfVector;
  const a = loads.a === "k"
    ? rowBlock({ rows, threadsY, threads, vector })
    : lineBlock({ name: "a", count: rows / 4, inner: threadsY, threads, vector });
  const b = loads.b === "lines"
    ? lineBlock({ name: "b", count: columns, inner: threadsX, threads, vector })
    : isHalf
    ? columnPairBlock({ columns, threadsX, threads })
    : columnBlock({ columns, threadsX, threads, vector });
  const c: ProductContext = { a, b, loads, rows, columns, vector, isHalf };
  const product = isLooped
    ? `for (var q = 0u; q < ${depthVec4}u; q++) { ${multiplyAt(c, "q")} }`
    : each(depthVec4, (q) => `{ ${multiplyAt(c, q)} }`);
  if (!isHalf) return { a, b, multiply: product };
  const perSum = (text: (of: string) => string) => each(rows, (i) => eachInLine(columns, (c) => text(`${i}_${c}`)));
  return {
    a,
    b,
    multiply: `${perSum((of) => `var h${of} = ${vector}();`)}
    ${product}
    ${perSum((of) => `c${of} += vec4f(h${of});`)}`,
  };
}

/** What the text of a product of blocks depends on. */
interface ProductContext {
  readonly a: WorkgroupBlock;
  readonly b: WorkgroupBlock;
  readonly loads: BlockLoads;
  readonly rows: number;
  readonly columns: number;
  readonly vector: string;
  readonly isHalf: boolean;
}

/** Where element j of vec4 number `q` is along k. */
const kOf = (q: number | string, j: number) => typeof q === "number" ? 4 * q + j : `${q} * 4u + ${j}u`;

/** Statement: `name` is component `of` of the vectors `from(0)` … `from(3)`. */
const component = ({ vector }: ProductContext, name: string, from: (j: number) => string, of: number) =>
  `let ${name} = ${vector}(${eachInLine(4, (j) => `${from(j)}.${"xyzw"[of]}`, ", ")});`;

/**
 * Adds the products of the blocks' vec4 number `q` along k: reads `b{c}_{j}`, four columns of B at
 * k = 4 q + j, then for each row `a{i}`, four k of A.
 */
function multiplyAt(c: ProductContext, q: number | string): string {
  const { rows, columns, vector, isHalf } = c;
  const sum = isHalf ? "h" : "c";
  const addRow = (i: number) =>
    eachInLine(columns, (column) => fmaChain(`${sum}${i}_${column}`, `a${i}`, (j) => `b${column}_${j}`, vector));
  return `${eachInLine(columns, (column) => readColumns(c, q, column))}
      ${each(rows, (i) => `${readRow(c, q, i)} ${addRow(i)}`)}`;
}

/** Reads four columns of B. In f32, blocks loaded along k are transposed here. */
function readColumns(c: ProductContext, q: number | string, column: number): string {
  const { b, loads, isHalf } = c;
  if (loads.b === "lines" || isHalf) {
    return eachInLine(4, (j) => `let b${column}_${j} = ${b.element(kOf(q, j), column)};`);
  }
  return eachInLine(4, (j) => `let v${column}_${j} = ${b.element(q, 4 * column + j)};`) + " " +
    eachInLine(4, (j) => component(c, `b${column}_${j}`, (i) => `v${column}_${i}`, j));
}

/** Reads the thread's row i of A. Blocks of lines hold four rows together. */
function readRow(c: ProductContext, q: number | string, i: number): string {
  const { a, loads } = c, first = i - i % 4;
  if (loads.a === "k") return `let a${i} = ${a.element(q, i)};`;
  const lines = i === first ? eachInLine(4, (j) => `let w${i}_${j} = ${a.element(kOf(q, j), i / 4)};`) : "";
  return `${lines} ${component(c, `a${i}`, (j) => `w${first}_${j}`, i % 4)}`;
}

/**
 * Passes the sums through the kernel's epilogue (see tile.ts) and stores them. `column_term{c}` and
 * `row_term{i}` are what the epilogue needs of a column and of a row.
 */
function epilogue(
  { LANES: threads, THREADS_X: threadsX, ROWS: rows, COLUMNS: columns, GATED }: GatedTileConstants,
  loads: BlockLoads,
): string {
  const threadsY = threads / threadsX;
  const ended = (i: number, c: number) => `tile_end(c${i}_${c}, column_term${c}, row_term${i})`;
  const below = (i: number) => loads.a === "k" ? i * threadsY : Math.floor(i / 4) * 4 * threadsY + i % 4;
  return `
  let first_row = row + y${loads.a === "k" ? "" : " * 4u"};
  ${each(rows, (i) => `let row_term${i} = tile_row_end(batch, min(first_row + ${below(i)}u, params.m - 1u));`)}
  let first = tile_place(batch, first_row);
  ${
    each(GATED ? 1 : columns, (c) =>
      `{
    let at = column + (x + ${c * threadsX}u) * 4u;
    if (at < params.n) {
      let column_term${c} = tile_column_end(at);
      ${GATED ? "let column_term1 = tile_column_end(at + params.n);" : ""}
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
