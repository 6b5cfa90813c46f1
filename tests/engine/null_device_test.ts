import { assertEquals, assertThrows } from "@std/assert";
import { OutOfMemoryError } from "../../engine/errors.ts";
import { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { add } from "../../kernels/shape/linear_combination.ts";
import { gpuTest } from "../gpu.ts";

gpuTest("a null device takes the memory that the device of its description takes", async (gpu) => {
  // Of its own, so that no buffer is kept for reuse.
  using described = await Gpu.request(gpu.options);
  const taken = async (gpu: Gpu) => {
    using x = Tensor.from(gpu, new Float32Array(3000), [3, 1000]);
    using program = gpu.capture(() => add(add(x, x), add(x, x)));
    program.run();
    using sum = gpu.scope(() => add(program.result, x));
    await sum.data();
    return { ...gpu.memory };
  };
  using nothing = Gpu.null(described.info, described.options);
  assertEquals(await taken(nothing), await taken(described));
});

gpuTest("a null device holds to the limits of its description, and reads back zeros", async ({ info }) => {
  using gpu = Gpu.null({ ...info, limits: { ...info.limits, maxBufferSize: 4096 } });
  assertThrows(() => Tensor.empty(gpu, [1025]), OutOfMemoryError, "4096");
  using ones = Tensor.from(gpu, new Float32Array([1, 1]), [2]);
  assertEquals([...await ones.data()], [0, 0]);
});

gpuTest("a null device profiles, where the device of its description does", async ({ info }) => {
  const features = new Set([...info.features, "timestamp-query"]);
  using gpu = Gpu.null({ ...info, features });
  using x = Tensor.empty(gpu, [8]);
  const rows = await gpu.profile(() => add(x, x)[Symbol.dispose]());
  assertEquals(rows.map(({ runs, ms }) => ({ runs, ms })), [{ runs: 1, ms: 0 }]);
});
