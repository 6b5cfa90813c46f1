import { assert, assertEquals, assertThrows } from "@std/assert";
import { DTypeError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { toF16, toF32 } from "../../kernels/cast.ts";
import { gpuTest, randomArray } from "../gpu.ts";
import { withBindingLimit } from "./oracles.ts";

gpuTest("toF16 is off by at most one unit in the last place of f16, below its normal range too", async (gpu) => {
  for (const size of [0, 1, 2, 3, 4, 5, 129, 1025]) {
    // Magnitudes from 2^-26, which is nothing in f16, to 2^15.
    const data = randomArray(size, size + 1).map((value, i) => value * 2 ** (i % 42 - 26));
    using x = Tensor.from(gpu, data, [size]);
    using y = toF16(x);
    assertEquals([y.dtype, y.shape, y.bytes], ["f16", [size], 2 * size]);
    const actual = await y.data();
    data.forEach((value, i) => {
      const unit = 2 ** (Math.max(Math.floor(Math.log2(Math.abs(value) || 1e-9)), -14) - 10);
      assert(Math.abs(actual[i] - value) < unit, `${value} became ${actual[i]}`);
    });
  }
});

gpuTest("toF16 and toF32 keep every number that f16 holds", async (gpu) => {
  const bits = Uint16Array.from({ length: 0x7c00 }, (_, i) => i ^ (i % 2 << 15)); // all finite magnitudes
  using half = Tensor.from(gpu, bits, [bits.length]);
  using wide = toF32(half);
  assertEquals(wide.dtype, "f32");
  const expected = Float32Array.from(new Float16Array(bits.buffer));
  assertEquals(await wide.data(), expected);
  using back = toF16(wide);
  assertEquals(await back.data(), expected);
});

gpuTest("casts work in windows on tensors larger than the device binds", async (gpu) => {
  const data = Float32Array.from({ length: 2000 }, (_, i) => i);
  using x = Tensor.from(gpu, data, [2, 1000]);
  using half = withBindingLimit(gpu, 2048, () => toF16(x));
  using wide = withBindingLimit(gpu, 2048, () => toF32(half));
  assertEquals(wide.shape, [2, 1000]);
  assertEquals(await wide.data(), data);
});

gpuTest("casts refuse whole numbers", (gpu) => {
  using ids = Tensor.empty(gpu, [3], "i32");
  assertThrows(() => toF16(ids), DTypeError, "Cannot cast to f16 as only f32 and f16 convert: i32");
});
