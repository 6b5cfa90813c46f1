import { assertEquals, assertThrows } from "@std/assert";
import { rescaledOf } from "../../../bench/oracles/functions.ts";
import { ShapeError } from "../../../engine/errors.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { rescaleGuided } from "../../../kernels/shape/rescale_guided.ts";
import { assertClose, gpuTest, randomArray } from "../../gpu.ts";
import { withGpuPolicy } from "../oracles.ts";

gpuTest("rescaleGuided() equals g · (φ σ(c) / σ(g) + 1 − φ) in float64, picture by picture", async (gpu) => {
  for (const columns of [2, 63, 257]) {
    const g = randomArray(3 * columns, 1).map((value) => 3 * value + 2);
    const c = randomArray(3 * columns, 2);
    using guided = Tensor.from(gpu, g, [3, 1, columns]);
    using conditional = Tensor.from(gpu, c, [3, 1, columns]);
    for (const rescale of [0, 0.7, 1]) {
      const wanted = rescaledOf(g, c, { rows: 3, rescale });
      using y = rescaleGuided(guided, conditional, rescale);
      using wide = withGpuPolicy(gpu, () => rescaleGuided(guided, conditional, rescale));
      assertEquals(y.shape, [3, 1, columns]);
      assertClose(await y.data(), wanted, 1e-6, `${columns} columns, φ ${rescale}`);
      assertClose(await wide.data(), wanted, 1e-6, `${columns} columns, φ ${rescale}, a GPU's policy`);
    }
  }
});

gpuTest("rescaleGuided() takes no pictures, and refuses shapes that differ", (gpu) => {
  using none = Tensor.from(gpu, new Float32Array(0), [0, 4]);
  using y = rescaleGuided(none, none, 0.5);
  assertEquals(y.shape, [0, 4]);
  using other = Tensor.from(gpu, new Float32Array(4), [1, 4]);
  assertThrows(() => rescaleGuided(none, other, 0.5), ShapeError, "the shapes must agree");
});
