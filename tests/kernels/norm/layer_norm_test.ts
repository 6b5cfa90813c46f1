import { assertEquals, assertThrows } from "@std/assert";
import { layerNormOf } from "../../../bench/oracles/functions.ts";
import { DTypeError, ShapeError } from "../../../engine/errors.ts";
import type { Gpu } from "../../../engine/gpu.ts";
import { elements, Tensor } from "../../../engine/tensor.ts";
import { layerNorm } from "../../../kernels/norm/layer_norm.ts";
import { assertClose, f32Tolerance, gpuTest, randomArray } from "../../gpu.ts";
import { devices, f16Rounding, randomF16, withBindingLimit, withGpuPolicy } from "../oracles.ts";

interface Case {
  shape: number[];
  f16Weights?: boolean;
  /** Whether x is f16. */
  f16Input?: boolean;
  bindingLimit?: number;
  gpuPolicy?: boolean;
  offset?: number;
}

const epsilon = 1e-5;

async function check(
  gpu: Gpu,
  { shape, f16Weights, f16Input, bindingLimit, gpuPolicy, offset = 0 }: Case,
): Promise<void> {
  const width = shape.at(-1)!;
  const data = f16Input ? randomF16(elements(shape)) : randomArray(elements(shape)).map((value) => value + offset);
  const weightData = randomF16(width, 2), biasData = randomF16(width, 3);
  using x = Tensor.from(gpu, data, shape, f16Input ? "f16" : "f32");
  using weight = Tensor.from(gpu, weightData, [width], f16Weights ? "f16" : "f32");
  using bias = Tensor.from(gpu, biasData, [width], f16Weights ? "f16" : "f32");
  const run = () => layerNorm(x, { weight, bias, epsilon });
  using y = withBindingLimit(gpu, bindingLimit, () => gpuPolicy ? withGpuPolicy(gpu, run) : run());
  assertEquals([y.shape, y.dtype], [shape, x.dtype]);
  const expected = layerNormOf(data, width, { weight: weightData, bias: biasData, epsilon });
  // Elements of a short row may be close to each other by chance. The deviation is then small
  // relative to the elements, and fewer digits are left.
  const tolerance = f32Tolerance(width) + (width < 8 ? 2 ** -16 : 0) + Math.abs(offset) * 2 ** -22 +
    (f16Input ? f16Rounding : 0);
  assertClose(
    await y.data(),
    expected,
    tolerance,
    JSON.stringify({ shape, f16Weights, f16Input, bindingLimit, gpuPolicy, offset }),
  );
}

for (const [device, options] of Object.entries(devices)) {
  gpuTest(
    `layerNorm() equals its float64 definition for uneven sizes, ${device}`,
    async (gpu) => {
      for (const width of [1, 4, 7, 31, 32, 33, 63, 64, 65, 320, 771, 1280]) {
        await check(gpu, { shape: [2, 3, width] });
        await check(gpu, { shape: [67, width], f16Weights: true });
        await check(gpu, { shape: [5, width], gpuPolicy: true });
      }
    },
    options,
  );
}

gpuTest("layerNorm() keeps its accuracy where the mean is 1000 times the deviation", async (gpu) => {
  await check(gpu, { shape: [70, 320], offset: 600 });
  await check(gpu, { shape: [3, 77], offset: -600 });
});

gpuTest("layerNorm() splits tensors larger than the binding limit into rows", async (gpu) => {
  await check(gpu, { shape: [29, 33], bindingLimit: 1000 });
  await check(gpu, { shape: [3, 100, 40], bindingLimit: 20_000 });
});

gpuTest("layerNorm() keeps f16 where rows are multiples of 4, also split at the binding limit", async (gpu) => {
  for (const width of [32, 64, 320, 1280]) {
    await check(gpu, { shape: [67, width], f16Input: true, f16Weights: true });
    await check(gpu, { shape: [5, width], f16Input: true, gpuPolicy: true });
  }
  await check(gpu, { shape: [29, 36], f16Input: true, bindingLimit: 1000 });
  using x = Tensor.empty(gpu, [2, 6], "f16");
  using six = Tensor.empty(gpu, [6]);
  assertThrows(() => gpu.scope(() => layerNorm(x, { weight: six, bias: six, epsilon })), DTypeError, "in f16");
});

gpuTest("layerNorm() accepts a tensor without rows", async (gpu) => {
  using x = Tensor.empty(gpu, [0, 8]);
  using weight = Tensor.empty(gpu, [8]);
  using y = layerNorm(x, { weight, bias: weight, epsilon });
  assertEquals([y.shape, (await y.data()).length], [[0, 8], 0]);
});

gpuTest("layerNorm() rejects weights of another width", (gpu) => {
  using x = Tensor.empty(gpu, [2, 6]);
  using six = Tensor.empty(gpu, [6]);
  using five = Tensor.empty(gpu, [5]);
  assertThrows(
    () => layerNorm(x, { weight: six, bias: five, epsilon }),
    ShapeError,
    "Cannot normalize [2, 6] by weight [6] and bias [5] as both must hold 6 elements",
  );
});
