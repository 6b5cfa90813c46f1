import { assertEquals, assertThrows } from "@std/assert";
import {
  convolution,
  type ConvolutionExtras,
  convolutionSize,
  type ConvolutionSizes,
} from "../../../bench/oracles/convolution.ts";
import { DTypeError, ShapeError } from "../../../engine/errors.ts";
import { Gpu, type GpuInfo } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { conv2d, type Conv2dOptions, packConvWeight } from "../../../kernels/conv/conv2d.ts";
import type { TileShape } from "../../../kernels/gemm/tile.ts";
import { policyOf } from "../../../kernels/policy.ts";
import {
  assertClose,
  f32Tolerance,
  gpuTest,
  lackOfSubgroupMatrices,
  matrixTolerance,
  randomArray,
  roundedToF16,
} from "../../gpu.ts";
import { f16Rounding, withBindingLimit, withGpuPolicy } from "../oracles.ts";

async function check(
  gpu: Gpu,
  c: ConvolutionSizes,
  options: {
    with?: ("bias" | "channelBias" | "residual" | "silu")[];
    tile?: TileShape;
    path?: Conv2dOptions["path"];
    f16?: boolean;
    /** Whether x is f16, and so the result. */
    f16Pictures?: boolean;
    residualType?: "f32" | "f16";
    bindingLimit?: number;
    /** One row of channel biases for all pictures, in the middle of a longer one. */
    sharedBias?: boolean;
    within?: typeof withGpuPolicy;
  } = {},
): Promise<void> {
  const { batch = 1, inChannels, outChannels, size, kernel, upsample } = c;
  const shape = [batch, outChannels, ...convolutionSize(c)];
  const weightShape = [outChannels, inChannels, ...kernel];
  const count = (lengths: number[]) => lengths.reduce((a, b) => a * b, 1);
  // rounds its operands to f16, so the operands are chosen to be f16 values
  const onMatrices = options.tile?.strategy === "matrix";
  let xData = randomArray(batch * inChannels * size[0] * size[1], 1);
  if (options.f16Pictures || onMatrices) xData = roundedToF16(xData);
  let weightData = randomArray(count(weightShape), 2);
  if (options.f16 || onMatrices) weightData = roundedToF16(weightData);
  const extras: ConvolutionExtras = {
    bias: options.with?.includes("bias") ? randomArray(outChannels, 3) : undefined,
    channelBias: options.with?.includes("channelBias") ? randomArray(batch * outChannels, 4) : undefined,
    residual: options.with?.includes("residual")
      ? Float32Array.from(Float16Array.from(randomArray(count(shape), 5)))
      : undefined,
    silu: options.with?.includes("silu"),
  };
  const biases = extras.channelBias;
  if (biases && options.sharedBias) biases.forEach((_, i) => biases[i] = biases[i % outChannels]);
  const biasRow = biases && [9, 9, ...biases.subarray(0, outChannels), 9];
  const actual = gpu.scope(() => {
    const channelBias = !biases
      ? undefined
      : options.sharedBias
      ? { tensor: Tensor.from(gpu, Float32Array.from(biasRow!), [1, outChannels + 3]), first: 2 }
      : { tensor: Tensor.from(gpu, biases, [batch, outChannels]) };
    const x = Tensor.from(gpu, xData, [batch, inChannels, ...size], options.f16Pictures ? "f16" : "f32");
    const weight = packConvWeight(Tensor.from(gpu, weightData, weightShape, options.f16 ? "f16" : "f32"));
    const forward = {
      stride: c.stride,
      padding: c.padding,
      upsample: upsample && upsample[0] === 2 * size[0] && upsample[1] === 2 * size[1] ? true : upsample,
      bias: extras.bias && Tensor.from(gpu, extras.bias, [outChannels]),
      channelBias,
      residual: extras.residual && Tensor.from(gpu, extras.residual, shape, options.residualType),
      activation: extras.silu ? "silu" as const : undefined,
      tile: options.tile,
      path: options.path,
    };
    const { within = (_: Gpu, body: () => Tensor) => body() } = options;
    return withBindingLimit(gpu, options.bindingLimit, () => within(gpu, () => conv2d(x, weight, forward)));
  });
  using y = actual;
  assertEquals([y.shape, y.dtype], [shape, options.f16Pictures ? "f16" : "f32"]);
  const what = JSON.stringify({ ...c, ...options });
  const terms = inChannels * count([...kernel]);
  const tolerance = (onMatrices ? matrixTolerance(terms) : f32Tolerance(terms)) +
    (options.f16Pictures ? f16Rounding : 0);
  assertClose(await y.data(), convolution(xData, weightData, c, extras), tolerance, what);
}

