import { type ConstantValues, declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import type { Tensor } from "../../engine/tensor.ts";
import type { WorkgroupAttentionShape } from "./form.ts";
import { attentionCost, type AttentionSizes } from "./sizes.ts";
import { each as eachText, fmaChain } from "../wgsl/text.ts";

/**
 * Attention in one pass through workgroup memory, for GPUs and for devices without subgroups
 * (FlashAttention, arXiv 2205.14135).
 *
 * A workgroup of `threadsX` × `threadsY` threads owns `rows` · threadsY queries. It iterates over
 * the keys, 4 · threadsX at a time. Thread (x, y) owns queries y, y + threadsY, …. For each of them
 * it computes the scores of keys x, x + threadsX, … (one vec4), then the vec4 x, x + threadsX, … of
 * the result. The running maximum is reduced over the threads of a row in every iteration. The sum
 * of the weights is kept as one partial sum per thread and reduced once, at the end.
 *
 * Keys are transposed when they are loaded, so that both products are chains of fma on vec4 without
 * a horizontal sum. One array holds first the keys, then the values. Rows of `block_p` are padded
 * by one, so that the threads that write a column do not hit the same memory bank.
 *
 * The block sizes are derived (one 16-byte load per 8 fma), not tuned.
 */

const constantTypes = { THREADS_X: "u32", THREADS_Y: "u32", ROWS: "u32", HEAD_VEC4: "u32", CAUSAL: "bool" } as const;

const attentionKernel = declareKernel({
  name: "attention_workgroup",
  bindings: { q: input(4), k: input(4), v: input(4), y: output(4) },
  params: { t: "u32", s: "u32", heads: "u32", batch: "u32", scale: "f32" },
  constants: constantTypes,
  wgsl: workgroupWgsl,
  grid: ({ t, heads, batch }, { THREADS_Y, ROWS }) => [Math.ceil(t / (THREADS_Y * ROWS)), heads, batch],
  cost: ({ t, s, heads, batch }, { HEAD_VEC4 }) => attentionCost({ t, s, heads, batch, dim: 4 * HEAD_VEC4 }),
});

/** {@linkcode attention} into `y`, for head widths that are multiples of 4. */
export function workgroupAttention(
  tensors: { q: Tensor; k: Tensor; v: Tensor; y: Tensor },
  { t, s, heads, batch, dim, causal, scale }: AttentionSizes,
  { threadsX, threadsY, rows }: WorkgroupAttentionShape,
): void {
  attentionKernel.run(tensors.q.gpu, tensors, { t, s, heads, batch, scale: scale * Math.LOG2E }, {
    THREADS_X: threadsX,
    THREADS_Y: threadsY,
    ROWS: rows,
    HEAD_VEC4: dim / 4,
    CAUSAL: causal,
  });
}

/** {@linkcode eachText} on one line. */
const each = (count: number, text: (i: number) => string, separator = " ") => eachText(count, text, separator);

function workgroupWgsl(constants: ConstantValues<typeof constantTypes>): string {
  const { THREADS_X: threadsX, THREADS_Y: threadsY, ROWS: rows, HEAD_VEC4: headVec4 } = constants;
  // Names in the generated text, for row r of a thread and column c of its results: p{r} scores,
  // then weights, of four keys; o{r}_{c} results; top{r} running maximum; sum{r} partial sums of
  // the weights; rescale corrects earlier results when the maximum changes.
  const block = rows * threadsY, threads = threadsX * threadsY, keys = 4 * threadsX, stride = block + 1;
  const columns = Math.ceil(headVec4 / threadsX); // vec4 of each result row that a thread owns
  const divides = headVec4 % threadsX === 0;
  const perRow = (text: (r: number) => string) => each(rows, text);
  const maxima = Math.ceil(rows / 4);
  const limit = (r: number) => constants.CAUSAL ? `min(end, k_start + (first + ${r * threadsY + 1}u) * row)` : "end";
  return /* wgsl */ `
var<workgroup> block_q: array<vec4f, ${headVec4 * block}>; // [head vec4, query]
var<workgroup> block_kv: array<vec4f, ${
    keys * headVec4
  }>; // keys: [head element, x] of vec4 over keys; then values: [key, head vec4]
var<workgroup> block_p: array<vec4f, ${threadsX * stride}>; // weights: [x, query] of vec4 over keys
// maxima, and after the loop sums: [rows / 4, y, x] of vec4 over rows
var<workgroup> tops: array<vec4f, ${maxima * threads}>;
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let x = thread % ${threadsX}u;
  let y = thread / ${threadsX}u;
  let row = params.heads * ${headVec4}u;
  let q_start = group.z * params.t * row + group.y * ${headVec4}u;
  let k_start = group.z * params.s * row + group.y * ${headVec4}u;
  let first = group.x * ${block}u + y;
  for (var i = thread; i < ${headVec4 * block}u; i += ${threads}u) {
    let query = min(group.x * ${block}u + i / ${headVec4}u, params.t - 1u);
    block_q[i % ${headVec4}u * ${block}u + i / ${headVec4}u] = q_at(q_start + query * row + i % ${headVec4}u) * params.scale;
  }
  ${perRow((r) => `var top${r} = -3e38; var sum${r} = vec4f(); ${each(columns, (c) => `var o${r}_${c} = vec4f();`)}`)}
  let end = k_start + ${constants.CAUSAL ? `min(params.s, (group.x + 1u) * ${block}u)` : "params.s"} * row;
  for (var key = k_start; key < end; key += ${keys}u * row) { // counts addresses: see subgroup.ts
    for (var i = thread; i < ${threadsX * headVec4}u; i += ${threads}u) {
      let i4 = i / ${threadsX}u;
      let from_key = key + i % ${threadsX}u * row;
      let turned = transpose(mat4x4f(${
    each(4, (j) => `k_at(min(from_key + ${j * threadsX}u * row, end - row) + i4)`, ", ")
  }));
      let to = i4 * ${4 * threadsX}u + i % ${threadsX}u;
      ${each(4, (c) => `block_kv[to + ${c * threadsX}u] = turned[${c}];`)}
    }
    workgroupBarrier();
    ${perRow((r) => `var p${r} = vec4f();`)}
    for (var i4 = 0u; i4 < ${headVec4}u; i4++) {
      ${each(4, (c) => `let k${c} = block_kv[(i4 * 4u + ${c}u) * ${threadsX}u + x];`)}
      ${
    perRow((r) =>
      `{ let a = block_q[i4 * ${block}u + y + ${r * threadsY}u]; ${fmaChain(`p${r}`, "a", (c) => `k${c}`)} }`
    )
  }
    }
    let keys = vec4u(key) + (vec4u(x) + vec4u(0u, ${threadsX}u, ${2 * threadsX}u, ${3 * threadsX}u)) * row;
    ${perRow((r) => `p${r} = select(p${r}, vec4f(-3e38), keys >= vec4u(${limit(r)}));`)}
    ${
    each(maxima, (m) =>
      `tops[${m * threads}u + thread] = vec4f(${
        each(4, (i) => {
          const p = `p${Math.min(4 * m + i, rows - 1)}`;
          return `max(max(${p}.x, ${p}.y), max(${p}.z, ${p}.w))`;
        }, ", ")
      });`)
  }
    workgroupBarrier();
    ${
    each(maxima, (m) =>
      `var next${m} = tops[${m * threads}u + y * ${threadsX}u];
    for (var i = 1u; i < ${threadsX}u; i++) { next${m} = max(next${m}, tops[${
        m * threads
      }u + y * ${threadsX}u + i]); }`)
  }
    ${
    perRow((r) =>
      `{ let top = max(top${r}, next${Math.floor(r / 4)}.${
        "xyzw"[r % 4]
      }); let rescale = exp2(top${r} - top); top${r} = top;
      p${r} = exp2(p${r} - vec4f(top)); sum${r} = fma(sum${r}, vec4f(rescale), p${r});
      block_p[x * ${stride}u + y + ${r * threadsY}u] = p${r}; ${each(columns, (c) => `o${r}_${c} *= rescale;`)} }`
    )
  }
    for (var i = thread; i < ${keys * headVec4}u; i += ${threads}u) {
      block_kv[i] = v_at(min(key + i / ${headVec4}u * row, end - row) + i % ${headVec4}u);
    }
    workgroupBarrier();
    for (var i = 0u; i < ${threadsX}u; i++) {
      ${perRow((r) => `let w${r} = block_p[i * ${stride}u + y + ${r * threadsY}u];`)}
      ${
    each(columns, (c) =>
      `{ let i4 = ${divides ? "" : `min(`}x + ${c * threadsX}u${divides ? "" : `, ${headVec4 - 1}u)`}; ${
        each(4, (j) =>
          `let v${j} = block_kv[(i + ${j * threadsX}u) * ${headVec4}u + i4];`)
      } ${
        perRow((r) => fmaChain(`o${r}_${c}`, `w${r}`, (j) => `v${j}`))
      } }`)
  }
    }
    workgroupBarrier();
  }
  ${
    each(maxima, (m) =>
      `tops[${m * threads}u + thread] = vec4f(${
        each(4, (i) =>
          `dot(sum${Math.min(4 * m + i, rows - 1)}, vec4f(1.0))`, ", ")
      });`)
  }
  workgroupBarrier();
  ${
    each(maxima, (m) =>
      `var total${m} = vec4f(); for (var i = 0u; i < ${threadsX}u; i++) { total${m} += tops[${
        m * threads
      }u + y * ${threadsX}u + i]; }`)
  }
  ${
    perRow((r) =>
      `if (first + ${r * threadsY}u < params.t) { let share = 1.0 / total${Math.floor(r / 4)}.${"xyzw"[r % 4]}; ${
        each(columns, (c) => {
          const put = `y_put(q_start + (first + ${r * threadsY}u) * row + x + ${c * threadsX}u, o${r}_${c} * share);`;
          return (c + 1) * threadsX > headVec4 ? `if (x + ${c * threadsX}u < ${headVec4}u) { ${put} }` : put;
        })
      } }`
    )
  }
}`;
}
