import { assertEquals, assertThrows } from "@std/assert";
import { type AttentionCase, attentionProblem, matrixAttentionTolerance } from "../../../bench/oracles/attention.ts";
import { ShapeError } from "../../../engine/errors.ts";
import type { Gpu } from "../../../engine/gpu.ts";
import { declareKernel, input, output } from "../../../engine/kernel/kernel.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { attention } from "../../../kernels/attention/attention.ts";
import { matrixAttentionConstants } from "../../../kernels/attention/matrix.ts";
import type { MatrixAttentionShape } from "../../../kernels/attention/matrix_shape.ts";
import { matrixAttentionConstantTypes, matrixAttentionWgsl } from "../../../kernels/attention/matrix_wgsl.ts";
import { emulated } from "../emulated_matrices.ts";
import { assertClose, gpuTest, lackOf, lackOfSubgroupMatrices } from "../../gpu.ts";
import { f16Rounding } from "../oracles.ts";

const lacking = await lackOfSubgroupMatrices();
const onMatrices = { subgroupMatrices: true };

async function check(
  gpu: Gpu,
  c: AttentionCase,
  { shape, loud, dtype = "f32" }: { shape?: MatrixAttentionShape; loud?: number; dtype?: "f16" | "f32" } = {},
): Promise<void> {
  const problem = attentionProblem(c, { rounded: true, loud });
  const { sizes, expected, ...data } = problem;
  const { batch, heads, t, s, dim, causal, scale } = sizes;
  using q = Tensor.from(gpu, data.q, [batch, t, heads * dim], dtype);
  using k = Tensor.from(gpu, data.k, [batch, s, heads * dim], dtype);
  using v = Tensor.from(gpu, data.v, [batch, s, heads * dim], dtype);
  const form = shape && { path: "matrix" as const, ...shape };
  using y = attention(q, k, v, { heads, causal, scale, path: "matrix", form });
  assertEquals(y.dtype, dtype);
  const error = matrixAttentionTolerance(problem) + (dtype === "f16" ? f16Rounding : 0);
  assertClose(await y.data(), expected, error, JSON.stringify({ ...c, shape, loud, dtype }));
}

gpuTest(
  "attention() on subgroup matrices equals its float64 definition for all dtypes, and where sizes fill no matrix",
  async (gpu) => {
    const c = { batch: 2, heads: 2, t: 67, s: 77, dim: 40 };
    await check(gpu, c);
    await check(gpu, { ...c, batch: 1, t: 1, s: 1 });
    await check(gpu, c, { dtype: "f16" });
    await check(gpu, { ...c, heads: 3, dim: 12 });
  },
  onMatrices,
  lacking,
);

gpuTest(
  "attention() on subgroup matrices does not depend on its layout",
  async (gpu) => {
    const { m, n, k } = gpu.info.subgroupMatrix!;
    const keys = Math.max(n, k);
    const shapes = [[1, 1, keys], [3, 1, 2 * keys], [2, 16 / m * 2, keys]];
    for (const [subgroups, rows, keys] of shapes) {
      const shape = { subgroups, rows, keys };
      for (const s of [77, 4 * keys]) await check(gpu, { batch: 1, heads: 2, t: 75, s, dim: 24 }, { shape });
    }
    // the widest heads, in many rounds through the array of the scores
    await check(gpu, { batch: 1, heads: 1, t: 21, s: 43, dim: 160 }, { shape: { subgroups: 1, rows: 1, keys } });
  },
  onMatrices,
  lacking,
);

gpuTest(
  "attention() on subgroup matrices masks later keys, and takes any scale and scores in the thousands",
  async (gpu) => {
    const c = { batch: 1, heads: 2, t: 45, s: 83, dim: 16 };
    for (const [t, s] of [[77, 77], [9, 43], [43, 9]]) await check(gpu, { ...c, t, s, causal: true });
    for (const scale of [1, -0.3, 0]) await check(gpu, { ...c, scale });
    // Maxima grow by hundreds between blocks, which rescales the results.
    for (const causal of [false, true]) await check(gpu, { ...c, causal, scale: 1 }, { loud: 1024 });
  },
  onMatrices,
  lacking,
);

gpuTest(
  "attention() on subgroup matrices refuses heads that it does not support",
  (gpu) => {
    for (const dim of [6, 164]) {
      using q = Tensor.empty(gpu, [1, 5, dim]);
      assertThrows(() => attention(q, q, q, { heads: 1, path: "matrix" }), ShapeError, `heads of width ${dim}`);
    }
  },
  onMatrices,
  lacking,
);

/** Attention with emulated matrices, which are those of GPUs in size. */
const emulatedKernel = declareKernel({
  name: "emulated_attention",
  bindings: { q: input(4), k: input(4), v: input(4), y: output(4) },
  params: { t: "u32", s: "u32", heads: "u32", batch: "u32", scale: "f32" },
  constants: matrixAttentionConstantTypes,
  extensions: ["f16"],
  wgsl: (constants) => {
    const { MATRIX_M: m, MATRIX_N: n, MATRIX_K: k, MATRIX_LANES: lanes, SUBGROUPS: subgroups } = constants;
    const arrays = { left: "block_qp", right: "block_kv", sums: "scores" };
    return emulated(matrixAttentionWgsl(constants), { m, n, k, lanes, subgroups, arrays });
  },
  grid: ({ t, heads, batch }, { SUBGROUPS, ROWS, MATRIX_M }) => [
    Math.ceil(t / (SUBGROUPS * ROWS * MATRIX_M)),
    heads,
    batch,
  ],
  cost: () => ({ flops: 0, bytes: 0 }),
});

gpuTest(
  "attention on subgroup matrices equals its float64 definition for matrices of 16 × 16 × 16 and 8 × 16 × 16",
  async (gpu) => {
    const c = { batch: 2, heads: 2, t: 37, s: 43 };
    for (
      const [dim, { causal, loud }, shape, matrix] of [
        // two threads to a query, results in two rounds
        [40, { causal: false, loud: 1 }, { subgroups: 2, rows: 1, keys: 32 }, { m: 16, n: 16, k: 16, lanes: 32 }],
        // maxima that grow, one thread to a query
        [20, { causal: true, loud: 1024 }, { subgroups: 1, rows: 2, keys: 16 }, { m: 16, n: 16, k: 16, lanes: 32 }],
        // four threads to a query
        [12, { causal: false, loud: 1024 }, { subgroups: 3, rows: 1, keys: 16 }, { m: 8, n: 16, k: 16, lanes: 32 }],
      ] as const
    ) {
      const problem = attentionProblem({ ...c, dim, causal, scale: loud > 1 ? 1 : undefined }, { rounded: true, loud });
      const { sizes: { batch, heads, t, s, scale }, expected } = problem;
      using q = Tensor.from(gpu, problem.q, [batch, t, heads * dim]);
      using k = Tensor.from(gpu, problem.k, [batch, s, heads * dim]);
      using v = Tensor.from(gpu, problem.v, [batch, s, heads * dim]);
      using y = Tensor.empty(gpu, q.shape);
      const constants = matrixAttentionConstants(problem.sizes, shape, matrix);
      emulatedKernel.run(gpu, { q, k, v, y }, { t, s, heads, batch, scale: scale * Math.LOG2E }, constants);
      assertClose(await y.data(), expected, matrixAttentionTolerance(problem), JSON.stringify({ dim, ...shape }));
    }
  },
  {},
  await lackOf("shader-f16"),
);
