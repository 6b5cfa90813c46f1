import type { ConstantValues } from "../../engine/kernel/kernel.ts";
import { blockDepth } from "../gemm/tile_blocks.ts";
import { each as eachText, fmaChain } from "../wgsl/text.ts";
import { workgroupBlocks } from "./form.ts";

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

/** {@linkcode eachText} on one line. */
const each = (count: number, text: (i: number) => string, separator = " ") => eachText(count, text, separator);

/** The kernel's text; see workgroup.ts. */
export function workgroupAttentionWgsl(constants: ConstantValues<typeof attentionConstantTypes>): string {
  const { THREADS_X: threadsX, THREADS_Y: threadsY, ROWS: rows, KEYS: keys, DEPTH: depth } = constants;
  const { HEAD_VEC4: headVec4, CAUSAL: isCausal, HALF: isHalf, WHOLE: isWhole } = constants;
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

  const vector = isHalf ? "vec4<f16>" : "vec4f";
  const stored = (value: string) => isHalf ? `vec4<f16>(${value})` : value;
  // With HALF, a thread turns two keys when it stores them, so pairs of f16 are stored.
  const pairs = "array<vec2<f16>, 2>";
  const keyOrValue = (line: number) =>
    isHalf ? `vec4<f16>(block_kv[${line}][x][0], block_kv[${line}][x][1])` : `block_kv[${line}][x]`;
  // `text(i, name)` adds to the sums `name + suffix`. With HALF these are f16 and short.
  const sums = (name: string, suffixes: readonly string[], count: number, text: (i: number, name: string) => string) =>
    !isHalf
      ? each(count, (i) => text(i, name), "\n      ")
      : shortRanges(count).map(([from, to]) =>
        `{ ${suffixes.map((suffix) => `var h${suffix} = vec4<f16>();`).join(" ")}
      ${each(to - from, (i) => text(from + i, "h"), "\n      ")}
      ${suffixes.map((suffix) => `${name}${suffix} += vec4f(h${suffix});`).join(" ")} }`
      ).join("\n      ");
  const suffixes = (count: number) =>
    Array.from({ length: rows * count }, (_, i) => `${Math.floor(i / count)}_${i % count}`);

  const loadQueries = loads(block * depth, (index) =>
    `let deep = ${index} % ${depth}u; let line = ${index} / ${depth}u;
      block_q[deep * ${rows}u + line / ${threadsY}u][line % ${threadsY}u] = ${
      stored(`q_at(q_start + min(group.x * ${block}u + line, params.t - 1u) * row + deep${chunkAt}) * scale`)
    };`);
  const loadKeyPairs = loads(
    blockKeys / 2 * depth,
    (index) =>
      `let deep = ${index} % ${depth}u; let pair = ${index} / ${depth}u;
      let even = k_half_at(${keyAt("(2u * pair)")} + deep${chunkAt}); let odd = k_half_at(${
        keyAt("(2u * pair + 1u)")
      } + deep${chunkAt});
      ${
        each(4, (i) =>
          `block_kv[(deep * 4u + ${i}u) * ${keys}u + pair / ${
            2 * threadsX
          }u][pair / 2u % ${threadsX}u][pair % 2u] = vec2<f16>(even.${"xyzw"[i]}, odd.${"xyzw"[i]});`)
      }`,
  );
  const loadKeys = isHalf ? loadKeyPairs : loads(
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
      let value = ${isHalf ? "v_half_at" : "v_at"}(${
        keyAt(valueChunks === 1 ? "line" : `(part * ${valueKeys}u + line)`)
      } + i4);
      block_kv[line * ${columns}u + i4 / ${threadsX}u][i4 % ${threadsX}u] = ${
        isHalf ? `${pairs}(value.xy, value.zw)` : "value"
      };`,
  );
  // Keys are vec4 over the head; t{g}_{i} are the elements i of four keys.
  const turnedKeys = (deep: number) =>
    `${each(4 * keys, (j) => `let k${j} = block_kv[${deep * 4 * keys + j}][x];`)}
      ${
      each(
        keys,
        (g) => each(4, (i) => `let t${g}_${i} = vec4f(${each(4, (j) => `k${4 * g + j}.${"xyzw"[i]}`, ", ")});`),
      )
    }`;
  const storedTurned = (deep: number) =>
    each(keys, (g) => each(4, (i) => `let t${g}_${i} = ${keyOrValue((4 * deep + i) * keys + g)};`));
  const multiplyKeys = sums(
    "p",
    suffixes(keys),
    depth,
    (deep, p) =>
      `{ ${isHalf ? storedTurned(deep) : turnedKeys(deep)}
      ${
        perRow((r) =>
          `{ let a = block_q[${deep * rows + r}][y]; ${
            each(keys, (g) => fmaChain(`${p}${r}_${g}`, "a", (i) => `t${g}_${i}`, vector))
          } }`
        )
      } }`,
  );
  const multiplyValues = sums(
    "o",
    suffixes(columns),
    valueGroups,
    (g, o) =>
      `{ ${perRow((r) => `let w${r} = block_p[${valueChunks === 1 ? 0 : "part"}][${g * rows + r}][y];`, " ")}
      ${
        each(columns, (c) =>
          `{ ${each(4, (j) => `let v${j} = ${keyOrValue((4 * g + j) * columns + c)};`)} ${
            perRow((r) =>
              fmaChain(`${o}${r}_${c}`, `w${r}`, (j) => `v${j}`, vector), " ")
          } }`, "\n      ")
      } }`,
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
var<workgroup> block_q: array<array<${vector}, ${threadsY + 1}>, ${depth * rows}>; // [depth, r], y
// keys: [depth, vec4, key % 4], x, of vec4 over the head, or with HALF [element, vec4], x, of vec4
// over keys; then values: [key, c], x
var<workgroup> block_kv: array<array<${isHalf ? pairs : "vec4f"}, ${threadsX + 1}>, ${sharedRows}>;
// weights: [chunk of values], [vec4 of keys, r], y
var<workgroup> block_p: array<array<array<${vector}, ${threadsY + 1}>, ${valueGroups * rows}>, ${valueChunks}>;
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
  // Counts addresses: see subgroup.ts.
  for (var key = k_start; key < end; key += ${blockKeys}u * row) {
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
      ${
        each(keys, (g) =>
          `p${r}_${g} = exp2(p${r}_${g} - vec4f(top)); block_p${weightAt(g)(r)}[y] = ${stored(`p${r}_${g}`)};`)
      }
      let w = ${
        each(keys, (g) => `p${r}_${g}`, " + ")
      }; sum${r} = fma(sum${r}, rescale, (w.x + w.y) + (w.z + w.w));
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

/**
 * Ranges of `count` vec4 that are as long as each other, give or take one, and of at most
 * {@linkcode blockDepth} elements.
 */
function shortRanges(count: number): (readonly [from: number, to: number])[] {
  const parts = Math.ceil(4 * count / blockDepth), at = (i: number) => Math.floor(i * count / parts);
  return Array.from({ length: parts }, (_, i) => [at(i), at(i + 1)] as const);
}
