import { GpuError, ShapeError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { policyOf } from "../policy.ts";
import {
  type AttentionForm,
  attentionFormNumbers,
  attentionFormOn,
  type AttentionPath,
  unsupportedAttentionReason,
} from "./form.ts";
import { matrixAttention } from "./matrix.ts";
import { bindableBatches } from "./sizes.ts";
import { stagedAttention } from "./staged.ts";
import { subgroupAttention } from "./subgroup.ts";
import { workgroupAttention } from "./workgroup.ts";

/** Options of {@linkcode attention}. */
export interface AttentionOptions {
  /** Number of heads. They divide the last axis into equal parts. */
  readonly heads: number;
  /** Whether query i attends to keys 0 … i only. Default: false. */
  readonly causal?: boolean;
  /** Scale of the scores: a finite number. Default: 1/√D. */
  readonly scale?: number;
  /**
   * Whether the operands of both products may be rounded to f16; see {@linkcode GemmOptions} for
   * the staged form, workgroup.ts for the workgroup form in f16 arithmetic, and matrix.ts for
   * subgroup matrices. The subgroup form computes in f32. Default: false.
   */
  readonly allowF16Operands?: boolean;
  /** The path, for tests and benchmarks. Default: the policy's choice. */
  readonly path?: AttentionPath;
  /** The form (path and kernel shape), for the tuner. Default: the policy's choice. */
  readonly form?: AttentionForm;
}

/**
 * Multi-head attention. For each head h: softmax(scale · Q_h·K_hᵀ)·V_h, with the softmax over keys.
 * Memory for scores is bounded, whatever T and S are.
 *
 * @param q [B, T, H·D], f32 or f16; head h is elements h·D … h·D + D − 1 of each row
 * @param k [B, S, H·D], f32 or f16
 * @param v [B, S, H·D], f32 or f16
 * @returns [B, T, H·D] of q's dtype; scores and sums are f32
 * @throws {ShapeError} when the shapes do not match each other or the number of heads, or when
 *   `path` does not support them
 * @throws {GpuError} when the scale is not finite
 * @throws {DTypeError} when q is f16 and D is not a multiple of 4
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using q = Tensor.from(gpu, new Float32Array(2 * 8).fill(1), [1, 2, 8]);
 * using v = Tensor.from(gpu, new Float32Array(3 * 8).fill(5), [1, 3, 8]);
 * using y = attention(q, v, v, { heads: 2 }); // [1, 2, 8] of fives
 * ```
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Tensor {
  const { heads, causal = false, allowF16Operands = false } = options;
  const refuse = (why: string): never => {
    const [qs, ks, vs] = [q, k, v].map(({ shape }) => `[${shape.join(", ")}]`);
    throw new ShapeError(`Cannot attend with q ${qs} to k ${ks} and v ${vs} as ${why}`, [q.shape, k.shape, v.shape]);
  };
  for (const { shape } of [q, k, v]) if (shape.length !== 3) refuse(`each must have three axes: ${shape.length}`);
  const [batch, t, width] = q.dims(3), [, s] = k.dims(3);
  if (k.shape.join() !== v.shape.join()) refuse("k and v must have the same shape");
  if (k.shape[0] !== batch) refuse(`the batch axes must agree: ${batch} ≠ ${k.shape[0]}`);
  if (k.shape[2] !== width) refuse(`the last axes must agree: ${width} ≠ ${k.shape[2]}`);
  if (s === 0 || width === 0) refuse(`k must not be empty: ${s} keys of ${width} elements`);
  const dim = width / heads;
  if (!(heads > 0 && Number.isInteger(heads) && Number.isInteger(dim))) {
    refuse(`the number of heads must divide the last axis: ${width} / ${heads}`);
  }
  const scale = options.scale ?? 1 / Math.sqrt(dim);
  if (!Number.isFinite(scale)) {
    throw new GpuError(`Cannot attend with q [${q.shape.join(", ")}] as scale must be a finite number: ${scale}`);
  }
  const sizes = { batch, heads, t, s, dim, causal, scale };
  const policy = policyOf(q.gpu).attention, half = policy.usesF16(options);
  const { path } = options;
  if (path !== undefined && !Object.hasOwn(attentionFormNumbers, path)) {
    refuse(`the path must be ${Object.keys(attentionFormNumbers).join(", ")}: ${JSON.stringify(path)}`);
  }
  const form = options.form ??
    (options.path ? attentionFormOn(q.gpu.info, options.path, sizes, { half }) : policy.formFor(sizes, options));
  if (!form) return refuse(`the ${options.path} path does not support heads of width ${dim} on this device`);
  const why = options.form && unsupportedAttentionReason(q.gpu.info, dim, options.form, { half });
  if (why) refuse(`the form does not suit ${q.gpu.info.name}: ${why}`);
  return Tensor.filled(q.gpu, q.shape, q.dtype, (y) => {
    if (form.path === "staged") {
      stagedAttention({ q, k, v, y }, sizes, { allowF16Operands });
      return;
    }
    for (const part of bindableBatches(q.gpu, { q, k, v, y }, sizes)) {
      if (form.path === "subgroup") subgroupAttention(part.tensors, part.sizes, form);
      else if (form.path === "matrix") matrixAttention(part.tensors, part.sizes, form);
      else workgroupAttention(part.tensors, part.sizes, form, { half });
    }
  });
}
