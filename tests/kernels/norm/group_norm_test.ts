import { assertEquals, assertThrows } from "@std/assert";
import { groupNormOf } from "../../../bench/oracles/functions.ts";
import { DTypeError, ShapeError } from "../../../engine/errors.ts";
import type { Gpu } from "../../../engine/gpu.ts";
import { elements, Tensor } from "../../../engine/tensor.ts";
import { groupNorm } from "../../../kernels/norm/group_norm.ts";
import { assertClose, f32Tolerance, gpuTest, randomArray } from "../../gpu.ts";
import { devices, f16Rounding, randomF16, withBindingLimit, withGpuPolicy } from "../oracles.ts";

interface Case {
  shape: number[];
  groups: number;
  silu?: boolean;
  f16Weights?: boolean;
  /** Whether x is f16. */
  f16Input?: boolean;
  bindingLimit?: number;
  gpuPolicy?: boolean;
  /** Added to all numbers. */
  offset?: number;
}

const epsilon = 1e-5;

function oracle(x: Float32Array, weight: Float32Array, bias: Float32Array, { shape, groups, silu }: Case) {
  const [batch, channels, ...rest] = shape;
  return groupNormOf(x, [batch, channels, elements(rest)], { groups, silu, weight, bias, epsilon });
}

async function check(gpu: Gpu, c: Case): Promise<void> {
  const { shape, groups, silu, f16Weights, f16Input, bindingLimit, gpuPolicy, offset = 0 } = c;
  const channels = shape[1];
  const data = f16Input ? randomF16(elements(shape)) : randomArray(elements(shape)).map((value) => value + offset);
  const weightData = randomF16(channels, 2), biasData = randomF16(channels, 3);
  using x = Tensor.from(gpu, data, shape, f16Input ? "f16" : "f32");
  using weight = Tensor.from(gpu, weightData, [channels], f16Weights ? "f16" : "f32");
  using bias = Tensor.from(gpu, biasData, [channels], f16Weights ? "f16" : "f32");
  const run = () => groupNorm(x, { groups, weight, bias, epsilon, activation: silu ? "silu" : undefined });
  using y = withBindingLimit(gpu, bindingLimit, () => gpuPolicy ? withGpuPolicy(gpu, run) : run());
  assertEquals([y.shape, y.dtype], [shape, x.dtype]);
  // The rounding error of the mean is relative to the mean, so the result's error grows with
  // offset / deviation (the deviation of values from −1 to 1 is 0.58). 2⁻²⁰ covers exp.
  const tolerance = f32Tolerance(elements(shape) / shape[0] / groups) + Math.abs(offset) * 2 ** -23 / 0.58 + 2 ** -20 +
    (f16Input ? f16Rounding : 0);
  assertClose(await y.data(), oracle(data, weightData, biasData, c), tolerance, JSON.stringify(c));
}

const unevenCases: Case[] = [
  { shape: [1, 1, 4], groups: 1 },
  { shape: [1, 1, 7], groups: 1 },
  { shape: [2, 6, 1, 3], groups: 3, silu: true },
  { shape: [2, 32, 4, 4], groups: 32, silu: true },
  { shape: [3, 8, 5, 7], groups: 2 },
  { shape: [2, 64, 8, 8], groups: 32, silu: true },
  { shape: [1, 12, 31, 33], groups: 4, silu: true },
  { shape: [2, 10, 17, 20], groups: 5, f16Weights: true },
  { shape: [1, 4, 64, 65], groups: 2, silu: true, f16Weights: true },
  { shape: [5, 3], groups: 1 },
  { shape: [1, 32, 96, 96], groups: 1 },
];

for (const [device, options] of Object.entries(devices)) {
  gpuTest(
    `groupNorm() equals its float64 definition for uneven sizes, ${device}`,
    async (gpu) => {
      for (const c of unevenCases) {
        await check(gpu, c);
        await check(gpu, { ...c, gpuPolicy: true });
      }
    },
    options,
  );
}

