import { GpuError } from "../../engine/errors.ts";
import type { Gpu, WgslExtension } from "../../engine/gpu.ts";
import type { Grid } from "../../engine/kernel/kernel.ts";
import { policyOf } from "../policy.ts";
import { matrixTile } from "./tile_matrix.ts";
import {
  asSubgroupTile,
  f32Element,
  type GatedTileConstants,
  type TileConstants,
  type TileElement,
  type TileShape,
  tileSize,
  usesWorkgroupMemory,
} from "./tile_shape.ts";
import { matrixDepth, unsupportedReason } from "./tile_support.ts";
import { stationaryDepths, stationaryTile } from "./tile_stationary.ts";
import { subgroupTile } from "./tile_subgroup.ts";
import { blockDepth } from "./tile_blocks.ts";
import { type BlockLoads, workgroupTile } from "./tile_workgroup.ts";

export {
  canGate,
  put,
  storeWgsl,
  type TileConstants,
  tileConstantTypes,
  type TileElement,
  type TileShape,
  tileSize,
  usesWorkgroupMemory,
} from "./tile_shape.ts";

/**
 * Tiles of C = A·B: generated WGSL that matmul, conv2d and the solver's products share. The tile is
 * the entry point `main`: the loop over K, the sums, and calls of functions that the kernel
 * defines. {@linkcode TileShape} describes the strategies. `deno task wgsl "matmul.*pocket"` prints
 * an example.
 *
 * The text is generated, because naga keeps a sum in a register only when it has a name of its own.
 *
 * A kernel declares `params.m`, `params.n` and `params.k`, the constants {@linkcode
 * tileConstantTypes}, and these functions. Rows that they receive are below `params.m`, except in
 * `tile_place`. Columns may lie beyond the last one: `tile_column` and `tile_column_end` clamp
 * them. k may lie beyond `params.k`, except with the constant WHOLE or the strategy `stationary`:
 * elements there must be zero in A and finite in B.
 *
 * Strategy `subgroup`:
 *
 * - `struct Row` and `tile_row(batch, row) -> Row`: a row of A, with its address precomputed
 * - `tile_a(Row, k) -> vec4f`: elements k … k+3 of the row
 * - `struct Column` and `tile_column(batch, column) -> Column`: four adjacent columns of B
 * - `tile_b(Column, k) -> mat4x4f`: their elements. Member j is row k+j
 * - `tile_end(batch, row, column, vec4f) -> vec4f`: the epilogue of four sums (bias, residual)
 * - `tile_put(batch, row, column, vec4f)`: stores four adjacent results of a row, with `row <
 *   params.m` and `column < params.n`
 *
 * With the constant WIDE (subgroup), and with the strategy `stationary`, all sizes and strides are
 * multiples of 8, a `Column` stands for eight columns, and these replace `tile_a`, `tile_b`,
 * `tile_end` and `tile_put`:
 *
 * - `tile_a8(Row, k) -> mat2x4f`: elements k … k+7
 * - `tile_b8(Column, k) -> Block`: elements k … k+7 of eight columns, as four mat4x4f:
 *   `upper_left`, `upper_right` (k … k+3), `lower_left`, `lower_right` (k+4 … k+7)
 * - `tile_end8`, `tile_put8`: the same for eight results
 *
 * Strategy `stationary` keeps sums in the result, between blocks of k. The kernel also declares
 *
 * - `params.tile_rows`: the rows of a workgroup
 * - the binding `y` of the result, with accesses of 8 elements, and `place(batch, row, column) ->
 *   u32`, the index of an element in it
 * - `tile_accumulates() -> bool`: whether the sums start from what the result holds
 *
 * On request, these two strategies add `tile_column_end(column) -> vec4f` to the sums of four
 * columns before `tile_end`, and compute it once for all rows. On request, the sums of a row start
 * from `tile_row_start(batch, row) -> f32`, which one lane computes.
 *
 * Strategies `workgroup`, `half` and `matrix`. Loads return vec4f, or vec4<f16> with `half` and
 * `matrix`. {@linkcode BlockLoads} tells which of two loads of A and of B the kernel has:
 *
 * - `tile_row`, and `tile_a` (along k) or `tile_a_line(Row, k)`: element k of four adjacent rows
 *   (not `matrix`)
 * - `tile_column`, and `tile_b_k(Column, k)`: elements k … k+3 of one column; or
 *   `tile_b_line(Column, k)`: element k of four adjacent columns
 * - `tile_row_end(batch, row)` and `tile_column_end(column)`: what the epilogue needs of a row and
 *   of four columns, computed once each, and `tile_end(sum, of_column, of_row) -> vec4f`: the
 *   epilogue of four sums
 * - `tile_place(batch, row) -> u32`: the place of a row in the result
 * - `tile_step(rows) -> u32`: the distance of rows in the result
 * - `tile_store(place, column, vec4f)`: adds a residual, and stores four adjacent results
 *
 * With the constant GATED (two vec4 per thread), B has 2 · `params.n` columns. The second vec4 of a
 * thread holds the gates of the first, and `tile_gate(vec4f, vec4f) -> vec4f` combines them.
 *
 * Three choices here reduce compile time on lavapipe. Figures: docs/tuning.md.
 *
 * 1. Compile time grows with the number of memory accesses in the text. So the subgroup strategy
 *    stores results in a loop over rows, and selects the row's sums by a tree of selects. The rows
 *    of the stationary strategy are a loop in any case.
 * 2. Lavapipe compiles a kernel again for each value of a uniform that bounds a loop. So loops
 *    count from a number that depends on the workgroup.
 * 3. Each kernel variant is compiled separately. So whatever can be a parameter is no constant.
 */

