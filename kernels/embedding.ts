import { DTypeError, ShapeError } from "../engine/errors.ts";
import { declareKernel, input, output, spread, storage } from "../engine/kernel.ts";
import { Tensor } from "../engine/tensor.ts";

/** Rows of a table by their numbers. A table larger than one binding is read in windows of rows; each run fills the rows that it holds. */
const embeddingKernel = declareKernel({
  name: "embedding",
  bindings: { table: input("LANES"), ids: storage("read", "array<u32>"), y: output("LANES") },
  params: { count: "u32", width: "u32", first: "u32", rows: "u32" },
  constants: ["LANES"],
  wgsl: /* wgsl */ `
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 64u + lane;
  if (i >= params.count * params.width) { return; }
  let row = ids[i / params.width] - params.first; // wraps below first, and is then too large
  if (row < params.rows) { y_put(i, table_at(row * params.width + i % params.width)); }
}`,
  grid: ({ count, width }) => spread(Math.ceil(count * width / 64)),
  cost: ({ count, width }, { LANES }) => ({ flops: 0, bytes: 8 * count * width * (LANES as number) }),
});

/**
 * Rows of a table: y[…, :] = table[ids[…], :].
 *
 * @param table [V, C], f32 or f16
 * @param ids i32 or u32, any shape, from 0 to V − 1; rows of other ids are left undefined
 * @returns [..., C], f32
 * @throws {DTypeError} when the ids are not whole numbers
 */
export function embedding(table: Tensor, ids: Tensor): Tensor {
  const [vocabulary, width] = table.dims(2);
  if (ids.dtype !== "i32" && ids.dtype !== "u32") {
    throw new DTypeError(`Cannot look up rows by ${ids.dtype} numbers: i32 or u32 are taken`);
  }
  const { gpu } = table;
  const y = Tensor.empty(gpu, [...ids.shape, width]);
  const rowBytes = table.bytes / Math.max(vocabulary, 1);
  let step = Math.floor(gpu.info.limits.maxStorageBufferBindingSize / Math.max(rowBytes, 1));
  if (step < vocabulary) step -= step % 256; // windows must begin on the binding alignment
  if (step === 0) {
    throw new ShapeError(`Cannot look up rows of [${table.shape.join(", ")}] as one row exceeds a binding`, [
      table.shape,
    ]);
  }
  const lanes = width % 4 === 0 ? 4 : 1;
  for (let first = 0; first < vocabulary; first += step) {
    const rows = Math.min(step, vocabulary - first);
    embeddingKernel.run(
      gpu,
      { table: table.window(first * width, rows * width), ids, y },
      { count: ids.size, width: width / lanes, first, rows },
      { LANES: lanes },
    );
  }
  return y;
}
