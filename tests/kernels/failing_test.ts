import { assertEquals, assertThrows } from "@std/assert";
import { GpuError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { attention } from "../../kernels/attention/attention.ts";
import { conv2d, packConvWeight } from "../../kernels/conv/conv2d.ts";
import { gatedProduct, geglu } from "../../kernels/gemm/gated_product.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";
import { cholesky } from "../../kernels/linalg/cholesky.ts";
import { exactProduct, exactProductPair } from "../../kernels/linalg/exact_product.ts";
import { gram } from "../../kernels/linalg/gram.ts";
import { slices } from "../../kernels/linalg/slices.ts";
import { squaredNorms } from "../../kernels/linalg/squared_norms.ts";
import { triangularSolve } from "../../kernels/linalg/triangular_solve.ts";
import { groupNorm } from "../../kernels/norm/group_norm.ts";
import { layerNorm } from "../../kernels/norm/layer_norm.ts";
import { activate } from "../../kernels/shape/activate.ts";
import { clamp } from "../../kernels/shape/clamp.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { embedding } from "../../kernels/shape/embedding.ts";
import { guide } from "../../kernels/shape/guide.ts";
import { linearCombination } from "../../kernels/shape/linear_combination.ts";
import { rescaleGuided } from "../../kernels/shape/rescale_guided.ts";
import { sinusoids } from "../../kernels/shape/sinusoids.ts";
import { slice } from "../../kernels/shape/slice.ts";
import { transpose } from "../../kernels/shape/transpose.ts";
import { weightRows } from "../../kernels/shape/weight_rows.ts";
import { gpuTest } from "../gpu.ts";

gpuTest("operations that throw leave nothing on the device", (gpu) => {
  const gone = (...shape: number[]) => {
    const tensor = Tensor.empty(gpu, shape);
    tensor[Symbol.dispose]();
    return tensor;
  };
  using vector = Tensor.empty(gpu, [8]);
  using matrix = Tensor.empty(gpu, [8, 8]);
  using ids = Tensor.from(gpu, new Int32Array(3), [3]);
  using filter = Tensor.empty(gpu, [8, 8, 3, 3]);
  using packed = packConvWeight(filter);
  const norm = { weight: vector, bias: vector, epsilon: 1e-5 };
  using identity = Tensor.from(gpu, Float32Array.from({ length: 64 }, (_, i) => Number(i % 9 === 0)), [8, 8]);
  using factor = cholesky(identity);
  using sliced = slices(identity, { along: "columns", count: 2 });
  const goneSlices = slices(identity, { along: "rows", count: 2 });
  goneSlices[Symbol.dispose]();
  const operations: Record<string, () => unknown> = {
    matmul: () => matmul(gone(8, 8), matrix),
    "matmul in parts": () => matmul(gone(8, 8), matrix, { splits: 2 }),
    gatedProduct: () => gatedProduct(gone(8, 8), matrix),
    geglu: () => geglu(gone(8, 8)),
    ...Object.fromEntries((["staged", "workgroup"] as const).map((path) => [
      `attention, ${path}`,
      () => attention(gone(1, 8, 8), gone(1, 8, 8), gone(1, 8, 8), { heads: 2, path }),
    ])),
    conv2d: () => conv2d(gone(1, 8, 8, 8), packed, { padding: 1 }),
    groupNorm: () => groupNorm(gone(1, 8, 8), { groups: 2, ...norm }),
    layerNorm: () => layerNorm(gone(8, 8), norm),
    cholesky: () => cholesky(gone(8, 8)),
    triangularSolve: () => triangularSolve(factor, gone(8, 8)),
    "triangularSolve by a factor": () => triangularSolve({ ...factor, inverses: gone(32, 32) }, matrix),
    gram: () => gram(gone(8, 8)),
    slices: () => slices(gone(8, 8), { along: "rows", count: 2 }),
    exactProduct: () => exactProduct(goneSlices, sliced),
    exactProductPair: () => exactProductPair(goneSlices, sliced),
    squaredNorms: () => squaredNorms(gone(8, 8)),
    activate: () => activate(gone(8), "silu"),
    clamp: () => clamp(gone(8), 0, 1),
    concat: () => concat([gone(8), vector], 0),
    embedding: () => embedding(gone(8, 8), ids),
    guide: () => guide(gone(2, 8), 2),
    linearCombination: () => linearCombination([{ tensor: gone(8), coefficient: 2 }]),
    rescaleGuided: () => rescaleGuided(gone(1, 8), gone(1, 8), 0.5),
    sinusoids: () => sinusoids(gone(8), vector),
    slice: () => slice(gone(8, 8), 0, 1, 3),
    transpose: () => transpose(gone(8, 8)),
    weightRows: () => weightRows(gone(1, 8, 8), gone(1, 8)),
  };
  const { live } = gpu.memory;
  for (const [name, run] of Object.entries(operations)) {
    assertThrows(run, GpuError, "after it was disposed", name);
    assertEquals(gpu.memory.live, live, name);
  }
});