const same = (side: number) => [side, side, side, side] as const;

const unevenCases: ConvolutionSizes[] = [
  // 1×1, with multiples of 4 and without
  { inChannels: 4, outChannels: 4, size: [8, 8], kernel: [1, 1] },
  { inChannels: 32, outChannels: 17, size: [16, 24], kernel: [1, 1], batch: 2 },
  { inChannels: 5, outChannels: 33, size: [8, 8], kernel: [1, 1], batch: 3 },
  { inChannels: 64, outChannels: 64, size: [3, 5], kernel: [1, 1], batch: 2 },
  { inChannels: 3, outChannels: 1, size: [1, 1], kernel: [1, 1] },
  { inChannels: 4, outChannels: 5, size: [8, 8], kernel: [1, 1], stride: 2 },
  // 3×3
  { inChannels: 1, outChannels: 1, size: [1, 1], kernel: [3, 3], padding: same(1) },
  { inChannels: 3, outChannels: 32, size: [8, 8], kernel: [3, 3], padding: same(1), batch: 2 },
  { inChannels: 4, outChannels: 33, size: [7, 12], kernel: [3, 3], padding: same(1), batch: 3 },
  { inChannels: 17, outChannels: 5, size: [3, 5], kernel: [3, 3], padding: same(1), batch: 2 },
  { inChannels: 33, outChannels: 3, size: [16, 24], kernel: [3, 3], padding: same(1) },
  { inChannels: 64, outChannels: 64, size: [8, 8], kernel: [3, 3], padding: same(1), batch: 2 },
  { inChannels: 32, outChannels: 64, size: [2, 4], kernel: [3, 3], padding: same(1), batch: 3 },
  { inChannels: 5, outChannels: 17, size: [8, 8], kernel: [3, 3] },
  { inChannels: 5, outChannels: 4, size: [6, 6], kernel: [3, 3], padding: same(2) },
  // The downsamplers of the UNet and of the VAE
  { inChannels: 32, outChannels: 32, size: [16, 24], kernel: [3, 3], stride: 2, padding: same(1), batch: 2 },
  { inChannels: 17, outChannels: 33, size: [7, 12], kernel: [3, 3], stride: 2, padding: same(1) },
  { inChannels: 32, outChannels: 32, size: [16, 24], kernel: [3, 3], stride: 2, padding: [0, 0, 1, 1] },
  { inChannels: 4, outChannels: 3, size: [7, 12], kernel: [3, 3], padding: [2, 0, 1, 3], batch: 2 },
  // The upsamplers: to twice the size, and to another size
  { inChannels: 32, outChannels: 32, size: [8, 8], kernel: [3, 3], padding: same(1), upsample: [16, 16], batch: 2 },
  { inChannels: 5, outChannels: 33, size: [7, 6], kernel: [3, 3], padding: same(1), upsample: [14, 12] },
  { inChannels: 4, outChannels: 17, size: [3, 5], kernel: [3, 3], padding: same(1), upsample: [6, 10] },
  { inChannels: 5, outChannels: 4, size: [3, 5], kernel: [3, 3], padding: same(1), upsample: [5, 9] },
  // Others
  { inChannels: 5, outChannels: 17, size: [7, 12], kernel: [2, 2], batch: 2 },
  { inChannels: 3, outChannels: 33, size: [16, 24], kernel: [8, 8], stride: 8, batch: 2 },
  { inChannels: 4, outChannels: 3, size: [7, 12], kernel: [1, 3], padding: [0, 1, 0, 1] },
  { inChannels: 4, outChannels: 3, size: [7, 12], kernel: [3, 2], stride: 3 },
];

