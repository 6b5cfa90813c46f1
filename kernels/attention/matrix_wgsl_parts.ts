/** The parts of the text of attention on subgroup matrices: see matrix_wgsl.ts. @module */

import type { SubgroupMatrixWgsl } from "../wgsl/subgroup_matrix.ts";
import { eachInLine, threadLoads } from "../wgsl/text.ts";
import { keyAt } from "./addresses_wgsl.ts";
import type { MatrixAttentionBlocks } from "./matrix_shape.ts";

/** How far, in powers of 2, a score may exceed the maximum that its weight refers to: matrix.ts. */
const slack = 4;
/**
 * Weights are stored times 2^shift: at most 2^(slack + shift) = 2¹⁵, within the range of f16. The
 * shift keeps weights down to 2⁻²⁵ of the largest from being subnormal.
 */
const shift = 11;

/** What the parts of the generated text refer to. */
export interface Context extends MatrixAttentionBlocks {
  readonly subgroups: number;
  /** Matrices of queries per subgroup. */
  readonly rows: number;
  /** Keys per block. */
  readonly keys: number;
  /** Matrices of keys per block. */
  readonly keyMatrices: number;
  readonly headVec4: number;
  readonly isCausal: boolean;
  /** Whether all blocks are full and nothing is masked. */
  readonly isWhole: boolean;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly matrix: SubgroupMatrixWgsl;
}

/** `text` for each query of a thread. */
export const perQuery = ({ rowsPerThread }: Context, text: (r: number) => string, separator = "\n    ") =>
  eachInLine(rowsPerThread, text, separator);

/** `text` in the subgroups that own queries. The driver may make more of them. */
const working = ({ subgroups }: Context, text: string) => `if (subgroup < ${subgroups}u) { ${text} }`;

/** A loop of all threads over `total` indices `i`: unrolled, unless that makes long code. */
function threadLoop({ threads }: Context, total: number, text: string): string {
  return total <= 16 * threads
    ? threadLoads({ total, threads }, (_, index) => `let i = ${index}; ${text}`)
    : `for (var i = thread; i < ${total}u; i += ${threads}u) { ${text} }`;
}

/** Copies the workgroup's queries to block_qp. */
export function stageQueries({ threads, block, headVec4, headStride }: Context): string {
  return /* wgsl */ `// Scores are scaled in f32, and queries negated for a negative scale, neither of which rounds.
  for (var i = thread; i < ${block * headVec4}u; i += ${threads}u) {
    let line = i / ${headVec4}u; let d4 = i % ${headVec4}u;
    block_qp[line * ${headStride}u + d4] = q_half_at(q_start + min(first + line, params.t - 1u) * row + d4) * f16(sign(params.scale));
  }`;
}

/** Where the subgroup's left operand r begins, at the vec4 `at` of its rows. */
const leftAt = ({ m }: Context, r: number, stride: number, at: string) => `(top_row + ${r * m}u) * ${stride}u + ${at}`;

/** Loads the subgroup's queries into matrices, where they stay. */
export function loadQueries(c: Context): string {
  const { rows, depth, k, matrix, headStride } = c;
  return `${eachInLine(rows, (r) => eachInLine(depth, (d) => `var query${r}_${d}: ${matrix.left};`))}
  workgroupBarrier();
  ${
    working(
      c,
      eachInLine(rows, (r) =>
        eachInLine(depth, (d) => {
          const at = leftAt(c, r, headStride, `${d * k / 4}u`);
          return `query${r}_${d} = ${matrix.loadLeft("block_qp", at, headStride)};`;
        })),
    )
  }`;
}

/** Copies a block of keys to block_kv. */
export function stageKeys(c: Context): string {
  const { keys, headVec4, headStride } = c;
  return threadLoop(
    c,
    keys * headVec4,
    `let line = i / ${headVec4}u; let d4 = i % ${headVec4}u;
      block_kv[line * ${headStride}u + d4] = k_half_at(${keyAt(c, "line")} + d4);`,
  );
}

/**
 * Copies a block of values to block_kv, transposed in blocks of 4 × 4. Consecutive threads load up
 * to 64 contiguous bytes, then the next four keys.
 */
