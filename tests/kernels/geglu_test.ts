import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { geglu } from "../../kernels/geglu.ts";
import { assertClose, gpuTest, randomArray } from "../gpu.ts";
import { asOnGpu, count, erf, withBindingLimit } from "./oracles.ts";

gpuTest("geglu equals x₁ · gelu(x₂) in float64 on awkward sizes, in windows too", async (gpu) => {
  const shapes = [[2], [3, 2, 6], [2, 5, 8], [7, 62], [1, 64], [3, 66], [2, 9, 2560], [0, 8], [2, 0]];
  for (const shape of shapes) {
    for (const mode of ["plain", "as on a GPU", "in windows"]) {
      const data = randomArray(count(shape), shape.length).map((value) => value * 6);
      using x = Tensor.from(gpu, data, shape);
      const limit = mode === "in windows" ? Math.max(1024, shape.at(-1)! * 4 * 2 + 256) : undefined;
      const run = () => geglu(x);
      using y = withBindingLimit(gpu, limit, () => mode === "as on a GPU" ? asOnGpu(gpu, run) : run());
      const half = shape.at(-1)! / 2;
      assertEquals(y.shape, shape.with(-1, half));
      const expected = Float64Array.from({ length: data.length / 2 }, (_, i) => {
        const at = Math.floor(i / half) * 2 * half + i % half, gate = data[at + half];
        return data[at] * 0.5 * gate * (1 + erf(gate / Math.SQRT2));
      });
      // exp(a) in f32 is off by |a| roundings of its argument; here |a| reaches 6² / 2.
      assertClose(await y.data(), expected, 24 * 2 ** -24, `[${shape}] ${mode}`);
    }
  }
});

gpuTest("geglu refuses a last axis without two halves", (gpu) => {
  using x = Tensor.empty(gpu, [2, 5]);
  assertThrows(() => geglu(x), ShapeError, "Cannot gate [2, 5] as its last axis must hold two halves: 5");
});
