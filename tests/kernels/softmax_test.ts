import { assertEquals } from "@std/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { softmax } from "../../kernels/softmax.ts";
import { assertClose, f32Tolerance, gpuTest, randomArray } from "../gpu.ts";
import { asOnGpu, count, devices, withBindingLimit } from "./oracles.ts";

interface Case {
  shape: number[];
  scale?: number;
  causal?: boolean;
  /** The numbers lie between -spread and spread. */
  spread?: number;
  bindingLimit?: number;
  pretendGpu?: boolean;
}

async function check(gpu: Gpu, c: Case): Promise<void> {
  const { shape, scale = 1, causal = false, spread = 4, bindingLimit, pretendGpu } = c;
  const width = shape.at(-1)!, blockRows = shape.at(-2) ?? 1;
  const data = randomArray(count(shape)).map((value) => value * spread);
  using x = Tensor.from(gpu, data, shape);
  const run = () => softmax(x, { scale: c.scale, causal: c.causal });
  using y = withBindingLimit(gpu, bindingLimit, () => pretendGpu ? asOnGpu(gpu, run) : run());
  assertEquals(y.shape, shape);
  const expected = new Float64Array(data.length);
  for (let row = 0; row < data.length / width; row++) {
    const seen = causal ? Math.min(row % blockRows + 1, width) : width;
    const scaled = Array.from(data.subarray(row * width, row * width + seen), (value) => value * scale);
    const top = Math.max(...scaled);
    const sum = scaled.reduce((total, value) => total + Math.exp(value - top), 0);
    scaled.forEach((value, i) => expected[row * width + i] = Math.exp(value - top) / sum);
  }
  const actual = await y.data();
  // The argument of an exponential carries roundings of its own size, which are relative errors of the result.
  const tolerance = f32Tolerance(width) + (2 * spread * Math.abs(scale) + 4) * 2 ** -22;
  assertClose(actual, expected, tolerance, JSON.stringify(c));
  expected.forEach((value, i) => value === 0 && assertEquals(actual[i], 0, "what a row must not see"));
}

const widths = [1, 2, 4, 7, 8, 31, 32, 33, 64, 77, 257, 1024];

for (const [device, options] of Object.entries(devices)) {
  gpuTest(
    `softmax equals its float64 definition on awkward sizes, causal and not, ${device}`,
    async (gpu) => {
      for (const width of widths) {
        await check(gpu, { shape: [2, 3, width], scale: 0.3 });
        await check(gpu, { shape: [2, 2, Math.min(width, 40), width], causal: true });
        await check(gpu, { shape: [5, width], causal: true, scale: -0.7, pretendGpu: true });
      }
      await check(gpu, { shape: [2, 9, 4], causal: true }); // more rows than columns
      await check(gpu, { shape: [13] });
    },
    options,
  );
}

gpuTest("softmax does not overflow where numbers reach 3000, and keeps what is far below at 0", async (gpu) => {
  await check(gpu, { shape: [7, 40], spread: 3000 });
  await check(gpu, { shape: [7, 41], spread: 3000, causal: true });
});

gpuTest("softmax gives hidden numbers, minus infinity, no weight", async (gpu) => {
  using x = Tensor.from(gpu, new Float32Array([-Infinity, 1, -Infinity, 1, 0, -Infinity]), [2, 3]);
  using y = softmax(x);
  assertClose(await y.data(), [0, 1, 0, Math.E / (Math.E + 1), 1 / (Math.E + 1), 0], 2 ** -20);
});

gpuTest(
  "softmax works in windows of rows on tensors larger than the device binds, counting causal rows on",
  async (gpu) => {
    for (const causal of [false, true]) {
      await check(gpu, { shape: [4, 11, 13], causal, bindingLimit: 700 });
      await check(gpu, { shape: [3, 12, 16], causal, bindingLimit: 1024 });
    }
  },
);

gpuTest("softmax takes no rows", async (gpu) => {
  using x = Tensor.empty(gpu, [0, 8]);
  using y = softmax(x);
  assertEquals([y.shape, (await y.data()).length], [[0, 8], 0]);
});
