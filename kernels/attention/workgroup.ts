import { type ConstantValues, declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { type WorkgroupAttentionShape, workgroupBlocks } from "./form.ts";
import { attentionCost, type AttentionSizes } from "./sizes.ts";
import { each as eachText, fmaChain } from "../wgsl/text.ts";

/**
 * Attention in one pass through workgroup memory, for GPUs and for devices without subgroups
 * (FlashAttention, arXiv 2205.14135).
 *
 * A workgroup of `threadsX` × `threadsY` threads owns `rows` · threadsY queries, and iterates over
 * blocks of 4 · `keys` · threadsX keys. Thread (x, y) owns queries y, y + threadsY, … and, of each:
 *
 * 1. the scores of `keys` vec4 of keys: x, x + threadsX, … Queries and keys pass through workgroup
 *    memory in chunks of `depth` vec4 of the head. With one chunk, queries are loaded once.
 * 2. their softmax in registers. The running maximum is reduced over the threads of a row in every
 *    block; the sum of the weights is a partial sum per thread, reduced once, at the end.
 * 3. the vec4 x, x + threadsX, … of the result. Weights and values pass through workgroup memory.
 *
 * Chunks bound the workgroup memory, whatever the width of the head is, so that enough workgroups
 * fit on a compute unit. All operands are read once per block and as they are stored. Keys, then
 * values occupy one array. As in tile_workgroup.ts, an index in workgroup memory is a constant or a
 * coordinate of the thread, except when blocks are stored, and rows are padded by one vec4 against
 * bank conflicts.
 *
 * With the constant WHOLE, keys fill all blocks, and no load or score is masked.
 */

const constantTypes = {
  THREADS_X: "u32",
  THREADS_Y: "u32",
  ROWS: "u32",
  KEYS: "u32",
  DEPTH: "u32",
  HEAD_VEC4: "u32",
  CAUSAL: "bool",
  WHOLE: "bool",
} as const;

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
  { threadsX, threadsY, rows, keys, depth }: WorkgroupAttentionShape,
): void {
  attentionKernel.run(tensors.q.gpu, tensors, { t, s, heads, batch, scale: scale * Math.LOG2E }, {
    THREADS_X: threadsX,
    THREADS_Y: threadsY,
    ROWS: rows,
    KEYS: keys,
    DEPTH: depth,
    HEAD_VEC4: dim / 4,
    CAUSAL: causal,
    WHOLE: !causal && s % (4 * keys * threadsX) === 0,
  });
}

/** {@linkcode eachText} on one line. */
const each = (count: number, text: (i: number) => string, separator = " ") => eachText(count, text, separator);

