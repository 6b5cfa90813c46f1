import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { transpose } from "../../kernels/transpose.ts";
import { gpuTest } from "../gpu.ts";
import { count, randomTensor, withBindingLimit } from "./oracles.ts";

gpuTest("transpose swaps the last two axes on awkward sizes, in windows of matrices too", async (gpu) => {
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
        { length: count(shape) },
        (_, i) => x.data[Math.floor(i / size) * size + i % rows * columns + Math.floor(i % size / rows)],
      );
      assertEquals(await y.data(), expected, `[${shape}]${windows ? " in windows" : ""}`);
    }
  }
});

gpuTest("transpose adds a residual that has the result's shape, in windows too", async (gpu) => {
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

gpuTest("transpose refuses a vector", (gpu) => {
  using x = Tensor.empty(gpu, [3]);
  assertThrows(() => transpose(x), ShapeError, "Cannot transpose [3] as two axes are needed: 1");
});