gpuTest("groupNorm() keeps its accuracy where the mean is 1000 times the deviation", async (gpu) => {
  await check(gpu, { shape: [1, 4, 32, 32], groups: 2, offset: 600 });
  await check(gpu, { shape: [1, 4, 31, 33], groups: 2, offset: -600, gpuPolicy: true });
});

gpuTest("groupNorm() returns the bias where a group is constant", async (gpu) => {
  using x = Tensor.from(gpu, new Float32Array(2 * 4 * 9).fill(3), [2, 4, 3, 3]);
  using weight = Tensor.from(gpu, new Float32Array([1, 2, 3, 4]), [4]);
  using bias = Tensor.from(gpu, new Float32Array([5, 6, 7, 8]), [4]);
  using y = groupNorm(x, { groups: 2, weight, bias, epsilon });
  // One rounding error of the mean, divided by √ε, the smallest deviation.
  const tolerance = 3 * 2 ** -23 / Math.sqrt(epsilon);
  assertClose(await y.data(), Float64Array.from({ length: 72 }, (_, i) => 5 + Math.floor(i / 9) % 4), tolerance);
});

gpuTest(
  "groupNorm() splits tensors larger than the binding limit into groups, or into channels",
  async (gpu) => {
    for (const silu of [false, true]) {
      await check(gpu, { shape: [2, 12, 9, 11], groups: 3, silu, bindingLimit: 4096 });
      await check(gpu, { shape: [3, 16, 8, 8], groups: 4, silu, bindingLimit: 4096 });
      await check(gpu, { shape: [2, 12, 16, 16], groups: 3, silu, bindingLimit: 3000 });
      await check(gpu, { shape: [2, 15, 9, 15], groups: 3, silu, bindingLimit: 1500, gpuPolicy: true });
    }
  },
);

gpuTest("groupNorm() keeps f16 where planes are multiples of 4, also split at the binding limit", async (gpu) => {
  const cases: Case[] = [
    { shape: [2, 64, 8, 8], groups: 32, silu: true, f16Weights: true },
    { shape: [1, 12, 31, 36], groups: 4, silu: true },
    { shape: [2, 10, 340], groups: 5 },
    { shape: [2, 12, 16, 16], groups: 3, silu: true, bindingLimit: 3000 },
    { shape: [3, 16, 6, 6], groups: 4, bindingLimit: 1500 },
  ];
  for (const c of cases) {
    await check(gpu, { ...c, f16Input: true });
    await check(gpu, { ...c, f16Input: true, gpuPolicy: true });
  }
  using x = Tensor.empty(gpu, [1, 6, 3, 3], "f16");
  using six = Tensor.empty(gpu, [6]);
  const odd = () => gpu.scope(() => groupNorm(x, { groups: 2, weight: six, bias: six, epsilon }));
  assertThrows(odd, DTypeError, "in f16");
});

gpuTest("groupNorm() accepts an empty batch", async (gpu) => {
  using x = Tensor.empty(gpu, [0, 4, 3, 3]);
  using weight = Tensor.empty(gpu, [4]);
  using y = groupNorm(x, { groups: 2, weight, bias: weight, epsilon });
  assertEquals([y.shape, (await y.data()).length], [[0, 4, 3, 3], 0]);
});

gpuTest("groupNorm() rejects groups that do not divide the channels, and weights of another size", (gpu) => {
  using x = Tensor.empty(gpu, [1, 6, 2, 2]);
  using six = Tensor.empty(gpu, [6]);
  using five = Tensor.empty(gpu, [5]);
  assertThrows(
    () => groupNorm(x, { groups: 4, weight: six, bias: six, epsilon }),
    ShapeError,
    "Cannot normalize [1, 6, 2, 2] in 4 groups as the groups must divide the channels: 6 / 4",
  );
  assertThrows(
    () => groupNorm(x, { groups: 3, weight: six, bias: five, epsilon }),
    ShapeError,
    "weight and bias must hold 6 elements: 6, 5",
  );
  assertThrows(() => groupNorm(five, { groups: 1, weight: five, bias: five, epsilon }), ShapeError, "channels");
});
