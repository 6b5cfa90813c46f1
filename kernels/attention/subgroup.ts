import { declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import type { SubgroupAttentionShape } from "./form.ts";
import { attentionCost, type AttentionSizes, type AttentionTensors, gpuOf } from "./sizes.ts";
import { subgroupAttentionWgsl, subgroupConstantTypes } from "./subgroup_wgsl.ts";

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
const attentionKernel = declareKernel({
  name: "attention_subgroup",
  bindings: { q: input("ACCESS"), k: input("ACCESS"), v: input("ACCESS"), y: output("ACCESS") },
  params: { t: "u32", s: "u32", heads: "u32", batch: "u32", scale: "f32" },
  constants: subgroupConstantTypes,
  extensions: ["subgroups"],
  wgsl: subgroupAttentionWgsl,
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
