import { ShapeError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { policyOf } from "../policy.ts";
import { type AttentionForm, attentionFormOn, type AttentionPath } from "./form.ts";
import { stagedAttention } from "./staged.ts";
import { subgroupAttention } from "./subgroup.ts";
import { workgroupAttention } from "./workgroup.ts";

/** Options of {@linkcode attention}. */
export interface AttentionOptions {
  /** Number of heads, which lie side by side in the last axis. */
  readonly heads: number;
  /** Whether query i attends to keys 0 … i only. Default: false. */
  readonly causal?: boolean;
  /** Factor of the scores. Default: 1/√D. */
  readonly scale?: number;
  /** Forces a path, for tests and benchmarks. Default: the policy's choice. */
  readonly path?: AttentionPath;
  /** Forces a form, for the tuner. Default: the policy's choice. */
  readonly form?: AttentionForm;
}

/**
 * Attention of each head h: softmax(scale · Q_h·K_hᵀ)·V_h. Memory does not grow with T·S.
 *
 * @param q [B, T, H·D], f32 or f16; head h of a row is its elements h·D … h·D + D − 1
 * @param k [B, S, H·D], f32 or f16
 * @param v [B, S, H·D], f32 or f16
 * @returns [B, T, H·D] of q's type; scores and sums are f32
 * @throws {ShapeError} when the shapes do not fit each other or the heads, or when a forced path
 *   cannot take them
 * @throws {DTypeError} for f16 queries with heads that are no multiple of 4 wide
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using q = Tensor.from(gpu, new Float32Array(2 * 8).fill(1), [1, 2, 8]);
 * using v = Tensor.from(gpu, new Float32Array(3 * 8).fill(5), [1, 3, 8]);
 * using y = attention(q, v, v, { heads: 2 }); // [1, 2, 8] of fives
 * ```
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Tensor {
  const { heads, causal = false } = options;
  const refuse = (why: string): never => {
    const [qs, ks, vs] = [q, k, v].map(({ shape }) => `[${shape.join(", ")}]`);
    throw new ShapeError(`Cannot attend with q ${qs} to k ${ks} and v ${vs} as ${why}`, [q.shape, k.shape, v.shape]);
  };
  for (const { shape } of [q, k, v]) if (shape.length !== 3) refuse(`each needs three axes: ${shape.length}`);
  const [batch, t, width] = q.dims(3), [, s] = k.dims(3);
  if (k.shape.join() !== v.shape.join()) refuse("k and v must have one shape");
  if (k.shape[0] !== batch) refuse(`the batch axes must agree: ${batch} ≠ ${k.shape[0]}`);
  if (k.shape[2] !== width) refuse(`the last axes must agree: ${width} ≠ ${k.shape[2]}`);
  if (s === 0 || width === 0) refuse(`there must be keys, and numbers in them: ${s} × ${width}`);
  const dim = width / heads;
  if (!(heads > 0 && Number.isInteger(heads) && Number.isInteger(dim))) {
    refuse(`the last axis must split into the heads: ${width} / ${heads}`);
  }
  const sizes = { batch, heads, t, s, dim, causal, scale: options.scale ?? 1 / Math.sqrt(dim) };
  const form = options.form ??
    (options.path ? attentionFormOn(q.gpu.info, options.path, sizes) : policyOf(q.gpu).attentionFor(sizes));
  if (!form) return refuse(`the ${options.path} path cannot take heads ${dim} wide here`);
  const y = Tensor.empty(q.gpu, q.shape, q.dtype);
  if (form.path === "subgroup") subgroupAttention({ q, k, v, y }, sizes, form);
  else if (form.path === "workgroup") workgroupAttention({ q, k, v, y }, sizes, form);
  else stagedAttention({ q, k, v, y }, sizes);
  return y;
}
