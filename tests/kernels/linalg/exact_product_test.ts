import { assert, assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../../engine/errors.ts";
import type { Gpu, GpuOptions } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { exactProduct, exactProductPair } from "../../../kernels/linalg/exact_product.ts";
import { slices } from "../../../kernels/linalg/slices.ts";
import { assertClose, gpuTest, randomArray } from "../../gpu.ts";
import { withGpuPolicy } from "../oracles.ts";
import { product } from "../../../bench/oracles/matrices.ts";

const withoutF64 = ["wgpu-shader-f64"];
type Within = (gpu: Gpu, body: () => Tensor) => Tensor;
const plain: Within = (_, body) => body();
const devices: [string, GpuOptions, Within][] = [
  ["", { withoutFeatures: withoutF64 }, plain],
  [" without subgroups", { withoutFeatures: [...withoutF64, "subgroups"] }, plain],
  [" as on a GPU", { withoutFeatures: withoutF64 }, (gpu, body) => withGpuPolicy(gpu, body, "amd")],
];

for (const [where, options, within] of devices) {
  gpuTest(`exactProduct() rounds once, to f32, even where terms cancel${where}`, async (gpu) => {
    for (const [m, k, n] of [[1, 4, 4], [17, 36, 8], [33, 300, 36], [20, 520, 12], [67, 272, 68]]) {
      const a = randomArray(m * k, 1), b = randomArray(k * n, 2);
      // The second half of each row cancels the first up to a relative 10⁻⁶.
      for (let i = 0; i < m; i++) {
        for (let q = k / 2; q < k; q++) a[i * k + q] = -a[i * k + q - k / 2];
      }
      for (let q = k / 2; q < k; q++) {
        for (let j = 0; j < n; j++) b[q * n + j] = Math.fround(b[(q - k / 2) * n + j] * (1 + 1e-6));
      }
      using left = Tensor.from(gpu, a, [m, k]);
      using right = Tensor.from(gpu, b, [k, n]);
      using aSlices = slices(left, { along: "rows", count: 4 });
      using bSlices = slices(right, { along: "columns", count: 4 });
      // Products have 48 bits and 20 bits cancel, so the float64 reference keeps 33 bits.
      const expected = product(a, b, m, k, n);
      using y = within(gpu, () => exactProduct(aSlices, bSlices));
      assertClose(await y.data(), expected, 3 * 2 ** -24 + 2 ** -35 * 1e6, `[${m}, ${k}, ${n}]`);
    }
  }, options);

  gpuTest(`exactProductPair() keeps 42 bits of the largest terms${where}`, async (gpu) => {
    const [m, k, n] = [19, 264, 20];
    const a = randomArray(m * k, 3).map((value, i) => value * 2 ** (i % 7)), b = randomArray(k * n, 4);
    using left = Tensor.from(gpu, a, [m, k]);
    using right = Tensor.from(gpu, b, [k, n]);
    using aSlices = slices(left, { along: "rows", count: 5 });
    using bSlices = slices(right, { along: "columns", count: 5 });
    using pair = exactProductPair(aSlices, bSlices);
    const low = await pair.low.float64();
    const sum = (await pair.high.float64()).map((high, i) => high + low[i]);
    assertClose(sum, product(a, b, m, k, n), 2 ** -42);
  }, options);
}

gpuTest("the slices of slices() are integers of at most 256 and sum to the matrix", async (gpu) => {
  const [rows, columns] = [7, 12];
  const numbers = randomArray(rows * columns, 5).map((value, i) => value * 2 ** (i % 13 - 6));
  const rest = randomArray(rows * columns, 6).map((value, i) => value * Math.abs(numbers[i]) * 2 ** -25);
  numbers.fill(0, 2 * columns, 3 * columns); // a row of zeros
  rest.fill(0, 2 * columns, 3 * columns);
  using high = Tensor.from(gpu, numbers, [rows, columns]);
  using low = Tensor.from(gpu, rest, [rows, columns]);
  const pair = { high, low, [Symbol.dispose]: () => {} };
  for (const along of ["rows", "columns"] as const) {
    using sliced = slices(pair, { along, count: 6 });
    const digits = await sliced.digits.data(), scales = await sliced.scales.data();
    assert(digits.every((digit) => Number.isInteger(digit) && Math.abs(digit) <= 256));
    for (let i = 0; i < rows * columns; i++) {
      const scale = scales[along === "rows" ? Math.floor(i / columns) : i % columns];
      let sum = 0;
      for (let s = 5; s >= 0; s--) sum = (sum + digits[s * rows * columns + i]) / 512;
      // Six slices of 9 bits are 54 bits below the scale, which is at most four times the largest
      // element of the row or column.
      assert(Math.abs(sum * scale - (numbers[i] + rest[i])) <= scale * 2 ** -52, `${along} ${i}`);
      assertEquals(Math.log2(scale) % 1, 0);
    }
  }
});

gpuTest("exactProduct() does not read above the diagonal of a lower triangular A", async (gpu) => {
  const size = 80, columns = 8;
  const a = randomArray(size * size, 7).map((value, i) => i % size <= Math.floor(i / size) ? value : 0);
  const b = randomArray(size * columns, 8);
  using left = Tensor.from(gpu, a, [size, size]);
  using right = Tensor.from(gpu, b, [size, columns]);
  using aSlices = slices(left, { along: "rows", count: 3 });
  using bSlices = slices(right, { along: "columns", count: 4 });
  for (const within of [plain, withGpuPolicy]) {
    using y = within(gpu, () => exactProduct(aSlices, bSlices, { lowerA: true }));
    assertClose(await y.data(), product(a, b, size, size, columns), 4 * 2 ** -24);
  }
});

gpuTest("exactProduct() rejects mismatched slices", (gpu) => {
  using a = Tensor.empty(gpu, [4, 8]);
  using rows = slices(a, { along: "rows", count: 2 });
  using columns = slices(a, { along: "columns", count: 2 });
  assertThrows(() => exactProduct(columns, columns), ShapeError, "A must be sliced along rows");
  assertThrows(() => exactProduct(rows, columns), ShapeError, "[4, 8]");
});
