import type { GpuInfo, SubgroupMatrix } from "../../engine/gpu.ts";
import { rowsPerSelect } from "../wgsl/text.ts";
import { depthVec4 } from "./tile_blocks.ts";
import type { TileShape } from "./tile_shape.ts";

/**
 * Depth (k) of the blocks of A and B in workgroup memory in tiles of subgroup matrices; a multiple
 * of the k of one matrix.
 */
export const matrixDepth = 32;

/** Why a device cannot run a tile; undefined if it can. */
export function unsupportedReason(
  info: GpuInfo,
  { strategy, lanes, threadsX, rows, columns, accesses = 1 }: TileShape,
): string | undefined {
  const { subgroupSize, subgroupMatrix, limits } = info;
  if (strategy === "subgroup" || strategy === "stationary") {
    if (lanes !== subgroupSize) return `lanes must be its subgroup size, ${subgroupSize}: ${lanes}`;
    if (strategy === "stationary") {
      if (accesses > 2) return `accesses must be 1 or 2: ${accesses}`;
      return columns === 2 ? undefined : `columns must be 2: ${columns}`;
    }
    return rows <= rowsPerSelect || rows % rowsPerSelect === 0
      ? undefined
      : `rows must be at most ${rowsPerSelect}, or a multiple of it: ${rows}`;
  }
  if (lanes > limits.maxComputeInvocationsPerWorkgroup) {
    return `lanes must be at most ${limits.maxComputeInvocationsPerWorkgroup}: ${lanes}`;
  }
  if (strategy !== "matrix" && (lanes % depthVec4 !== 0 || lanes % threadsX !== 0)) {
    return `lanes must be a multiple of ${depthVec4} (vec4 of a block's depth) and of ${threadsX} (threadsX): ${lanes}`;
  }
  if (strategy === "half" && info.arithmetic !== "f16") {
    return 'f16 arithmetic was not requested by the option arithmetic: "f16"';
  }
  if (strategy === "matrix") {
    if (!subgroupMatrix) {
      return "subgroup matrices are not supported, or were not requested by the option subgroupMatrices";
    }
    if (lanes % (subgroupMatrix.lanes * threadsX) !== 0) {
      return `lanes must be a multiple of ${subgroupMatrix.lanes} (subgroup size) · ${threadsX} (threadsX): ${lanes}`;
    }
  }
  const bytes = workgroupBytes({ strategy, lanes, threadsX, rows, columns }, subgroupMatrix);
  return bytes <= limits.maxComputeWorkgroupStorageSize
    ? undefined
    : `the tile must fit ${limits.maxComputeWorkgroupStorageSize} bytes of workgroup memory: ${bytes}`;
}

/** Bytes of workgroup memory of a workgroup or matrix tile. */
function workgroupBytes({ strategy, lanes, threadsX, rows, columns }: TileShape, matrix?: SubgroupMatrix): number {
  // Blocks of depth 16, padded: see tile_blocks.ts.
  if (strategy === "half") return 2 * 16 * (rows * (lanes / threadsX) + 4 * columns * threadsX) + 4 * (16 + 64);
  if (strategy !== "matrix" || !matrix) {
    return 16 * 4 * (rows * (lanes / threadsX) + 2 + 4 * columns * (threadsX + 1) + 6);
  }
  const { m, n } = matrix, subgroups = lanes / matrix.lanes;
  const tileRows = rows * m * (subgroups / threadsX), tileColumns = columns * n * threadsX;
  return 2 * (tileRows + tileColumns) * (matrixDepth + 8) + 4 * subgroups * m * n;
}

/** Whether a tile rounds its operands to f16. */
export function roundsOperands({ strategy }: TileShape): boolean {
  return strategy === "matrix" || strategy === "half";
}
