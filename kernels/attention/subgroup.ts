import { type ConstantValues, declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import type { SubgroupAttentionShape } from "./form.ts";
import { attentionCost, type AttentionSizes, type AttentionTensors, gpuOf } from "./sizes.ts";
import { eachInLine, selected } from "../wgsl/text.ts";
import { startsWgsl } from "./addresses_wgsl.ts";

/**
 * Attention in one pass over the keys (online softmax, arXiv 1805.02867 and 2205.14135) for
 * software devices.
 *
 * A workgroup is one subgroup. A lane holds `queries` whole queries and their results in registers.
 * In each iteration every lane loads one key and one value, and `subgroupBroadcast` distributes
 * them to all lanes. Scores are in base 2: the query is multiplied by scale · log₂e, and exp2
 * replaces exp.
 *
 * The loop over keys counts addresses from the workgroup's own start, because lavapipe compiles a
 * variant for each value of a uniform that bounds a loop. Measurements: docs/tuning.md.
 */

const constantTypes = {
  LANES: "u32",
  QUERIES: "u32",
  KEYS: "u32",
  UNROLL_K: "u32",
  HEAD_VEC4: "u32",
  ACCESS: "u32",
  CAUSAL: "bool",
} as const;

const attentionKernel = declareKernel({
  name: "attention_subgroup",
  bindings: { q: input("ACCESS"), k: input("ACCESS"), v: input("ACCESS"), y: output("ACCESS") },
  params: { t: "u32", s: "u32", heads: "u32", batch: "u32", scale: "f32" },
  constants: constantTypes,
  extensions: ["subgroups"],
  wgsl: subgroupWgsl,
  grid: ({ t, heads, batch }, { LANES, QUERIES }) => [Math.ceil(t / (LANES * QUERIES)), heads, batch],
  cost: ({ t, s, heads, batch }, { HEAD_VEC4 }) => attentionCost({ t, s, heads, batch, dim: 4 * HEAD_VEC4 }),
});

/** {@linkcode attention} into `y`. */
export function subgroupAttention(
  tensors: AttentionTensors,
  { t, s, heads, batch, dim, causal, scale }: AttentionSizes,
  { lanes, queries, keys, unrollK }: SubgroupAttentionShape,
): void {
  attentionKernel.run(gpuOf(tensors), tensors, { t, s, heads, batch, scale: scale * Math.LOG2E }, {
    LANES: lanes,
    QUERIES: queries,
    KEYS: keys,
    UNROLL_K: unrollK,
    HEAD_VEC4: dim / 4,
    ACCESS: dim % 8 === 0 ? 8 : 4,
    CAUSAL: causal,
  });
}

function subgroupWgsl(constants: ConstantValues<typeof constantTypes>): string {
  const { LANES: lanes, QUERIES: queries, KEYS: keys, UNROLL_K: unrollK, HEAD_VEC4: headVec4 } = constants;
  const { ACCESS: access, CAUSAL: causal } = constants;
  // Names in the generated text, for query a, key l and vec4 i of a head:
  // q{a}_{i} query, k{i} this lane's key, e{a}_{l} score, w{a}_{l} weight, o{a}_{i} result,
  // top{a} running maximum, sum{a} running sum, rescale{a} correction of earlier results.
  //
  // All addresses count accesses of one or two vec4.
  const [vec4PerAccess, rowLength] = [access / 4, 4 * headVec4 / access];
  /** Loads `count` accesses from `at` on into variables NAME0, NAME1, … of one vec4 each. */
  const load = (name: string, from: string, at: string, count: number) =>
    eachInLine(
      count,
      (p) =>
        vec4PerAccess === 1
          ? `let ${name}${p} = ${from}_at(${at} + ${p}u);`
          : `let ${name}_${p} = ${from}_at(${at} + ${p}u); let ${name}${2 * p} = ${name}_${p}[0]; let ${name}${
            2 * p + 1
          } = ${name}_${p}[1];`,
    );
  /** vec4 number i of a row, taken from the access that loaded it. */
  const vec4Of = (access: string, i: number) => vec4PerAccess === 1 ? access : `${access}[${i % 2}]`;
  /** The first (0) or second (1) vec4 of access `i` (a WGSL variable) of query a's result. */
  const result = (a: number, second: number) =>
    selected((p) => `o${a}_${p * vec4PerAccess + second}`, { count: rowLength, index: "i" });
  // With fewer keys than lanes, the lanes that share a key load a part each of its row.
  const parts = lanes / keys, partLength = Math.ceil(rowLength / parts);
  const startOf = (part: number) => Math.min(part * partLength, rowLength - partLength);
  const partOf = (access: number) => Math.floor(access / partLength);
  /** vec4 number i of key l: held by lane `lane` as its vec4 number `at`. */
  const held = (l: number, i: number) => {
    const access = Math.floor(i / vec4PerAccess), part = partOf(access);
    return { lane: l + keys * part, at: i - startOf(part) * vec4PerAccess };
  };
  const perQuery = (text: (a: number) => string, separator = " ") => eachInLine(queries, text, separator);
  const limit = (a: number) => causal ? `min(end, k_start + (first + ${a * lanes + 1}u) * row)` : "end";
  // Scores of keys l … l + unrollK − 1. Consecutive fma update different scores, so that none waits
  // for the previous one.
  const scores = (l: number) =>
    perQuery((a) => eachInLine(unrollK, (n) => `var e${a}_${l + n} = 0.0;`)) +
    eachInLine(headVec4, (i) =>
      `{ ${
        eachInLine(unrollK, (n) => {
          const { lane, at } = held(l + n, i);
          return `let b${n} = subgroupBroadcast(k${at}, ${lane}u);`;
        })
      } ${
        eachInLine(4, (c) =>
          eachInLine(unrollK, (n) =>
            perQuery((a) => {
              const [e, component] = [`e${a}_${l + n}`, "xyzw"[c]];
              return `${e} = fma(q${a}_${i}.${component}, b${n}.${component}, ${e});`;
            })))
      } }`, "\n    ");
  // Adds the values of all keys, weighted, to the results' vec4 that access `p` of a row holds.
  const weighted = (p: number) =>
    eachInLine(vec4PerAccess, (second) => {
      const i = p * vec4PerAccess + second;
      return `{ ${perQuery((a) => `var t${a} = o${a}_${i} * rescale${a};`)} ${
        eachInLine(keys, (l) =>
          `{ let b = subgroupBroadcast(${vec4Of("mine_v", i)}, ${held(l, i).lane}u); ${
            perQuery((a) => `t${a} = fma(vec4f(w${a}_${l}), b, t${a});`)
          } }`)
      } ${
        perQuery((a) => `o${a}_${i} = t${a};`)
      } }`;
    });
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  ${startsWgsl(rowLength)}
  let first = group.x * ${lanes * queries}u + lane;
  // Loops count from a number that depends on the workgroup: see gemm/tile.ts.
  let first_part = group.y * params.t;
  ${
    perQuery((a) =>
      `let at${a} = q_start + min(first + ${a * lanes}u, params.t - 1u) * row; var top${a} = -3e38; var sum${a} = 0.0;
  ${load(`p${a}_`, "q", `at${a}`, rowLength)} ${
        eachInLine(headVec4, (i) => `let q${a}_${i} = p${a}_${i} * params.scale; var o${a}_${i} = vec4f();`)
      }`, "\n  ")
  }
  let end = k_start + ${causal ? `min(params.s, (group.x + 1u) * ${lanes * queries}u)` : "params.s"} * row;
  // Counts addresses, not keys: see the comment at the top of the file.
  for (var key = k_start; key < end; key += ${keys}u * row) {
    let mine = min(key + lane % ${keys}u * row, end - row) + min(lane / ${keys}u * ${partLength}u, ${
    rowLength - partLength
  }u);
    ${load("k", "k", "mine", partLength)}
    ${eachInLine(keys / unrollK, (g) => scores(g * unrollK), "\n    ")}
    ${
    perQuery((a) =>
      eachInLine(keys, (l) => `e${a}_${l} = select(e${a}_${l}, -3e38, key + ${l}u * row >= ${limit(a)});`)
    )
  }
    ${
    perQuery((a) =>
      `let next${a} = ${"max(".repeat(keys)}top${a}${eachInLine(keys, (l) => `, e${a}_${l})`, "")};
    let rescale${a} = exp2(top${a} - next${a}); top${a} = next${a};
    ${eachInLine(keys, (l) => `let w${a}_${l} = exp2(e${a}_${l} - next${a});`)}
    sum${a} = fma(sum${a}, rescale${a}, ${eachInLine(keys, (l) => `w${a}_${l}`, " + ")});`, "\n    ")
  }
    ${
    eachInLine(partLength, (p) =>
      `{ let mine_v = v_at(mine + ${p}u); ${
        eachInLine(parts, (part) =>
          partOf(startOf(part) + p) === part ? weighted(startOf(part) + p) : "")
      } }`, "\n    ")
  }
  }
  ${
    perQuery(
      (a) =>
        `if (first + ${a * lanes}u < params.t) {
    let share = 1.0 / sum${a};
    for (var p = first_part; p < first_part + ${rowLength}u; p++) { let i = p - first_part; y_put(at${a} + i, ${
          vec4PerAccess === 1 ? result(a, 0) : `mat2x4f(${result(a, 0)}, ${result(a, 1)})`
        } * share); }
  }`,
      "\n  ",
    )
  }
}`;
}
