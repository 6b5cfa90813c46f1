import { DTypeError } from "../../engine/errors.ts";
import { declareKernel, input, output, storage } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";
import {
  elementwise,
  elementwiseConstantTypes,
  elementwiseGrid,
  elementwiseParams,
  elementwiseWgsl,
} from "../wgsl/elementwise.ts";
import { launchOverRanges } from "../wgsl/launch.ts";

/**
 * Copies one row of the table for each id. CLIP's table (145 MiB in f32) exceeds the binding limit
 * of some devices. Each dispatch then binds a range of the table, and writes only the rows whose
 * ids lie in that range.
 */
const embeddingKernel = declareKernel({
  name: "embedding",
  bindings: { table: input("TABLE_WIDTH"), ids: storage("read", "array<id>"), y: output("TABLE_WIDTH") },
  params: { ...elementwiseParams, table_start: "u32", first_id: "u32", last_id: "u32", vocabulary: "u32" },
  constants: { TABLE_WIDTH: "u32", id: "type", ...elementwiseConstantTypes },
  wgsl: /* wgsl */ `
fn element(row: u32, column: u32) {
  // Ids out of range, including negative ones, read the last row.
  let at = min(u32(ids[row]), params.vocabulary - 1u);
  if (at < params.first_id || at > params.last_id) { return; }
  y_put(row * params.columns + column, table_at(params.table_start + (at - params.first_id) * params.columns + column));
}
${elementwiseWgsl}`,
  grid: (params, constants) => elementwiseGrid(params, constants),
  cost: ({ rows, columns }, { TABLE_WIDTH }) => ({ flops: 0, bytes: rows * (4 + columns * TABLE_WIDTH * 8) }),
});

/**
 * Looks up rows of a table: y[…, c] = table[ids[…], c]. Maps tokens or positions to embeddings.
 *
 * @param table [V, C], f32 or f16
 * @param ids [...], i32 or u32, from 0 to V − 1. Ids out of range read the last row, because a
 *   shader cannot throw
 * @returns [..., C], f32
 * @throws {DTypeError} when ids are neither i32 nor u32
 * @throws {ShapeError} when the table is not a matrix
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using table = Tensor.from(gpu, new Float32Array([1, 2, 3, 4, 5, 6]), [3, 2]);
 * using ids = Tensor.from(gpu, new Int32Array([2, 0]), [2]);
 * using y = embedding(table, ids); // [[5, 6], [1, 2]]
 * ```
 */
export function embedding(table: Tensor, ids: Tensor): Tensor {
  const { gpu } = table;
  const [vocabulary, width] = table.dims(2);
  if (ids.dtype !== "i32" && ids.dtype !== "u32") {
    throw new DTypeError(`Cannot look up rows by ids of ${ids.dtype} as they must be i32 or u32`);
  }
  return Tensor.filled(gpu, [...ids.shape, width], "f32", (y) => {
    const vectorWidth = width % 4 === 0 ? 4 : 1;
    launchOverRanges(
      gpu,
      vocabulary,
      { table: { tensor: table, unit: width } },
      ({ first, count, windows, starts }) => {
        const { params, constants } = elementwise(gpu, ids.size, width / vectorWidth);
        embeddingKernel.run(
          gpu,
          { ...windows, ids, y },
          { ...params, table_start: starts.table, first_id: first, last_id: first + count - 1, vocabulary },
          { TABLE_WIDTH: vectorWidth, id: ids.dtype, ...constants },
        );
      },
      { vectorWidth },
    );
  });
}
