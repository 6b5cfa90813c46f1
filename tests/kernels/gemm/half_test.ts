import { assert, assertEquals, assertMatch, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { attentionProblem } from "../../../bench/oracles/attention.ts";
import { convolution, type ConvolutionSizes } from "../../../bench/oracles/convolution.ts";
import { gegluOf } from "../../../bench/oracles/functions.ts";
import { product, transposed } from "../../../bench/oracles/matrices.ts";
import { f16ArithmeticBound } from "../../../bench/oracles/numbers.ts";
import { GpuError, UnsupportedFeatureError } from "../../../engine/errors.ts";
import { Gpu } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { attention } from "../../../kernels/attention/attention.ts";
import { conv2d, packConvWeight } from "../../../kernels/conv/conv2d.ts";
import { gatedProduct } from "../../../kernels/gemm/gated_product.ts";
import { matmul } from "../../../kernels/gemm/matmul.ts";
import type { TileShape } from "../../../kernels/gemm/tile.ts";
import { policyOf } from "../../../kernels/policy.ts";
import { gpuTest, lackOf, randomArray, roundedToF16 } from "../../gpu.ts";
import { withGpuPolicy } from "../oracles.ts";

const lacking = await lackOf("shader-f16");
const inF16Arithmetic = { arithmetic: "f16" } as const;

/** The bound in {@linkcode TileShape}, with 2⁻¹⁰ as WGSL allows, and the rounding of f32 sums. */
const boundOf = (k: number) => f16ArithmeticBound + (k / 16 + 4) * 2 ** -23;

/** Fails where an element is beyond the bound relative to |A|·|B|, or none was rounded. */
function assertBounded(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  magnitudes: ArrayLike<number>,
  k: number,
): void {
  assertEquals(actual.length, expected.length);
  let rounded = false;
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i] - expected[i]), bound = boundOf(k) * magnitudes[i] + 2 ** -22;
    assert(error <= bound, `element ${i}: ${actual[i]} instead of ${expected[i]} ± ${bound}`);
    rounded ||= error > 2 ** -14 * magnitudes[i];
  }
  assert(rounded, "every element is as exact as in f32");
}

const absolute = (values: Float32Array) => values.map(Math.abs);

const tile = (threadsX: number, threadsY: number, rows: number, columns: number): TileShape => ({
  strategy: "half",
  lanes: threadsX * threadsY,
  threadsX,
  rows,
  columns,
});

gpuTest(
  "matmul() in f16 arithmetic keeps the documented bound for tiles and sizes that do not divide",
  async (gpu) => {
    const sizes = [[1, 1, 1], [17, 65, 33], [70, 132, 36], [131, 140, 100]];
    const tiles = [tile(8, 8, 1, 1), tile(8, 8, 4, 1), tile(4, 2, 3, 2), tile(8, 4, 4, 2)];
    for (const [index, [m, n, k]] of sizes.entries()) {
      for (const transposeB of [false, true]) {
        const a = randomArray(m * k, 1), b = randomArray(k * n, 2);
        const stored = transposeB ? Float32Array.from(transposed(b, k, n)) : b;
        using left = Tensor.from(gpu, a, [m, k]);
        using right = Tensor.from(gpu, stored, transposeB ? [n, k] : [k, n]);
        const run = () => matmul(left, right, { transposeB, tile: tiles[index], splits: 1 });
        using y = index >= 2 ? withGpuPolicy(gpu, run) : run(); // GPUs unroll the loop
        const data = await y.data();
        const magnitudes = product(absolute(a), absolute(b), m, k, n);
        if (index > 0) assertBounded(data, product(a, b, m, k, n), magnitudes, k);
        else assert(Math.abs(data[0] - a[0] * b[0]) <= boundOf(1) * magnitudes[0]);
      }
    }
  },
  inF16Arithmetic,
  lacking,
);

gpuTest(
  "sums in f16 end after 16 elements: a long sum of ones is exact",
  async (gpu) => {
    // 4096 + 1 is no f16 value, so that sums that go on in f16 would stop at 2048.
    const k = 5000;
    using a = Tensor.from(gpu, new Float32Array(k).fill(1), [1, k]);
    using b = Tensor.from(gpu, new Float32Array(4 * k).fill(1), [k, 4]);
    using y = matmul(a, b, { allowF16Operands: true });
    assertEquals([...await y.data()], [k, k, k, k]);
  },
  inF16Arithmetic,
  lacking,
);

