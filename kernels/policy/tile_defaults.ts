/** Default tiles of products, by device. Measurements behind them: docs/tuning.md. */
import type { DeviceClass, GpuInfo } from "../../engine/gpu.ts";
import type { TileShape } from "../gemm/tile_shape.ts";
import type { TileKind, Tiles } from "../tuning.ts";

/** The kind of an m × n result: see {@linkcode TileKind}. */
export function tileKind(m: number, n: number): TileKind {
  if (m <= 8) return "row";
  if (m <= 64) return "skinny";
  return m >= 128 && n >= 128 && m * n >= 128 * 128 * 32 ? "many" : "few";
}

/** A workgroup tile of threadsX × threadsY threads, each with `rows` rows × `columns` vec4. */
export const workgroup = (threadsX: number, threadsY: number, rows: number, columns: number): TileShape => ({
  strategy: "workgroup",
  lanes: threadsX * threadsY,
  threadsX,
  rows,
  columns,
});

const small: Required<Tiles> = {
  row: workgroup(8, 8, 1, 1), // 8 × 32
  skinny: workgroup(8, 8, 4, 1), // 32 × 32
  few: workgroup(8, 8, 4, 2), // 32 × 64
  many: workgroup(8, 8, 8, 2), // 64 × 64
};
const large: Required<Tiles> = { ...small, many: workgroup(16, 16, 8, 2) }; // 128 × 128

/**
 * Default tiles of GPUs, derived from their registers: 128 × 128 results per workgroup where an
 * invocation has 255 registers (NVIDIA, AMD), 64 × 64 elsewhere.
 */
const defaults: Readonly<Record<Exclude<DeviceClass, "software">, Required<Tiles>>> = {
  nvidia: large,
  amd: large,
  apple: small,
  intel: small,
  other: small,
};

/**
 * The most rows of a workgroup of a stationary kernel, unless a tile asks for another number: the
 * sums of so many rows of 64 columns, which the result holds, fit a processor's second cache.
 */
export const mostStationaryRows = 256;

/**
 * Default tiles of software devices with subgroups. With 8 lanes, a stationary one. Of the others,
 * taller ones load less but take longer to compile, because the rows are unrolled.
 */
function softwareTiles(lanes: number): Required<Tiles> {
  const shape = { lanes, threadsX: lanes, columns: 2 };
  if (lanes === 8) {
    const tile: TileShape = { ...shape, strategy: "stationary", rows: mostStationaryRows };
    return { row: tile, skinny: tile, few: tile, many: tile };
  }
  const tile = (rows: number): TileShape => ({ ...shape, strategy: "subgroup", rows });
  return { row: tile(8), skinny: tile(32), few: tile(32), many: tile(32) };
}

/**
 * Default tiles of subgroup matrices: 2 × 2 subgroups of 4 × 4 matrices, or of 2 × 2 matrices for
 * results that are small. With matrices of 16 × 16 that is 128 × 128 and 64 × 64 elements; the sums
 * of the larger tile take half of NVIDIA's registers. Derived, not tuned.
 */
function matrixTiles(lanes: number): Tiles {
  const tile = (size: number): TileShape => ({
    strategy: "matrix",
    lanes: 4 * lanes,
    threadsX: 2,
    rows: size,
    columns: size,
  });
  return { few: tile(2), many: tile(4) };
}

/**
 * Default tiles of f16 arithmetic: the workgroup tiles of the device's class, or on software
 * devices small ones, whose unrolled code compiles faster. Derived, not tuned.
 */
function halfTiles(deviceClass: DeviceClass): Required<Tiles> {
  const base = deviceClass === "software" ? { ...small, few: small.skinny, many: small.skinny } : defaults[deviceClass];
  const half = (tile: TileShape): TileShape => ({ ...tile, strategy: "half" });
  return { row: half(base.row), skinny: half(base.skinny), few: half(base.few), many: half(base.many) };
}

/** Whether an invocation has the 255 registers that large tiles need. */
export function hasManyRegisters({ deviceClass }: GpuInfo): boolean {
  return deviceClass !== "software" && defaults[deviceClass] === large;
}

/**
 * The default tiles of a device. Where operands may be rounded, tiles of f16 arithmetic replace the
 * f32 ones if the device was opened with it, and tiles of subgroup matrices those of large results.
 */
export function defaultTiles(info: GpuInfo, allowF16Operands: boolean): Required<Tiles> {
  const { deviceClass, subgroupSize, subgroupMatrix, arithmetic } = info;
  const base = deviceClass !== "software"
    ? defaults[deviceClass]
    : subgroupSize > 0
    ? softwareTiles(subgroupSize)
    : small;
  return {
    ...base,
    ...(allowF16Operands && arithmetic === "f16" ? halfTiles(deviceClass) : {}),
    ...(allowF16Operands && subgroupMatrix ? matrixTiles(subgroupMatrix.lanes) : {}),
  };
}
