import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../../engine/errors.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { attention } from "../../../kernels/attention/attention.ts";
import { gatedProduct } from "../../../kernels/gemm/gated_product.ts";
import { matmul, type MatmulOptions } from "../../../kernels/gemm/matmul.ts";
import { assertClose, f32Tolerance, gpuTest, randomArray } from "../../gpu.ts";
import { randomF16, withBindingLimit, withGpuPolicy } from "../oracles.ts";

/** Smaller than the operands below, larger than a row of each and than B. */
const limit = 4096;

gpuTest("matmul() of operands that the device cannot bind equals matmul() of those that it can", async (gpu) => {
  const random = (shape: number[], seed: number, dtype: "f16" | "f32" = "f32") =>
    Tensor.from(gpu, (dtype === "f16" ? randomF16 : randomArray)(shape.reduce((a, b) => a * b), seed), shape, dtype);
  const check = async (a: number[], b: number[], options: MatmulOptions, halves = false) => {
    // a bias by rows splits into parts of 128 rows
    const bytes = options.biasAxis === "row" ? 16_000 : limit;
    using left = random(a, 1);
    using right = random(b, 2, halves ? "f16" : "f32");
    using whole = matmul(left, right, options);
    using parts = withBindingLimit(gpu, bytes, () => matmul(left, right, options));
    assertClose(await parts.data(), await whole.data(), f32Tolerance(24), JSON.stringify([a, b, Object.keys(options)]));
  };
  using columns = random([20], 3);
  using rows = random([331], 4);
  using residual = random([331, 20], 5);
  using half = random([331, 20], 5, "f16");
  using other = random([3, 331, 20], 6);
  await check([331, 24], [24, 20], { bias: columns, residual });
  await check([331, 24], [20, 24], { transposeB: true, bias: rows, biasAxis: "row", residual }, true);
  await check([331, 24], [24, 20], { bias: columns, residual: half, dtype: "f16" }, true);
  await check([331, 23], [23, 20], { bias: rows, biasAxis: "row", residual: half });
  await check([12, 40], [12, 60], { transposeA: true, scale: 2 });
  await check([3, 331, 24], [24, 20], { bias: columns, residual: other });
  await check([3, 331, 24], [3, 24, 20], { residual: other });
  await check([60, 7, 24], [60, 24, 3], {});
  // Only the residual is too large.
  using tall = random([80, 20], 7);
  await check([80, 12], [12, 20], { residual: tall, dtype: "f16" }, true);
});

gpuTest("gatedProduct() of operands that the device cannot bind equals that of those that it can", async (gpu) => {
  using x = Tensor.from(gpu, randomArray(331 * 16, 1), [331, 16]);
  using weight = Tensor.from(gpu, randomArray(24 * 16, 2), [24, 16]);
  using bias = Tensor.from(gpu, randomArray(24, 3), [24]);
  for (const within of [<T>(body: () => T) => body(), <T>(body: () => T) => withGpuPolicy(gpu, body)]) {
    using whole = within(() => gatedProduct(x, weight, { bias }));
    using parts = withBindingLimit(gpu, limit, () => within(() => gatedProduct(x, weight, { bias })));
    assertClose(await parts.data(), await whole.data(), f32Tolerance(16));
  }
});

gpuTest(
  "attention() in every form computes images together or one by one, as the device can bind them",
  async (gpu) => {
    // an image of 5 queries is not aligned, so two images of it form the smallest part
    for (const [batch, t, s, width] of [[5, 16, 12, 32], [6, 5, 12, 32], [3, 30, 4, 32]]) {
      using q = Tensor.from(gpu, randomArray(batch * t * width, 1), [batch, t, width]);
      using k = Tensor.from(gpu, randomArray(batch * s * width, 2), [batch, s, width]);
      for (const path of ["staged", "workgroup", ...gpu.info.subgroupSize > 0 ? ["subgroup" as const] : []] as const) {
        using whole = attention(q, k, k, { heads: 2, path });
        using parts = withBindingLimit(gpu, limit, () => attention(q, k, k, { heads: 2, path }));
        assertClose(await parts.data(), await whole.data(), f32Tolerance(16), `${path} ${[batch, t, s, width]}`);
      }
    }
  },
);

gpuTest("matmul() refuses a B that the device cannot bind, and says how large it is", (gpu) => {
  using a = Tensor.empty(gpu, [4, 64]);
  using b = Tensor.empty(gpu, [64, 64]);
  const error = assertThrows(
    () => gpu.scope(() => void withBindingLimit(gpu, limit, () => matmul(a, b))),
    ShapeError,
    "Cannot bind b [64, 64]",
  );
  assertEquals(error.shapes, [[64, 64]]);
});

gpuTest("matmul() and attention() take batches of more matrices than an axis of a grid holds", async (gpu) => {
  const batch = 65_535 + 3;
  using a = Tensor.from(gpu, Float32Array.from({ length: batch * 4 }, (_, i) => i % 7), [batch, 1, 4]);
  using b = Tensor.from(gpu, Float32Array.from({ length: batch * 4 }, (_, i) => i % 5), [batch, 4, 1]);
  using products = matmul(a, b);
  using attended = attention(a, a, a, { heads: 1 });
  const [left, right] = [await a.data(), await b.data()];
  const expected = Float32Array.from(
    { length: batch },
    (_, i) => [0, 1, 2, 3].reduce((sum, k) => sum + left[4 * i + k] * right[4 * i + k], 0),
  );
  assertEquals(await products.data(), expected);
  assertClose(await attended.data(), left, f32Tolerance(4)); // of one key each
});
