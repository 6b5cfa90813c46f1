import type { Cost } from "../../engine/kernel/kernel.ts";

/** The sizes of one attention, which all three paths take. */
export interface AttentionSizes {
  readonly batch: number;
  readonly heads: number;
  /** Number of queries. */
  readonly t: number;
  /** Number of keys. */
  readonly s: number;
  /** Width of a head. */
  readonly dim: number;
  readonly causal: boolean;
  /** Scale of the scores. */
  readonly scale: number;
}

/** Cost by definition: two matrix products; q, k and v are read once, the result written once. */
export function attentionCost(
  { batch, heads, t, s, dim }: Pick<AttentionSizes, "batch" | "heads" | "t" | "s" | "dim">,
): Cost {
  return { flops: 4 * batch * heads * t * s * dim, bytes: 8 * batch * heads * (t + s) * dim };
}