gpuTest(
  "only products whose operands may be rounded are computed in f16, also gated and convolved",
  async (gpu) => {
    const [m, k, n] = [40, 48, 64];
    const a = randomArray(m * k, 1), b = randomArray(k * n, 2);
    using left = Tensor.from(gpu, a, [m, k]);
    using right = Tensor.from(gpu, b, [k, n]);
    using exact = matmul(left, right);
    using rounded = matmul(left, right, { allowF16Operands: true });
    assertNotEquals(await exact.data(), await rounded.data());
    assertBounded(await rounded.data(), product(a, b, m, k, n), product(absolute(a), absolute(b), m, k, n), k);

    using weight = Tensor.from(gpu, randomArray(2 * n * k, 3), [2 * n, k]);
    using gated = gatedProduct(left, weight);
    using gatedInHalves = gatedProduct(left, weight, { allowF16Operands: true });
    assertNotEquals(await gated.data(), await gatedInHalves.data());
  },
  inF16Arithmetic,
  lacking,
);

gpuTest(
  "gatedProduct() in f16 arithmetic keeps the bounds of its values and gates, which end in one kernel",
  async (gpu) => {
    const [m, k, n] = [37, 52, 36];
    const x = randomArray(m * k, 1), weight = randomArray(2 * n * k, 2);
    using left = Tensor.from(gpu, x, [m, k]);
    using right = Tensor.from(gpu, weight, [2 * n, k]);
    let result: Tensor | undefined;
    const run = () => gatedProduct(left, right, { tile: tile(8, 4, 2, 2) });
    const { kernels } = gpu.tally(() => result = withGpuPolicy(gpu, run));
    using y = result!;
    assertEquals(kernels, ["matmul"]);
    const columns = transposed(weight, 2 * n, k);
    const sums = product(x, columns, m, k, 2 * n), expected = gegluOf(sums, n);
    const sizes = product(absolute(x), absolute(Float32Array.from(columns)), m, k, 2 * n);
    const data = await y.data();
    for (let i = 0; i < expected.length; i++) {
      const at = Math.floor(i / n) * 2 * n + i % n, value = Math.abs(sums[at]), gate = Math.abs(sums[at + n]);
      const [valueError, gateError] = [boundOf(k) * sizes[at], boundOf(k) * sizes[at + n]];
      // |gelu(g)| is at most |g|, and its slope at most 1.13.
      const bound = valueError * gate + (value + valueError) * 1.13 * gateError;
      assert(Math.abs(data[i] - expected[i]) <= bound, `element ${i}: ${data[i]} instead of ${expected[i]} ± ${bound}`);
    }
    assertNotEquals(data, Float32Array.from(expected));
  },
  inF16Arithmetic,
  lacking,
);

for (const [kernel, stride, size] of [[3, 1, 12], [3, 2, 9], [1, 1, 8]] as const) {
  gpuTest(
    `conv2d() ${kernel}×${kernel}, stride ${stride}, in f16 arithmetic keeps the documented bound`,
    async (gpu) => {
      const side = kernel >> 1;
      const sizes: ConvolutionSizes = {
        batch: 2,
        inChannels: 12,
        outChannels: 20,
        size: [size, size],
        kernel: [kernel, kernel],
        stride,
        padding: [side, side, side, side],
      };
      const x = randomArray(2 * 12 * size * size, 1), weight = randomArray(20 * 12 * kernel * kernel, 2);
      using input = Tensor.from(gpu, x, [2, 12, size, size]);
      using raw = Tensor.from(gpu, weight, [20, 12, kernel, kernel]);
      const packed = packConvWeight(raw);
      using _packed = packed.tensor;
      const run = () =>
        conv2d(input, packed, { stride, padding: side, allowF16Operands: true, tile: tile(8, 4, 3, 1) });
      using y = withGpuPolicy(gpu, run);
      const expected = convolution(x, weight, sizes), magnitudes = convolution(absolute(x), absolute(weight), sizes);
      assertBounded(await y.data(), expected, magnitudes, 12 * kernel * kernel);
    },
    inF16Arithmetic,
    lacking,
  );
}

