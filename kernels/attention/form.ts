import type { Gpu } from "../../engine/gpu.ts";
import type { AttentionSizes } from "./sizes.ts";
import { type SubgroupAttentionShape, subgroupAttentionShape } from "./subgroup.ts";
import { workgroupAttentionBytes, type WorkgroupAttentionShape, workgroupAttentionShape } from "./workgroup.ts";

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

/**
 * Heads wider than this would spill: a thread holds its queries' results whole. On software devices
 * staged attention is faster before that.
 */
const widestStreamed = { gpu: 160, software: 96 } as const;

const tuned = new WeakMap<Gpu, AttentionForms>();

/**
 * Uses tuned forms on a device from now on; without any, the class's. For {@linkcode useTiles},
 * which has checked them.
 */
export function useAttentionForms(gpu: Gpu, forms: AttentionForms | undefined): void {
  if (forms) tuned.set(gpu, forms);
  else tuned.delete(gpu);
}

/** The form for an attention: the tuned one for its width of head, or the device class's. */
export function attentionFormFor(gpu: Gpu, sizes: AttentionSizes): AttentionForm {
  const forms = tuned.get(gpu) ?? {}, width = `${sizes.dim}`;
  if (Object.hasOwn(forms, width)) return forms[width];
  const isSoftware = gpu.info.deviceClass === "software";
  const streamed = sizes.dim > widestStreamed[isSoftware ? "software" : "gpu"]
    ? undefined
    : (isSoftware ? attentionFormOn(gpu, "subgroup", sizes) : undefined) ?? attentionFormOn(gpu, "workgroup", sizes);
  return streamed ?? { path: "staged" };
}

/** The class's form on a path; none where the device or the width of head does not suit it. */
export function attentionFormOn(gpu: Gpu, path: AttentionPath, sizes: AttentionSizes): AttentionForm | undefined {
  if (path === "staged") return { path };
  if (path === "subgroup") {
    const shape = subgroupAttentionShape(gpu, sizes);
    return shape && { path, ...shape };
  }
  const shape = workgroupAttentionShape(gpu, sizes);
  return shape && { path, ...shape };
}

/** Why a device cannot attend with heads of a width by a form. */
export function unsupportedAttentionReason(gpu: Gpu, dim: number, form: AttentionForm): string | undefined {
  const { subgroupSize, limits } = gpu.info;
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