gpuTest("conv2d() equals its float64 definition on the 3x3 path for few output channels", async (gpu) => {
  if (!policyOf(gpu).isSoftware || gpu.info.subgroupSize === 0) return;
  const sizes = { kernel: [3, 3], padding: same(1) } as const;
  for (
    const c of [
      { ...sizes, inChannels: 33, outChannels: 4, size: [9, 16], batch: 2 },
      { ...sizes, inChannels: 1, outChannels: 1, size: [1, 8], batch: 3 },
      // The subgroup's ends lie inside a row.
      { ...sizes, inChannels: 4, outChannels: 3, size: [2, 72] },
      { ...sizes, inChannels: 6, outChannels: 2, size: [130, 24] },
      { ...sizes, inChannels: 5, outChannels: 7, size: [6, 40], batch: 2 },
    ] satisfies ConvolutionSizes[]
  ) {
    await check(gpu, c, { path: "3x3 few outputs" });
    await check(gpu, c, { path: "3x3 few outputs", with: ["bias", "channelBias", "silu", "residual"] });
  }
  const narrow = { ...sizes, inChannels: 20, outChannels: 3, size: [9, 16] } satisfies ConvolutionSizes;
  await check(gpu, narrow, { path: "3x3 few outputs", f16: true, f16Pictures: true });
  await check(gpu, narrow, { path: "3x3 few outputs", bindingLimit: 8192 });
});

gpuTest("conv2d() equals its float64 definition on the 3x3 path for few input channels", async (gpu) => {
  if (!policyOf(gpu).isSoftware || gpu.info.subgroupSize === 0) return;
  const sizes = { kernel: [3, 3], padding: same(1) } as const;
  for (
    const c of [
      { ...sizes, inChannels: 4, outChannels: 33, size: [9, 16], batch: 2 },
      { ...sizes, inChannels: 1, outChannels: 1, size: [1, 8], batch: 3 },
      // Rows longer than a subgroup.
      { ...sizes, inChannels: 3, outChannels: 6, size: [2, 72], batch: 2 },
    ] satisfies ConvolutionSizes[]
  ) {
    await check(gpu, c, { path: "3x3 few inputs" });
    await check(gpu, c, { path: "3x3 few inputs", with: ["bias"], f16: true, f16Pictures: true });
  }
});

gpuTest("conv2d() chooses the kernels for 3x3 and for few channels where they suit, at all sizes", (gpu) => {
  if (!policyOf(gpu).isSoftware || gpu.info.subgroupSize === 0) return;
  const { convolutions } = policyOf(gpu);
  const sizes = {
    ...{ kernelHeight: 3, kernelWidth: 3, stride: 1, upsample: "none" as const, padding: same(1) },
    ...{ isPlain: true, width: 64, outWidth: 64, pixels: 4096, dtype: "f32" as const },
  };
  const input = { ...sizes, inChannels: 4, outChannels: 320 }, output = { ...sizes, inChannels: 320, outChannels: 4 };
  assertEquals(convolutions.path(input), "3x3 few inputs");
  assertEquals(convolutions.path({ ...input, isPlain: false }), "3x3");
  const large = { ...sizes, inChannels: 320, outChannels: 320 };
  assertEquals(
    [large, { ...large, pixels: 64 }, { ...large, dtype: "f16" as const }, { ...large, outChannels: 64 }, {
      ...large,
      width: 60,
      outWidth: 60,
    }].map((sizes) => convolutions.path(sizes)),
    ["3x3 stationary", "3x3", "3x3", "3x3", "3x3"],
  );
  assertEquals(
    convolutions.path({ ...input, outChannels: 16, width: 8, outWidth: 8 }),
    "3x3 few inputs",
  );
  assertEquals(convolutions.path(output), "3x3 few outputs");
  assertEquals(convolutions.path({ ...output, upsample: "double" }), "3x3");
  const down = { ...sizes, inChannels: 8, outChannels: 8, stride: 2, width: 8, outWidth: 4 };
  assertEquals(convolutions.path(down), "3x3");
  assertEquals(convolutions.path({ ...down, width: 12, outWidth: 6 }), "general");
  const five = () => {
    const x = Tensor.from(gpu, new Float32Array(5 * 64), [1, 5, 8, 8]);
    const weight = packConvWeight(Tensor.from(gpu, new Float32Array(45), [1, 5, 3, 3]));
    return conv2d(x, weight, { padding: 1, path: "3x3 few inputs" });
  };
  assertThrows(() => gpu.scope(five), ShapeError, "at most 4 channels: 5");
});