export function stageValues(c: Context): string {
  const { keys, headVec4, keyStride } = c;
  const inner = headVec4 % 4 === 0 ? 4 : headVec4 % 2 === 0 ? 2 : 1;
  return threadLoop(
    c,
    keys / 4 * headVec4,
    `let line = i / ${inner}u % ${keys / 4}u; let d4 = i / ${inner * keys / 4}u * ${inner}u + i % ${inner}u;
      let v = transpose(mat4x4h(${eachInLine(4, (j) => `v_half_at(${keyAt(c, `(line * 4u + ${j}u)`)} + d4)`, ", ")}));
      let to = d4 * ${4 * keyStride}u + line;
      ${eachInLine(4, (j) => `block_kv[to + ${j * keyStride}u] = v[${j}];`)}`,
  );
}

/**
 * {sum}{r}_{c} += {left(r)} · matrix c of block_kv, for all r and for c < `count`.
 *
 * @param sizes.stride of block_kv
 * @param sizes.at where the matrices begin in their columns, in vec4
 */
function multiply(
  { rows, n, matrix }: Context,
  { sum, count, left }: { sum: string; count: number; left: (r: number) => string },
  { stride, at }: { stride: number; at: string },
): string {
  return eachInLine(
    count,
    (c) =>
      `{ let right = ${matrix.loadRight("block_kv", `${c * n * stride}u + ${at}`, stride)};
        ${eachInLine(rows, (r) => matrix.multiply(`${sum}${r}_${c}`, left(r), "right"))} }`,
    "\n        ",
  );
}

/** Scores = Q · Kᵀ, stored in workgroup memory. */
export function multiplyKeys(c: Context): string {
  const { rows, k, depth, keyMatrices, headStride, scoreStride, matrix } = c;
  return working(
    c,
    `
      ${eachInLine(rows, (r) => eachInLine(keyMatrices, (c) => `var score${r}_${c} = ${matrix.zero};`))}
      ${
      eachInLine(depth, (d) =>
        multiply(
          c,
          { sum: "score", count: keyMatrices, left: (r) => `query${r}_${d}` },
          { stride: headStride, at: `${d * k / 4}u` },
        ), "\n      ")
    }
      ${
      eachInLine(rows, (r) =>
        eachInLine(keyMatrices, (i) =>
          matrix.storeResult("scores", scoreAt(c, r, i), `score${r}_${i}`, scoreStride)))
    }
    `,
  );
}

/** The index in `scores` of the subgroup's matrix (r, c). */
const scoreAt = (context: Context, r: number, c: number) =>
  leftAt(context, r, context.scoreStride, `${c * context.n / 4}u`);

/**
 * Combines {name}{r} of the threads that share a query, in the order of their parts. Nothing where
 * a query has one thread.
 */
export function combined(c: Context, name: string, combine: (a: string, b: string) => string): string {
  const { parts } = c;
  const all = Array.from({ length: parts }, (_, j) => `of_threads[thread - part + ${j}u]`).reduce(combine);
  return parts === 1 ? "" : `${perQuery(c, (r) => `of_threads[thread] = ${name}${r};`)}
    workgroupBarrier();
    ${perQuery(c, (r) => `${name}${r} = ${all};`)}`;
}

/**
 * Turns the block's scores into weights exp2(scale · score + shift − maximum), in f16, and adds
 * them to the sums. Maxima are updated only where one grows by more than the slack.
 */
