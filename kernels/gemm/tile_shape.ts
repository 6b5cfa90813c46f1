import type { ConstantValues } from "../../engine/kernel/kernel.ts";

/**
 * The tile of a product: the block of C = A·B that one workgroup computes, and how.
 *
 * - `stationary`: a workgroup is one subgroup of `lanes` lanes. A lane owns 2 vec4 of columns, and
 *   holds a block of B while up to `rows` rows of A pass by. `subgroupBroadcast` passes elements of
 *   A between lanes. For software devices, and operands whose sizes and strides are multiples of 8.
 * - `subgroup`: the same for other operands, and for few rows. A lane owns `columns` vec4 of each
 *   of `rows` rows, whose sums stay in variables. Each lane loads a row of A.
 * - `workgroup`: `lanes` = `threadsX` × `threadsY` threads load blocks of A and B, of depth 16,
 *   into workgroup memory. A thread owns `rows` rows × `columns` vec4. For GPUs.
 * - `half`: as `workgroup`, with operands rounded to f16 and sums over 16 elements in f16, which
 *   are added up in f32. For devices opened with `arithmetic: "f16"`.
 * - `matrix`: `lanes` threads form subgroups, `threadsX` of them side by side. A subgroup owns
 *   `rows` × `columns` subgroup matrices of the result. Blocks of A and B pass through workgroup
 *   memory, rounded to f16; sums are f32. For devices with tensor cores.
 *
 * `half` and `matrix` serve only products whose operands may be rounded.
 *
 * Error bound of `matrix`, in addition to the rounding of f32 sums:
 *
 *     |y − A·B| ≤ (2 · 2⁻¹¹ + 2⁻²²) · |A|·|B|
 *
 * It holds for elements of magnitude 2⁻¹⁴ to 65,504. Larger elements overflow to infinity in f16;
 * smaller ones have an absolute error of up to 2⁻²⁵. WGSL lets a device truncate instead of
 * rounding to nearest: the bound then has 2⁻¹⁰ in place of 2⁻¹¹. Measured errors: docs/tuning.md.
 *
 * Error bound of `half`, to first order: 2 roundings of operands and 16 of a sum in f16, so
 *
 *     |y − A·B| ≤ 18 · 2⁻¹¹ · |A|·|B|
 *
 * It holds where sums over 16 elements stay below 65,504, too. Errors of random signs cancel.
 */
export interface TileShape {
  /** How the invocations of a workgroup share the operands. */
  readonly strategy: "workgroup" | "subgroup" | "stationary" | "matrix" | "half";
  /** Invocations per workgroup; with `stationary` and `subgroup`, the subgroup size. */
  readonly lanes: number;
  /** Invocations side by side; with `matrix`, subgroups side by side. */
  readonly threadsX: number;
  /**
   * Rows of the tile (`subgroup`) or at most as many (`stationary`), rows per thread (`workgroup`,
   * `half`), or rows of matrices per subgroup (`matrix`).
   */
  readonly rows: number;
  /** vec4 per lane in each row; with `matrix`, columns of matrices per subgroup. */
  readonly columns: number;
  /**
   * With `stationary`, elements of k of a block of B: a multiple of 16 from 8 · `lanes` to 16 ·
   * `lanes`. Default: 8 · `lanes`.
   */
  readonly depth?: number;
}

/** The strategies of {@linkcode TileShape}. */
export const tileStrategies = [
  "workgroup",
  "subgroup",
  "stationary",
  "matrix",
  "half",
] as const satisfies readonly TileShape[
  "strategy"
][];

/** Whether a strategy loads blocks of its operands into workgroup memory: see tile.ts. */
export const usesWorkgroupMemory = (strategy: TileShape["strategy"]): boolean =>
  strategy !== "subgroup" && strategy !== "stationary";

/** WGSL type of one load of a block: f16 where the tile multiplies f16. */
export const loadVector = (strategy: TileShape["strategy"]): "vec4f" | "vec4<f16>" =>
  strategy === "half" || strategy === "matrix" ? "vec4<f16>" : "vec4f";

/** The `subgroup` tile that replaces a `stationary` one for m rows. */
export const asSubgroupTile = ({ depth: _, ...shape }: TileShape, m: number): TileShape => ({
  ...shape,
  strategy: "subgroup",
  rows: m <= 8 ? 8 : 32,
});

/** Whether a tile can combine values and gates: see {@linkcode GatedTileConstants}. */
export const canGate = ({ strategy, columns }: TileShape): boolean =>
  (strategy === "workgroup" || strategy === "half") && columns === 2;

/** The kernel constants that a tile shape determines. */
export type TileConstants = ConstantValues<typeof tileConstantTypes>;

