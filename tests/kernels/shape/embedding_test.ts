import { assertEquals, assertThrows } from "@std/assert";
import { DTypeError, ShapeError } from "../../../engine/errors.ts";
import type { Gpu } from "../../../engine/gpu.ts";
import { elements, Tensor } from "../../../engine/tensor.ts";
import { embedding } from "../../../kernels/shape/embedding.ts";
import { gpuTest } from "../../gpu.ts";
import { randomF16, withBindingLimit, withGpuPolicy } from "../oracles.ts";

async function check(
  gpu: Gpu,
  [vocabulary, width]: [number, number],
  ids: Int32Array | Uint32Array,
  options: { shape?: number[]; f16?: boolean; bindingLimit?: number; gpuPolicy?: boolean } = {},
): Promise<void> {
  const { shape = [ids.length], f16, bindingLimit, gpuPolicy } = options;
  const data = randomF16(vocabulary * width);
  using table = Tensor.from(gpu, data, [vocabulary, width], f16 ? "f16" : "f32");
  using idTensor = Tensor.from(gpu, ids, shape);
  const run = () => embedding(table, idTensor);
  using y = withBindingLimit(gpu, bindingLimit, () => gpuPolicy ? withGpuPolicy(gpu, run) : run());
  assertEquals([y.shape, y.dtype], [[...shape, width], "f32"]);
  const expected = Array.from(ids, (id) => [...data.subarray(id * width, (id + 1) * width)]).flat();
  assertEquals([...await y.data()], expected, JSON.stringify({ vocabulary, width, ...options }));
}

gpuTest("embedding() copies rows of f32 and f16 tables exactly, for any width", async (gpu) => {
  for (const width of [1, 3, 4, 7, 8, 63, 64, 130, 768]) {
    for (const f16 of [false, true]) {
      await check(gpu, [11, width], new Int32Array([0, 10, 3, 3, 7, 1]), { f16, shape: [2, 3] });
      await check(gpu, [11, width], new Uint32Array([10]), { f16, gpuPolicy: true });
    }
  }
  await check(gpu, [1, 5], new Int32Array(77));
  await check(gpu, [4, 8], new Int32Array(0));
});

gpuTest("embedding() splits a table larger than the binding limit into rows", async (gpu) => {
  const ids = Int32Array.from({ length: 50 }, (_, i) => i * 37 % 101);
  for (const width of [7, 8]) {
    for (const f16 of [false, true]) {
      await check(gpu, [101, width], ids, { f16, bindingLimit: elements([50, width, 4]) });
    }
  }
});

gpuTest("embedding() returns the last row for ids out of range", async (gpu) => {
  using table = Tensor.from(gpu, new Float32Array([1, 2, 3]), [3, 1]);
  using ids = Tensor.from(gpu, new Int32Array([-1, 3, 1_000_000, 1]), [4]);
  using y = embedding(table, ids);
  assertEquals([...await y.data()], [3, 3, 3, 2]);
});

gpuTest("embedding() rejects ids that are not integers, and tables that are not matrices", (gpu) => {
  using table = Tensor.empty(gpu, [3, 4]);
  using ids = Tensor.empty(gpu, [2]);
  assertThrows(() => embedding(table, ids), DTypeError, "Cannot look up rows by ids of f32 as they must be i32 or u32");
  using whole = Tensor.empty(gpu, [2], "i32");
  assertThrows(() => embedding(ids, whole), ShapeError);
});
