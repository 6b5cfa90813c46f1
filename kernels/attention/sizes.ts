import type { Cost } from "../../engine/kernel/kernel.ts";

/** The sizes of one attention: what its three kernels share. */
export interface AttentionSizes {
  readonly batch: number;
  readonly heads: number;
  /** Queries. */
  readonly t: number;
  /** Keys. */
  readonly s: number;
  /** Width of a head. */
  readonly dim: number;
  readonly causal: boolean;
  /** Factor of the scores. */
  readonly scale: number;
}

/** The two products of the definition; q, k, v and the result moved once. */
export function attentionCost(
  { batch, heads, t, s, dim }: Pick<AttentionSizes, "batch" | "heads" | "t" | "s" | "dim">,
): Cost {
  return { flops: 4 * batch * heads * t * s * dim, bytes: 8 * batch * heads * (t + s) * dim };
}