gpuTest("conv2d() equals its float64 definition on the 3x3 path, with stride 2 and few channels", async (gpu) => {
  if (!policyOf(gpu).isSoftware || gpu.info.subgroupSize === 0) return;
  const sizes = { kernel: [3, 3], padding: same(1) } as const;
  for (
    const c of [
      { ...sizes, inChannels: 32, outChannels: 32, size: [16, 24], stride: 2, batch: 2 },
      { ...sizes, inChannels: 17, outChannels: 33, size: [7, 16], stride: 2 },
      { ...sizes, inChannels: 5, outChannels: 3, size: [1, 8], stride: 2, batch: 3 },
      { ...sizes, inChannels: 32, outChannels: 32, size: [16, 24], stride: 2, padding: [0, 0, 1, 1] },
      { ...sizes, inChannels: 9, outChannels: 17, size: [9, 8], stride: 2, padding: [0, 0, 1, 1], batch: 2 },
      { ...sizes, inChannels: 1, outChannels: 1, size: [1, 4] },
      { ...sizes, inChannels: 3, outChannels: 33, size: [7, 12], batch: 2 },
      { ...sizes, inChannels: 4, outChannels: 40, size: [6, 8] },
      { ...sizes, inChannels: 3, outChannels: 17, size: [3, 4], upsample: [6, 8] },
      { ...sizes, inChannels: 33, outChannels: 4, size: [9, 16], batch: 2 },
      { ...sizes, inChannels: 6, outChannels: 5, size: [5, 104] },
      { ...sizes, inChannels: 6, outChannels: 5, size: [4, 104], stride: 2, batch: 2 },
      { ...sizes, inChannels: 5, outChannels: 4, size: [3, 36], upsample: [6, 72] },
    ] satisfies ConvolutionSizes[]
  ) {
    await check(gpu, c, { path: "3x3" });
    await check(gpu, c, { path: "3x3", with: ["bias", "channelBias", "silu", "residual"] });
  }
  const even = { ...sizes, inChannels: 8, outChannels: 12, size: [8, 16], stride: 2, batch: 2 } as const;
  await check(gpu, even, { path: "3x3", f16: true, f16Pictures: true });
});

gpuTest("conv2d() equals its float64 definition on the 3x3 stationary path", async (gpu) => {
  if (!policyOf(gpu).isSoftware || gpu.info.subgroupSize === 0) return;
  const sizes = { kernel: [3, 3], padding: same(1) } as const;
  const path = "3x3 stationary";
  for (
    const c of [
      { ...sizes, inChannels: 32, outChannels: 32, size: [16, 24], batch: 2 },
      { ...sizes, inChannels: 40, outChannels: 33, size: [7, 8], batch: 3 },
      { ...sizes, inChannels: 17, outChannels: 5, size: [5, 104] },
      { ...sizes, inChannels: 3, outChannels: 17, size: [1, 8] },
      { ...sizes, inChannels: 20, outChannels: 65, size: [4, 8], upsample: [8, 16] },
      { ...sizes, inChannels: 5, outChannels: 4, size: [3, 72], upsample: [6, 144], batch: 2 },
      { ...sizes, inChannels: 32, outChannels: 40, size: [16, 32], stride: 2, batch: 2 },
      { ...sizes, inChannels: 19, outChannels: 6, size: [4, 208], stride: 2 },
      { ...sizes, inChannels: 24, outChannels: 9, size: [9, 16], stride: 2, padding: [0, 0, 1, 1], batch: 2 },
    ] satisfies ConvolutionSizes[]
  ) {
    await check(gpu, c, { path });
    await check(gpu, c, { path, with: ["bias", "channelBias", "silu", "residual"] });
  }
  const even = { ...sizes, inChannels: 24, outChannels: 12, size: [8, 16], batch: 2 } satisfies ConvolutionSizes;
  await check(gpu, even, { path, f16: true });
  for (const bindingLimit of [20_000, 8192, 4000]) {
    await check(gpu, even, { path, with: ["bias", "channelBias", "silu", "residual"], bindingLimit });
  }
  using x = Tensor.empty(gpu, [1, 4, 8, 8], "f16");
  using raw = Tensor.empty(gpu, [4, 4, 3, 3]);
  using weight = packConvWeight(raw);
  assertThrows(() => conv2d(x, weight, { padding: 1, path }), ShapeError, "the result must be f32: f16");
});

