import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../../engine/errors.ts";
import type { Gpu } from "../../../engine/gpu.ts";
import { elements, Tensor } from "../../../engine/tensor.ts";
import { add, linearCombination } from "../../../kernels/shape/linear_combination.ts";
import { assertClose, gpuTest, randomArray } from "../../gpu.ts";
import { f16Rounding, randomF16, withBindingLimit, withGpuPolicy } from "../oracles.ts";

const coefficients = [0.7, -1.3, 2, 0.01, -0.5, 1];

async function check(gpu: Gpu, shape: number[], terms: number, bindingLimit?: number, gpuPolicy = false) {
  const data = Array.from({ length: terms }, (_, term) => randomArray(elements(shape), term + 1));
  const actual = gpu.scope(() => {
    const list = data.map((numbers, term) => ({
      tensor: Tensor.from(gpu, numbers, shape),
      coefficient: coefficients[term],
    }));
    const run = () => linearCombination(list);
    return withBindingLimit(gpu, bindingLimit, () => gpuPolicy ? withGpuPolicy(gpu, run) : run());
  });
  using y = actual;
  assertEquals(y.shape, shape);
  const expected = Float64Array.from(
    data[0],
    (_, i) => data.reduce((sum, numbers, term) => sum + coefficients[term] * numbers[i], 0),
  );
  assertClose(await y.data(), expected, (terms + 1) * 2 ** -24 * 4, `${terms} terms of [${shape}]`);
}

gpuTest("linearCombination() equals its float64 definition for 1 to 6 terms and uneven sizes", async (gpu) => {
  for (let terms = 1; terms <= 6; terms++) await check(gpu, [2, 3, 11], terms);
  for (const size of [1, 2, 3, 4, 5, 63, 64, 65, 255, 257, 511, 513, 2049]) {
    await check(gpu, [size], 2);
    await check(gpu, [size], 3, undefined, true);
  }
  await check(gpu, [], 2);
  await check(gpu, [0, 3], 2);
});

gpuTest("linearCombination() splits tensors larger than the binding limit", async (gpu) => {
  await check(gpu, [3, 1001], 3, 2048);
  await check(gpu, [4096], 6, 4096);
});

gpuTest("linearCombination() accepts the same tensor twice, and f16", async (gpu) => {
  using x = Tensor.from(gpu, new Float32Array([1, 2, 3]), [3]);
  using half = Tensor.from(gpu, new Float32Array([0.5, 1, -2]), [3], "f16");
  using twice = add(x, x);
  using mixed = add(x, half);
  assertEquals([...await twice.data()], [2, 4, 6]);
  assertEquals([mixed.dtype, ...await mixed.data()], ["f32", 1.5, 3, 1]);
});

gpuTest(
  "linearCombination() has its first term's dtype, also f16 of any size and split at the binding limit",
  async (gpu) => {
    for (const [size, limit] of [[1, undefined], [1023, undefined], [5003, 2048]] as const) {
      const [a, b] = [randomF16(size, 1), randomArray(size, 2)];
      using x = Tensor.from(gpu, a, [size], "f16");
      using other = Tensor.from(gpu, b, [size]);
      const terms = [{ tensor: x, coefficient: 0.7 }, { tensor: other, coefficient: -1.3 }];
      using y = withBindingLimit(gpu, limit, () => linearCombination(terms));
      assertEquals(y.dtype, "f16");
      const expected = Float64Array.from(a, (value, i) => 0.7 * value - 1.3 * b[i]);
      assertClose(await y.data(), expected, 12 * 2 ** -24 + f16Rounding, `size ${size}`);
    }
  },
);

gpuTest("linearCombination() rejects different shapes, 0 terms and 7 terms", (gpu) => {
  using x = Tensor.empty(gpu, [2, 3]);
  using y = Tensor.empty(gpu, [3, 2]);
  assertThrows(
    () => add(x, y),
    ShapeError,
    "Cannot combine tensors [2, 3], [3, 2] as their shapes must be equal",
  );
  assertThrows(() => linearCombination([]), ShapeError, "1 to 6 terms");
  assertThrows(() => linearCombination(Array(7).fill({ tensor: x, coefficient: 1 })), RangeError, "7");
});
