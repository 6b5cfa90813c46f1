import { assert } from "@std/assert";
import { declareKernel, storage } from "../../../engine/kernel/kernel.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { type TileConstants, tileConstantTypes, tileGrid, tileWgsl } from "../../../kernels/gemm/tile.ts";
import type { BlockLoads } from "../../../kernels/gemm/tile_workgroup.ts";
import { assertClose, gpuTest, lackOf, matrixTolerance, randomArray, roundedToF16 } from "../../gpu.ts";

/**
 * Emulates subgroup matrices in plain WGSL: the first lane of a subgroup computes, matrices are in
 * workgroup memory, and a matrix variable holds an offset into it. So the generated text of a tile
 * can be tested with any matrix size, also on devices without subgroup matrices.
 */
function emulated(constants: TileConstants, loads: BlockLoads): string {
  const { MATRIX_M: m, MATRIX_N: n, MATRIX_K: k, MATRIX_LANES: lanes, ROWS, COLUMNS } = constants;
  const subgroups = constants.LANES / lanes;
  let results = 0;
  const load = (side: string, columns: number, rows: number, { block, order }: { block: string; order: string }) =>
    new RegExp(
      `subgroupMatrixLoad<\\s*subgroup_matrix_${side}<f16, ${columns}, ${rows}>,\\s*${order},?\\s*>\\(\\s*&${block},`,
      "g",
    );
  const replacements: [RegExp, string | (() => string)][] = [
    [
      /, @builtin\(subgroup_id\) subgroup: u32\) \{/,
      `) { let subgroup = thread / ${lanes}u; me = subgroup; works = thread % ${lanes}u == 0u;`,
    ],
    [new RegExp(`subgroup_matrix_result<f32, ${n}, ${m}>\\(\\)`, "g"), () => `${results++}u`],
    [load("left", k, m, { block: "block_a", order: "row_major" }), "vec2u("],
    [load("right", n, k, { block: "block_b", order: "col_major" }), "vec2u("],
    [/subgroupMatrixMultiplyAccumulate/g, "accumulated"],
    [/subgroupMatrixStore<row_major>\(&sums,/g, "store("],
  ];
  let text = tileWgsl(constants, { loads });
  for (const [from, to] of replacements) {
    const replaced = text.replace(from, to as string);
    assert(replaced !== text, `the tile's text has no ${from}`);
    text = replaced;
  }
  return text + /* wgsl */ `
var<workgroup> results: array<f32, ${subgroups * ROWS * COLUMNS * m * n}>;
var<private> me: u32;
var<private> works: bool;
fn place(result: u32) -> u32 { return (me * ${ROWS * COLUMNS}u + result) * ${m * n}u; }
fn accumulated(a: vec2u, b: vec2u, c: u32) -> u32 {
  if (!works) { return c; }
  for (var at = me; at < me + ${m * n}u; at++) {
    let i = at - me; // no constant bounds, lest a driver unrolls these loops
    let column = i % ${n}u;
    var sum = results[place(c) + i];
    for (var deep = me; deep < me + ${k}u; deep++) {
      let j = deep - me;
      let left = block_a[a.x + i / ${n}u * a.y + j / 4u][j % 4u];
      sum = fma(f32(left), f32(block_b[b.x + column * b.y + j / 4u][j % 4u]), sum);
    }
    results[place(c) + i] = sum;
  }
  return c;
}
fn store(offset: u32, result: u32, stride: u32) {
  if (!works) { return; }
  for (var first = me; first < me + ${m * n}u; first += 4u) {
    let i = first - me;
    let at = place(result) + i;
    sums[offset + i / ${n}u * stride + i % ${n}u / 4u] = vec4f(results[at], results[at + 1u], results[at + 2u], results[at + 3u]);
  }
}`;
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
fn tile_a(r: Row, k: u32) -> vec4f { return vec4f(a_one(r, k), a_one(r, k + 1u), a_one(r, k + 2u), a_one(r, k + 3u)); }
struct Column { at: u32 }
fn tile_column(batch: u32, column: u32) -> Column { return Column(column); }
fn b_one(column: u32, k: u32) -> f32 { return b[min(k, params.k - 1u) * params.n + min(column, params.n - 1u)]; }
fn tile_b_line(c: Column, k: u32) -> vec4f {
  return vec4f(b_one(c.at, k), b_one(c.at + 1u, k), b_one(c.at + 2u, k), b_one(c.at + 3u, k));
}
fn tile_b_k(c: Column, k: u32) -> vec4f {
  return vec4f(b_one(c.at, k), b_one(c.at, k + 1u), b_one(c.at, k + 2u), b_one(c.at, k + 3u));
}
fn tile_row_end(batch: u32, row: u32) -> f32 { return f32(row); }
fn tile_column_end(column: u32) -> vec4f { return vec4f(f32(column)) + vec4f(0.0, 1.0, 2.0, 3.0); }
fn tile_end(sum: vec4f, of_column: vec4f, of_row: f32) -> vec4f { return 2.0 * sum + of_column + 100.0 * of_row; }
fn tile_place(batch: u32, row: u32) -> u32 { return row * params.n; }
fn tile_store(start: u32, column: u32, value: vec4f) {
  for (var i = 0u; i < min(4u, params.n - column); i++) { y[start + column + i] = value[i]; }
}
` + emulated(constants, { a: "k", b: constants.B_LOADS }),
  grid: ({ m, n }, constants) => tileGrid(constants, m, n, 1),
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
