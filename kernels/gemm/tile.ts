import { GpuError } from "../../engine/errors.ts";
import type { Gpu, WgslExtension } from "../../engine/gpu.ts";
import type { Grid } from "../../engine/kernel/kernel.ts";
import { unsupportedReason } from "../policy.ts";
import { matrixTile } from "./tile_matrix.ts";
import {
  f32Element,
  type GatedTileConstants,
  type TileConstants,
  type TileElement,
  type TileShape,
  tileSize,
} from "./tile_shape.ts";
import { subgroupTile } from "./tile_subgroup.ts";
import { workgroupTile } from "./tile_workgroup.ts";

export { put, type TileConstants, tileConstantTypes, type TileElement, type TileShape } from "./tile_shape.ts";

/**
 * The register-tile core of C = A·B that matmul and conv2d share: generated WGSL, because naga
 * keeps an accumulator in a register only when it has a name of its own.
 *
 * A kernel says what A, B and C are by defining, beside `params.m`, `params.n` and `params.k`:
 *
 * - `struct Row` and `tile_row(batch, row) -> Row`: a row of A, its address worked out once
 * - `tile_a(Row, k) -> vec4f`: the row's elements k … k+3, zero from `params.k` on
 * - `struct Column` and `tile_column(batch, column) -> Column`: four (WIDE: eight) neighbouring
 *   columns of B
 * - `tile_b(Column, k) -> mat4x4f`: their elements; member j is row k+j, finite from `params.k` on
 * - `tile_end(batch, row, column, vec4f) -> vec4f`: what becomes of a sum (bias, activation,
 *   residual)
 * - `tile_put(batch, row, column, vec4f)`: stores four neighbouring results of a row, `row <
 *   params.m`, `column < params.n`
 *
 * Rows and columns may lie beyond the edge, and must then be clamped, in the first four.
 *
 * Where the constant WIDE holds, all sizes and strides divide by eight, and in place of `tile_a`,
 * `tile_b`, `tile_end` and `tile_put` there are
 *
 * - `tile_a8(Row, k) -> mat2x4f`: elements k … k+7
 * - `tile_b8(Column, k) -> Block`: elements k … k+7 of eight columns, as four mat4x4f:
 *   `upper_left`, `upper_right` (k … k+3), `lower_left`, `lower_right`
 * - `tile_end8`, `tile_put8`: as their narrow namesakes, for eight results
 *
 * Where the constant GATED holds (workgroup strategy, two vec4 a thread), B has 2 · `params.n`
 * columns, and a thread's second vec4 are the columns that gate the first: `tile_gate(batch, row,
 * column, vec4f, vec4f) -> vec4f` makes one of both in place of `tile_end`.
 *
 * Two things make lavapipe's compiler slow, and shape this file. Each memory access in the text
 * costs it some 10 ms, and an unrolled epilogue has several for every accumulator: so results are
 * ended and stored in a loop over rows, which takes its row out of the accumulators by a tree of
 * selects (an array of accumulators took it 15 s). And it compiles a kernel anew for each value of
 * a uniform that bounds a loop: so loops count from a number that depends on the workgroup. A tile
 * of 32 × 2 with bias and residual compiled in 4.2 s with all accesses unrolled, in 0.8 s with the
 * stores unrolled alone, and in 0.5 s like this. For the same reason what can be told by a
 * parameter is no constant: a variant less is half a second less.
 */

/**
 * A shape as constants. `inEights` tells that the operands can be accessed so; whether they are is
 * the shape's matter, too.
 *
 * @throws {GpuError} when the shape wants subgroup matrices that are not in use
 */
export function tileConstants(
  gpu: Gpu,
  shape: TileShape,
  { inEights = false }: { inEights?: boolean } = {},
): TileConstants {
  const { strategy, lanes, threadsX, rows, columns } = shape;
  return {
    STRATEGY: strategy,
    LANES: lanes,
    THREADS_X: threadsX,
    ROWS: rows,
    COLUMNS: columns,
    WIDE: inEights && strategy === "subgroup" && columns % 2 === 0,
    ...(strategy === "matrix" ? matrixConstants(gpu, shape) : noMatrix),
  };
}

const noMatrix = { MATRIX_M: 0, MATRIX_N: 0, MATRIX_K: 0, MATRIX_LANES: 0 };

function matrixConstants(gpu: Gpu, shape: TileShape): typeof noMatrix {
  const why = unsupportedReason(gpu.info, shape);
  if (why) throw new GpuError(`Cannot compute a tile of subgroup matrices on ${gpu.info.name} as ${why}`);
  const { m, n, k, lanes } = gpu.info.subgroupMatrix!;
  return { MATRIX_M: m, MATRIX_N: n, MATRIX_K: k, MATRIX_LANES: lanes };
}

/** WGSL extensions that a tile's kernel uses. */
export function tileExtensions({ STRATEGY }: Pick<TileConstants, "STRATEGY">): readonly WgslExtension[] {
  return STRATEGY === "matrix" ? ["subgroups", "f16", "chromium_experimental_subgroup_matrix"] : ["subgroups"];
}

/** Workgroups that cover an m × n result, `batch` times. */
export function tileGrid(c: GatedTileConstants, m: number, n: number, batch: number): Grid {
  const { rows, columns } = tileSize(c);
  return [Math.ceil(n / (c.GATED ? columns / 2 : columns)), Math.ceil(m / rows), batch];
}

/**
 * The entry point `main` for a shape.
 *
 * @param element type of the elements. Default: f32. Subgroup matrices have f32 only
 */
export function tileWgsl(constants: GatedTileConstants, element: TileElement = f32Element): string {
  switch (constants.STRATEGY) {
    case "subgroup":
      return subgroupTile(constants, element);
    case "workgroup":
      return workgroupTile(constants, element);
    case "matrix":
      return matrixTile(constants);
  }
}