Deno.test("conv2d() refuses paths that do not suit, and says what they require and what was found", () => {
  using typical = Gpu.null();
  const software = { ...typical.info, deviceClass: "software", subgroupSize: 8 } as const;
  const why = (
    { shape = [1, 4, 8, 8], weight = [4, shape[1], 3, 3], info = software, ...options }: Conv2dOptions & {
      readonly shape?: readonly number[];
      readonly weight?: readonly number[];
      readonly info?: GpuInfo;
    },
  ) => {
    using gpu = Gpu.null(info);
    const run = () => conv2d(Tensor.empty(gpu, shape), packConvWeight(Tensor.empty(gpu, weight)), options);
    const { message } = assertThrows(() => gpu.scope(run), ShapeError);
    return /with the path "(.*)$/.exec(message)?.[1] ?? message;
  };
  const plain = { path: "3x3", padding: 1 } as const, few = { ...plain, path: "3x3 few outputs" } as const;
  const stationary = { ...plain, path: "3x3 stationary" } as const, input = { ...few, path: "3x3 few inputs" } as const;
  assertEquals(
    [
      why({ ...plain, info: typical.info }),
      why({ ...plain, info: { ...software, subgroupSize: 0 } }),
      why({ ...plain, weight: [4, 4, 3, 5] }),
      why({ ...plain, upsample: [16, 24] }),
      why({ ...plain, stride: 3 }),
      why({ ...plain, padding: [1, 0, 1, 1] }),
      why({ ...plain, shape: [1, 4, 8, 6] }),
      why({ ...plain, padding: [1, 0, 1, 1], stride: 2 }),
      why({ ...plain, shape: [1, 4, 8, 12], stride: 2 }),
      why({ ...plain, padding: [1, 1, 1, 3], stride: 2 }),
      why({ ...stationary, dtype: "f16" }),
      why({ ...stationary, shape: [1, 4, 8, 12] }),
      why({ ...stationary, stride: 2 }),
      why({ ...few, stride: 2 }),
      why({ ...few, upsample: true }),
      why({ ...few, shape: [1, 4, 8, 12] }),
      why({ ...input, shape: [1, 5, 8, 8] }),
      why({ ...input, activation: "silu" }),
      why({ ...input, shape: [1, 4, 8, 4] }),
    ],
    [
      `3x3", the device must be a software device with subgroups: ${typical.info.name}, of class ` +
      `${typical.info.deviceClass}, with subgroups of ${typical.info.subgroupSize}`,
      `3x3", the device must be a software device with subgroups: ${typical.info.name}, of class software, ` +
      "with subgroups of 0",
      '3x3", the kernel must be 3 × 3: 3 × 5',
      '3x3", the input must be upsampled to twice its size, or not at all: to another size',
      '3x3", the stride must be 1 or 2: 3',
      '3x3", the padding must be 1 on all sides where the stride is 1: 1, 0, 1, 1',
      '3x3", the width must be a multiple of 4: 6',
      '3x3", the padding at the top and left must be both 0 or both 1 where the stride is 2: 1, 0, 1, 1',
      '3x3", the width must be a multiple of 8: 12',
      '3x3", the result must be half as wide as the input: 5, 8',
      '3x3 stationary", the result must be f32: f16',
      '3x3 stationary", the width must be a multiple of 8: 12',
      "3x3 stationary\", the result's width must be a multiple of 8: 4",
      '3x3 few outputs", the stride must be 1: 2',
      '3x3 few outputs", the input must not be upsampled: to twice its size',
      '3x3 few outputs", the width must be a multiple of 8: 12',
      '3x3 few inputs", the input must have at most 4 channels: 5',
      '3x3 few inputs", nothing but a bias may be added: a channelBias, residual or activation',
      '3x3 few inputs", the width must be a multiple of 8: 4',
    ],
  );
});

const devices = { "with subgroups": {}, "without subgroups": { withoutFeatures: ["subgroups"] } };
for (const [device, options] of Object.entries(devices)) {
  gpuTest(
    `conv2d() equals its float64 definition for all kernels, strides, paddings and uneven sizes, ${device}`,
    async (gpu) => {
      for (const c of unevenCases) await check(gpu, c);
    },
    options,
  );

  gpuTest(`conv2d() applies bias, channelBias, activation and residual in that order, ${device}`, async (gpu) => {
    for (const [inChannels, size] of [[5, [8, 8]], [9, [8, 8]], [9, [8, 4]], [5, [3, 5]]] as const) {
      const c: ConvolutionSizes = { inChannels, outChannels: 33, size, kernel: [3, 3], padding: same(1), batch: 2 };
      await check(gpu, c, { with: ["bias"] });
      await check(gpu, c, { with: ["bias", "channelBias", "residual", "silu"] });
      await check(gpu, c, { with: ["channelBias"], sharedBias: true });
      await check(gpu, { ...c, kernel: [1, 1], padding: same(0) }, { with: ["channelBias", "residual"] });
    }
  }, options);
}

