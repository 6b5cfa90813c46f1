import type { GpuInfo } from "../../engine/gpu.ts";
import type { AttentionSizes } from "./sizes.ts";

/**
 * How attention is computed.
 *
 * - `subgroup`: one pass over the keys in registers. Scores are never stored. For software devices.
 * - `workgroup`: one pass over the keys through workgroup memory. Scores are never stored. For
 *   GPUs.
 * - `staged`: two matrix products with a softmax between them; blocks of scores are stored. For
 *   head widths that the other two do not support.
 */
export type AttentionPath = "subgroup" | "workgroup" | "staged";

/** A path with the shape of its kernel. */
export type AttentionForm =
  | ({ readonly path: "subgroup" } & SubgroupAttentionShape)
  | ({ readonly path: "workgroup" } & WorkgroupAttentionShape)
  | { readonly path: "staged" };

/** Tuned forms by head width. */
export type AttentionForms = Readonly<Record<string, AttentionForm>>;

/** Names of the numeric fields of each path's form. */
export const attentionFormNumbers: Readonly<Record<AttentionPath, readonly string[]>> = {
  subgroup: ["lanes", "queries", "keys", "unrollK"],
  workgroup: ["threadsX", "threadsY", "rows"],
  staged: [],
};

/** Work of one lane of the subgroup kernel. */
export interface SubgroupAttentionShape {
  /** Invocations of a subgroup. */
  readonly lanes: number;
  /** Queries per lane. */
  readonly queries: number;
  /**
   * Keys per iteration of the loop over keys; divides `lanes`. Fewer keys than lanes make the
   * unrolled code shorter.
   */
  readonly keys: number;
  /**
   * Keys whose scores are accumulated at the same time, so that each query element is read once for
   * all of them. Divides `keys`.
   */
  readonly unrollK: number;
}

/** The default shape on a device; undefined without subgroups, or if dim is no multiple of 4. */
function subgroupAttentionShape(
  info: GpuInfo,
  { dim, t, s, heads, batch }: AttentionSizes,
): SubgroupAttentionShape | undefined {
  const lanes = info.subgroupSize;
  if (lanes === 0 || dim % 4 !== 0) return undefined;
  // More queries mean longer code. Small products do not run long enough to pay for compiling it.
  const most = dim <= 32 || t * s * heads * batch * dim >= 2 ** 24 ? 4 : 2;
  const queries = Math.max(1, Math.min(most, Math.floor(320 / dim)));
  return { lanes, queries, keys: lanes > 8 ? 8 : 4, unrollK: 4 };
}

/** Layout of the workgroup kernel's threads, and the work of one thread. */
export interface WorkgroupAttentionShape {
  /** Threads along the keys. */
  readonly threadsX: number;
  /** Threads along the queries. */
  readonly threadsY: number;
  /** Queries per thread. */
  readonly rows: number;
}

/** Bytes of workgroup memory that a shape uses. */
function workgroupAttentionBytes({ threadsX, threadsY, rows }: WorkgroupAttentionShape, dim: number): number {
  const block = rows * threadsY, headVec4 = dim / 4;
  return 16 *
    (headVec4 * block + 4 * threadsX * headVec4 + threadsX * (block + 1) + threadsX * threadsY * Math.ceil(rows / 4));
}

/**
 * The largest block of queries that fits the device's workgroup memory and is not mostly empty for
 * `t` queries. threadsX is 10 for heads whose vec4 count (dim / 4) is a multiple of 10, else 8.
 */
function workgroupAttentionShape(info: GpuInfo, { dim, t }: AttentionSizes): WorkgroupAttentionShape | undefined {
  if (dim % 4 !== 0) return undefined;
  const { maxComputeWorkgroupStorageSize, maxComputeInvocationsPerWorkgroup } = info.limits;
  const threadsX = dim % 40 === 0 ? 10 : 8;
  for (const [threadsY, rows] of [[16, 4], [8, 4], [8, 2], [8, 1], [4, 1]]) {
    const shape = { threadsX, threadsY, rows };
    const fits = workgroupAttentionBytes(shape, dim) <= maxComputeWorkgroupStorageSize &&
      threadsX * threadsY <= maxComputeInvocationsPerWorkgroup;
    if (fits && (threadsY * rows <= 16 || threadsY * rows < 2 * t)) return shape;
  }
}

/**
 * The default form on a path; undefined where the path does not support the device or head width.
 */
export function attentionFormOn(info: GpuInfo, path: AttentionPath, sizes: AttentionSizes): AttentionForm | undefined {
  if (path === "staged") return { path };
  if (path === "subgroup") {
    const shape = subgroupAttentionShape(info, sizes);
    return shape && { path, ...shape };
  }
  const shape = workgroupAttentionShape(info, sizes);
  return shape && { path, ...shape };
}

/** Why a device cannot run an attention form with heads of width `dim`; undefined if it can. */
export function unsupportedAttentionReason(info: GpuInfo, dim: number, form: AttentionForm): string | undefined {
  const { subgroupSize, limits } = info;
  if (form.path === "staged") return undefined;
  if (dim % 4 !== 0) return `the head width must be a multiple of 4: ${dim}`;
  if (form.path === "subgroup") {
    const { lanes, keys, unrollK } = form;
    if (lanes !== subgroupSize || lanes === 0) return `lanes must be its subgroup size, ${subgroupSize}: ${lanes}`;
    return lanes % keys === 0 && keys % unrollK === 0
      ? undefined
      : `keys must divide lanes (${lanes}) and be a multiple of unrollK (${unrollK}): ${keys}`;
  }
  const threads = form.threadsX * form.threadsY, bytes = workgroupAttentionBytes(form, dim);
  if (threads > limits.maxComputeInvocationsPerWorkgroup) {
    return `threadsX · threadsY must be at most ${limits.maxComputeInvocationsPerWorkgroup}: ${threads}`;
  }
  return bytes <= limits.maxComputeWorkgroupStorageSize
    ? undefined
    : `the block must fit ${limits.maxComputeWorkgroupStorageSize} bytes of workgroup memory: ${bytes}`;
}
