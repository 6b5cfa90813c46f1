import type { ConstantValues } from "../../engine/kernel/kernel.ts";
import { subgroupMatrixWgsl } from "../wgsl/subgroup_matrix.ts";
import { eachInLine } from "../wgsl/text.ts";
import { startsWgsl } from "./addresses_wgsl.ts";
import { matrixAttentionBlocks } from "./matrix_shape.ts";
import {
  combined,
  type Context,
  loadQueries,
  multiplyKeys,
  multiplyValues,
  perQuery,
  rescaleResults,
  softmax,
  stageKeys,
  stageQueries,
  stageValues,
  writeResults,
} from "./matrix_wgsl_parts.ts";

/** Types of the kernel's constants. */
export const matrixAttentionConstantTypes = {
  SUBGROUPS: "u32",
  ROWS: "u32",
  KEYS: "u32",
  HEAD_VEC4: "u32",
  CAUSAL: "bool",
  WHOLE: "bool",
  MATRIX_M: "u32",
  MATRIX_N: "u32",
  MATRIX_K: "u32",
  MATRIX_LANES: "u32",
} as const;

/** The kernel's constants. */
export type MatrixAttentionConstants = ConstantValues<typeof matrixAttentionConstantTypes>;

/**
 * The entry point of attention on subgroup matrices. The algorithm: matrix.ts.
 *
 * Names in the generated text, of which `deno task wgsl "attention.*pocket" matrices` prints an
 * example:
 *
 * - Matrices of a subgroup: `query{r}_{d}`, `score{r}_{c}`, `weight{r}` and `result{r}_{c}`. r
 *   counts matrices along its queries, d along the head, c along the keys of a block or the columns
 *   of the result.
 * - Of a thread's query r, for the softmax: `line{r}` its row in workgroup memory, `own{r}_{i}` the
 *   thread's part of its scores, `maximum{r}`, `sum{r}` the thread's part of the sum of weights,
 *   `rescale{r}` the factor of earlier results when the maximum grows. `part` tells the threads
 *   that share a query apart.
 * - Addresses in q, k and v count vec4: `row` is the distance of tokens, `key` the address of a
 *   block's first key, `end` that after the last key.
 */
export function matrixAttentionWgsl(constants: MatrixAttentionConstants): string {
  const { SUBGROUPS: subgroups, ROWS: rows, KEYS: keys, HEAD_VEC4: headVec4, CAUSAL: isCausal } = constants;
  const { WHOLE: isWhole, MATRIX_M: m, MATRIX_N: n, MATRIX_K: k, MATRIX_LANES: lanes } = constants;
  const blocks = matrixAttentionBlocks({ subgroups, rows, keys }, { m, n, k, lanes }, 4 * headVec4);
  const matrix = subgroupMatrixWgsl({ m, n, k });
  const sizes = { subgroups, rows, keys, keyMatrices: keys / n, headVec4, m, n, k };
  const c: Context = { ...blocks, ...sizes, isCausal, isWhole, matrix };
  const { threads, block, parts, valueMatrices, headStride, keyStride, scoreStride, shared } = c;
  return /* wgsl */ `
// queries: [query, head], until they are in matrices; then weights: [query, key]
var<workgroup> block_qp: array<vec4h, ${block * Math.max(headStride, keyStride)}>;
// keys: [key, head]; then values: [head, key]
var<workgroup> block_kv: array<vec4h, ${shared}>;
// scores, and results on their way
var<workgroup> scores: array<vec4f, ${block * scoreStride}>;
${parts === 1 ? "" : `var<workgroup> of_threads: array<f32, ${threads}>;`}
// whether a score exceeds its query's maximum by more than the slack
var<workgroup> grown: atomic<u32>;
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32, @builtin(subgroup_id) subgroup: u32) {
  let scale = max(abs(params.scale), 1e-30); // masked scores must stay negative
  ${startsWgsl(headVec4)}
  let first = group.x * ${block}u; // query
  let top_row = subgroup * ${rows * m}u;
  let part = thread % ${parts}u;
  ${stageQueries(c)}
  ${
    perQuery(c, (r) =>
      `let line${r} = thread / ${parts}u + ${r * threads / parts}u; var maximum${r} = -3e38; var sum${r} = 0.0;`)
  }
  ${eachInLine(rows, (r) => eachInLine(valueMatrices, (c) => `var result${r}_${c} = ${matrix.zero};`))}
  ${loadQueries(c)}
  let end = k_start + ${isCausal ? `min(params.s, (group.x + 1u) * ${block}u)` : "params.s"} * row;
  for (var key = k_start; key < end; key += ${keys}u * row) { // counts addresses: see subgroup.ts
    ${stageKeys(c)}
    workgroupBarrier();
    ${multiplyKeys(c)}
    workgroupBarrier();
    ${stageValues(c)}
    ${softmax(c)}
    workgroupBarrier();
    if (is_grown && key > k_start) {
      ${rescaleResults(c)}
    }
    ${multiplyValues(c)}
    workgroupBarrier();
  }
  ${combined(c, "sum", (a, b) => `${a} + ${b}`)}
  ${writeResults(c)}
}`;
}
