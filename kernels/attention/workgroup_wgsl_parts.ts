/** The parts of the text of attention through workgroup memory: see workgroup_wgsl.ts. @module */

import { blockDepth } from "../gemm/tile_blocks.ts";
import { eachInLine, fmaChain, threadLoads } from "../wgsl/text.ts";
import { keyAt } from "./addresses_wgsl.ts";
import type { WorkgroupAttentionBlocks, WorkgroupAttentionShape } from "./workgroup_shape.ts";

/** What the parts of the generated text refer to. */
export interface Context extends WorkgroupAttentionShape, WorkgroupAttentionBlocks {
  readonly threads: number;
  readonly headVec4: number;
  readonly isCausal: boolean;
  /** Whether both products are computed in f16. */
  readonly isHalf: boolean;
  /** Whether all blocks are full and nothing is masked. */
  readonly isWhole: boolean;
  /** WGSL type of four operands. */
  readonly vector: "vec4f" | "vec4<f16>";
}

/** Type of four operands of f16 that are stored in pairs: see {@linkcode loadKeys}. */
export const pairs = "array<vec2<f16>, 2>";

/** `text` for each query of a thread. */
export const perQuery = ({ rows }: Context, text: (r: number) => string, separator = "\n    ") =>
  eachInLine(rows, text, separator);

/** What is added to the address of a head to get that of its current chunk. */
const chunkAt = ({ chunks, depth }: Context) => chunks === 1 ? "" : ` + chunk * ${depth}u`;

/** A vec4f as it is stored in workgroup memory. */
const stored = ({ isHalf }: Context, value: string) => isHalf ? `vec4<f16>(${value})` : value;

/** The thread's vec4 of a line of block_kv. */
const keyOrValue = ({ isHalf }: Context, line: number) =>
  isHalf ? `vec4<f16>(block_kv[${line}][x][0], block_kv[${line}][x][1])` : `block_kv[${line}][x]`;

/** Copies a chunk of the workgroup's queries to block_q, scaled. */
export function loadQueries(c: Context): string {
  const { block, depth, threads, threadsY } = c;
  return threadLoads({ total: block * depth, threads }, (_, index) => {
    const query = `q_at(q_start + min(group.x * ${block}u + line, params.t - 1u) * row + d4${chunkAt(c)})`;
    return `let d4 = ${index} % ${depth}u; let line = ${index} / ${depth}u;
      block_q[line / ${threadsY}u * ${depth}u + d4][line % ${threadsY}u] = ${stored(c, `${query} * scale`)};`;
  });
}

/**
 * Copies a chunk of a block of keys to block_kv: as vec4 along the head, or with HALF across keys.
 * For the latter a thread loads two keys and transposes them when it stores them, as pairs.
 */
export function loadKeys(c: Context): string {
  const { blockKeys, depth, keys, threads, threadsX, isHalf } = c;
  if (!isHalf) {
    return threadLoads({ total: blockKeys * depth, threads }, (_, index) => {
      const place = `[(line / ${4 * threadsX}u * 4u + line % 4u) * ${depth}u + d4][line / 4u % ${threadsX}u]`;
      return `let d4 = ${index} % ${depth}u; let line = ${index} / ${depth}u;
      block_kv${place} = k_at(${keyAt(c, "line")} + d4${chunkAt(c)});`;
    });
  }
  return threadLoads({ total: blockKeys / 2 * depth, threads }, (_, index) => {
    const load = (line: string) => `k_half_at(${keyAt(c, line)} + d4${chunkAt(c)})`;
    const place = (i: number) =>
      `[(d4 * 4u + ${i}u) * ${keys}u + pair / ${2 * threadsX}u][pair / 2u % ${threadsX}u][pair % 2u]`;
    return `let d4 = ${index} % ${depth}u; let pair = ${index} / ${depth}u;
      let even = ${load("(2u * pair)")}; let odd = ${load("(2u * pair + 1u)")};
      ${eachInLine(4, (i) => `block_kv${place(i)} = vec2<f16>(even.${"xyzw"[i]}, odd.${"xyzw"[i]});`)}`;
  });
}