export function softmax(c: Context): string {
  const { keys, parts, isWhole, isCausal, keyStride, scoreStride } = c;
  const partVec4 = keys / 4 / parts;
  /** The thread's vec4 number i of its query r's scores, with those of masked keys at -3e38. */
  const ownScores = (r: number, i: number) => {
    const value = `scores[line${r} * ${scoreStride}u + part + ${i * parts}u]`;
    if (isWhole) return value;
    const limit = isCausal ? `min(end, k_start + (first + line${r} + 1u) * row)` : "end";
    const positions = `vec4u(key + (part + ${i * parts}u) * 4u * row) + vec4u(0u, 1u, 2u, 3u) * row`;
    return `select(${value}, vec4f(-3e38), ${positions} >= vec4u(${limit}))`;
  };
  const ownMaxima = (r: number) =>
    Array.from({ length: partVec4 }, (_, i) => `own${r}_${i}`).reduce((a, b) => `max(${a}, ${b})`);
  return `${
    perQuery(c, (r) =>
      `${eachInLine(partVec4, (i) => `let own${r}_${i} = ${ownScores(r, i)};`, "\n    ")}
    let most${r} = ${ownMaxima(r)};
    var next${r} = scale * max(max(most${r}.x, most${r}.y), max(most${r}.z, most${r}.w)); var rescale${r} = 1.0;
    if (next${r} > maximum${r} + ${slack}.0) { atomicStore(&grown, 1u); }`)
  }
    let is_grown = workgroupUniformLoad(&grown) == 1u;
    if (is_grown) {
      ${combined(c, "next", (a, b) => `max(${a}, ${b})`)}
      ${
    perQuery(c, (r) =>
      `next${r} = max(maximum${r}, next${r}); rescale${r} = exp2(maximum${r} - next${r}); maximum${r} = next${r}; sum${r} *= rescale${r};`)
  }
    }
    ${
    perQuery(c, (r) =>
      eachInLine(partVec4, (i) =>
        `{ let w = vec4h(exp2(fma(own${r}_${i}, vec4f(scale), vec4f(${shift}.0 - maximum${r})))); let f = vec4f(w); sum${r} += (f.x + f.y) + (f.z + f.w);
      block_qp[line${r} * ${keyStride}u + part + ${i * parts}u] = w; }`, "\n    "))
  }
    if (thread == 0u) { atomicStore(&grown, 0u); }`;
}

/** Results += P · V. */
export function multiplyValues(c: Context): string {
  const { rows, keys, k, valueMatrices, keyStride, matrix } = c;
  return working(
    c,
    `
      for (var key4 = 0u; key4 < ${keys / 4}u; key4 += ${k / 4}u) {
        ${
      eachInLine(rows, (r) =>
        `let weight${r} = ${matrix.loadLeft("block_qp", leftAt(c, r, keyStride, "key4"), keyStride)};`)
    }
        ${
      multiply(
        c,
        { sum: "result", count: valueMatrices, left: (r) => `weight${r}` },
        { stride: keyStride, at: "key4" },
      )
    }
      }
    `,
  );
}

/**
 * Passes the results through the array `scores`: as many of their columns at a time as it holds.
 *
 * @param text WGSL of a round, between barriers; receives the round and the number of its matrices
 */
function inRounds(c: Context, text: (round: number, count: number) => string): string {
  const { keyMatrices, valueMatrices, rows, scoreStride, matrix } = c;
  return eachInLine(Math.ceil(valueMatrices / keyMatrices), (round) => {
    const first = round * keyMatrices, count = Math.min(keyMatrices, valueMatrices - first);
    const store = eachInLine(
      rows,
      (r) =>
        eachInLine(
          count,
          (i) => matrix.storeResult("scores", scoreAt(c, r, i), `result${r}_${first + i}`, scoreStride),
        ),
    );
    return `${working(c, store)}
      workgroupBarrier();
      ${text(round, count)}`;
  }, "\n      ");
}

/** Multiplies the results of each query by its `rescale{r}`. */
export function rescaleResults(c: Context): string {
  const { keyMatrices, n, parts, rows, scoreStride, matrix } = c;
  return inRounds(c, (round, count) => {
    const load = eachInLine(
      rows,
      (r) =>
        eachInLine(
          count,
          (i) =>
            `result${r}_${round * keyMatrices + i} = ${matrix.loadResult("scores", scoreAt(c, r, i), scoreStride)};`,
        ),
    );
    return `for (var i = part; i < ${count * n / 4}u; i += ${parts}u) { ${
      perQuery(c, (r) => `scores[line${r} * ${scoreStride}u + i] *= rescale${r};`, " ")
    } }
      workgroupBarrier();
      ${working(c, load)}`;
  });
}

/** Divides the results by their sums of weights, and writes them. */
export function writeResults(c: Context): string {
  const { keys, headVec4, n, parts, scoreStride } = c;
  return inRounds(c, (round, count) => {
    const first = round * keys / 4; // vec4 of the head
    return `for (var i = part; i < ${Math.min(count * n / 4, headVec4 - first)}u; i += ${parts}u) { ${
      perQuery(
        c,
        (r) =>
          `if (first + line${r} < params.t) { y_put(q_start + (first + line${r}) * row + ${first}u + i, scores[line${r} * ${scoreStride}u + i] * (1.0 / sum${r})); }`,
        " ",
      )
    } }
  workgroupBarrier();`;
  });
}
