import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../../engine/errors.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { weightRows } from "../../../kernels/shape/weight_rows.ts";
import { assertClose, f32Tolerance, gpuTest, randomArray } from "../../gpu.ts";

gpuTest("weightRows() is y = w x · Σx / Σ(w x) for each batch, and exact where all weights are 1", async (gpu) => {
  const [batches, rows, columns] = [3, 77, 48];
  const values = randomArray(batches * rows * columns).map((value) => value + 0.3);
  const weights = randomArray(batches * rows, 2).map((value) => 1 + value / 2).fill(1, 2 * rows);
  using x = Tensor.from(gpu, values, [batches, rows, columns]);
  using w = Tensor.from(gpu, weights, [batches, rows]);
  using y = weightRows(x, w);
  const expected = new Float64Array(values.length);
  for (let b = 0; b < batches; b++) {
    let plain = 0, weighted = 0;
    for (let i = 0; i < rows * columns; i++) {
      const at = b * rows * columns + i;
      expected[at] = values[at] * weights[b * rows + Math.floor(i / columns)];
      plain += values[at];
      weighted += expected[at];
    }
    for (let i = 0; i < rows * columns; i++) expected[b * rows * columns + i] *= plain / weighted;
  }
  const actual = await y.data();
  assertClose(actual, expected, f32Tolerance(rows * columns));
  assertEquals(actual.slice(2 * rows * columns), values.slice(2 * rows * columns));
  assertThrows(() => weightRows(x, x), ShapeError, "one weight for each row is needed: [3, 77]");
});
