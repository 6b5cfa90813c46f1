import { assertEquals, assertThrows } from "@std/assert";
import { DTypeError, ShapeError } from "../../../engine/errors.ts";
import { elements, Tensor } from "../../../engine/tensor.ts";
import { guide } from "../../../kernels/shape/guide.ts";
import { assertClose, gpuTest, randomArray } from "../../gpu.ts";
import { withBindingLimit } from "../oracles.ts";

gpuTest("guide() equals u + scale · (c − u), also split at the binding limit", async (gpu) => {
  for (const shape of [[2, 1], [2, 4, 8, 8], [6, 5, 7], [4, 3, 17, 20], [0, 4]]) {
    for (const bindingLimit of [undefined, 1024]) {
      const data = randomArray(elements(shape)), half = data.length / 2;
      using x = Tensor.from(gpu, data, shape);
      using y = withBindingLimit(gpu, bindingLimit, () => guide(x, 7.5));
      assertEquals(y.shape, shape.with(0, shape[0] / 2));
      const expected = Float64Array.from({ length: half }, (_, i) => data[i] + 7.5 * (data[half + i] - data[i]));
      assertClose(await y.data(), expected, 2 ** -21, `[${shape}], limit ${bindingLimit}`);
    }
  }
});

gpuTest("guide() rejects an odd batch, and f16", (gpu) => {
  using x = Tensor.empty(gpu, [3, 4]);
  assertThrows(() => guide(x, 7.5), ShapeError, "unconditional and conditional predictions, an even number: 3");
  using half = Tensor.empty(gpu, [2, 4], "f16");
  assertThrows(() => guide(half, 7.5), DTypeError, "f16");
});
