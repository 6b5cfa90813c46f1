import type { GpuInfo, SubgroupMatrix } from "../../engine/gpu.ts";
import { rowsPerSelect } from "../wgsl/text.ts";
import { depthVec4 } from "./tile_blocks.ts";
import { type TileShape, tileStrategies } from "./tile_shape.ts";
import { stationaryDepths, unsupportedDepthReason } from "./tile_stationary.ts";

/**
 * Depth (k) of the blocks of A and B in workgroup memory in tiles of subgroup matrices; a multiple
 * of the k of one matrix.
 */
export const matrixDepth = 32;

/** Largest field of a tile or an attention form. */
export const mostOfShape = 1024;

/**
 * Most sums of an invocation, in vec4 or subgroup matrices. Their loops are unrolled, and far more
 * sums compile for hours. The tuner tries at most 128.
 */
const mostSums = 256;

/** Why an object is no tile of any device; undefined if it is one. */
export function malformedTileReason(tile: unknown): string | undefined {
  if (typeof tile !== "object" || tile === null) return `a tile must be an object: ${tile}`;
  const { strategy, lanes, threadsX, rows, columns, depth = 1 } = tile as Partial<TileShape>;
  if (!(tileStrategies as readonly unknown[]).includes(strategy)) {
    return `the strategy must be ${tileStrategies.join(", ")}: ${JSON.stringify(strategy)}`;
  }
  const fields = ["strategy", "lanes", "threadsX", "rows", "columns", ...(strategy === "stationary" ? ["depth"] : [])];
  const malformed = unknownFieldReason(tile, fields, `a ${strategy} tile`) ??
    malformedNumberReason({ lanes, threadsX, rows, columns, depth });
  if (malformed) return malformed;
  if (lanes! % threadsX! !== 0) return `lanes must be a multiple of threadsX: ${lanes}, ${threadsX}`;
  return strategy === "stationary" || rows! * columns! <= mostSums
    ? undefined
    : `rows · columns must be at most ${mostSums}, as code for more compiles too slowly: ${rows} · ${columns}`;
}

/** Why an object has a field that `kind` does not have; undefined if it has none. */
export function unknownFieldReason(object: object, fields: readonly string[], kind: string): string | undefined {
  const unknown = Object.entries(object).find(([name, value]) => value !== undefined && !fields.includes(name));
  return unknown && `${kind} has the fields ${fields.join(", ")}, not ${JSON.stringify(unknown[0])}`;
}

/** Why fields of a tile or an attention form are none; undefined if they are. */
export function malformedNumberReason(numbers: Readonly<Record<string, unknown>>): string | undefined {
  for (const [name, value] of Object.entries(numbers)) {
    if (!Number.isInteger(value) || (value as number) < 1 || (value as number) > mostOfShape) {
      const found = typeof value === "number" ? `${value}` : JSON.stringify(value);
      return `${name} must be a whole number from 1 to ${mostOfShape}: ${found}`;
    }
  }
}

/** Why a device cannot run a tile; undefined if it can. */
export function unsupportedReason(info: GpuInfo, tile: TileShape): string | undefined {
  const malformed = malformedTileReason(tile);
  if (malformed) return malformed;
  const { strategy, lanes, threadsX, rows, columns, depth = stationaryDepths(lanes).least } = tile;
  const { subgroupSize, subgroupMatrix, limits } = info;
  if (strategy === "subgroup" || strategy === "stationary") {
    if (lanes !== subgroupSize) return `lanes must be its subgroup size, ${subgroupSize}: ${lanes}`;
    if (strategy === "stationary") {
      return columns === 2 ? unsupportedDepthReason(lanes, depth) : `columns must be 2: ${columns}`;
    }
    return rows <= rowsPerSelect || rows % rowsPerSelect === 0
      ? undefined
      : `rows must be at most ${rowsPerSelect}, or a multiple of it: ${rows}`;
  }
  if (lanes > limits.maxComputeInvocationsPerWorkgroup) {
    return `lanes must be at most ${limits.maxComputeInvocationsPerWorkgroup}: ${lanes}`;
  }
  if (strategy !== "matrix" && lanes % depthVec4 !== 0) {
    return `lanes must be a multiple of ${depthVec4} (vec4 of a block's depth): ${lanes}`;
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

/** Bytes of workgroup memory of a tile; the most of all ways to load its operands. */
function workgroupBytes({ strategy, lanes, threadsX, rows, columns }: TileShape, matrix?: SubgroupMatrix): number {
  if (strategy === "matrix" && matrix) {
    const { m, n } = matrix, subgroups = lanes / matrix.lanes;
    const tileRows = rows * m * (subgroups / threadsX), tileColumns = columns * n * threadsX;
    return 2 * (tileRows + tileColumns) * (matrixDepth + 8) + 4 * subgroups * m * n;
  }
  // Blocks are padded for every vec4 of their depth: see tile_blocks.ts.
  const tileRows = rows * (lanes / threadsX), tileColumns = 4 * columns * threadsX;
  return strategy === "half"
    ? depthVec4 * (8 * (tileRows + tileColumns) + 16 + 64)
    : depthVec4 * 16 * (tileRows + 2 + tileColumns + 4 * columns + 6);
}

/** Whether a tile rounds its operands to f16. */
export function roundsOperands({ strategy }: TileShape): boolean {
  return strategy === "matrix" || strategy === "half";
}
