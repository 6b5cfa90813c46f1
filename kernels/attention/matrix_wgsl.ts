import type { ConstantValues } from "../../engine/kernel/kernel.ts";
import { each as eachText } from "../wgsl/text.ts";
import { matrixAttentionBlocks } from "./matrix_shape.ts";

/** How far, in powers of 2, a score may exceed the maximum that its weight refers to. */
const slack = 4;
/**
 * Weights are stored times 2^shift. With the slack they stay below 2¹⁵, within f16, and the small
 * ones are no subnormals.
 */
const shift = 11;

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

/** {@linkcode eachText} on one line. */
const each = (count: number, text: (i: number) => string, separator = " ") => eachText(count, text, separator);

/** The entry point of attention on subgroup matrices: see matrix.ts. */
export function matrixAttentionWgsl(constants: MatrixAttentionConstants): string {
  const { SUBGROUPS: subgroups, ROWS: rows, KEYS: keys, HEAD_VEC4: headVec4, CAUSAL: isCausal } = constants;
  const { WHOLE: isWhole, MATRIX_M: m, MATRIX_N: n, MATRIX_K: k, MATRIX_LANES: lanes } = constants;
  const blocks = matrixAttentionBlocks({ subgroups, rows, keys }, { m, n, k, lanes }, 4 * headVec4);
  const { threads, block, parts, rowsPerThread, valueMatrices, headStride, keyStride, scoreStride } = blocks;
  const { depth } = blocks;
  // Names in the generated text, of a subgroup's matrices: a{r}_{d} queries, a{r} weights, s{r}_{c}
  // scores, o{r}_{c} results. Of a thread's query r: line{r} its place in the workgroup, p{r}_{i}
  // scores, top{r} running maximum, sum{r} part of the sum, rescale{r} correction of earlier
  // results when the maximum grows.
  const keyMatrices = keys / n, partVec4 = keys / 4 / parts;
  const matrix = (side: "left" | "right" | "result") =>
    side === "left"
      ? `subgroup_matrix_left<f16, ${k}, ${m}>`
      : side === "right"
      ? `subgroup_matrix_right<f16, ${n}, ${k}>`
      : `subgroup_matrix_result<f32, ${n}, ${m}>`;
  const left = (name: string, { r, stride, deep }: { r: number; stride: number; deep: string }) =>
    `subgroupMatrixLoad<${matrix("left")}, row_major>(&${name}, (top_row + ${
      r * m
    }u) * ${stride}u + ${deep}, ${stride}u)`;
  /** Adds the products of left operands and `count` matrices of block_kv to {to}{r}_{c}. */
  const multiply = (to: string, count: number, { a, stride, deep }: { a: string; stride: number; deep: string }) =>
    each(
      count,
      (c) =>
        `{ let b = subgroupMatrixLoad<${matrix("right")}, col_major>(&block_kv, ${
          c * n * stride
        }u + ${deep}, ${stride}u);
        ${each(rows, (r) => `${to}${r}_${c} = subgroupMatrixMultiplyAccumulate(a${r}${a}, b, ${to}${r}_${c});`)} }`,
      "\n        ",
    );
  const scorePlace = (r: number, c: number) => `(top_row + ${r * m}u) * ${scoreStride}u + ${c * n / 4}u`;
  const working = (text: string) => `if (subgroup < ${subgroups}u) { ${text} }`;
  const perQuery = (text: (r: number) => string, separator = "\n    ") => each(rowsPerThread, text, separator);
  // The results, as many columns at a time as the array of the scores holds.
  const rounds = Math.ceil(valueMatrices / keyMatrices);
  const inRound = (round: number) => Math.min(keyMatrices, valueMatrices - round * keyMatrices);
  const storeResults = (round: number) =>
    working(
      each(rows, (r) =>
        each(inRound(round), (c) =>
          `subgroupMatrixStore<row_major>(&scores, ${scorePlace(r, c)}, o${r}_${
            round * keyMatrices + c
          }, ${scoreStride}u);`)),
    );
  const loadResults = (round: number) =>
    working(
      each(rows, (r) =>
        each(inRound(round), (c) =>
          `o${r}_${round * keyMatrices + c} = subgroupMatrixLoad<${matrix("result")}, row_major>(&scores, ${
            scorePlace(r, c)
          }, ${scoreStride}u);`)),
    );
  const loop = (total: number, text: string) =>
    total <= 16 * threads
      ? each(Math.ceil(total / threads), (i) => {
        const guard = (i + 1) * threads > total ? `if (thread + ${i * threads}u < ${total}u) ` : "";
        return `${guard}{ let i = thread + ${i * threads}u; ${text} }`;
      }, "\n    ")
      : `for (var i = thread; i < ${total}u; i += ${threads}u) { ${text} }`;
  const keyAt = (index: string) => isWhole ? `key + ${index} * row` : `min(key + ${index} * row, end - row)`;
  const loadKeys = loop(
    keys * headVec4,
    `let line = i / ${headVec4}u; let deep = i % ${headVec4}u;
      block_kv[line * ${headStride}u + deep] = k_half_at(${keyAt("line")} + deep);`,
  );
  // Consecutive threads load up to 64 contiguous bytes, then the next four keys.
  const inner = headVec4 % 4 === 0 ? 4 : headVec4 % 2 === 0 ? 2 : 1;
  const loadValues = loop(
    keys / 4 * headVec4,
    `let line = i / ${inner}u % ${keys / 4}u; let deep = i / ${inner * keys / 4}u * ${inner}u + i % ${inner}u;
      let v = transpose(mat4x4h(${each(4, (j) => `v_half_at(${keyAt(`(line * 4u + ${j}u)`)} + deep)`, ", ")}));
      let to = deep * ${4 * keyStride}u + line;
      ${each(4, (j) => `block_kv[to + ${j * keyStride}u] = v[${j}];`)}`,
  );
  const limit = (r: number) => isCausal ? `min(end, k_start + (first + line${r} + 1u) * row)` : "end";
  const score = (r: number, i: number) => {
    const value = `scores[line${r} * ${scoreStride}u + part + ${i * parts}u]`;
    return isWhole
      ? value
      : `select(${value}, vec4f(-3e38), vec4u(key + (part + ${
        i * parts
      }u) * 4u * row) + vec4u(0u, 1u, 2u, 3u) * row >= vec4u(${limit(r)}))`;
  };
  const reduced = (name: string, combine: (a: string, b: string) => string) =>
    parts === 1 ? "" : `${perQuery((r) => `tops[thread] = ${name}${r};`)}
    workgroupBarrier();
    ${
      perQuery((r) =>
        `${name}${r} = ${Array.from({ length: parts }, (_, j) => `tops[thread - part + ${j}u]`).reduce(combine)};`
      )
    }`;
  return /* wgsl */ `
// queries: [query, head], until they are in matrices; then weights: [query, key]
var<workgroup> block_qp: array<vec4h, ${block * Math.max(headStride, keyStride)}>;
// keys: [key, head]; then values: [head, key]
var<workgroup> block_kv: array<vec4h, ${blocks.shared}>;
// scores, and results on their way
var<workgroup> scores: array<vec4f, ${block * scoreStride}>;
${parts === 1 ? "" : `var<workgroup> tops: array<f32, ${threads}>;`}
// whether a score exceeds its query's maximum by more than the slack
var<workgroup> grown: atomic<u32>;
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32, @builtin(subgroup_id) subgroup: u32) {
  let scale = max(abs(params.scale), 1e-30); // masked scores must stay negative
  let row = params.heads * ${headVec4}u;
  let q_start = group.z * params.t * row + group.y * ${headVec4}u;
  let k_start = group.z * params.s * row + group.y * ${headVec4}u;
  let first = group.x * ${block}u;
  let top_row = subgroup * ${rows * m}u;
  let part = thread % ${parts}u;
  // Scores are scaled in f32, and queries negated for a negative scale, neither of which rounds.
  for (var i = thread; i < ${block * headVec4}u; i += ${threads}u) {
    let line = i / ${headVec4}u; let deep = i % ${headVec4}u;
    block_qp[line * ${headStride}u + deep] = q_half_at(q_start + min(first + line, params.t - 1u) * row + deep) * f16(sign(params.scale));
  }
  ${
    perQuery((r) =>
      `let line${r} = thread / ${parts}u + ${r * threads / parts}u; var top${r} = -3e38; var sum${r} = 0.0;`
    )
  }
  ${each(rows, (r) => each(valueMatrices, (c) => `var o${r}_${c} = ${matrix("result")}();`))}
  ${each(rows, (r) => each(depth, (d) => `var a${r}_${d}: ${matrix("left")};`))}
  workgroupBarrier();
  ${
    working(
      each(rows, (r) =>
        each(depth, (d) => `a${r}_${d} = ${left("block_qp", { r, stride: headStride, deep: `${d * k / 4}u` })};`)),
    )
  }
  let end = k_start + ${isCausal ? `min(params.s, (group.x + 1u) * ${block}u)` : "params.s"} * row;
  for (var key = k_start; key < end; key += ${keys}u * row) { // counts addresses: see subgroup.ts
    ${loadKeys}
    workgroupBarrier();
    if (subgroup < ${subgroups}u) {
      ${each(rows, (r) => each(keyMatrices, (c) => `var s${r}_${c} = ${matrix("result")}();`))}
      ${
    each(
      depth,
      (d) => multiply("s", keyMatrices, { a: `_${d}`, stride: headStride, deep: `${d * k / 4}u` }),
      "\n      ",
    )
  }
      ${
    each(rows, (r) =>
      each(keyMatrices, (c) =>
        `subgroupMatrixStore<row_major>(&scores, ${scorePlace(r, c)}, s${r}_${c}, ${scoreStride}u);`))
  }
    }
    workgroupBarrier();
    ${loadValues}
    ${
    perQuery((r) =>
      `${each(partVec4, (i) => `let p${r}_${i} = ${score(r, i)};`, "\n    ")}
    let m${r} = ${each(partVec4, (i) => `p${r}_${i}`, ";").split(";").reduce((a, b) => `max(${a}, ${b})`)};
    var next${r} = scale * max(max(m${r}.x, m${r}.y), max(m${r}.z, m${r}.w)); var rescale${r} = 1.0;
    if (next${r} > top${r} + ${slack}.0) { atomicStore(&grown, 1u); }`
    )
  }
    let is_grown = workgroupUniformLoad(&grown) == 1u;
    if (is_grown) {
      ${reduced("next", (a, b) => `max(${a}, ${b})`)}
      ${
    perQuery((r) =>
      `next${r} = max(top${r}, next${r}); rescale${r} = exp2(top${r} - next${r}); top${r} = next${r}; sum${r} *= rescale${r};`
    )
  }
    }
    ${
    perQuery((r) =>
      each(partVec4, (i) =>
        `{ let w = vec4h(exp2(fma(p${r}_${i}, vec4f(scale), vec4f(${shift}.0 - top${r})))); let f = vec4f(w); sum${r} += (f.x + f.y) + (f.z + f.w);
      block_qp[line${r} * ${keyStride}u + part + ${i * parts}u] = w; }`, "\n    ")
    )
  }
    if (thread == 0u) { atomicStore(&grown, 0u); }
    workgroupBarrier();
    if (is_grown && key > k_start) {
      ${
    each(rounds, (round) =>
      `${storeResults(round)}
      workgroupBarrier();
      for (var i = part; i < ${inRound(round) * n / 4}u; i += ${parts}u) { ${
        perQuery((r) => `scores[line${r} * ${scoreStride}u + i] *= rescale${r};`, " ")
      } }
      workgroupBarrier();
      ${loadResults(round)}`, "\n      ")
  }
    }
    if (subgroup < ${subgroups}u) {
      for (var deep = 0u; deep < ${keys / 4}u; deep += ${k / 4}u) {
        ${each(rows, (r) => `let a${r} = ${left("block_qp", { r, stride: keyStride, deep: "deep" })};`)}
        ${multiply("o", valueMatrices, { a: "", stride: keyStride, deep: "deep" })}
      }
    }
    workgroupBarrier();
  }
  ${reduced("sum", (a, b) => `${a} + ${b}`)}
  ${
    each(rounds, (round) =>
      `${storeResults(round)}
  workgroupBarrier();
  for (var i = part; i < ${Math.min(inRound(round) * n / 4, headVec4 - round * keys / 4)}u; i += ${parts}u) { ${
        perQuery((r) =>
          `if (first + line${r} < params.t) { y_put(q_start + (first + line${r}) * row + ${
            round * keys / 4
          }u + i, scores[line${r} * ${scoreStride}u + i] * (1.0 / sum${r})); }`, " ")
      } }
  workgroupBarrier();`, "\n  ")
  }
}`;
}
