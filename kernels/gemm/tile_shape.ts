import type { ConstantValues } from "../../engine/kernel/kernel.ts";

/**
 * How the tile is computed.
 *
 * - `subgroup`: a workgroup is one subgroup of `lanes`. A lane owns `columns` vec4 of each of
 *   `rows` rows; rows of A are loaded once by the subgroup and handed round by `subgroupBroadcast`.
 *   For software devices, where a load costs as much as some 40 fma and nothing hides it.
 * - `workgroup`: `lanes` = `threadsX` × `threadsY` threads share blocks of A and B, 16 deep,
 *   through workgroup memory; a thread owns `rows` rows × `columns` vec4. For GPUs.
 * - `matrix`: `lanes` threads are subgroups, `threadsX` of them side by side; a subgroup owns
 *   `rows` × `columns` subgroup matrices of results. Blocks of A and B pass through workgroup
 *   memory, rounded to f16; sums are f32. For devices with tensor cores, and for products that may
 *   be rounded:
 *
 *       |y − A·B| ≤ (2 · 2⁻¹¹ + 2⁻²²) · |A|·|B|, beside the rounding of an f32 sum
 *
 *   where a's and b's magnitudes are from 2⁻¹⁴ to 65,504: beyond, f16 overflows to infinity, and
 *   below, it errs by up to 2⁻²⁵ instead. (2⁻¹⁰ in place of 2⁻¹¹ where a device cuts off instead of
 *   rounding to the nearest, which WGSL allows.) Of random operands, errors cancel: ‖y − A·B‖ /
 *   ‖A·B‖ was 2.7·10⁻⁴ for k = 64, 320, 1280 and 5120 (values from −1 to 1, lavapipe of Mesa
 *   26.2), against 1.4·10⁻⁷ to 1.3·10⁻⁶ in f32.
 */
export interface TileShape {
  /** How the invocations of a workgroup share the operands. */
  readonly strategy: "subgroup" | "workgroup" | "matrix";
  /** Invocations of the subgroup that is the workgroup (subgroup), or of the workgroup. */
  readonly lanes: number;
  /** Invocations, or subgroups (matrix), side by side. */
  readonly threadsX: number;
  /**
   * Rows an accumulator set holds: of the whole tile (subgroup), of a thread (workgroup); or
   * matrices below each other (matrix).
   */
  readonly rows: number;
  /** vec4 columns of a lane, or matrices of a subgroup side by side (matrix). */
  readonly columns: number;
}

/** The constants that make a kernel's variants differ by tile shape. */
export type TileConstants = ConstantValues<typeof tileConstantTypes>;

/**
 * Types of {@linkcode TileConstants}, for declarations. MATRIX_… are 0 in tiles without matrices.
 */
export const tileConstantTypes = {
  STRATEGY: ["workgroup", "subgroup", "matrix"],
  LANES: "u32",
  THREADS_X: "u32",
  ROWS: "u32",
  COLUMNS: "u32",
  WIDE: "bool",
  MATRIX_M: "u32",
  MATRIX_N: "u32",
  MATRIX_K: "u32",
  MATRIX_LANES: "u32",
} as const;

/** Constants of a tile whose B may have gate columns. */
export type GatedTileConstants = TileConstants & { readonly GATED?: boolean };

/** Rows and columns (in elements) that one workgroup computes. */
export function tileSize(
  { STRATEGY, LANES, THREADS_X, ROWS, COLUMNS, MATRIX_M, MATRIX_N, MATRIX_LANES }: TileConstants,
): { rows: number; columns: number } {
  switch (STRATEGY) {
    case "subgroup":
      return { rows: ROWS, columns: 4 * LANES * COLUMNS };
    case "matrix":
      return { rows: ROWS * MATRIX_M * (LANES / MATRIX_LANES / THREADS_X), columns: THREADS_X * COLUMNS * MATRIX_N };
    case "workgroup":
      return { rows: ROWS * (LANES / THREADS_X), columns: 4 * THREADS_X * COLUMNS };
  }
}

/** The WGSL types of a tile's elements: what the generated text differs in between f32 and f64. */
export interface TileElement {
  /** Four elements: of a row of A, of a row of B, of the sums. */
  readonly vector: string;
  /** Four rows of B by four columns. */
  readonly block: string;
  /** The name of row j of a block. */
  readonly row: (block: string, j: number) => string;
  /**
   * A condition on a workgroup's first column and the row after its last: workgroups for which it
   * holds compute nothing. Default: all compute.
   */
  readonly skips?: (column: string, endRow: string) => string;
}

/** f32, with the matrices that WGSL has for it. */
export const f32Element: TileElement = { vector: "vec4f", block: "mat4x4f", row: (block, j) => `${block}[${j}]` };

/** The statement that leaves a workgroup which the element type's `skips` names. */
export const skipStatement = ({ skips }: TileElement, column: string, endRow: string): string =>
  skips ? `if (${skips(column, endRow)}) { return; }` : "";

/**
 * The statement that passes a sum through the epilogue `tile_end` and stores it with `tile_put`.
 */
export const put = (place: string, sum: string, eight: 8 | "" = ""): string =>
  `tile_put${eight}(${place}, tile_end${eight}(${place}, ${sum}));`;
