import type { GpuInfo } from "../../engine/gpu.ts";
import { type Cell, pitchOf } from "../wgsl/banks.ts";
import { enoughWorkgroups } from "../policy/occupancy.ts";
import type { AttentionSizes } from "./sizes.ts";

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

/** Sizes derived from a shape. Lengths along heads count vec4. */
export interface WorkgroupAttentionBlocks {
  /** Queries of a workgroup. */
  readonly block: number;
  /** Keys of a block. */
  readonly blockKeys: number;
  /** vec4 of each result row that a thread owns. */
  readonly columns: number;
  /** Chunks of a head: as many as pass through workgroup memory one after the other. */
  readonly chunks: number;
  /** Keys whose values are in workgroup memory at a time. */
  readonly valueKeys: number;
  /** The same, in vec4. */
  readonly valueGroups: number;
  /** How often that many values make a block. */
  readonly valueChunks: number;
  /** Length of the array of keys, then values, per thread along the keys. */
  readonly sharedRows: number;
  /** vec4 that hold one number for each query of a thread. */
  readonly maxima: number;
  /** Threads along the keys that lie side by side: see workgroup.ts. */
  readonly across: number;
  /** Elements that the rows of block_q, block_p and block_kv take in workgroup memory. */
  readonly queryPitch: number;
  readonly weightPitch: number;
  readonly keyPitch: number;
}

/** Options of the workgroup form. */
export interface WorkgroupAttentionOptions {
  /** Whether both products are computed in f16; see workgroup.ts. Default: false. */
  readonly half?: boolean;
}

/** The sizes of a shape with heads of width `dim`. */
export function workgroupBlocks(
  { threadsX, threadsY, rows, keys, depth }: WorkgroupAttentionShape,
  dim: number,
  { half = false }: WorkgroupAttentionOptions = {},
): WorkgroupAttentionBlocks {
  const headVec4 = dim / 4, blockKeys = 4 * keys * threadsX;
  const columns = Math.ceil(headVec4 / threadsX);
  // Values share the memory of a chunk of keys: as many as fit, at least four.
  let valueKeys = blockKeys;
  while (valueKeys % 8 === 0 && valueKeys * columns > Math.max(4 * keys * depth, 16 * columns)) valueKeys /= 2;
  const across = [8, 7, 6, 5, 4, 3, 2, 1].find((count) => threadsX % count === 0)!, bytes = half ? 8 : 16;
  /** Lanes along `count` rows, then along columns. */
  const alongRows = (count: number): Cell => (lane) => [lane % count, Math.floor(lane / count)];
  const values: Cell = (lane) => {
    const line = Math.floor(lane / headVec4), d4 = lane % headVec4;
    return [line * columns + Math.floor(d4 / threadsX), d4 % threadsX];
  };
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
    across,
    queryPitch: pitchOf(threadsY, bytes, [alongRows(depth)]),
    weightPitch: pitchOf(threadsY, bytes, [alongRows(across)]),
    // Keys of f16 are stored by pairs.
    keyPitch: half ? threadsX + 1 : pitchOf(threadsX, bytes, [alongRows(4 * depth), values]),
  };
}

/** Names of the fields of {@linkcode WorkgroupAttentionShape}. */
export const workgroupAttentionNumbers = ["threadsX", "threadsY", "rows", "keys", "depth"] as const;

/** Bytes of workgroup memory that a shape uses. */
function workgroupAttentionBytes(
  shape: WorkgroupAttentionShape,
  dim: number,
  options: WorkgroupAttentionOptions,
): number {
  const { threadsX, threadsY, rows, keys, depth } = shape;
  const { sharedRows, maxima, queryPitch, weightPitch, keyPitch } = workgroupBlocks(shape, dim, options);
  const operands = rows * (queryPitch * depth + weightPitch * threadsX * keys) + keyPitch * sharedRows;
  return (options.half ? 8 : 16) * operands + 16 * maxima * threadsX * threadsY;
}

/**
 * The workgroup kernel's default shape on a device: the first layout that fits the device, makes
 * enough workgroups and is at least half full with `t` queries, else the smallest of 16 queries or
 * more that fits. Measurements: docs/tuning.md.
 */
export function workgroupAttentionShape(
  info: GpuInfo,
  { dim, t, heads, batch }: AttentionSizes,
  options: WorkgroupAttentionOptions,
): WorkgroupAttentionShape | undefined {
  if (dim % 4 !== 0) return undefined;
  const { maxComputeWorkgroupStorageSize, maxComputeInvocationsPerWorkgroup } = info.limits;
  // f16 needs half of the memory and registers. Its sums end with a chunk and after 16 elements:
  // chunks of a multiple of that end fewest.
  const { half = false } = options;
  const depth = [...(half ? [8, 4, 10] : []), 4, 5, 2, 3, 1].find((depth) => dim / 4 % depth === 0)!;
  // threadsX, threadsY, rows, keys: the largest first.
  const small = [[8, 8, 4, 1], [8, 8, 2, 1], [8, 8, 1, 1], [8, 4, 1, 1]];
  const layouts = [[8, 16, 4, 1], ...(half ? [[8, 8, 4, 2]] : []), ...small];
  if (half || dim <= 80) layouts.unshift([8, 16, 4, 2]);
  // 10 threads divide these heads without remainder, and 320 threads are whole subgroups of 64.
  if (dim === 40) layouts.unshift([10, 32, 4, 1]);
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

/** Why a device cannot run a shape with heads of width `dim`; undefined if it can. */
export function unsupportedWorkgroupAttentionReason(
  { limits }: GpuInfo,
  dim: number,
  shape: WorkgroupAttentionShape,
  options: WorkgroupAttentionOptions,
): string | undefined {
  const threads = shape.threadsX * shape.threadsY, bytes = workgroupAttentionBytes(shape, dim, options);
  if (dim / 4 % shape.depth !== 0) return `depth must divide the head width / 4 (${dim / 4}): ${shape.depth}`;
  if (threads > limits.maxComputeInvocationsPerWorkgroup) {
    return `threadsX · threadsY must be at most ${limits.maxComputeInvocationsPerWorkgroup}: ${threads}`;
  }
  return bytes <= limits.maxComputeWorkgroupStorageSize
    ? undefined
    : `the block must fit ${limits.maxComputeWorkgroupStorageSize} bytes of workgroup memory: ${bytes}`;
}
