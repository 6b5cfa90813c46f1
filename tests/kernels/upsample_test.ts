import { assertEquals, assertThrows } from "@std/assert";
import { DTypeError, ShapeError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { upsampleNearest2x } from "../../kernels/upsample.ts";
import { gpuTest } from "../gpu.ts";
import { asOnGpu, count, randomHalves, randomTensor, withBindingLimit } from "./oracles.ts";

gpuTest("upsampleNearest2x repeats each number in a 2 × 2 block, in windows too", async (gpu) => {
  const shapes = [[1, 1, 1, 1], [2, 3, 5, 7], [1, 2, 4, 4], [2, 2, 3, 64], [1, 3, 33, 31], [0, 2, 3, 4]];
  for (const shape of shapes) {
    for (const mode of ["plain", "as on a GPU", "in windows"]) {
      using x = randomTensor(gpu, shape);
      const run = () => upsampleNearest2x(x.tensor);
      const limit = mode === "in windows" ? shape[3] * 16 * 2 + 256 : undefined;
      using y = withBindingLimit(gpu, limit, () => mode === "as on a GPU" ? asOnGpu(gpu, run) : run());
      const [batch, channels, height, width] = shape;
      assertEquals(y.shape, [batch, channels, 2 * height, 2 * width]);
      const expected = Float32Array.from({ length: 4 * count(shape) }, (_, i) => {
        const row = Math.floor(i / 2 / width), plane = Math.floor(row / 2 / height);
        return x.data[(plane * height + Math.floor(row % (2 * height) / 2)) * width + Math.floor(i % (2 * width) / 2)];
      });
      assertEquals(await y.data(), expected, `[${shape}] ${mode}`);
    }
  }
});

gpuTest("upsampleNearest2x refuses what is not a batch of pictures", (gpu) => {
  using x = Tensor.empty(gpu, [3, 4, 4]);
  assertThrows(() => upsampleNearest2x(x), ShapeError, "4 axes: [3, 4, 4]");
});

gpuTest("upsampleNearest2x repeats f16 exactly where the width divides by four", async (gpu) => {
  const data = randomHalves(2 * 3 * 5 * 8);
  using x = Tensor.from(gpu, data, [2, 3, 5, 8], "f16");
  using same = Tensor.from(gpu, data, [2, 3, 5, 8]);
  using y = upsampleNearest2x(x);
  using expected = upsampleNearest2x(same);
  assertEquals([y.dtype, await y.data()], ["f16", await expected.data()]);
  using odd = Tensor.empty(gpu, [1, 1, 2, 2], "f16");
  assertThrows(() => gpu.scope(() => upsampleNearest2x(odd)), DTypeError, "in f16");
});
