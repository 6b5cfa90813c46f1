import type { GpuInfo } from "../../engine/gpu.ts";
import { malformedNumberReason, unknownFieldReason } from "../gemm/tile_support.ts";
import {
  matrixAttentionNumbers,
  type MatrixAttentionShape,
  matrixAttentionShape,
  unsupportedMatrixAttentionReason,
} from "./matrix_shape.ts";
import type { AttentionSizes } from "./sizes.ts";
import {
  unsupportedWorkgroupAttentionReason,
  workgroupAttentionNumbers,
  type WorkgroupAttentionOptions,
  type WorkgroupAttentionShape,
  workgroupAttentionShape,
} from "./workgroup_shape.ts";

/**
 * How attention is computed.
 *
 * - `subgroup`: one pass over the keys in registers. Scores are never stored. For software devices.
 * - `workgroup`: one pass over the keys through workgroup memory. Scores are never stored. For
 *   GPUs.
 * - `matrix`: one pass on subgroup matrices, with operands rounded to f16. For devices opened with
 *   subgroup matrices, where the caller allows it.
 * - `staged`: two matrix products with a softmax between them; blocks of scores are stored. For
 *   head widths that the others do not support.
 */
export type AttentionPath = "subgroup" | "workgroup" | "matrix" | "staged";

/** A path with the shape of its kernel. */
export type AttentionForm =
  | ({ readonly path: "subgroup" } & SubgroupAttentionShape)
  | ({ readonly path: "workgroup" } & WorkgroupAttentionShape)
  | ({ readonly path: "matrix" } & MatrixAttentionShape)
  | { readonly path: "staged" };

/** Tuned forms by head width. */
export type AttentionForms = Readonly<Record<string, AttentionForm>>;

/** Names of the numeric fields of each path's form, for parsing a tuning. */
export const attentionFormNumbers: Readonly<Record<AttentionPath, readonly string[]>> = {
  subgroup: ["lanes", "queries", "keys", "unrollK"],
  workgroup: workgroupAttentionNumbers,
  matrix: matrixAttentionNumbers,
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

/** Whether an attention runs long enough on software devices to pay for compiling long code. */
export function isLong({ dim, t, s, heads, batch }: AttentionSizes): boolean {
  return t * s * heads * batch * dim >= 2 ** 23;
}

/**
 * The subgroup kernel's default shape on a device; undefined without subgroups, or if `dim` is no
 * multiple of 4.
 */
function subgroupAttentionShape(info: GpuInfo, sizes: AttentionSizes): SubgroupAttentionShape | undefined {
  const { dim, t, causal } = sizes;
  const lanes = info.subgroupSize;
  if (lanes === 0 || dim % 4 !== 0) return undefined;
  const isShort = dim > 32 && (causal || !isLong(sizes));
  if (lanes <= 8 && dim <= 160 && (isShort || dim > 96)) {
    // Half of the code of 4 × 4 or less, and as fast for wide heads. Two queries per lane where
    // three would compute over a seventh more rows, which pad the last workgroup.
    const padded = (queries: number) => Math.ceil(t / (lanes * queries)) * queries;
    return { lanes, queries: 8 * padded(2) < 7 * padded(3) ? 2 : 3, keys: 2, unrollK: 2 };
  }
  const most = isShort ? 2 : 4; // more queries mean longer code
  const queries = dim > 160 ? Math.max(1, Math.min(most, Math.floor(320 / dim))) : most;
  return { lanes, queries, keys: lanes > 8 ? 8 : 4, unrollK: 4 };
}

/**
 * The default form on a path; undefined where the path does not support the device or head width.
 */
export function attentionFormOn(
  info: GpuInfo,
  path: AttentionPath,
  sizes: AttentionSizes,
  options: WorkgroupAttentionOptions = {},
): AttentionForm | undefined {
  if (path === "staged") return { path };
  if (path === "subgroup") {
    const shape = subgroupAttentionShape(info, sizes);
    return shape && { path, ...shape };
  }
  if (path === "matrix") {
    const shape = matrixAttentionShape(info, sizes);
    return shape && { path, ...shape };
  }
  const shape = workgroupAttentionShape(info, sizes, options);
  return shape && { path, ...shape };
}

/**
 * Most elements of keys that a lane of the subgroup kernel multiplies in one iteration, for all of
 * its queries: the code is unrolled over them. The tuner tries at most 2048.
 */
const mostUnrolled = 8192;

/** Why an object is no attention form of any device; undefined if it is one. */
export function malformedFormReason(form: unknown): string | undefined {
  if (typeof form !== "object" || form === null) return `a form must be an object: ${form}`;
  const { path } = form as Partial<AttentionForm>;
  if (typeof path !== "string" || !Object.hasOwn(attentionFormNumbers, path)) {
    return `the path must be ${Object.keys(attentionFormNumbers).join(", ")}: ${JSON.stringify(path)}`;
  }
  const numbers = form as unknown as Readonly<Record<string, unknown>>;
  const names = attentionFormNumbers[path];
  return unknownFieldReason(form, ["path", ...names], `the ${path} form`) ??
    malformedNumberReason(Object.fromEntries(names.map((name) => [name, numbers[name]])));
}

/** Why a device cannot run an attention form with heads of width `dim`; undefined if it can. */
export function unsupportedAttentionReason(
  info: GpuInfo,
  dim: number,
  form: AttentionForm,
  options: WorkgroupAttentionOptions = {},
): string | undefined {
  const malformed = malformedFormReason(form);
  if (malformed) return malformed;
  if (form.path === "staged") return undefined;
  if (form.path === "matrix") return unsupportedMatrixAttentionReason(info, dim, form);
  if (dim % 4 !== 0) return `the head width must be a multiple of 4: ${dim}`;
  if (form.path === "subgroup") {
    const { lanes, queries, keys, unrollK } = form;
    if (lanes !== info.subgroupSize || lanes === 0) {
      return `lanes must be its subgroup size, ${info.subgroupSize}: ${lanes}`;
    }
    if (lanes % keys !== 0 || keys % unrollK !== 0) {
      return `keys must divide lanes (${lanes}) and be a multiple of unrollK (${unrollK}): ${keys}`;
    }
    return queries * keys * dim <= mostUnrolled
      ? undefined
      : `queries · keys · head width must be at most ${mostUnrolled}, as code for more compiles too slowly: ` +
        `${queries} · ${keys} · ${dim}`;
  }
  return unsupportedWorkgroupAttentionReason(info, dim, form, options);
}
