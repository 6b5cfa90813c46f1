import { assertEquals } from "@std/assert";
import { activations } from "../../../bench/oracles/functions.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { activate } from "../../../kernels/shape/activate.ts";
import type { Activation } from "../../../kernels/wgsl/activation.ts";
import { assertClose, gpuTest, randomArray } from "../../gpu.ts";
import { f16Rounding, randomF16, withBindingLimit, withGpuPolicy } from "../oracles.ts";

// exp(a) in f32 has a relative error of |a| · 2⁻²⁴ from rounding a. |a| is at most 8² / 2, in
// gelu's tail; an activation with a larger argument needs a larger tolerance.
const tolerance = 32 * 2 ** -24;

for (const kind of Object.keys(activations) as Activation[]) {
  gpuTest(
    `activate("${kind}") equals its float64 definition for sizes 0, 1, 63, 257 and |x| up to 8`,
    async (gpu) => {
      for (const size of [0, 1, 63, 257]) {
        const data = randomArray(size, size).map((x) => x * 8);
        using x = Tensor.from(gpu, data, [size]);
        using y = activate(x, kind);
        assertClose(await y.data(), Float64Array.from(data, activations[kind]), tolerance, `size ${size}`);
      }
    },
  );
}

gpuTest("activate() splits tensors larger than the binding limit, and works with a GPU's policy", async (gpu) => {
  const data = randomArray(5001).map((x) => x * 8);
  using x = Tensor.from(gpu, data, [3, 1667]);
  const expected = Float64Array.from(data, activations.silu);
  using windowed = withBindingLimit(gpu, 4096, () => activate(x, "silu"));
  using wide = withGpuPolicy(gpu, () => activate(x, "silu"));
  assertClose(await windowed.data(), expected, tolerance, "in windows");
  assertClose(await wide.data(), expected, tolerance, "as on a GPU");
});

gpuTest("activate() keeps f16 for any size, also split at the binding limit", async (gpu) => {
  for (const [size, limit] of [[1, undefined], [63, undefined], [5001, 2048]] as const) {
    const data = randomF16(size).map((x) => x * 8);
    using x = Tensor.from(gpu, data, [size], "f16");
    using y = withBindingLimit(gpu, limit, () => activate(x, "silu"));
    assertEquals(y.dtype, "f16");
    assertClose(await y.data(), Float64Array.from(data, activations.silu), tolerance + f16Rounding, `size ${size}`);
  }
});