/** Copies a part of a block of values to block_kv. */
export function loadValues(c: Context): string {
  const { valueKeys, valueChunks, headVec4, columns, threads, threadsX, isHalf } = c;
  const line = valueChunks === 1 ? "line" : `(part * ${valueKeys}u + line)`;
  return threadLoads(
    { total: valueKeys * headVec4, threads },
    (_, index) =>
      `let line = ${index} / ${headVec4}u; let d4 = ${index} % ${headVec4}u;
      let value = ${isHalf ? "v_half_at" : "v_at"}(${keyAt(c, line)} + d4);
      block_kv[line * ${columns}u + d4 / ${threadsX}u][d4 % ${threadsX}u] = ${
        isHalf ? `${pairs}(value.xy, value.zw)` : "value"
      };`,
  );
}

/**
 * `count` products that are added to the sums {name}{r}_{column} of a thread. With HALF they are
 * added in f16, to h{r}_{column}, over ranges of at most {@linkcode blockDepth} elements.
 *
 * @param text WGSL of product i; receives the name of the sums to add to
 */
function addProducts(
  { rows, isHalf }: Context,
  { name, columns, count }: { name: string; columns: number; count: number },
  text: (i: number, name: string) => string,
): string {
  if (!isHalf) return eachInLine(count, (i) => text(i, name), "\n      ");
  const perSum = (text: (of: string) => string) =>
    eachInLine(rows, (r) => eachInLine(columns, (c) => text(`${r}_${c}`)));
  return shortRanges(count).map(([from, to]) =>
    `{ ${perSum((of) => `var h${of} = vec4<f16>();`)}
      ${eachInLine(to - from, (i) => text(from + i, "h"), "\n      ")}
      ${perSum((of) => `${name}${of} += vec4f(h${of});`)} }`
  ).join("\n      ");
}

/**
 * Ranges of `count` vec4 that are as long as each other, give or take one, and of at most
 * {@linkcode blockDepth} elements.
 */
function shortRanges(count: number): (readonly [from: number, to: number])[] {
  const parts = Math.ceil(4 * count / blockDepth), at = (i: number) => Math.floor(i * count / parts);
  return Array.from({ length: parts }, (_, i) => [at(i), at(i + 1)] as const);
}

/** Scores += Q · Kᵀ of a chunk of the head. */
export function multiplyKeys(c: Context): string {
  const { keys, depth, vector, isHalf } = c;
  /** Reads keys{g}_{i}: element 4 d4 + i of the four keys of vec4 g. */
  const readKeys = (d4: number) => {
    if (isHalf) {
      return eachInLine(
        keys,
        (g) => eachInLine(4, (i) => `let keys${g}_${i} = ${keyOrValue(c, (4 * d4 + i) * keys + g)};`),
      );
    }
    const elements = (g: number, i: number) => eachInLine(4, (j) => `k${4 * g + j}.${"xyzw"[i]}`, ", ");
    return `${eachInLine(4 * keys, (j) => `let k${j} = block_kv[${j * depth + d4}][x];`)}
      ${eachInLine(keys, (g) => eachInLine(4, (i) => `let keys${g}_${i} = vec4f(${elements(g, i)});`))}`;
  };
  return addProducts(c, { name: "score", columns: keys, count: depth }, (d4, sum) => {
    const multiply = (r: number) =>
      eachInLine(keys, (g) => fmaChain(`${sum}${r}_${g}`, "query", (i) => `keys${g}_${i}`, vector));
    return `{ ${readKeys(d4)}
      ${perQuery(c, (r) => `{ let query = block_q[${r * depth + d4}][y]; ${multiply(r)} }`)} }`;
  });
}

/** Results += P · V of a part of a block. */
export function multiplyValues(c: Context): string {
  const { columns, valueGroups, valueChunks, vector } = c;
  return addProducts(c, { name: "result", columns, count: valueGroups }, (g, sum) => {
    const weight = (r: number) => `block_p[${r}][${valueChunks === 1 ? 0 : "part"}][${g}][y]`;
    const multiply = (column: number) =>
      perQuery(c, (r) => fmaChain(`${sum}${r}_${column}`, `weight${r}`, (j) => `v${j}`, vector), " ");
    const readValues = (column: number) =>
      eachInLine(4, (j) => `let v${j} = ${keyOrValue(c, (4 * g + j) * columns + column)};`);
    return `{ ${perQuery(c, (r) => `let weight${r} = ${weight(r)};`, " ")}
      ${eachInLine(columns, (column) => `{ ${readValues(column)} ${multiply(column)} }`, "\n      ")} }`;
  });
}