/**
 * The kernel constants of a tile shape.
 *
 * @param options.isVec8 whether sizes and strides of the operands are multiples of 8. WIDE also
 *   requires a subgroup tile with an even number of columns. Default: false
 * @param options.canHoldSums whether the result can hold sums over a part of k without rounding
 *   them. A `subgroup` tile replaces a `stationary` one without it, or without vec8. Default: true
 * @param options.k length of the sums. The constant WHOLE is set where it is a multiple of the
 *   blocks' depth. Default: 1, which is none
 * @throws {GpuError} when the shape needs subgroup matrices or f16 arithmetic that are not in use
 */
export function tileConstants(
  gpu: Gpu,
  asked: TileShape,
  { isVec8 = false, canHoldSums = true, k = 1 }: { isVec8?: boolean; canHoldSums?: boolean; k?: number } = {},
): TileConstants {
  const shape = asked.strategy === "stationary" && !(isVec8 && canHoldSums) ? asSubgroupTile(asked, asked.rows) : asked;
  const { strategy, lanes, threadsX, columns } = shape;
  const why = unsupportedReason(gpu.info, asked);
  if (why) {
    const kind = strategy === "half" ? "of f16 arithmetic " : strategy === "matrix" ? "of subgroup matrices " : "";
    throw new GpuError(`Cannot use a tile ${kind}on ${gpu.info.name} as ${why}`);
  }
  return {
    STRATEGY: strategy,
    LANES: lanes,
    THREADS_X: threadsX,
    ROWS: strategy === "stationary" ? 1 : shape.rows, // those are a param, and make no variants
    COLUMNS: columns,
    DEPTH: strategy === "stationary" ? shape.depth ?? stationaryDepths(lanes).least : 0,
    WIDE: isVec8 && strategy === "subgroup" && columns % 2 === 0,
    WHOLE: usesWorkgroupMemory(strategy) && k % (strategy === "matrix" ? matrixDepth : blockDepth) === 0,
    LOOPED: (strategy === "workgroup" || strategy === "half") && policyOf(gpu).isSoftware,
    ...(strategy === "matrix" ? matrixConstants(gpu) : noMatrix),
  };
}

/** The constants of tiles without subgroup matrices. */
const noMatrix = { MATRIX_M: 0, MATRIX_N: 0, MATRIX_K: 0, MATRIX_LANES: 0 };

function matrixConstants(gpu: Gpu): typeof noMatrix {
  const { m, n, k, lanes } = gpu.info.subgroupMatrix!;
  return { MATRIX_M: m, MATRIX_N: n, MATRIX_K: k, MATRIX_LANES: lanes };
}

/** WGSL extensions required by the kernel of a tile. */
export function tileExtensions({ STRATEGY }: Pick<TileConstants, "STRATEGY">): readonly WgslExtension[] {
  if (STRATEGY === "half") return ["f16"];
  return STRATEGY === "matrix" ? ["subgroups", "f16", "chromium_experimental_subgroup_matrix"] : ["subgroups"];
}

/**
 * Workgroups that cover the m × n results of a batch, from a kernel's params.
 *
 * @param params.batch number of results. Default: 1
 * @param params.tile_rows rows of a workgroup of a `stationary` tile; 1 with others, the default
 */
export function tileGrid(
  constants: GatedTileConstants,
  { m, n, batch = 1, tile_rows: tileRows = 1 }: {
    readonly m: number;
    readonly n: number;
    readonly batch?: number;
    readonly tile_rows?: number;
  },
): Grid {
  const { rows, columns } = tileSize(constants);
  return [Math.ceil(n / (constants.GATED ? columns / 2 : columns)), Math.ceil(m / (rows * tileRows)), batch];
}

/**
 * The entry point `main` for a shape.
 *
 * @param options.element type of the elements. Default: f32. Subgroup matrices have f32 only
 * @param options.hasColumnEnd whether `tile_column_end` is added to sums, by the strategies of
 *   software devices. Default: false
 * @param options.hasRowStart whether its sums start from `tile_row_start`. Default: false
 */
export function tileWgsl(
  constants: GatedTileConstants,
  { element = f32Element, loads = { a: "k", b: "lines" }, hasColumnEnd, hasRowStart }: {
    element?: TileElement;
    loads?: BlockLoads;
    hasColumnEnd?: boolean;
    hasRowStart?: boolean;
  } = {},
): string {
  switch (constants.STRATEGY) {
    case "subgroup":
      return subgroupTile(constants, element, { hasColumnEnd, hasRowStart });
    case "stationary":
      return stationaryTile(constants, { hasColumnEnd, hasRowStart });
    case "workgroup":
    case "half":
      return workgroupTile(constants, element, loads);
    case "matrix":
      return matrixTile(constants, loads);
  }
}
