import type { Gpu } from "../engine/gpu.ts";
import { declareKernel, input, output } from "../engine/kernel.ts";
import type { Tensor } from "../engine/tensor.ts";
import { attentionCost, type AttentionSizes } from "./attention_sizes.ts";

/** What one lane owns. */
export interface SubgroupAttentionShape {
  readonly lanes: number;
  /** Queries of a lane. */
  readonly queries: number;
  /** Keys whose scores are summed side by side: a query's number is fetched once for all of them. Divides `lanes`. */
  readonly together: number;
}

/** The shape for a device with subgroups; none where the kernel does not suit. */
export function subgroupAttentionShape(gpu: Gpu, { dim, t }: AttentionSizes): SubgroupAttentionShape | undefined {
  const lanes = gpu.info.subgroupSize;
  if (lanes === 0 || dim % 4 !== 0) return undefined;
  const queries = 2;
  return { lanes, queries: Math.min(queries, Math.ceil(t / lanes)), together: 2 };
}

const attentionKernel = declareKernel({
  name: "attention_subgroup",
  bindings: { q: input(4), k: input(4), v: input(4), y: output(4) },
  params: { t: "u32", s: "u32", heads: "u32", batch: "u32", scale: "f32" },
  constants: ["LANES", "QUERIES", "TOGETHER", "QUADS", "MASK", "CAUSAL"],
  subgroups: true,
  wgsl: (constants) => subgroupWgsl(constants),
  grid: ({ t, heads, batch }, { LANES, QUERIES }) => [Math.ceil(t / (Number(LANES) * Number(QUERIES))), heads, batch],
  cost: ({ t, s, heads, batch }, { QUADS }) => attentionCost({ t, s, heads, batch, dim: 4 * Number(QUADS) }),
});

/** {@linkcode attention} into `y`. */
export function subgroupAttention(
  tensors: { q: Tensor; k: Tensor; v: Tensor; y: Tensor },
  { t, s, heads, batch, dim, causal, scale }: AttentionSizes,
  { lanes, queries, together }: SubgroupAttentionShape,
): void {
  attentionKernel.run(tensors.q.gpu, tensors, { t, s, heads, batch, scale: scale * Math.LOG2E }, {
    LANES: lanes,
    QUERIES: queries,
    TOGETHER: together,
    QUADS: dim / 4,
    MASK: causal || s % lanes !== 0,
    CAUSAL: causal,
  });
}

const each = (count: number, text: (i: number) => string, separator = " ") =>
  Array.from({ length: count }, (_, i) => text(i)).join(separator);

function subgroupWgsl(constants: Readonly<Record<string, unknown>>): string {
  const { LANES: lanes, QUERIES: queries, TOGETHER: together, QUADS: quads } = constants as Record<string, number>;
  const { MASK: mask, CAUSAL: causal } = constants as Record<string, boolean>;
  const perQuery = (text: (a: number) => string, separator = " ") => each(queries, text, separator);
  const limit = (a: number) => causal ? `min(end, k_start + (first + ${a * lanes + 1}u) * row)` : "end";
  // Scores of keys l … l + together - 1. Factors alternate, so that no fma waits for the one before.
  const scores = (l: number) =>
    perQuery((a) => each(together, (n) => `var e${a}_${l + n} = 0.0;`)) +
    each(quads, (i) =>
      `{ ${
        each(together, (n) => `let b${n} = subgroupBroadcast(k${i}, ${l + n}u);`)
      } ${
        each(4, (c) =>
          each(together, (n) =>
            perQuery((a) => {
              const [e, component] = [`e${a}_${l + n}`, "xyzw"[c]];
              return `${e} = fma(q${a}_${i}.${component}, b${n}.${component}, ${e});`;
            })))
      } }`, "\n    ");
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let row = params.heads * ${quads}u;
  let q_start = group.z * params.t * row + group.y * ${quads}u;
  let k_start = group.z * params.s * row + group.y * ${quads}u;
  let first = group.x * ${lanes * queries}u + lane;
  ${
    perQuery((a) =>
      `let at${a} = q_start + min(first + ${a * lanes}u, params.t - 1u) * row; var top${a} = -3e38; var sum${a} = 0.0;
  ${each(quads, (i) => `let q${a}_${i} = q_at(at${a} + ${i}u) * params.scale; var o${a}_${i} = vec4f();`)}`, "\n  ")
  }
  let end = k_start + ${causal ? `min(params.s, (group.x + 1u) * ${lanes * queries}u)` : "params.s"} * row;
  for (var key = k_start; key < end; key += ${lanes}u * row) {
    let mine = ${mask ? "min(key + lane * row, end - row)" : "key + lane * row"};
    ${each(quads, (i) => `let k${i} = k_at(mine + ${i}u);`)}
    ${each(lanes / together, (g) => scores(g * together), "\n    ")}
    ${
    mask
      ? perQuery((a) => each(lanes, (l) => `e${a}_${l} = select(e${a}_${l}, -3e38, key + ${l}u * row >= ${limit(a)});`))
      : ""
  }
    ${
    perQuery((a) =>
      `let next${a} = ${"max(".repeat(lanes)}top${a}${each(lanes, (l) => `, e${a}_${l})`, "")};
    let fade${a} = exp2(top${a} - next${a}); top${a} = next${a};
    ${each(lanes, (l) => `let w${a}_${l} = exp2(e${a}_${l} - next${a});`)}
    sum${a} = fma(sum${a}, fade${a}, ${each(lanes, (l) => `w${a}_${l}`, " + ")});`, "\n    ")
  }
    ${
    each(quads, (i) =>
      `{ let mine4 = v_at(mine + ${i}u); ${
        perQuery((a) => `var t${a} = o${a}_${i} * fade${a};`)
      } ${
        each(lanes, (l) =>
          `{ let b = subgroupBroadcast(mine4, ${l}u); ${
            perQuery((a) => `t${a} = fma(vec4f(w${a}_${l}), b, t${a});`)
          } }`)
      } ${
        perQuery((a) => `o${a}_${i} = t${a};`)
      } }`, "\n    ")
  }
  }
  ${
    perQuery((a) =>
      `if (first + ${a * lanes}u < params.t) { let share = 1.0 / sum${a}; ${
        each(quads, (i) => `y_put(at${a} + ${i}u, o${a}_${i} * share);`)
      } }`, "\n  ")
  }
}`;
}
