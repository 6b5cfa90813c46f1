import type { GpuInfo, SubgroupMatrix } from "../../engine/gpu.ts";
import { enoughWorkgroups } from "../policy/occupancy.ts";
import { type AttentionSizes, widestOnePass } from "./sizes.ts";

/** Layout of attention on subgroup matrices. */
export interface MatrixAttentionShape {
  /** Subgroups of a workgroup. Each owns queries of its own. */
  readonly subgroups: number;
  /** Matrices of queries per subgroup. */
  readonly rows: number;
  /** Keys per block; a multiple of the columns and of the depth of a matrix. */
  readonly keys: number;
}

/** Names of the fields of {@linkcode MatrixAttentionShape}. */
export const matrixAttentionNumbers = ["subgroups", "rows", "keys"] as const;

/** Padding of rows in workgroup memory: 16 bytes, against bank conflicts. */
const halfPadding = 2, floatPadding = 1;

/** Sizes derived from a shape. Lengths along heads and keys count vec4. */
export interface MatrixAttentionBlocks {
  readonly threads: number;
  /** Queries of a workgroup. */
  readonly block: number;
  /** Threads that share the softmax of a query. */
  readonly parts: number;
  /** Queries whose softmax a thread takes part in. */
  readonly rowsPerThread: number;
  /** Depth of the scores' product, in matrices. */
  readonly depth: number;
  /** Columns of the result, in matrices. */
  readonly valueMatrices: number;
  /** Distance of rows of queries and of keys. */
  readonly headStride: number;
  /** Distance of rows of weights and of transposed values. */
  readonly keyStride: number;
  /** Distance of rows of scores. */
  readonly scoreStride: number;
  /** Length of the array of keys, then values. */
  readonly shared: number;
  /** Bytes of workgroup memory. */
  readonly bytes: number;
}

/** The sizes of a shape with heads of width `dim`. */
export function matrixAttentionBlocks(
  { subgroups, rows, keys }: MatrixAttentionShape,
  { m, n, k, lanes }: SubgroupMatrix,
  dim: number,
): MatrixAttentionBlocks {
  const threads = subgroups * lanes, block = subgroups * rows * m;
  const depth = Math.ceil(dim / k), valueMatrices = Math.ceil(dim / n);
  const headStride = depth * k / 4 + halfPadding,
    keyStride = keys / 4 + halfPadding,
    scoreStride = keys / 4 + floatPadding;
  const shared = Math.max(keys * headStride, valueMatrices * n * keyStride);
  const parts = Math.max(1, threads / block);
  return {
    threads,
    block,
    parts,
    rowsPerThread: Math.max(1, block / threads),
    depth,
    valueMatrices,
    headStride,
    keyStride,
    scoreStride,
    shared,
    bytes: 8 * (block * Math.max(headStride, keyStride) + shared) + 16 * block * scoreStride + 4 * threads + 16,
  };
}

/**
 * The first layout that the device can run and that makes enough workgroups, else the smallest that
 * it can run; undefined without subgroup matrices. Derived from the static model: docs/tuning.md.
 */
export function matrixAttentionShape(info: GpuInfo, sizes: AttentionSizes): MatrixAttentionShape | undefined {
  if (!info.subgroupMatrix) return undefined;
  const { m } = info.subgroupMatrix, { dim, t, heads, batch } = sizes;
  const rows = Math.max(1, 16 / m); // 16 queries per subgroup, or one matrix
  // subgroups, rows, keys: the largest first.
  const layouts = [[4, rows, 64], [4, rows, 32], [2, rows, 32], [2, 1, 32], [1, 1, 32]];
  if (dim <= 64 && m === 16) layouts.unshift([4, 2, 64]);
  const shapes = layouts.map(([subgroups, rows, keys]) => ({ subgroups, rows, keys }))
    .filter((shape) => unsupportedMatrixAttentionReason(info, dim, shape) === undefined);
  return shapes.find(({ subgroups, rows }) =>
    Math.ceil(t / (subgroups * rows * m)) * heads * batch >= enoughWorkgroups
  ) ?? shapes.at(-1);
}

/** Why a device cannot run a shape with heads of width `dim`; undefined if it can. */
export function unsupportedMatrixAttentionReason(
  { subgroupMatrix, limits }: GpuInfo,
  dim: number,
  shape: MatrixAttentionShape,
): string | undefined {
  if (!subgroupMatrix) {
    return "subgroup matrices are not supported, or were not requested by the option subgroupMatrices";
  }
  if (dim % 4 !== 0 || dim > widestOnePass) {
    return `the head width must be a multiple of 4 and at most ${widestOnePass}: ${dim}`;
  }
  const { n, k, lanes } = subgroupMatrix;
  const unit = Math.max(n, k);
  if (shape.keys % unit !== 0) return `keys must be a multiple of ${unit}, the size of its matrices: ${shape.keys}`;
  const { threads, block, bytes } = matrixAttentionBlocks(shape, subgroupMatrix, dim);
  if (threads > limits.maxComputeInvocationsPerWorkgroup) {
    return `subgroups · ${lanes} lanes must be at most ${limits.maxComputeInvocationsPerWorkgroup}: ${threads}`;
  }
  if (block % threads !== 0 && threads % block !== 0) {
    return `its ${threads} threads and ${block} queries must divide one another`;
  }
  if (threads > block && shape.keys / 4 % (threads / block) !== 0) {
    return `keys / 4 must be a multiple of the ${threads / block} threads of a query: ${shape.keys / 4}`;
  }
  return bytes <= limits.maxComputeWorkgroupStorageSize
    ? undefined
    : `the block must fit ${limits.maxComputeWorkgroupStorageSize} bytes of workgroup memory: ${bytes}`;
}
