import type { GpuInfo } from "../../engine/gpu.ts";
import {
  matrixAttentionNumbers,
  type MatrixAttentionShape,
  matrixAttentionShape,
  unsupportedMatrixAttentionReason,
} from "./matrix_shape.ts";
import { type AttentionSizes, enoughWorkgroups } from "./sizes.ts";

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
  workgroup: ["threadsX", "threadsY", "rows", "keys", "depth"],
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
  const { dim } = sizes;
  const lanes = info.subgroupSize;
  if (lanes === 0 || dim % 4 !== 0) return undefined;
  const most = dim <= 32 || isLong(sizes) ? 4 : 2; // more queries mean longer code
  const queries = dim > 160 ? Math.max(1, Math.min(most, Math.floor(320 / dim))) : most;
  return { lanes, queries, keys: lanes > 8 ? 8 : 4, unrollK: 4 };
}

/** Layout of the workgroup kernel's threads, the work of one thread, and its chunks. */
export interface WorkgroupAttentionShape {
  /** Threads along the keys. */
  readonly threadsX: number;
  /** Threads along the queries. */
  readonly threadsY: number;
  /** Queries per thread. */
  readonly rows: number;
  /** vec4 of keys per thread. */
  readonly keys: number;
  /** vec4 of a head that are in workgroup memory at a time; divides dim / 4. */
  readonly depth: number;
}

/** Derived sizes of the workgroup kernel, for heads of width `dim`. */
export function workgroupBlocks({ threadsX, threadsY, rows, keys, depth }: WorkgroupAttentionShape, dim: number) {
  const headVec4 = dim / 4, blockKeys = 4 * keys * threadsX;
  const columns = Math.ceil(headVec4 / threadsX); // vec4 of each result row that a thread owns
  // Values share the memory of a chunk of keys: as many as fit, at least four.
  let valueKeys = blockKeys;
  while (valueKeys % 8 === 0 && valueKeys * columns > Math.max(4 * keys * depth, 16 * columns)) valueKeys /= 2;
  return {
    block: rows * threadsY,
    blockKeys,
    columns,
    chunks: headVec4 / depth,
    valueKeys,
    valueGroups: valueKeys / 4,
    valueChunks: blockKeys / valueKeys,
    sharedRows: Math.max(4 * keys * depth, valueKeys * columns),
    maxima: Math.ceil(rows / 4),
  };
}

/** Options of the workgroup form. */
export interface WorkgroupAttentionOptions {
  /** Whether both products are computed in f16; see workgroup.ts. Default: false. */
  readonly half?: boolean;
}

/** Bytes of workgroup memory that a shape uses. */
function workgroupAttentionBytes(
  shape: WorkgroupAttentionShape,
  dim: number,
  { half = false }: WorkgroupAttentionOptions,
): number {
  const { threadsX, threadsY, rows, keys, depth } = shape;
  const { sharedRows, maxima } = workgroupBlocks(shape, dim);
  const operands = (threadsY + 1) * rows * (depth + threadsX * keys) + (threadsX + 1) * sharedRows;
  return (half ? 8 : 16) * operands + 16 * maxima * threadsX * threadsY;
}

/**
 * The workgroup kernel's default shape on a device: the first layout that fits the device, makes
 * enough workgroups and is at least half full with `t` queries, else the smallest of 16 queries or
 * more that fits. Measurements: docs/tuning.md.
 */
function workgroupAttentionShape(
  info: GpuInfo,
  { dim, t, heads, batch }: AttentionSizes,
  options: WorkgroupAttentionOptions,
): WorkgroupAttentionShape | undefined {
  if (dim % 4 !== 0) return undefined;
  const { maxComputeWorkgroupStorageSize, maxComputeInvocationsPerWorkgroup } = info.limits;
  // f16 needs half of the memory and registers. Its sums end with a chunk: deep ones end fewer.
  const { half = false } = options;
  const depth = [...(half ? [8, 10] : []), 4, 5, 2, 3, 1].find((depth) => dim / 4 % depth === 0)!;
  // threadsX, threadsY, rows, keys: the largest first.
  const layouts = [[8, 16, 4, 1], ...(half ? [[8, 8, 4, 2]] : []), [8, 8, 4, 1], [8, 8, 2, 1], [8, 8, 1, 1], [
    8,
    4,
    1,
    1,
  ]];
  if (half || dim <= 64) layouts.unshift([8, 16, 4, 2]);
  // 10 threads divide these heads without remainder, and 320 threads are whole subgroups of 64.
  if (dim === 40 || dim === 80) layouts.unshift([10, 32, 4, 1]);
  const shapes = layouts.map(([threadsX, threadsY, rows, keys]) => ({ threadsX, threadsY, rows, keys, depth }))
    .filter((shape) =>
      workgroupAttentionBytes(shape, dim, options) <= maxComputeWorkgroupStorageSize &&
      shape.threadsX * shape.threadsY <= maxComputeInvocationsPerWorkgroup
    );
  return shapes.find(({ threadsY, rows }) => {
    const block = threadsY * rows;
    return block < 2 * t && Math.ceil(t / block) * heads * batch >= enoughWorkgroups;
  }) ?? shapes.findLast(({ threadsY, rows }) => threadsY * rows >= 16) ?? shapes.at(-1);
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

/** Why a device cannot run an attention form with heads of width `dim`; undefined if it can. */
export function unsupportedAttentionReason(
  info: GpuInfo,
  dim: number,
  form: AttentionForm,
  options: WorkgroupAttentionOptions = {},
): string | undefined {
  const { subgroupSize, limits } = info;
  if (form.path === "staged") return undefined;
  if (form.path === "matrix") return unsupportedMatrixAttentionReason(info, dim, form);
  if (dim % 4 !== 0) return `the head width must be a multiple of 4: ${dim}`;
  if (form.path === "subgroup") {
    const { lanes, keys, unrollK } = form;
    if (lanes !== subgroupSize || lanes === 0) return `lanes must be its subgroup size, ${subgroupSize}: ${lanes}`;
    return lanes % keys === 0 && keys % unrollK === 0
      ? undefined
      : `keys must divide lanes (${lanes}) and be a multiple of unrollK (${unrollK}): ${keys}`;
  }
  const threads = form.threadsX * form.threadsY, bytes = workgroupAttentionBytes(form, dim, options);
  if (dim / 4 % form.depth !== 0) return `depth must divide the head width / 4 (${dim / 4}): ${form.depth}`;
  if (threads > limits.maxComputeInvocationsPerWorkgroup) {
    return `threadsX · threadsY must be at most ${limits.maxComputeInvocationsPerWorkgroup}: ${threads}`;
  }
  return bytes <= limits.maxComputeWorkgroupStorageSize
    ? undefined
    : `the block must fit ${limits.maxComputeWorkgroupStorageSize} bytes of workgroup memory: ${bytes}`;
}