gpuTest("conv2d() does not depend on the tile shape", async (gpu) => {
  const lanes = gpu.info.subgroupSize;
  const onSubgroups = (rows: number, columns: number, strategy: "subgroup" | "stationary" = "subgroup") => ({
    strategy,
    lanes,
    threadsX: lanes,
    rows,
    columns,
  });
  const stationary = onSubgroups(40, 2, "stationary");
  const tiles: TileShape[] = [
    ...(lanes > 0 ? [onSubgroups(8, 1), onSubgroups(16, 2), onSubgroups(32, 2)] : []),
    ...(lanes > 0 ? [stationary, { ...stationary, depth: 12 * lanes }, { ...stationary, depth: 16 * lanes }] : []),
    { strategy: "workgroup", lanes: 256, threadsX: 16, rows: 8, columns: 2 },
    { strategy: "workgroup", lanes: 64, threadsX: 8, rows: 4, columns: 1 },
    { strategy: "workgroup", lanes: 64, threadsX: 8, rows: 1, columns: 1 },
  ];
  for (const tile of tiles) {
    await check(gpu, { inChannels: 17, outChannels: 67, size: [7, 12], kernel: [3, 3], padding: same(1), batch: 2 }, {
      tile,
    });
    await check(gpu, { inChannels: 264, outChannels: 67, size: [5, 8], kernel: [1, 1], batch: 2 }, {
      tile,
      with: ["bias", "residual"],
    });
  }
});

gpuTest(
  "conv2d() on the unrolled tiles of GPUs equals its float64 definition, also in parts of the channels",
  async (gpu) => {
    const c: ConvolutionSizes = { inChannels: 32, outChannels: 67, size: [8, 12], kernel: [3, 3], padding: same(1) };
    const asOnGpu = {
      within: withGpuPolicy,
      tile: { strategy: "workgroup", lanes: 64, threadsX: 8, rows: 8, columns: 2 },
    } as const;
    await check(gpu, c, { ...asOnGpu, f16: true, with: ["bias", "residual", "silu"] });
    await check(gpu, { ...c, upsample: [16, 24] }, asOnGpu);
    await check(gpu, { ...c, kernel: [1, 1], padding: same(0) }, asOnGpu);
    await check(gpu, { ...c, inChannels: 20, batch: 2 }, { ...asOnGpu, bindingLimit: 4 * 10 * 8 * 12 });
  },
);

gpuTest(
  "conv2d() on subgroup matrices equals its float64 definition for images and weights in f16",
  async (gpu) => {
    const { lanes } = gpu.info.subgroupMatrix!;
    const tile: TileShape = { strategy: "matrix", lanes: 4 * lanes, threadsX: 2, rows: 1, columns: 1 };
    for (const c of unevenCases) await check(gpu, c, { tile });
    const c: ConvolutionSizes = {
      inChannels: 17,
      outChannels: 67,
      size: [7, 12],
      kernel: [3, 3],
      padding: same(1),
      batch: 2,
    };
    await check(gpu, c, { tile, with: ["bias", "channelBias", "residual", "silu"] });
    await check(gpu, c, { tile: { ...tile, rows: 2, columns: 2 } });
    await check(gpu, c, { tile, f16: true, bindingLimit: 4 * 17 * 7 * 12 });
  },
  { subgroupMatrices: true },
  await lackOfSubgroupMatrices(),
);

gpuTest(
  "the 3×3 kernel and the general kernel agree on large convolutions, with and without upsampling",
  async (gpu) => {
    const [inChannels, outChannels, height, width] = [64, 67, 120, 124];
    using weight = Tensor.from(gpu, randomArray(outChannels * inChannels * 9, 2), [outChannels, inChannels, 3, 3]);
    using packed = packConvWeight(weight);
    for (const upsample of [false, true]) {
      const [h, w] = upsample ? [height / 2, width / 2] : [height, width];
      using x = Tensor.from(gpu, randomArray(inChannels * h * w, 1), [1, inChannels, h, w]);
      using own = conv2d(x, packed, { padding: 1, upsample });
      using general = conv2d(x, packed, {
        padding: 1,
        upsample,
        tile: policyOf(gpu).products.tileFor(outChannels, height * width),
      });
      assertClose(await own.data(), await general.data(), f32Tolerance(9 * inChannels), `upsample ${upsample}`);
    }
  },
);