function workgroupWgsl(constants: ConstantValues<typeof constantTypes>): string {
  const { THREADS_X: threadsX, THREADS_Y: threadsY, ROWS: rows, KEYS: keys, DEPTH: depth } = constants;
  const { HEAD_VEC4: headVec4, CAUSAL: isCausal, WHOLE: isWhole } = constants;
  const shape = { threadsX, threadsY, rows, keys, depth };
  const { block, blockKeys, columns, chunks, valueKeys, valueGroups, valueChunks, sharedRows, maxima } =
    workgroupBlocks(shape, 4 * headVec4);
  const threads = threadsX * threadsY;
  // Names in the generated text, for query r of a thread, vec4 g of its keys and column c of its
  // results: p{r}_{g} scores, then weights; o{r}_{c} results; top{r} running maximum; sum{r}
  // partial sum of the weights; rescale corrects earlier results when the maximum changes.
  const perRow = (text: (r: number) => string, separator = "\n    ") => each(rows, text, separator);
  const loads = (total: number, text: (index: string) => string) =>
    each(Math.ceil(total / threads), (i) => {
      const index = i === 0 ? "thread" : `(thread + ${i * threads}u)`;
      return `${(i + 1) * threads > total ? `if (${index} < ${total}u) ` : ""}{ ${text(index)} }`;
    }, "\n      ");
  const keyAt = (key: string) => isWhole ? `key + ${key} * row` : `min(key + ${key} * row, end - row)`;
  const chunkAt = chunks === 1 ? "" : ` + chunk * ${depth}u`;

  const loadQueries = loads(block * depth, (index) =>
    `let deep = ${index} % ${depth}u; let line = ${index} / ${depth}u;
      block_q[deep * ${rows}u + line / ${threadsY}u][line % ${threadsY}u] = q_at(q_start + min(group.x * ${block}u + line, params.t - 1u) * row + deep${chunkAt}) * scale;`);
  const loadKeys = loads(
    blockKeys * depth,
    (index) =>
      `let deep = ${index} % ${depth}u; let line = ${index} / ${depth}u;
      block_kv[deep * ${4 * keys}u + line / ${4 * threadsX}u * 4u + line % 4u][line / 4u % ${threadsX}u] = k_at(${
        keyAt("line")
      } + deep${chunkAt});`,
  );
  const loadValues = loads(
    valueKeys * headVec4,
    (index) =>
      `let line = ${index} / ${headVec4}u; let i4 = ${index} % ${headVec4}u;
      block_kv[line * ${columns}u + i4 / ${threadsX}u][i4 % ${threadsX}u] = v_at(${
        keyAt(valueChunks === 1 ? "line" : `(part * ${valueKeys}u + line)`)
      } + i4);`,
  );
  const multiplyKeys = each(
    depth,
    (deep) =>
      `{ ${each(4 * keys, (j) => `let k${j} = block_kv[${deep * 4 * keys + j}][x];`)}
      ${
        each(
          keys,
          (g) => each(4, (i) => `let t${g}_${i} = vec4f(${each(4, (j) => `k${4 * g + j}.${"xyzw"[i]}`, ", ")});`),
        )
      }
      ${
        perRow((r) =>
          `{ let a = block_q[${deep * rows + r}][y]; ${
            each(keys, (g) => fmaChain(`p${r}_${g}`, "a", (i) => `t${g}_${i}`))
          } }`
        )
      } }`,
    "\n      ",
  );
  const multiplyValues = each(
    valueGroups,
    (g) =>
      `{ ${perRow((r) => `let w${r} = block_p[${valueChunks === 1 ? 0 : "part"}][${g * rows + r}][y];`, " ")}
      ${
        each(columns, (c) =>
          `{ ${each(4, (j) => `let v${j} = block_kv[${(4 * g + j) * columns + c}][x];`)} ${
            perRow((r) =>
              fmaChain(`o${r}_${c}`, `w${r}`, (j) => `v${j}`), " ")
          } }`, "\n      ")
      } }`,
    "\n      ",
  );
  const limit = (r: number) => isCausal ? `min(end, k_start + (first + ${r * threadsY + 1}u) * row)` : "end";
  const mask = isWhole
    ? ""
    : each(keys, (g) =>
      `{ let at = vec4u(key) + (vec4u((x + ${g * threadsX}u) * 4u) + vec4u(0u, 1u, 2u, 3u)) * row;
      ${perRow((r) => `p${r}_${g} = select(p${r}_${g}, vec4f(-3e38), at >= vec4u(${limit(r)}));`)} }`);
  const largest = (r: number) => {
    const top = each(keys, (g) => `p${r}_${g}`).split(" ").reduce((most, p) => `max(${most}, ${p})`);
    return `let m${r} = ${top};`;
  };
  const ofRow = (r: number) => `${Math.floor(r / 4)}.${"xyzw"[r % 4]}`;
  const reduced = (value: (r: number) => string) =>
    each(maxima, (m) => `tops[${m}][y][x] = vec4f(${each(4, (i) => value(Math.min(4 * m + i, rows - 1)), ", ")});`);
  const weightAt = (g: number) =>
    valueChunks === 1
      ? (r: number) => `[0][(x + ${g * threadsX}u) * ${rows}u + ${r}u]`
      : (r: number) =>
        `[(x + ${g * threadsX}u) / ${valueGroups}u][(x + ${g * threadsX}u) % ${valueGroups}u * ${rows}u + ${r}u]`;
  return /* wgsl */ `
var<workgroup> block_q: array<array<vec4f, ${threadsY + 1}>, ${depth * rows}>; // [depth, r], y
// keys: [depth, vec4, key % 4], x, of vec4 over the head; then values: [key, c], x
var<workgroup> block_kv: array<array<vec4f, ${threadsX + 1}>, ${sharedRows}>;
// weights: [chunk of values], [vec4 of keys, r], y
var<workgroup> block_p: array<array<array<vec4f, ${threadsY + 1}>, ${valueGroups * rows}>, ${valueChunks}>;
// maxima, and after the loop sums: [rows / 4], y, x, of vec4 over rows
var<workgroup> tops: array<array<array<vec4f, ${threadsX}>, ${threadsY}>, ${maxima}>;
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let x = thread % ${threadsX}u;
  let y = thread / ${threadsX}u;
  let scale = params.scale;
  let row = params.heads * ${headVec4}u;
  let q_start = group.z * params.t * row + group.y * ${headVec4}u;
  let k_start = group.z * params.s * row + group.y * ${headVec4}u;
  let first = group.x * ${block}u + y;
  ${chunks === 1 ? loadQueries : ""}
  ${perRow((r) => `var top${r} = -3e38; var sum${r} = 0.0; ${each(columns, (c) => `var o${r}_${c} = vec4f();`)}`)}
  let end = k_start + ${isCausal ? `min(params.s, (group.x + 1u) * ${block}u)` : "params.s"} * row;
  for (var key = k_start; key < end; key += ${blockKeys}u * row) { // counts addresses: see subgroup.ts
    ${perRow((r) => each(keys, (g) => `var p${r}_${g} = vec4f();`))}
    ${
    chunks === 1
      ? `${loadKeys}
    workgroupBarrier();
    ${multiplyKeys}`
      : `for (var chunk = 0u; chunk < ${chunks}u; chunk++) {
      ${loadQueries}
      ${loadKeys}
      workgroupBarrier();
      ${multiplyKeys}
      workgroupBarrier();
    }`
  }
    ${mask}
    ${perRow(largest)}
    ${reduced((r) => `max(max(m${r}.x, m${r}.y), max(m${r}.z, m${r}.w))`)}
    workgroupBarrier();
    ${
    each(maxima, (m) =>
      `let next${m} = ${
        each(threadsX, (i) =>
          `tops[${m}][y][${i}]`, ";").split(";").reduce((most, top) =>
            `max(${most}, ${top})`
          )
      };`)
  }
    ${
    perRow((r) =>
      `{ let top = max(top${r}, next${ofRow(r)}); let rescale = exp2(top${r} - top); top${r} = top;
      ${each(keys, (g) => `p${r}_${g} = exp2(p${r}_${g} - vec4f(top)); block_p${weightAt(g)(r)}[y] = p${r}_${g};`)}
      let w = ${each(keys, (g) => `p${r}_${g}`, " + ")}; sum${r} = fma(sum${r}, rescale, (w.x + w.y) + (w.z + w.w));
      ${each(columns, (c) => `o${r}_${c} *= rescale;`)} }`
    )
  }
    ${
    valueChunks === 1
      ? `${loadValues}
    workgroupBarrier();
    ${multiplyValues}
    workgroupBarrier();`
      : `for (var part = 0u; part < ${valueChunks}u; part++) {
      ${loadValues}
      workgroupBarrier();
      ${multiplyValues}
      workgroupBarrier();
    }`
  }
  }
  ${reduced((r) => `sum${r}`)}
  workgroupBarrier();
  ${each(maxima, (m) => `let total${m} = ${each(threadsX, (i) => `tops[${m}][y][${i}]`, " + ")};`)}
  ${
    perRow((r) =>
      `if (first + ${r * threadsY}u < params.t) { let share = 1.0 / total${ofRow(r)}; ${
        each(columns, (c) => {
          const put = `y_put(q_start + (first + ${r * threadsY}u) * row + x + ${c * threadsX}u, o${r}_${c} * share);`;
          return (c + 1) * threadsX > headVec4 ? `if (x + ${c * threadsX}u < ${headVec4}u) { ${put} }` : put;
        })
      } }`
    )
  }
}`;
}
