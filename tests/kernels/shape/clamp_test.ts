import { assertEquals } from "@std/assert";
import { Tensor } from "../../../engine/tensor.ts";
import { clamp } from "../../../kernels/shape/clamp.ts";
import { gpuTest, randomArray } from "../../gpu.ts";
import { randomF16, withBindingLimit, withGpuPolicy } from "../oracles.ts";

const limited = (data: Float32Array, low: number, high: number) =>
  data.map((x) => Math.min(Math.max(x, Math.fround(low)), Math.fround(high)));

gpuTest("clamp() equals min(max(x, low), high) for sizes 0, 1, 63, 257, in f32 and f16", async (gpu) => {
  for (const size of [0, 1, 63, 257]) {
    for (const dtype of ["f32", "f16"] as const) {
      const data = (dtype === "f32" ? randomArray(size, size) : randomF16(size)).map((x) => x * 8);
      using x = Tensor.from(gpu, data, [size], dtype);
      using y = clamp(x, -1.5, 2);
      assertEquals(y.dtype, dtype);
      assertEquals(await y.data(), limited(data, -1.5, 2), `size ${size}`);
    }
  }
});

gpuTest("clamp() splits tensors larger than the binding limit, and works with a GPU's policy", async (gpu) => {
  const data = randomArray(5001).map((x) => x * 8);
  using x = Tensor.from(gpu, data, [3, 1667]);
  using split = withBindingLimit(gpu, 4096, () => clamp(x, -1, 1));
  using wide = withGpuPolicy(gpu, () => clamp(x, -1, 1));
  assertEquals(await split.data(), limited(data, -1, 1));
  assertEquals(await wide.data(), limited(data, -1, 1));
});