gpuTest("conv2d() accepts f16 weights and images, also packed in f16", async (gpu) => {
  const c: ConvolutionSizes = { inChannels: 5, outChannels: 33, size: [7, 12], kernel: [3, 3], padding: same(1) };
  await check(gpu, c, { f16: true });
  await check(gpu, { ...c, inChannels: 8, kernel: [1, 1], padding: same(0) }, { f16: true });
  await check(gpu, { ...c, inChannels: 4, outChannels: 4 }, { f16: true, f16Pictures: true });
  using weight = Tensor.from(gpu, new Uint16Array(33 * 5 * 9), [33, 5, 3, 3]);
  using packed = packConvWeight(weight);
  assertEquals([packed.tensor.dtype, packed.tensor.shape], ["f16", [33, 3, 2, 3, 4]]);
});

for (const [device, options] of Object.entries(devices)) {
  gpuTest(`conv2d() keeps f16 where OH · OW is a multiple of 4, with all epilogue operands, ${device}`, async (gpu) => {
    const fitting = unevenCases.filter((c) => convolutionSize(c)[0] * convolutionSize(c)[1] % 4 === 0);
    for (const c of fitting) await check(gpu, c, { f16Pictures: true, f16: true });
    for (const residualType of ["f16", "f32"] as const) {
      const c: ConvolutionSizes = {
        inChannels: 8,
        outChannels: 33,
        size: [8, 8],
        kernel: [3, 3],
        padding: same(1),
        batch: 2,
      };
      const added = { with: ["bias", "channelBias", "residual", "silu"] as const, residualType, f16Pictures: true };
      await check(gpu, c, { ...added, with: [...added.with] });
      await check(gpu, { ...c, kernel: [1, 1], padding: same(0) }, { ...added, with: [...added.with] });
      // Pieces: where dtypes differ, the windows of residual and result start at different
      // elements.
      const parts = { ...c, inChannels: 5, size: [7, 12] as const };
      await check(gpu, parts, { with: ["bias", "residual"], residualType, f16Pictures: true, bindingLimit: 6000 });
    }
  }, options);
}

gpuTest(
  "conv2d() returns the requested dtype, and rejects f16 where OH · OW is not a multiple of 4",
  async (gpu) => {
    const c: ConvolutionSizes = { inChannels: 4, outChannels: 6, size: [8, 12], kernel: [3, 3], padding: same(1) };
    const data = Float32Array.from(Float16Array.from(randomArray(4 * 96, 1))), weights = randomArray(6 * 4 * 9, 2);
    using weight = Tensor.from(gpu, weights, [6, 4, 3, 3]);
    using packed = packConvWeight(weight);
    const expected = convolution(data, weights, c);
    for (const [from, to] of [["f32", "f16"], ["f16", "f32"]] as const) {
      using x = Tensor.from(gpu, data, [1, 4, 8, 12], from);
      using y = conv2d(x, packed, { padding: 1, dtype: to });
      assertEquals(y.dtype, to);
      assertClose(await y.data(), expected, f32Tolerance(36) + (to === "f16" ? f16Rounding : 0), `${from} to ${to}`);
    }
    using odd = Tensor.empty(gpu, [1, 4, 3, 3]);
    assertThrows(() => gpu.scope(() => conv2d(odd, packed, { padding: 1, dtype: "f16" })), DTypeError, "in f16");
  },
);

gpuTest(
  "packConvWeight() packs vec4 over input channels, padded with zeros, and does not copy 1×1 weights",
  async (gpu) => {
    const [outChannels, inChannels, height, width] = [3, 6, 2, 3];
    const data = randomArray(outChannels * inChannels * height * width);
    using weight = Tensor.from(gpu, data, [outChannels, inChannels, height, width]);
    using packed = packConvWeight(weight);
    const expected: number[] = [];
    for (let o = 0; o < outChannels; o++) {
      for (let ky = 0; ky < height; ky++) {
        for (let block = 0; block < 2; block++) {
          for (let kx = 0; kx < width; kx++) {
            for (let i = 4 * block; i < 4 * block + 4; i++) {
              expected.push(i < inChannels ? data[((o * inChannels + i) * height + ky) * width + kx] : 0);
            }
          }
        }
      }
    }
    assertEquals([...await packed.tensor.data()], expected);
    using pointwise = Tensor.empty(gpu, [3, 8, 1, 1]);
    using shared = packConvWeight(pointwise);
    assertEquals(shared.tensor.buffer === pointwise.buffer, true);
  },
);

