import { declareKernel, storage } from "../../../engine/kernel/kernel.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { type TileConstants, tileConstantTypes, tileGrid, tileWgsl } from "../../../kernels/gemm/tile.ts";
import type { BlockLoads } from "../../../kernels/gemm/tile_workgroup.ts";
import { emulated } from "../emulated_matrices.ts";
import { assertClose, gpuTest, lackOf, matrixTolerance, randomArray, roundedToF16 } from "../../gpu.ts";

/** The text of a tile, with its matrices emulated. */
function emulatedTile(constants: TileConstants, loads: BlockLoads): string {
  const { MATRIX_M: m, MATRIX_N: n, MATRIX_K: k, MATRIX_LANES: lanes, LANES } = constants;
  const arrays = { left: "block_a", right: "block_b", sums: "sums" };
  return emulated(tileWgsl(constants, { loads }), { m, n, k, lanes, subgroups: LANES / lanes, arrays });
}

/** y = 2 · A·B + (row, column), in numbers one by one. */
const productKernel = declareKernel({
  name: "emulated_tile",
  bindings: { a: storage("read", "array<f32>"), b: storage("read", "array<f32>"), y: storage("write", "array<f32>") },
  params: { m: "u32", n: "u32", k: "u32" },
  constants: { B_LOADS: ["k", "lines"], ...tileConstantTypes },
  extensions: ["f16"],
  wgsl: (constants) =>
    /* wgsl */ `
struct Row { start: u32 }
fn tile_row(batch: u32, row: u32) -> Row { return Row(row * params.k); }
fn a_one(r: Row, k: u32) -> f32 { return select(0.0, a[r.start + min(k, params.k - 1u)], k < params.k); }
fn tile_a(r: Row, k: u32) -> vec4h {
  return vec4h(vec4f(a_one(r, k), a_one(r, k + 1u), a_one(r, k + 2u), a_one(r, k + 3u)));
}
struct Column { at: u32 }
fn tile_column(batch: u32, column: u32) -> Column { return Column(column); }
fn b_one(column: u32, k: u32) -> f32 { return b[min(k, params.k - 1u) * params.n + min(column, params.n - 1u)]; }
fn tile_b_line(c: Column, k: u32) -> vec4h {
  return vec4h(vec4f(b_one(c.at, k), b_one(c.at + 1u, k), b_one(c.at + 2u, k), b_one(c.at + 3u, k)));
}
fn tile_b_k(c: Column, k: u32) -> vec4h {
  return vec4h(vec4f(b_one(c.at, k), b_one(c.at, k + 1u), b_one(c.at, k + 2u), b_one(c.at, k + 3u)));
}
fn tile_row_end(batch: u32, row: u32) -> f32 { return f32(row); }
fn tile_column_end(column: u32) -> vec4f { return vec4f(f32(column)) + vec4f(0.0, 1.0, 2.0, 3.0); }
fn tile_end(sum: vec4f, of_column: vec4f, of_row: f32) -> vec4f { return 2.0 * sum + of_column + 100.0 * of_row; }
fn tile_place(batch: u32, row: u32) -> u32 { return row * params.n; }
fn tile_store(start: u32, column: u32, value: vec4f) {
  for (var i = 0u; i < min(4u, params.n - column); i++) { y[start + column + i] = value[i]; }
}
` + emulatedTile(constants, { a: "k", b: constants.B_LOADS }),
  grid: (params, constants) => tileGrid(constants, params),
  cost: ({ m, n, k }) => ({ flops: 2 * m * n * k, bytes: 4 * (m * k + k * n + m * n) }),
});

gpuTest(
  "tiles of subgroup matrices store every element of the product, for all matrix sizes",
  async (gpu) => {
    const [m, n, k] = [53, 70, 71];
    const aData = roundedToF16(randomArray(m * k, 1)), bData = roundedToF16(randomArray(k * n, 2));
    const expected = Float64Array.from({ length: m * n }, (_, i) => {
      let sum = 0;
      for (let j = 0; j < k; j++) sum += aData[Math.floor(i / n) * k + j] * bData[j * n + i % n];
      return 2 * sum + 100 * Math.floor(i / n) + i % n;
    });
    using a = Tensor.from(gpu, aData, [m, k]);
    using b = Tensor.from(gpu, bData, [k, n]);
    for (const [MATRIX_M, MATRIX_N, MATRIX_K] of [[16, 16, 16], [16, 8, 32], [8, 32, 16]]) {
      for (const [subgroups, THREADS_X, ROWS, COLUMNS] of [[2, 1, 1, 2], [6, 3, 2, 1]]) {
        using y = Tensor.empty(gpu, [m, n]);
        const B_LOADS = THREADS_X === 1 ? "k" as const : "lines" as const;
        const sizes = { MATRIX_M, MATRIX_N, MATRIX_K, MATRIX_LANES: 32 };
        const constants = {
          B_LOADS,
          STRATEGY: "matrix" as const,
          LANES: 32 * subgroups,
          THREADS_X,
          ROWS,
          COLUMNS,
          DEPTH: 0,
          WIDE: false,
          WHOLE: false,
          LOOPED: false,
          ...sizes,
        };
        productKernel.run(gpu, { a, b, y }, { m, n, k }, constants);
        assertClose(await y.data(), expected, matrixTolerance(k), JSON.stringify(constants));
      }
    }
  },
  {},
  await lackOf("shader-f16"),
);
