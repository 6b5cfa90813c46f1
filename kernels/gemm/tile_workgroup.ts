import { each, fmaChain } from "../wgsl/text.ts";
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
  // Names in the generated text: c{row}_{column} sums of a thread; ra{i} and ka{i} row and depth of
  // its i-th load of A, qb{i} and kb{i} column and depth of its i-th load of B; e{c} and f{r} what
  // the epilogue adds to a column and to a row.
  const { vector } = element;
  const threadsY = threads / threadsX;
  const tileRows = rows * threadsY, columnVec4 = columns * threadsX;
  const isHalf = constants.STRATEGY === "half";
  const { a, b, multiply } = blockProduct(constants, isHalf ? halfVector : vector, loads);
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
      a.store(
        i,
        loads.a === "k" ? `tile_a(ra${i}, (k4 + ka${i}) * 4u)` : `tile_a_line(ra${i}, k4 * 4u + ka${i})`,
      ))
  }
    ${
    each(b.loads, (i) =>
      b.store(
        i,
        loads.b === "k" ? `tile_b_k(qb${i}, (k4 + kb${i}) * 4u)` : `tile_b_line(qb${i}, k4 * 4u + kb${i})`,
      ))
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
/** The type of blocks in f16 arithmetic. */
const halfVector = "vec4<f16>";

/**
 * The blocks of A and B in workgroup memory, and the statements that add their product to the sums
 * c{row}_{column} of an invocation. Blocks of vec4<f16> are multiplied in f16, in sums
 * h{row}_{column}, and added to the sums in f32.
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
  const isHalf = vector === halfVector, sum = isHalf ? "h" : "c";
  const isTurned = loads.b === "k" && !isHalf; // when it is read
  const b = loads.b === "k"
    ? isHalf ? columnPairBlock({ columns, threadsX, threads }) : columnBlock({ columns, threadsX, threads, vector })
    : lineBlock({ name: "b", count: columns, inner: threadsX, threads, vector });
  const perSum = (text: (of: string) => string) => each(rows, (i) => each(columns, (c) => text(`${i}_${c}`), " "));
  const product = LOOPED
    ? `for (var q = 0u; q < ${depthVec4}u; q++) { ${multiplyAt("q")} }`
    : each(depthVec4, (q) => `{ ${multiplyAt(q)} }`);
  const multiply = isHalf
    ? `${perSum((of) => `var h${of} = ${vector}();`)}
    ${product}
    ${perSum((of) => `c${of} += vec4f(h${of});`)}`
    : product;
  return { a, b, multiply };

  /** Multiplies the blocks' vec4 number `q` along k. */
  function multiplyAt(q: number | string): string {
    const deep = (j: number) => typeof q === "number" ? 4 * q + j : `${q} * 4u + ${j}u`;
    const components = (name: string, from: (j: number) => string, of: number) =>
      `let ${name} = ${vector}(${each(4, (j) => `${from(j)}.${"xyzw"[of]}`, ", ")});`;
    const readB = (c: number) =>
      isTurned
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
          each(columns, (c) =>
            fmaChain(`${sum}${i}_${c}`, `a${i}`, (j) => `b${c}_${j}`, vector), " ")
        }`)
    }`;
  }
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
