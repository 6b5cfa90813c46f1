/**
 * Text helpers for generated WGSL.
 *
 * Generated kernels unroll loops over registers: naga keeps a value in a register only when the
 * value has a name of its own, so an array of accumulators would be placed in memory.
 */

/** `text(0)`, `text(1)`, … `text(count - 1)`, joined. */
export function each(count: number, text: (i: number) => string, separator = "\n"): string {
  return Array.from({ length: count }, (_, i) => text(i)).join(separator);
}

/** {@linkcode each} on one line. */
export function eachInLine(count: number, text: (i: number) => string, separator = " "): string {
  return each(count, text, separator);
}

/** The index of load `i` of a thread, where all `threads` of a workgroup load one element each. */
export const threadIndex = (i: number, threads: number): string => i === 0 ? "thread" : `(thread + ${i * threads}u)`;

/** The condition of a load whose last threads have nothing to load, as `end` exceeds `total`. */
export const guard = (index: string, end: number, total: number): string =>
  end > total ? `if (${index} < ${total}u) ` : "";

/**
 * Blocks of statements that process each of `total` elements once, shared by the `threads` threads
 * of a workgroup. Unrolled: a block per load of a thread.
 *
 * @param text statements of load i; receives the {@linkcode threadIndex} of its element, too
 */
export function threadLoads(
  { total, threads }: { readonly total: number; readonly threads: number },
  text: (i: number, index: string) => string,
): string {
  return each(Math.ceil(total / threads), (i) => {
    const index = threadIndex(i, threads);
    return `${guard(index, (i + 1) * threads, total)}{ ${text(i, index)} }`;
  });
}

/** The WGSL type of an access of `width` elements of f32, 1 or 4. */
export const vectorType = (width: number): "f32" | "vec4f" => width === 4 ? "vec4f" : "f32";

/** The expression `sum + a₀ · b₀ + a₁ · b₁ + …` as one chain of fma, in that order. */
export function fmas(sum: string, products: readonly (readonly [a: string, b: string])[]): string {
  return products.reduce((inner, [a, b]) => `fma(${a}, ${b}, ${inner})`, sum);
}

/**
 * The statement `sum += a.x · b(0) + a.y · b(1) + a.z · b(2) + a.w · b(3)` as one chain of fma, in
 * that order.
 *
 * `sum` is written once, in one expression: with four statements, LLVM may spill the accumulators.
 *
 * @param sum name of the accumulator
 * @param a name of a vector of four scalars
 * @param b WGSL expression for vector j, 0 … 3
 * @param vector type of the accumulator
 */
export function fmaChain(sum: string, a: string, b: (j: number) => string, vector = "vec4f"): string {
  const products = [..."xyzw"].map((component, j) => [`${vector}(${a}.${component})`, b(j)] as const);
  return `${sum} = ${fmas(sum, products)};`;
}

/**
 * An expression for `name(i)`, where the u32 expression `index` holds i < count: a tree of selects
 * with one level per bit of the index.
 */
export function selected(
  name: (i: number) => string,
  { count, index }: { count: number; index: string },
): string {
  const select = (first: number, size: number): string => {
    if (size === 1) return name(first);
    const half = size / 2;
    if (first + half >= count) return select(first, half);
    return `select(${select(first, half)}, ${select(first + half, half)}, (${index} & ${half}u) != 0u)`;
  };
  return select(0, 2 ** Math.ceil(Math.log2(count)));
}

/** Rows of a tile that the lanes of a subgroup load: see {@linkcode rowsInLanes}. */
export interface RowsInLanes {
  /** Loads of a lane. */
  readonly loads: number;
  /** The row of a lane's load i, clamped to the last one. */
  readonly rowOf: (i: number) => string;
  /** What the variable `NAME{load}SUFFIX` holds in the lane of row i. */
  readonly ofRow: (name: string, i: number, suffix?: string) => string;
}

/**
 * Texts for a tile whose rows from `row` on are loaded by the lanes of a subgroup: row i by lane
 * i % lanes, with load ⌊i / lanes⌋.
 */
export function rowsInLanes({ rows, lanes }: { readonly rows: number; readonly lanes: number }): RowsInLanes {
  return {
    loads: Math.ceil(rows / lanes),
    rowOf: (i) => `min(row + ${i * lanes}u + lane, params.m - 1u)`,
    ofRow: (name, i, suffix = "") => `subgroupBroadcast(${name}${Math.floor(i / lanes)}${suffix}, ${i % lanes}u)`,
  };
}

/**
 * Rows per group in {@linkcode rowLoop}, which selects a group first and then a row of it. More
 * rows are a multiple of it.
 */
export const rowsPerSelect = 8;

/**
 * A loop over the rows of a register tile whose accumulators are named `c{row}_{column}`.
 *
 * With a loop, the epilogue's memory accesses appear in the text once per column instead of once
 * per accumulator; compile time grows with their number. The loop selects a group of eight rows
 * first, then one of the eight: for 32 rows that is 10 selects per value instead of 31.
 *
 * @param options.from an expression that depends on the workgroup, so that the driver does not
 *   compile a variant for each value of a uniform that bounds the loop
 * @param store WGSL that stores row `row + i`; receives the name of the row's sum in each column
 */
export function rowLoop(
  { rows, columns, from }: { rows: number; columns: number; from: string },
  store: (sum: (column: number) => string) => string,
): string {
  const parts = Math.ceil(rows / rowsPerSelect);
  const inner = Math.min(rows, rowsPerSelect);
  return `for (var at_part = ${from}; at_part < ${from} + ${parts}u; at_part++) {
    let part = at_part - ${from};
    ${
    each(inner, (j) =>
      each(columns, (c) => {
        const sum = selected((i) => `c${i * inner + j}_${c}`, { count: parts, index: "part" });
        return `let part${j}_${c} = ${sum};`;
      }, " "))
  }
    let end = min(${inner}u, params.m - min(params.m, row + part * ${inner}u));
    for (var at_row = ${from}; at_row < ${from} + end; at_row++) {
      let in_part = at_row - ${from};
      let i = part * ${inner}u + in_part;
      ${store((c) => selected((j) => `part${j}_${c}`, { count: inner, index: "in_part" }))}
    }
  }`;
}
