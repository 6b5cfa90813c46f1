import { assertEquals, assertThrows } from "@std/assert";
import { DTypeError, ShapeError } from "../../../engine/errors.ts";
import { elements, Tensor } from "../../../engine/tensor.ts";
import { transpose } from "../../../kernels/shape/transpose.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
import { f16Rounding, randomF16, randomTensor, withBindingLimit } from "../oracles.ts";

gpuTest("transpose() swaps the last two axes for uneven sizes, also split at the binding limit", async (gpu) => {
  const shapes = [[1, 1], [4, 4], [3, 5, 7], [2, 32, 36], [2, 3, 8, 4], [33, 31], [1, 64], [65, 1], [5, 12, 16], [
    3,
    0,
    4,
  ]];
  for (const shape of shapes) {
    for (const windows of [false, true]) {
      using x = randomTensor(gpu, shape);
      const [rows, columns] = shape.slice(-2), size = rows * columns;
      using y = withBindingLimit(gpu, windows ? 2 * size * 4 + 256 : undefined, () => transpose(x.tensor));
      assertEquals(y.shape, [...shape.slice(0, -2), columns, rows]);
      const expected = Float32Array.from(
        { length: elements(shape) },
        (_, i) => x.data[Math.floor(i / size) * size + i % rows * columns + Math.floor(i % size / rows)],
      );
      assertEquals(await y.data(), expected, `[${shape}]${windows ? " in windows" : ""}`);
    }
  }
});

gpuTest("transpose() adds a residual of the result's shape, also split at the binding limit", async (gpu) => {
  for (const shape of [[2, 8, 12], [3, 5, 7]]) {
    for (const windows of [false, true]) {
      using x = randomTensor(gpu, shape, 1);
      using residual = randomTensor(gpu, [shape[0], shape[2], shape[1]], 2);
      using plain = transpose(x.tensor);
      const limit = windows ? 2 * shape[1] * shape[2] * 4 + 256 : undefined;
      using y = withBindingLimit(gpu, limit, () => transpose(x.tensor, { residual: residual.tensor }));
      const expected = (await plain.data()).map((value, i) => Math.fround(value + residual.data[i]));
      assertEquals(await y.data(), expected);
      assertThrows(() => transpose(x.tensor, { residual: x.tensor }), ShapeError, "as that must be");
    }
  }
});

gpuTest("transpose() rejects a vector", (gpu) => {
  using x = Tensor.empty(gpu, [3]);
  assertThrows(() => transpose(x), ShapeError, "Cannot transpose [3] as two axes are needed: 1");
});

gpuTest(
  "transpose() keeps f16 exactly where both axes are multiples of 4, also split at the binding limit",
  async (gpu) => {
    const [matrices, rows, columns] = [5, 12, 20], size = rows * columns;
    const data = randomF16(matrices * size);
    using x = Tensor.from(gpu, data, [matrices, rows, columns], "f16");
    for (const limit of [undefined, 2 * size * 4 + 256]) {
      using y = withBindingLimit(gpu, limit, () => transpose(x));
      assertEquals([y.dtype, y.shape], ["f16", [matrices, columns, rows]]);
      const expected = data.map((_, i) =>
        data[Math.floor(i / size) * size + i % rows * columns + Math.floor(i % size / rows)]
      );
      assertEquals(await y.data(), expected);
      // A residual of another dtype has a window that starts at a different element.
      const added = randomF16(data.length, 2);
      using residual = Tensor.from(gpu, added, [matrices, columns, rows]);
      using sum = withBindingLimit(gpu, limit, () => transpose(x, { residual }));
      assertEquals(sum.dtype, "f16");
      assertClose(await sum.data(), expected.map((value, i) => value + added[i]), f16Rounding);
      using widened = withBindingLimit(gpu, limit, () => transpose(x, { residual, dtype: "f32" }));
      assertEquals([widened.dtype, await widened.data()], ["f32", expected.map((value, i) => value + added[i])]);
    }
    using odd = Tensor.empty(gpu, [3, 4], "f16");
    assertThrows(() => gpu.scope(() => transpose(odd)), DTypeError, "Cannot write y of transpose in f16");
  },
);
