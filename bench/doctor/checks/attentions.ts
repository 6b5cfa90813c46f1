import { Tensor } from "../../../engine/tensor.ts";
import { attention } from "../../../kernels/attention/attention.ts";
import { attentionFormOn, type AttentionPath } from "../../../kernels/attention/form.ts";
import type { AttentionSizes } from "../../../kernels/attention/sizes.ts";
import { policyOf } from "../../../kernels/policy.ts";
import { type AttentionCase, attentionProblem, matrixAttentionTolerance } from "../../oracles/attention.ts";
import { f16Rounding } from "../../oracles/numbers.ts";
import type { Check } from "../check.ts";

function attentionCheck(
  sizes: AttentionCase,
  { path, f16 = false, formOf }: {
    readonly path?: AttentionPath;
    readonly f16?: boolean;
    /** Sizes whose form is used in place of that of `sizes`, as it depends on them. */
    readonly formOf?: Pick<AttentionSizes, "t" | "s" | "heads" | "batch">;
  } = {},
): Check {
  const problem = attentionProblem(sizes, { rounded: f16 || path === "matrix" });
  const { batch, heads, t, s, dim, causal } = problem.sizes;
  const where = `${batch > 1 ? `${batch} × ` : ""}${t}×${s}, ${heads} of ${dim}`;
  return {
    operation: formOf ? "attention, form of large ones" : path === undefined ? "attention" : `attention, ${path}`,
    shape: [where, ...(causal ? ["causal"] : []), ...(f16 ? ["f16"] : [])].join(", "),
    tolerance: (path === "matrix" ? matrixAttentionTolerance(problem) : problem.tolerance) + (f16 ? f16Rounding : 0),
    unsupportedReason: ({ info }) =>
      path === undefined || attentionFormOn(info, path, problem.sizes) !== undefined
        ? undefined
        : `the device does not have this path`,
    run: (gpu) => {
      const dtype = f16 ? "f16" : "f32";
      const q = Tensor.from(gpu, problem.q, [batch, t, heads * dim], dtype);
      const [k, v] = [problem.k, problem.v].map((each) => Tensor.from(gpu, each, [batch, s, heads * dim], dtype));
      const form = formOf && policyOf(gpu).attention.formFor({ ...problem.sizes, ...formOf });
      return { tensor: attention(q, k, v, { heads, causal, path, form }), expected: problem.expected };
    },
  };
}

/** Attention on the path that the policy chooses for each head width, then on every path. */
export const attentionChecks: readonly Check[] = [
  attentionCheck({ batch: 1, heads: 1, t: 1, s: 1, dim: 4 }),
  attentionCheck({ batch: 2, heads: 3, t: 19, s: 77, dim: 40 }),
  attentionCheck({ batch: 1, heads: 2, t: 77, s: 77, dim: 64, causal: true }),
  attentionCheck({ batch: 1, heads: 2, t: 33, s: 29, dim: 80 }, { f16: true }),
  attentionCheck({ batch: 1, heads: 1, t: 17, s: 33, dim: 160 }),
  attentionCheck({ batch: 1, heads: 1, t: 18, s: 31, dim: 512 }),
  attentionCheck({ batch: 1, heads: 3, t: 13, s: 21, dim: 7 }),
  ...[40, 64, 80, 160].map((dim) =>
    attentionCheck({ batch: 1, heads: 2, t: 67, s: 80, dim }, { formOf: { batch: 2, heads: 8, t: 4096, s: 4096 } })
  ),
  ...(["subgroup", "workgroup", "matrix", "staged"] as const).map((path) =>
    attentionCheck({ batch: 1, heads: 2, t: 21, s: 37, dim: 24 }, { path })
  ),
];
