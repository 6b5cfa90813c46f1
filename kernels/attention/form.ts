import type { GpuInfo } from "../../engine/gpu.ts";
import type { AttentionSizes } from "./sizes.ts";

/**
 * How attention is computed. `subgroup` and `workgroup` go once over the keys and never store a
 * score; `staged` stores blocks of scores. The first is for software devices, the second for GPUs,
 * the third for widths of head that the others cannot take.
 */
export type AttentionPath = "subgroup" | "workgroup" | "staged";

/** A path with the shape of its kernel. */
export type AttentionForm =
  | ({ readonly path: "subgroup" } & SubgroupAttentionShape)
  | ({ readonly path: "workgroup" } & WorkgroupAttentionShape)
  | { readonly path: "staged" };

/** What a tuner has found for heads of some widths, by the width. */
export type AttentionForms = Readonly<Record<string, AttentionForm>>;

/** Names of the numbers that each path's form holds. */
export const attentionFormNumbers: Readonly<Record<AttentionPath, readonly string[]>> = {
  subgroup: ["lanes", "queries", "keys", "unrollK"],
  workgroup: ["threadsX", "threadsY", "rows"],
  staged: [],
};

/** What one lane owns. */
export interface SubgroupAttentionShape {
  /** Invocations of a subgroup. */
  readonly lanes: number;
  /** Queries of a lane. */
  readonly queries: number;
  /** Keys of a step: all that the lanes can hold, or a part of that, for shorter code. */
  readonly keys: number;
  /**
   * Keys whose scores are summed side by side: a query's number is fetched once for all of them.
   * Divides `keys`.
   */
  readonly unrollK: number;
}

/** The shape for a device with subgroups; none where the kernel does not suit. */
function subgroupAttentionShape(
  info: GpuInfo,
  { dim, t, s, heads, batch }: AttentionSizes,
): SubgroupAttentionShape | undefined {
  const lanes = info.subgroupSize;
  if (lanes === 0 || dim % 4 !== 0) return undefined;
  // Long code would take longer to compile than it saves.
  const most = dim <= 32 || t * s * heads * batch * dim >= 2 ** 24 ? 4 : 2;
  const queries = Math.max(1, Math.min(most, Math.floor(320 / dim)));
  return { lanes, queries, keys: lanes > 8 ? 8 : 4, unrollK: 4 };
}

/** How a workgroup's threads stand, and what one owns. */
export interface WorkgroupAttentionShape {
  /** Invocations along the keys. */
  readonly threadsX: number;
  /** Invocations along the queries. */
  readonly threadsY: number;
  /** Queries of a thread. */
  readonly rows: number;
}

/** Bytes of workgroup memory that a shape takes. */
function workgroupAttentionBytes({ threadsX, threadsY, rows }: WorkgroupAttentionShape, dim: number): number {
  const block = rows * threadsY, quads = dim / 4;
  return 16 *
    (quads * block + 4 * threadsX * quads + threadsX * (block + 1) + threadsX * threadsY * Math.ceil(rows / 4));
}

/**
 * The largest block that fits the device's workgroup memory; threadsX divides the quads where it
 * can.
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

/** The default form on a path; undefined where the device or the head width does not suit it. */
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
  if (dim % 4 !== 0) return `the width of the heads must be a multiple of 4: ${dim}`;
  if (form.path === "subgroup") {
    const { lanes, keys, unrollK } = form;
    if (lanes !== subgroupSize || lanes === 0) return `its subgroups have ${subgroupSize} lanes: ${lanes}`;
    return lanes % keys === 0 && keys % unrollK === 0
      ? undefined
      : `keys must divide the ${lanes} lanes, and be a multiple of unrollK: ${keys}, ${unrollK}`;
  }
  const threads = form.threadsX * form.threadsY, bytes = workgroupAttentionBytes(form, dim);
  if (threads > limits.maxComputeInvocationsPerWorkgroup) {
    return `its workgroups have ${limits.maxComputeInvocationsPerWorkgroup} threads at most: ${threads}`;
  }
  return bytes <= limits.maxComputeWorkgroupStorageSize
    ? undefined
    : `its workgroups share ${limits.maxComputeWorkgroupStorageSize} bytes at most: ${bytes}`;
}