/** Sets the scores of masked keys to -3e38. */
export function mask(c: Context): string {
  const { keys, threadsX, threadsY, isWhole, isCausal } = c;
  if (isWhole) return "";
  const limit = (r: number) => isCausal ? `min(end, k_start + (first + ${r * threadsY + 1}u) * row)` : "end";
  return eachInLine(
    keys,
    (g) =>
      `{ let at = vec4u(key) + (vec4u((x + ${g * threadsX}u) * 4u) + vec4u(0u, 1u, 2u, 3u)) * row;
      ${perQuery(c, (r) => `score${r}_${g} = select(score${r}_${g}, vec4f(-3e38), at >= vec4u(${limit(r)}));`)} }`,
  );
}

/**
 * Combines `value(r)` of the threads of a row of the workgroup, in their order: {name}{i} holds the
 * results of queries 4 i to 4 i + 3. See {@linkcode ofQuery}.
 */
export function combined(
  { maxima, rows, threadsX }: Context,
  name: string,
  { value, combine }: { value: (r: number) => string; combine: (a: string, b: string) => string },
): string {
  const all = (i: number) => Array.from({ length: threadsX }, (_, x) => `of_threads[${i}][y][${x}]`).reduce(combine);
  const four = (i: number) => eachInLine(4, (j) => value(Math.min(4 * i + j, rows - 1)), ", ");
  return `${eachInLine(maxima, (i) => `of_threads[${i}][y][x] = vec4f(${four(i)});`)}
    workgroupBarrier();
    ${eachInLine(maxima, (i) => `let ${name}${i} = ${all(i)};`)}`;
}

/** What {@linkcode combined} computed for query r. */
const ofQuery = (name: string, r: number) => `${name}${Math.floor(r / 4)}.${"xyzw"[r % 4]}`;

/**
 * Turns the block's scores into weights exp2(score − maximum), and stores them in block_p. Rescales
 * results and sums by which the maximum has grown.
 */
export function softmax(c: Context): string {
  const { keys, columns, threadsX, valueGroups, valueChunks } = c;
  const most = (r: number) =>
    Array.from({ length: keys }, (_, g) => `score${r}_${g}`).reduce((a, b) => `max(${a}, ${b})`);
  const weightAt = (g: number, r: number) =>
    valueChunks === 1
      ? `[${r}][0][x + ${g * threadsX}u]`
      : `[${r}][(x + ${g * threadsX}u) / ${valueGroups}u][(x + ${g * threadsX}u) % ${valueGroups}u]`;
  const toWeight = (r: number, g: number) =>
    `score${r}_${g} = exp2(score${r}_${g} - vec4f(maximum)); block_p${weightAt(g, r)}[y] = ${
      stored(c, `score${r}_${g}`)
    };`;
  return `${perQuery(c, (r) => `let most${r} = ${most(r)};`)}
    ${
    combined(c, "next", {
      value: (r) => `max(max(most${r}.x, most${r}.y), max(most${r}.z, most${r}.w))`,
      combine: (a, b) => `max(${a}, ${b})`,
    })
  }
    ${
    perQuery(c, (r) =>
      `{ let maximum = max(maximum${r}, ${
        ofQuery("next", r)
      }); let rescale = exp2(maximum${r} - maximum); maximum${r} = maximum;
      ${
        eachInLine(keys, (g) => toWeight(r, g))
      }
      let w = ${
        eachInLine(keys, (g) => `score${r}_${g}`, " + ")
      }; sum${r} = fma(sum${r}, rescale, (w.x + w.y) + (w.z + w.w));
      ${eachInLine(columns, (column) => `result${r}_${column} *= rescale;`)} }`)
  }`;
}

/** Divides the results by the sums of weights, and writes them. */
export function writeResults(c: Context): string {
  const { columns, headVec4, threadsX, threadsY } = c;
  const write = (r: number, column: number) => {
    const at = `q_start + (first + ${r * threadsY}u) * row + x + ${column * threadsX}u`;
    const put = `y_put(${at}, result${r}_${column} * share);`;
    return (column + 1) * threadsX > headVec4 ? `if (x + ${column * threadsX}u < ${headVec4}u) { ${put} }` : put;
  };
  return perQuery(
    c,
    (r) =>
      `if (first + ${r * threadsY}u < params.t) { let share = 1.0 / ${ofQuery("total", r)}; ${
        eachInLine(columns, (column) => write(r, column))
      } }`,
  );
}
