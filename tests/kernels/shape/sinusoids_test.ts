import { assert, assertEquals, assertThrows } from "@std/assert";
import { sinusoidsOf } from "../../../bench/oracles/functions.ts";
import { ShapeError } from "../../../engine/errors.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { sinusoids } from "../../../kernels/shape/sinusoids.ts";
import { gpuTest } from "../../gpu.ts";
import { withGpuPolicy } from "../oracles.ts";

gpuTest("sinusoids() equals float64 cosines and sines within f32 for angles of both signs up to 2¹⁵", async (gpu) => {
  const values = Float32Array.from([0, 1, -1, 0.5, 32, 512, 1024, -77, 1536.25, 4096, 16384, -32767]);
  const frequencies = Float32Array.from({ length: 7 }, (_, i) => Math.exp(-i));
  using x = Tensor.from(gpu, values, [2, 6]);
  using omega = Tensor.from(gpu, frequencies, [7]);
  for (const cosinesFirst of [true, false]) {
    using y = sinusoids(x, omega, { cosinesFirst });
    using wide = withGpuPolicy(gpu, () => sinusoids(x, omega, { cosinesFirst }));
    assertEquals(y.shape, [2, 6, 14]);
    const wanted = sinusoidsOf(values, frequencies, { cosinesFirst });
    const found = await y.data();
    // The device may fuse x·ω with what follows: its angle then differs by half a unit in the last
    // place of the angle, 2⁻²⁴ |x ω|.
    wanted.forEach((value, i) => {
      const angle = Math.abs(values[Math.floor(i / 14)] * frequencies[i % 7]);
      const bound = 3e-7 + 2 ** -24 * angle;
      assert(Math.abs(found[i] - value) <= bound, `element ${i}: ${found[i]} instead of ${value}`);
    });
    assertEquals(await wide.data(), found);
  }
});

gpuTest("sinusoids() takes no elements, and refuses frequencies that are no vector", async (gpu) => {
  using none = Tensor.from(gpu, new Float32Array(0), [0, 6]);
  using omega = Tensor.from(gpu, new Float32Array(4), [4]);
  using y = sinusoids(none, omega);
  assertEquals([y.shape, (await y.data()).length], [[0, 6, 8], 0]);
  using matrix = Tensor.from(gpu, new Float32Array(4), [2, 2]);
  assertThrows(() => sinusoids(none, matrix), ShapeError, "vector");
});