gpuTest("conv2d() splits tensors larger than the binding limit", async (gpu) => {
  const cases: [number, ConvolutionSizes][] = [
    // split by images: one per part, two per part
    [7000, { inChannels: 17, outChannels: 16, size: [8, 8], kernel: [1, 1], batch: 3 }],
    [9000, { inChannels: 8, outChannels: 17, size: [8, 8], kernel: [3, 3], padding: same(1), batch: 4 }],
    // split by output channels
    [6000, { inChannels: 8, outChannels: 33, size: [8, 8], kernel: [1, 1], batch: 2 }],
    [3000, { inChannels: 5, outChannels: 33, size: [7, 9], kernel: [2, 2] }],
    // split by input channels
    [4000, { inChannels: 33, outChannels: 5, size: [7, 12], kernel: [3, 3], padding: same(1), batch: 2 }],
    [4500, { inChannels: 33, outChannels: 12, size: [9, 9], kernel: [3, 3], padding: same(1) }],
    [4000, { inChannels: 36, outChannels: 5, size: [8, 8], kernel: [1, 1] }],
    [24_000, { inChannels: 160, outChannels: 21, size: [8, 8], kernel: [1, 1] }],
    // one image fits, but not with the lead-in of the second image
    [800, { inChannels: 8, outChannels: 3, size: [5, 5], kernel: [1, 1], batch: 2 }],
    // split by everything, the weight too
    [2500, { inChannels: 21, outChannels: 19, size: [7, 8], kernel: [3, 3], padding: same(1), batch: 2 }],
    [2500, {
      inChannels: 21,
      outChannels: 19,
      size: [4, 4],
      kernel: [3, 3],
      padding: same(1),
      upsample: [8, 8],
      batch: 2,
    }],
  ];
  for (const [bindingLimit, c] of cases) {
    await check(gpu, c, { with: ["bias", "channelBias", "residual", "silu"], bindingLimit });
  }
});

gpuTest("conv2d() rejects mismatched operands with both shapes and the requirement", (gpu) => {
  using x = Tensor.empty(gpu, [2, 4, 8, 8]);
  using raw = Tensor.empty(gpu, [5, 3, 3, 3]);
  using wrong = packConvWeight(raw);
  assertThrows(
    () => conv2d(x, wrong),
    ShapeError,
    "Cannot convolve x [2, 4, 8, 8] with a weight [5, 3, 3, 3] as x's channels must equal the weight's: 4 ≠ 3",
  );
  using fitting = Tensor.empty(gpu, [5, 4, 3, 3]);
  using weight = packConvWeight(fitting);
  using flat = Tensor.empty(gpu, [4, 8, 8]);
  assertThrows(() => conv2d(flat, weight), ShapeError, "four axes");
  using none = Tensor.empty(gpu, [1, 0, 8, 8]);
  using noFilter = Tensor.empty(gpu, [5, 0, 3, 3]);
  using noWeight = packConvWeight(noFilter);
  assertThrows(() => conv2d(none, noWeight), ShapeError, "x must have channels: 0");
  using small = Tensor.empty(gpu, [2, 4, 8, 2]);
  assertThrows(() => conv2d(small, weight), ShapeError, "at least as large as the kernel: 8 × 2");
  assertThrows(() => conv2d(x, weight, { stride: 0 }), ShapeError, "stride");
  assertThrows(() => conv2d(x, weight, { padding: [0, -1, 0, 0] }), ShapeError, "padding");
  using bias = Tensor.empty(gpu, [4]);
  assertThrows(() => conv2d(x, weight, { bias }), ShapeError, "the bias must hold 5 elements: 4");
  using rows = Tensor.empty(gpu, [3, 5]);
  assertThrows(() => conv2d(x, weight, { channelBias: { tensor: rows } }), ShapeError, "1 or 2 rows");
  assertThrows(() => conv2d(x, weight, { channelBias: { tensor: rows, first: 1 } }), ShapeError, "at least 6 columns");
  assertThrows(() => conv2d(x, weight, { residual: x }), ShapeError, "the residual must be [2, 5, 6, 6]: [2, 4, 8, 8]");
});