gpuTest(
  "attention in its staged form rounds both products within the bound of their errors",
  async (gpu) => {
    const { sizes, q, k, v, expected } = attentionProblem({ batch: 2, heads: 2, t: 19, s: 40, dim: 24 });
    const { batch, heads, t, s, dim, scale } = sizes;
    const [queries, keys, values] = [[q, t], [k, s], [v, s]].map(([data, length]) =>
      Tensor.from(gpu, data as Float32Array<ArrayBuffer>, [batch, length as number, heads * dim])
    );
    using stack = new DisposableStack();
    for (const tensor of [queries, keys, values]) stack.use(tensor);
    using rounded = attention(queries, keys, values, { heads, path: "staged", allowF16Operands: true });
    using exact = attention(queries, keys, values, { heads, path: "staged" });
    // Elements are below 1. Scores err by δ, so weights by a factor within exp(±2 δ); the second
    // product then errs by its own bound.
    const delta = boundOf(dim) * scale * dim;
    const data = await rounded.data();
    for (let i = 0; i < expected.length; i++) {
      assert(Math.abs(data[i] - expected[i]) <= Math.expm1(2 * delta) + boundOf(s), `element ${i}: ${data[i]}`);
    }
    assertNotEquals(data, await exact.data());
  },
  inF16Arithmetic,
  lacking,
);

gpuTest(
  "in f16 arithmetic, operands stored in f16 give the bits of the same numbers stored in f32",
  async (gpu) => {
    using stack = new DisposableStack();
    const stored = (size: readonly number[], seed: number) => {
      const numbers = roundedToF16(randomArray(size.reduce((a, b) => a * b), seed));
      return (["f32", "f16"] as const).map((dtype) => stack.use(Tensor.from(gpu, numbers, size, dtype)));
    };
    const same = async (name: string, run: (dtype: 0 | 1) => Tensor) => {
      const [inF32, inF16] = ([0, 1] as const).map((dtype) => stack.use(withGpuPolicy(gpu, () => run(dtype))));
      const data = await inF32.data();
      assert(data.some((number) => number !== 0), name);
      assertEquals(await inF16.data(), data, name);
    };
    for (const k of [32, 36, 13]) { // whole blocks, vec4, and elements one by one
      const a = stored([19, k], 1), b = stored([k, 24], 2), turned = stored([24, k], 3);
      const options = { allowF16Operands: true, tile: tile(4, 4, 2, 2) };
      await same(`matmul, k = ${k}`, (i) => matmul(a[i], b[i], options));
      await same(`matmul, B turned, k = ${k}`, (i) => matmul(a[i], turned[i], { ...options, transposeB: true }));
    }
    const x = stored([2, 16, 6, 8], 4),
      options = { allowF16Operands: true, dtype: "f32", tile: tile(4, 4, 2, 2) } as const;
    for (const [kernel, padding] of [[3, 1], [1, 0]]) {
      const weights = stored([12, 16, kernel, kernel], 5).map((weight) => packConvWeight(weight));
      for (const { tensor } of weights) stack.use(tensor);
      await same(`conv2d, ${kernel} × ${kernel}`, (i) => conv2d(x[i], weights[i], { ...options, padding }));
    }
    const [q, k, v] = [[2, 19, 32], [2, 23, 32], [2, 23, 32]].map((size, i) => stored(size, 6 + i));
    await same("attention", (i) => attention(q[0], k[i], v[i], { heads: 2, allowF16Operands: true }));
  },
  inF16Arithmetic,
  lacking,
);

gpuTest("a tile of f16 arithmetic needs a device that was opened with f16 arithmetic", (gpu) => {
  using a = Tensor.empty(gpu, [8, 8]);
  assertThrows(() => gpu.scope(() => void matmul(a, a, { tile: tile(8, 8, 1, 1) })), GpuError, 'arithmetic: "f16"');
});

Deno.test("Gpu.request() refuses f16 arithmetic on a device without shader-f16, and says what to do", async () => {
  const options = { arithmetic: "f16", withoutFeatures: ["shader-f16"] } as const;
  const error = await assertRejects(() => Gpu.request(options), UnsupportedFeatureError);
  assertEquals(error.feature, "shader-f16");
  assertMatch(error.message, /^Cannot compute in f16 on .* lacks the feature shader-f16: use arithmetic: "f32"/);
});

gpuTest(
  "f16 arithmetic has tilings of its own, which f32 products do not use",
  (gpu) => {
    const policy = policyOf(gpu);
    assertEquals(policy.products.tileFor(256, 256, { allowF16Operands: true }).strategy, "half");
    assertNotEquals(policy.products.tileFor(256, 256).strategy, "half");
  },
  inF16Arithmetic,
  lacking,
);
