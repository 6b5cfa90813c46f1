import { assertEquals, assertThrows } from "@std/assert";
import { erf, gegluOf } from "../../../bench/oracles/functions.ts";
import { DTypeError, ShapeError } from "../../../engine/errors.ts";
import { elements, Tensor } from "../../../engine/tensor.ts";
import { gatedProduct, geglu } from "../../../kernels/gemm/gated_product.ts";
import { matmul } from "../../../kernels/gemm/matmul.ts";
import { assertClose, f32Tolerance, gpuTest, randomArray } from "../../gpu.ts";
import { f16Rounding, randomF16, withBindingLimit, withGpuPolicy } from "../oracles.ts";

// exp(a) in f32 has a relative error of |a| · 2⁻²⁴ from rounding a; here |a| is at most 6² / 2.
const tolerance = 24 * 2 ** -24;

gpuTest("geglu() equals x₁ · gelu(x₂) in float64 for uneven sizes, also split at the binding limit", async (gpu) => {
  const shapes = [[2], [3, 2, 6], [2, 5, 8], [7, 62], [1, 64], [3, 66], [2, 9, 2560], [0, 8], [2, 0]];
  for (const shape of shapes) {
    for (const mode of ["plain", "as on a GPU", "in windows"]) {
      const data = randomArray(elements(shape), shape.length).map((value) => value * 6);
      using x = Tensor.from(gpu, data, shape);
      const limit = mode === "in windows" ? Math.max(1024, shape.at(-1)! * 4 * 2 + 256) : undefined;
      const run = () => geglu(x);
      using y = withBindingLimit(gpu, limit, () => mode === "as on a GPU" ? withGpuPolicy(gpu, run) : run());
      const half = shape.at(-1)! / 2;
      assertEquals(y.shape, shape.with(-1, half));
      assertClose(await y.data(), gegluOf(data, half), tolerance, `[${shape}] ${mode}`);
    }
  }
});

gpuTest("geglu() rejects an odd last axis", (gpu) => {
  using x = Tensor.empty(gpu, [2, 5]);
  assertThrows(
    () => geglu(x),
    ShapeError,
    "Cannot gate [2, 5] as its last axis must hold values and gates, an even number: 5",
  );
});

const workgroup = (threadsX: number, threadsY: number, rows: number) =>
  ({ strategy: "workgroup", lanes: threadsX * threadsY, threadsX, rows, columns: 2 }) as const;

gpuTest("gatedProduct() equals geglu(x Wᵀ + b) in float64, fused and in two passes", async (gpu) => {
  for (const [m, k, n] of [[1, 4, 4], [5, 8, 12], [70, 33, 68], [130, 64, 260], [3, 16, 5]]) {
    for (const dtype of ["f32", "f16"] as const) {
      for (const withBias of [false, true]) {
        using x = Tensor.from(gpu, randomArray(m * k, 1), [m, k]);
        using weight = Tensor.from(gpu, randomArray(2 * n * k, 2), [2 * n, k], dtype);
        using bias = Tensor.from(gpu, randomArray(2 * n, 3), [2 * n]);
        const [xs, ws, bs] = [await x.data(), await weight.data(), await bias.data()];
        const sum = (row: number, column: number) => {
          let sum = withBias ? bs[column] : 0;
          for (let i = 0; i < k; i++) sum += xs[row * k + i] * ws[column * k + i];
          return sum;
        };
        const expected = Float64Array.from({ length: m * n }, (_, at) => {
          const row = Math.floor(at / n), gate = sum(row, at % n + n);
          return sum(row, at % n) * 0.5 * gate * (1 + erf(gate / Math.SQRT2));
        });
        for (const tile of [undefined, workgroup(8, 8, 4), workgroup(16, 16, 8), workgroup(8, 8, 1)]) {
          using y = gatedProduct(x, weight, { bias: withBias ? bias : undefined, tile });
          assertEquals(y.shape, [m, n]);
          assertClose(await y.data(), expected, 2 * f32Tolerance(k), `${m} × ${k} × ${n} ${JSON.stringify(tile)}`);
        }
      }
    }
  }
});

gpuTest("gatedProduct() keeps f16", async (gpu) => {
  const [m, k, n] = [9, 16, 12];
  using x = Tensor.from(gpu, randomF16(m * k, 1), [m, k], "f16");
  using weight = Tensor.from(gpu, randomF16(2 * n * k, 2), [2 * n, k], "f16");
  using product = matmul(x, weight, { transposeB: true });
  const sums = await product.data();
  for (const tile of [undefined, workgroup(8, 8, 4)]) {
    using y = gatedProduct(x, weight, { tile });
    assertEquals(y.dtype, "f16");
    // In two passes, values and gates are rounded to f16 as well as the result.
    assertClose(await y.data(), gegluOf(sums, n), tolerance + 3 * f16Rounding);
  }
});

gpuTest("gatedProduct() rejects mismatched operands", (gpu) => {
  using x = Tensor.empty(gpu, [2, 8]);
  using weight = Tensor.empty(gpu, [16, 4]);
  using fitting = Tensor.empty(gpu, [16, 8]);
  using bias = Tensor.empty(gpu, [8]);
  using odd = Tensor.empty(gpu, [15, 8]);
  for (const tile of [undefined, workgroup(8, 8, 4)]) {
    assertThrows(() => gatedProduct(x, weight, { tile }), ShapeError, "Cannot multiply");
    assertThrows(() => gatedProduct(x, fitting, { bias, tile }), ShapeError, "the bias");
    assertThrows(() => gatedProduct(x, odd, { tile }), ShapeError, "an even number: 15");
  }
});

gpuTest("geglu() keeps f16 where N is a multiple of 4, also split at the binding limit", async (gpu) => {
  for (const [shape, limit] of [[[2, 5, 8], undefined], [[29, 72], 1000], [[3, 2560], undefined]] as const) {
    const data = randomF16(elements([...shape])).map((value) => value * 6);
    using x = Tensor.from(gpu, data, shape, "f16");
    using y = withBindingLimit(gpu, limit, () => geglu(x));
    assertEquals(y.dtype, "f16");
    assertClose(await y.data(), gegluOf(data, shape.at(-1)! / 2), tolerance + f16Rounding, `[${shape}]`);
  }
  using x = Tensor.empty(gpu, [2, 6], "f16");
  assertThrows(() => gpu.scope(() => geglu(x)), DTypeError, "Cannot write y of geglu in f16");
});

gpuTest("gatedProduct() computes operands that are larger than a binding in parts, to the bit", async (gpu) => {
  using x = Tensor.from(gpu, randomArray(400 * 32, 1), [400, 32]);
  using weight = Tensor.from(gpu, randomArray(2 * 48 * 32, 2), [96, 32]);
  const tile = workgroup(8, 8, 4);
  using whole = gatedProduct(x, weight, { tile });
  using parts = withBindingLimit(gpu, 20_000, () => gatedProduct(x, weight, { tile }));
  assertEquals(await parts.data(), await whole.data());
});
