import type { ConstantValues } from "../../engine/kernel/kernel.ts";
import { eachInLine } from "../wgsl/text.ts";
import { startsWgsl } from "./addresses_wgsl.ts";
import { workgroupBlocks } from "./workgroup_shape.ts";
import {
  combined,
  type Context,
  loadKeys,
  loadQueries,
  loadValues,
  mask,
  multiplyKeys,
  multiplyValues,
  pairs,
  perQuery,
  softmax,
  writeResults,
} from "./workgroup_wgsl_parts.ts";

/** Types of the kernel's constants. */
export const attentionConstantTypes = {
  THREADS_X: "u32",
  THREADS_Y: "u32",
  ROWS: "u32",
  KEYS: "u32",
  DEPTH: "u32",
  HEAD_VEC4: "u32",
  CAUSAL: "bool",
  HALF: "bool",
  WHOLE: "bool",
} as const;

/**
 * The entry point of attention through workgroup memory. The algorithm: workgroup.ts.
 *
 * Names in the generated text:
 *
 * - Of a thread's query r: `score{r}_{g}` scores, then weights, of its vec4 g of keys;
 *   `result{r}_{c}` its vec4 c of the result; `maximum{r}` the running maximum; `sum{r}` the
 *   thread's part of the sum of weights.
 * - Addresses in q, k and v count vec4: `row` is the distance of tokens, `key` the address of a
 *   block's first key, `end` that after the last key, `d4` the vec4 within a head.
 */
export function workgroupAttentionWgsl(constants: ConstantValues<typeof attentionConstantTypes>): string {
  const c = contextOf(constants);
  const { threads, threadsX, threadsY, across, block, blockKeys, headVec4, chunks, isCausal } = c;
  return /* wgsl */ `
${declareBlocks(c)}
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let x = thread % ${across}u${across === threadsX ? "" : ` + thread / ${across * threadsY}u * ${across}u`};
  let y = thread / ${across}u${across === threadsX ? "" : ` % ${threadsY}u`};
  let scale = params.scale;
  ${startsWgsl(headVec4)}
  let first = group.x * ${block}u + y; // query
  ${chunks === 1 ? loadQueries(c) : ""}
  ${startResults(c)}
  let end = k_start + ${isCausal ? `min(params.s, (group.x + 1u) * ${block}u)` : "params.s"} * row;
  // Counts addresses: see subgroup.ts.
  for (var key = k_start; key < end; key += ${blockKeys}u * row) {
    ${computeScores(c)}
    ${mask(c)}
    ${softmax(c)}
    ${addValues(c)}
  }
  ${combined(c, "total", { value: (r) => `sum${r}`, combine: (a, b) => `${a} + ${b}` })}
  ${writeResults(c)}
}`;
}

function contextOf(constants: ConstantValues<typeof attentionConstantTypes>): Context {
  const { THREADS_X: threadsX, THREADS_Y: threadsY, ROWS: rows, KEYS: keys, DEPTH: depth } = constants;
  const { HEAD_VEC4: headVec4, CAUSAL: isCausal, HALF: isHalf, WHOLE: isWhole } = constants;
  const shape = { threadsX, threadsY, rows, keys, depth }, threads = threadsX * threadsY;
  const blocks = workgroupBlocks(shape, 4 * headVec4, { half: isHalf });
  return { ...shape, ...blocks, threads, headVec4, isCausal, isHalf, isWhole, vector: isHalf ? "vec4<f16>" : "vec4f" };
}

/** The arrays in workgroup memory. */
function declareBlocks(c: Context): string {
  const { threadsX, threadsY, rows, depth, valueGroups, valueChunks, sharedRows, maxima, isHalf, vector } = c;
  const { queryPitch, weightPitch, keyPitch } = c;
  return /* wgsl */ `
var<workgroup> block_q: array<array<${vector}, ${queryPitch}>, ${depth * rows}>; // [r, depth], y
// keys: [vec4, key % 4, depth], x, of vec4 over the head, or with HALF [element, vec4], x, of vec4
// over keys; then values: [key, c], x
var<workgroup> block_kv: array<array<${isHalf ? pairs : "vec4f"}, ${keyPitch}>, ${sharedRows}>;
// weights: [r], [chunk of values], [vec4 of keys], y
var<workgroup> block_p: array<array<array<array<${vector}, ${weightPitch}>, ${valueGroups}>, ${valueChunks}>, ${rows}>;
// what threads combine: [r / 4], y, x, of vec4 over r
var<workgroup> of_threads: array<array<array<vec4f, ${threadsX}>, ${threadsY}>, ${maxima}>;`;
}

/** What starts from nothing: maxima, sums and results. */
const startResults = (c: Context) =>
  perQuery(
    c,
    (r) =>
      `var maximum${r} = -3e38; var sum${r} = 0.0; ${
        eachInLine(c.columns, (column) => `var result${r}_${column} = vec4f();`)
      }`,
  );

/** The scores of a block of keys. A head of several chunks passes through them one by one. */
function computeScores(c: Context): string {
  const start = perQuery(c, (r) => eachInLine(c.keys, (g) => `var score${r}_${g} = vec4f();`));
  if (c.chunks === 1) {
    return /* wgsl */ `${start}
    ${loadKeys(c)}
    workgroupBarrier();
    ${multiplyKeys(c)}`;
  }
  return /* wgsl */ `${start}
    for (var chunk = 0u; chunk < ${c.chunks}u; chunk++) {
      ${loadQueries(c)}
      ${loadKeys(c)}
      workgroupBarrier();
      ${multiplyKeys(c)}
      workgroupBarrier();
    }`;
}

/** Adds the values of a block, weighted, in as many parts as pass through workgroup memory. */
function addValues(c: Context): string {
  const addPart = /* wgsl */ `${loadValues(c)}
      workgroupBarrier();
      ${multiplyValues(c)}
      workgroupBarrier();`;
  return c.valueChunks === 1 ? addPart : `for (var part = 0u; part < ${c.valueChunks}u; part++) {
      ${addPart}
    }`;
}
