import { assertEquals } from "@std/assert";
import { Tensor } from "../../../engine/tensor.ts";
import { squaredNorms } from "../../../kernels/linalg/squared_norms.ts";
import { assertClose, f32Tolerance, gpuTest, randomArray } from "../../gpu.ts";

gpuTest("squaredNorms() sums the squares of each row, for uneven shapes", async (gpu) => {
  for (const shape of [[1, 1], [2, 3, 31], [5, 33], [3, 768], [0, 4], [4, 0]]) {
    const columns = shape.at(-1)!, rows = shape.slice(0, -1).reduce((a, b) => a * b, 1);
    const data = randomArray(rows * columns, columns);
    using x = Tensor.from(gpu, data, shape);
    using y = squaredNorms(x);
    assertEquals(y.shape, shape.slice(0, -1));
    const expected = Float64Array.from(
      { length: rows },
      (_, row) => data.subarray(row * columns, (row + 1) * columns).reduce((sum, value) => sum + value * value, 0),
    );
    assertClose(await y.data(), expected, f32Tolerance(columns), `[${shape}]`);
  }
});