/** Types of {@linkcode TileConstants}, for declarations. */
export const tileConstantTypes = {
  // The fields of TileShape.
  STRATEGY: tileStrategies,
  LANES: "u32",
  THREADS_X: "u32",
  ROWS: "u32",
  COLUMNS: "u32",
  /** With `stationary`; else 0. */
  DEPTH: "u32",
  /** Whether one access moves 8 elements: `subgroup` tiles where all sizes and strides allow it. */
  WIDE: "bool",
  /** Whether k is a multiple of the blocks' depth, so that no load checks it. */
  WHOLE: "bool",
  /** Whether the loop over a block's depth is kept, which software devices compile faster. */
  LOOPED: "bool",
  // Sizes of the device's subgroup matrices; 0 in tiles of another strategy.
  MATRIX_M: "u32",
  MATRIX_N: "u32",
  MATRIX_K: "u32",
  MATRIX_LANES: "u32",
} as const;

/** Tile constants of kernels that support GATED (see tile.ts). */
export type GatedTileConstants = TileConstants & { readonly GATED?: boolean };

/** Rows and columns of a tile, in elements. The rows of a `stationary` tile are a param. */
export function tileSize(
  { STRATEGY, LANES, THREADS_X, ROWS, COLUMNS, MATRIX_M, MATRIX_N, MATRIX_LANES }: TileConstants,
): { rows: number; columns: number } {
  switch (STRATEGY) {
    case "subgroup":
    case "stationary":
      return { rows: ROWS, columns: 4 * LANES * COLUMNS };
    case "matrix":
      return { rows: ROWS * MATRIX_M * (LANES / MATRIX_LANES / THREADS_X), columns: THREADS_X * COLUMNS * MATRIX_N };
    case "workgroup":
    case "half":
      return { rows: ROWS * (LANES / THREADS_X), columns: 4 * THREADS_X * COLUMNS };
  }
}

/** WGSL types of a tile's elements, in which the f32 and the f64 tiles differ. */
export interface TileElement {
  /** Type of four adjacent elements of a row of A, of B or of the sums. */
  readonly vector: string;
  /** Type of a 4 × 4 block of B. */
  readonly block: string;
  /** WGSL expression: row j of a block. */
  readonly row: (block: string, j: number) => string;
  /**
   * WGSL condition: the tile need not be computed, as it lies above the diagonal of a triangular
   * result. Receives expressions for the tile's first column and for the row after its last.
   * Default: all tiles are computed.
   */
  readonly skips?: (column: string, endRow: string) => string;
}

/** f32: a block is a mat4x4f. */
export const f32Element: TileElement = { vector: "vec4f", block: "mat4x4f", row: (block, j) => `${block}[${j}]` };

/**
 * WGSL `tile_put` for results of `width` elements per access, or `tile_put8` for a width of 8. The
 * kernel defines `place(batch, row, column) -> u32`, the index of an element in the binding `y`.
 */
export const storeWgsl = (width: number): string =>
  width === 8
    ? /* wgsl */ `
fn tile_put8(batch: u32, row: u32, column: u32, value: mat2x4f) { y_put(place(batch, row, column) / 8u, value); }`
    : width === 4
    ? /* wgsl */ `
fn tile_put(batch: u32, row: u32, column: u32, value: vec4f) { y_put(place(batch, row, column) / 4u, value); }`
    : /* wgsl */ `
fn tile_put(batch: u32, row: u32, column: u32, value: vec4f) {
  let at = place(batch, row, column);
  y_put(at, value.x);
  if (column + 1u < params.n) { y_put(at + 1u, value.y); }
  if (column + 2u < params.n) { y_put(at + 2u, value.z); }
  if (column + 3u < params.n) { y_put(at + 3u, value.w); }
}`;

/**
 * WGSL `tile_store` (see tile.ts) where results are no vec4: passes those of the columns below
 * `params.n` to the kernel's `store_one(index, value)`, one by one.
 */
export const storeOnesWgsl = /* wgsl */ `
fn tile_store(start: u32, column: u32, value: vec4f) {
  let at = start + column;
  store_one(at, value.x);
  if (column + 1u < params.n) { store_one(at + 1u, value.y); }
  if (column + 2u < params.n) { store_one(at + 2u, value.z); }
  if (column + 3u < params.n) { store_one(at + 3u, value.w); }
}`;

/** Statement: returns from a tile that need not be computed. */
export const skipStatement = ({ skips }: TileElement, column: string, endRow: string): string =>
  skips ? `if (${skips(column, endRow)}) { return; }` : "";

/**
 * Statement: passes a sum through the epilogue, `tile_end`, and stores it by `tile_put`: tile.ts.
 *
 * @param place WGSL arguments "batch, row, column"
 * @param suffix 8 selects the vec8 functions `tile_end8` and `tile_put8`
 */
export const put = (place: string, sum: string, suffix: 8 | "" = ""): string =>
  `tile_put${suffix}(${place}, tile_end${suffix}(${place}, ${sum}));`;
