import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { DTypeError, GpuError, ShapeError } from "../../../engine/errors.ts";
import { Gpu } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { matmul, type MatmulOptions, splitsFor } from "../../../kernels/gemm/matmul.ts";
import type { TileShape } from "../../../kernels/gemm/tile.ts";
import {
  assertClose,
  f32Tolerance,
  gpuTest,
  lackOfSubgroupMatrices,
  matrixTolerance,
  randomArray,
  roundedToF16,
} from "../../gpu.ts";
import { f16Rounding, randomF16, withBindingLimit, withGpuPolicy } from "../oracles.ts";

interface Case {
  m: number;
  n: number;
  k: number;
  batch?: number;
  transposeA?: boolean;
  transposeB?: boolean;
}

/** The product by its definition, in f64. */
function product(
  a: Float32Array,
  b: Float32Array,
  { m, n, k, batch = 1, transposeA, transposeB }: Case,
  shareB = false,
): Float64Array {
  const y = new Float64Array(batch * m * n);
  for (let s = 0; s < batch; s++) {
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let l = 0; l < k; l++) {
          const bs = shareB ? 0 : s;
          sum += a[s * m * k + (transposeA ? l * m + i : i * k + l)] *
            b[bs * k * n + (transposeB ? j * k + l : l * n + j)];
        }
        y[(s * m + i) * n + j] = sum;
      }
    }
  }
  return y;
}

async function check(
  gpu: Gpu,
  c: Case,
  tile?: TileShape,
  within: typeof withGpuPolicy = (_, body) => body(),
): Promise<void> {
  const { m, n, k, batch = 1, transposeA, transposeB } = c;
  let aData = randomArray(batch * m * k, 1), bData = randomArray(batch * k * n, 2);
  // it rounds operands to f16, so they are chosen to be f16 values
  if (tile?.strategy === "matrix") [aData, bData] = [roundedToF16(aData), roundedToF16(bData)];
  using a = Tensor.from(gpu, aData, [batch, ...(transposeA ? [k, m] : [m, k])]);
  using b = Tensor.from(gpu, bData, [batch, ...(transposeB ? [n, k] : [k, n])]);
  using y = within(gpu, () => matmul(a, b, { transposeA, transposeB, tile }));
  const tolerance = tile?.strategy === "matrix" ? matrixTolerance(k) : f32Tolerance(k);
  assertClose(await y.data(), product(aData, bData, c), tolerance, JSON.stringify({ ...c, tile }));
}

const unevenCases: [number, number, number][] = [
  [1, 1, 1],
  [2, 3, 5],
  [7, 31, 13],
  [16, 64, 16],
  [17, 65, 33],
  [64, 63, 64],
  [65, 68, 20],
  [
    77,
    48,
    48,
  ],
  [129, 132, 36],
  [3, 256, 8],
  [9, 72, 40],
  [33, 136, 8],
];

const devices = {
  "with subgroups": {},
  "with subgroups, without words of 64 bits": { withoutFeatures: ["wgpu-shader-int64"] },
  "without subgroups": { withoutFeatures: ["subgroups"] },
};
for (const [device, options] of Object.entries(devices)) {
  gpuTest(`matmul() equals the float64 product for uneven sizes, batched and transposed, ${device}`, async (gpu) => {
    for (const [m, n, k] of unevenCases) {
      for (const [transposeA, transposeB] of [[false, false], [false, true], [true, false], [true, true]]) {
        await check(gpu, { m, n, k, batch: m < 20 ? 3 : 1, transposeA, transposeB });
      }
    }
  }, options);
}

gpuTest("matmul() does not depend on the tile shape", async (gpu) => {
  const lanes = gpu.info.subgroupSize;
  const onSubgroups = (strategy: "subgroup" | "stationary", rows: number, columns: number) => ({
    strategy,
    lanes,
    threadsX: lanes,
    rows,
    columns,
  });
  const tiles: TileShape[] = [
    ...[[8, 1], [32, 1], [32, 2], [64, 2]].map(([rows, columns]) => onSubgroups("subgroup", rows, columns)),
    onSubgroups("stationary", 40, 2),
    onSubgroups("stationary", 512, 2),
    { ...onSubgroups("stationary", 40, 2), depth: 12 * lanes },
    { ...onSubgroups("stationary", 40, 2), depth: 16 * lanes },
    { strategy: "workgroup", lanes: 256, threadsX: 16, rows: 8, columns: 2 },
    { strategy: "workgroup", lanes: 64, threadsX: 8, rows: 4, columns: 1 },
    { strategy: "workgroup", lanes: 64, threadsX: 8, rows: 1, columns: 1 },
    { strategy: "workgroup", lanes: 64, threadsX: 16, rows: 4, columns: 2 },
  ].filter(({ strategy }) => lanes > 0 || strategy === "workgroup") as TileShape[];
  for (const tile of tiles) {
    await check(gpu, { m: 131, n: 140, k: 52 }, tile);
    await check(gpu, { m: 131, n: 144, k: 56 }, tile);
    await check(gpu, { m: 67, n: 136, k: 40, transposeB: true }, tile);
    await check(gpu, { m: 67, n: 72, k: 200, batch: 2, transposeB: true }, tile); // several blocks of k
    await check(gpu, { m: 9, n: 40, k: 136, batch: 2 }, tile);
    await check(gpu, { m: 43, n: 72, k: 264, transposeB: true }, tile); // several deep blocks
    await check(gpu, { m: 130, n: 137, k: 35, transposeB: true }, tile);
  }
});

gpuTest(
  "matmul() on the unrolled tiles of GPUs equals the float64 product, for whole and partial blocks",
  async (gpu) => {
    const tiles: TileShape[] = [
      { strategy: "workgroup", lanes: 256, threadsX: 16, rows: 8, columns: 2 },
      { strategy: "workgroup", lanes: 64, threadsX: 8, rows: 4, columns: 2 },
    ];
    const sizes = [{ m: 131, n: 140, k: 48 }, { m: 67, n: 136, k: 36 }, { m: 66, n: 70, k: 32, transposeA: true }];
    for (const tile of tiles) {
      for (const size of sizes) {
        for (const transposeB of [false, true]) {
          await check(gpu, { ...size, transposeB }, tile, withGpuPolicy);
        }
      }
    }
  },
);

gpuTest("matmul() applies scale, bias along rows or columns, activation and residual in that order", async (gpu) => {
  for (const [batch, m, n, k] of [[2, 19, 28, 12], [2, 19, 40, 16]]) {
    const aData = randomArray(batch * m * k, 1), bData = randomArray(k * n, 2), rData = randomArray(batch * m * n, 3);
    using a = Tensor.from(gpu, aData, [batch, m, k]);
    using b = Tensor.from(gpu, bData, [k, n]);
    using residual = Tensor.from(gpu, rData, [batch, m, n]);
    for (const biasAxis of ["row", "column"] as const) {
      const biasData = randomArray(biasAxis === "row" ? m : n, 4);
      using bias = Tensor.from(gpu, biasData, [biasData.length]);
      using y = matmul(a, b, { bias, biasAxis, residual, activation: "silu", scale: 0.5 });
      const expected = product(aData, bData, { m, n, k, batch }, true).map((sum, index) => {
        const x = 0.5 * sum + biasData[biasAxis === "row" ? Math.floor(index / n) % m : index % n];
        return x / (1 + Math.exp(-x)) + rData[index];
      });
      assertClose(await y.data(), expected, f32Tolerance(k), biasAxis);
    }
  }
});

gpuTest(
  "matmul() with a split K equals the float64 product with bias and residual, bit for bit in every run",
  async (gpu) => {
    for (const [m, n, k, splits] of [[5, 24, 96, 3], [33, 40, 64, 8], [2, 7, 30, 2]]) {
      const aData = randomArray(m * k, 1), bData = randomArray(n * k, 2), rData = randomArray(m * n, 3);
      using residual = Tensor.from(gpu, rData, [m, n]);
      for (const [transposeA, transposeB] of [[false, false], [false, true], [true, false]]) {
        using a = Tensor.from(gpu, aData, transposeA ? [k, m] : [m, k]);
        using b = Tensor.from(gpu, bData, transposeB ? [n, k] : [k, n]);
        for (const biasAxis of ["row", "column"] as const) {
          const biasData = randomArray(biasAxis === "row" ? m : n, 4);
          using bias = Tensor.from(gpu, biasData, [biasData.length]);
          const options = { transposeA, transposeB, bias, biasAxis, residual, splits };
          using y = matmul(a, b, options);
          using again = matmul(a, b, options);
          const expected = product(aData, bData, { m, n, k, transposeA, transposeB })
            .map((sum, i) => sum + biasData[biasAxis === "row" ? Math.floor(i / n) : i % n] + rData[i]);
          const data = await y.data();
          assertClose(data, expected, f32Tolerance(k), JSON.stringify({ m, n, k, splits, transposeA, transposeB }));
          assertEquals(await again.data(), data);
        }
      }
    }
    using a = Tensor.empty(gpu, [2, 30]);
    using b = Tensor.empty(gpu, [30, 2]);
    assertThrows(() => matmul(a, b, { splits: 4 }), ShapeError, "k = 30, splits = 4");
  },
);

const lacking = await lackOfSubgroupMatrices();
const withMatrices = { subgroupMatrices: true };

gpuTest(
  "matmul() on subgroup matrices equals the float64 product of f16 operands",
  async (gpu) => {
    const { lanes } = gpu.info.subgroupMatrix!;
    const tile = (subgroups: number, threadsX: number, rows: number, columns: number): TileShape => {
      return { strategy: "matrix", lanes: subgroups * lanes, threadsX, rows, columns };
    };
    // A software device compiles each variant for seconds. So all transposes run on few sizes, all
    // sizes on one transpose, all tile shapes on one size.
    for (const [transposeA, transposeB] of [[false, false], [false, true], [true, false], [true, true]]) {
      for (const [m, n, k] of [[17, 65, 33], [129, 132, 36]]) {
        await check(gpu, { m, n, k, batch: m < 20 ? 3 : 1, transposeA, transposeB }, tile(4, 2, 1, 1));
      }
    }
    for (const [m, n, k] of unevenCases) await check(gpu, { m, n, k, batch: m < 20 ? 3 : 1 }, tile(4, 2, 1, 1));
    for (const shape of [tile(1, 1, 1, 1), tile(2, 1, 3, 1), tile(2, 2, 1, 2), tile(8, 4, 1, 1), tile(4, 2, 2, 2)]) {
      await check(gpu, { m: 131, n: 140, k: 100 }, shape);
    }
  },
  withMatrices,
  lacking,
);

gpuTest(
  "matmul() on subgroup matrices keeps the documented error bound for f32 operands",
  async (gpu) => {
    const [m, n, k] = [136, 200, 320];
    const aData = randomArray(m * k, 1), bData = randomArray(n * k, 2), rData = randomArray(m * n, 3);
    const biasData = randomArray(n, 4);
    using a = Tensor.from(gpu, aData, [m, k]);
    using b = Tensor.from(gpu, bData, [n, k]);
    using residual = Tensor.from(gpu, rData, [m, n]);
    using bias = Tensor.from(gpu, biasData, [n]);
    const options = { transposeB: true, bias, residual, scale: 0.5, splits: 1 };
    using rounded = matmul(a, b, { ...options, allowF16Operands: true });
    using exact = matmul(a, b, options);
    const size = { m, n, k, transposeB: true };
    const expected = product(aData, bData, size).map((sum, i) => 0.5 * sum + biasData[i % n] + rData[i]);
    const magnitudes = product(aData.map(Math.abs), bData.map(Math.abs), size);
    const sums = k * 2 ** -23; // of f32 products, each cut off
    const data = await rounded.data();
    for (let i = 0; i < expected.length; i++) {
      const bound = 0.5 * magnitudes[i] * (2 * 2 ** -11 + 2 ** -22 + sums) + 2 ** -22 * (1 + Math.abs(expected[i]));
      assert(Math.abs(data[i] - expected[i]) <= bound, `element ${i}: ${data[i]} instead of ${expected[i]} ± ${bound}`);
    }
    assertClose(await exact.data(), expected, f32Tolerance(k), "that may not");
    assertNotEquals(data, await exact.data(), "nothing was rounded");
  },
  withMatrices,
  lacking,
);

gpuTest("matmul() rejects a tile of subgroup matrices on a device without them", (gpu) => {
  using a = Tensor.empty(gpu, [64, 64]);
  const tile: TileShape = { strategy: "matrix", lanes: 128, threadsX: 2, rows: 2, columns: 2 };
  assertThrows(() => gpu.scope(() => void matmul(a, a, { tile })), GpuError, "subgroup matrices are not supported");
});

gpuTest("matmul() keeps sums in f32 between blocks of k, whatever the result is stored in", async (gpu) => {
  for (const k of [64, 256]) {
    const [m, n] = [33, 72];
    const aData = randomF16(m * k, 1), bData = randomF16(n * k, 2), biases = randomF16(m, 3);
    using a = Tensor.from(gpu, aData, [m, k]);
    using b = Tensor.from(gpu, bData, [n, k], "f16");
    using bias = Tensor.from(gpu, biases, [m]);
    using residual = Tensor.from(gpu, randomF16(m * n, 4), [m, n]);
    const run = (dtype: "f16" | "f32") =>
      matmul(a, b, { transposeB: true, scale: 0.5, bias, biasAxis: "row", residual, dtype });
    using whole = run("f32");
    using half = run("f16");
    const data = await whole.data();
    const expected = product(aData, bData, { m, n, k, transposeB: true });
    const residuals = await residual.data();
    assertClose(data, expected.map((sum, i) => sum / 2 + biases[Math.floor(i / n)] + residuals[i]), f32Tolerance(k));
    assertEquals([...await half.data()], [...Float32Array.from(Float16Array.from(data))], `k = ${k}`);
  }
});

gpuTest("matmul() accepts f16 weights", async (gpu) => {
  const [m, n, k] = [33, 48, 40];
  const aData = randomArray(m * k, 1), half = Float32Array.from(Float16Array.from(randomArray(n * k, 2)));
  using a = Tensor.from(gpu, aData, [m, k]);
  using b = Tensor.from(gpu, half, [n, k], "f16");
  using y = matmul(a, b, { transposeB: true });
  assertClose(await y.data(), product(aData, half, { m, n, k, transposeB: true }), f32Tolerance(k));
});

for (const [device, options] of Object.entries(devices)) {
  gpuTest(
    `matmul() accepts f16 for A, B and the result, with bias and residual of any dtype, ${device}`,
    async (gpu) => {
      for (const [m, n, k] of [[33, 48, 40], [17, 68, 33], [9, 36, 20]]) {
        const rows = randomF16(m * k, 1), weights = randomF16(n * k, 2), residuals = randomF16(m * n, 3);
        const biases = randomF16(n, 4);
        const expected = product(rows, weights, { m, n, k, transposeB: true }).map((sum, i) =>
          sum + biases[i % n] + residuals[i]
        );
        for (const other of ["f16", "f32"] as const) {
          using x = Tensor.from(gpu, rows, [m, k], "f16");
          using weight = Tensor.from(gpu, weights, [n, k], other);
          using bias = Tensor.from(gpu, biases, [n], other);
          using residual = Tensor.from(gpu, residuals, [m, n], other);
          for (const dtype of ["f16", undefined] as const) {
            for (const run of [<T>(body: () => T) => body(), <T>(body: () => T) => withGpuPolicy(gpu, body)]) {
              using y = run(() => matmul(x, weight, { transposeB: true, bias, residual, dtype }));
              assertEquals(y.dtype, dtype ?? "f32");
              const tolerance = f32Tolerance(k) + (dtype ? f16Rounding : 0);
              assertClose(await y.data(), expected, tolerance, JSON.stringify({ m, n, k, other, dtype }));
            }
          }
          // A is the weight here; the result's dtype does not follow from it.
          using turned = matmul(weight, x, {
            transposeB: true,
            bias,
            biasAxis: "row",
            dtype: m % 4 === 0 ? "f16" : "f32",
          });
          const channels = product(weights, rows, { m: n, n: m, k, transposeB: true }).map((sum, i) =>
            sum + biases[Math.floor(i / m)]
          );
          assertClose(await turned.data(), channels, f32Tolerance(k) + f16Rounding, "channels");
        }
      }
    },
    options,
  );
}

gpuTest(
  "matmul() returns f16 after an activation and with a split K, and rejects f16 where N is not a multiple of 4",
  async (gpu) => {
    const [m, n, k] = [5, 24, 96];
    const rows = randomF16(m * k, 1), columns = randomF16(k * n, 2), residuals = randomF16(m * n, 3);
    using a = Tensor.from(gpu, rows, [m, k], "f16");
    using b = Tensor.from(gpu, columns, [k, n], "f16");
    using residual = Tensor.from(gpu, residuals, [m, n], "f16");
    const sums = product(rows, columns, { m, n, k });
    using split = matmul(a, b, { residual, splits: 3, dtype: "f16" });
    assertEquals(split.dtype, "f16");
    assertClose(await split.data(), sums.map((sum, i) => sum + residuals[i]), f32Tolerance(k) + f16Rounding);
    using activated = matmul(a, b, { residual, activation: "silu", dtype: "f16" });
    assertEquals(activated.dtype, "f16");
    // Three results are rounded to f16: the product, its activation and the sum.
    const expected = sums.map((sum, i) => sum / (1 + Math.exp(-sum)) + residuals[i]);
    assertClose(await activated.data(), expected, f32Tolerance(k) + 3 * f16Rounding);
    using odd = Tensor.empty(gpu, [k, 3]);
    assertThrows(
      () => gpu.scope(() => matmul(a, odd, { dtype: "f16" })),
      DTypeError,
      "Cannot write y of matmul in f16",
    );
  },
);

gpuTest("matmul() computes operands that are larger than a binding in parts, to the bit", async (gpu) => {
  for (const [m, n, k] of [[200, 64, 32], [300, 7, 13], [90, 130, 64]]) {
    for (const dtype of n % 4 === 0 ? ["f32", "f16"] as const : ["f32"] as const) {
      using a = Tensor.from(gpu, randomArray(2 * m * k, 1), [2, m, k]);
      using b = Tensor.from(gpu, randomArray(n * k, 2), [n, k]);
      using bias = Tensor.from(gpu, randomArray(n, 3), [n]);
      using residual = Tensor.from(gpu, randomArray(2 * m * n, 4), [2, m, n], dtype);
      for (const options of [{ bias, residual }, {}]) {
        const run = () => matmul(a, b, { transposeB: true, splits: 1, dtype, ...options });
        using whole = run();
        const limit = Math.max(b.bytes, 16_640); // less than a, y or the residual
        using parts = withBindingLimit(gpu, limit, run);
        assert(Math.max(a.bytes, whole.bytes) > limit, "nothing to divide");
        assertEquals(await parts.data(), await whole.data(), `${m} × ${n} × ${k}, ${dtype}`);
      }
    }
  }
});

gpuTest("matmul() of empty operands is empty", async (gpu) => {
  using a = Tensor.empty(gpu, [0, 4]);
  using b = Tensor.empty(gpu, [4, 3]);
  using y = matmul(a, b);
  assertClose(await y.data(), [], 0);
});

gpuTest("matmul() over no terms is bias and residual, at every vector width", async (gpu) => {
  for (const n of [3, 4, 40]) {
    using a = Tensor.empty(gpu, [2, 0]);
    using b = Tensor.empty(gpu, [0, n]);
    using bias = Tensor.from(gpu, new Float32Array(n).fill(2), [n]);
    using residual = Tensor.from(gpu, new Float32Array(2 * n).fill(3), [2, n]);
    for (const run of [<T>(body: () => T) => body(), <T>(body: () => T) => withGpuPolicy(gpu, body)]) {
      using y = run(() => matmul(a, b, { bias, residual }));
      assertEquals(await y.data(), new Float32Array(2 * n).fill(5), `${n} columns`);
    }
  }
});

gpuTest("matmul() rejects mismatched operands with both shapes and the requirement", (gpu) => {
  using a = Tensor.empty(gpu, [2, 77, 768]);
  using b = Tensor.empty(gpu, [1024, 320]);
  assertThrows(
    () => matmul(a, b),
    ShapeError,
    "Cannot multiply a [2, 77, 768] by b [1024, 320] as a's last axis must equal b's first: 768 ≠ 1024",
  );
  using c = Tensor.empty(gpu, [3, 768, 4]);
  assertThrows(() => matmul(a, c), ShapeError, "batch axes");
  using d = Tensor.empty(gpu, [768, 4]);
  using bias = Tensor.empty(gpu, [5]);
  assertThrows(() => matmul(a, d, { bias }), ShapeError, "bias");
});

gpuTest("matmul() of a tuned shape takes its tile and split", async () => {
  using untuned = await Gpu.request(); // not the tests' own, which may be Dawn's
  const { info } = untuned;
  const tile = { strategy: "workgroup", lanes: 64, threadsX: 8, rows: 1, columns: 1, splits: 2 } as const;
  using gpu = await Gpu.request({ tuning: { [info.name]: { products: { "12x20x32": tile } } } });
  const [m, n, k] = [12, 20, 32];
  using a = Tensor.empty(gpu, [m, k]);
  using b = Tensor.empty(gpu, [k, n]);
  const kernelsOf = (options: MatmulOptions) => gpu.tally(() => matmul(a, b, options)[Symbol.dispose]()).kernels;
  assertEquals(kernelsOf({}), ["matmul", "sum_parts"]);
  assertEquals(kernelsOf({ splits: 1 }), ["matmul"]);
  await check(gpu, { m, n, k });
});

gpuTest("matmul() splits K by the number of workgroups of the tile that it is given", (gpu) => {
  const tile = (rows: number): TileShape => ({ strategy: "workgroup", lanes: 64, threadsX: 8, rows, columns: 1 });
  withGpuPolicy(gpu, () => {
    const [m, n, k] = [256, 256, 1024];
    // tiles of 8 × 32 and of 64 × 32 results: 256 and 32 workgroups, where 128 occupy a GPU
    assertEquals([1, 8].map((rows) => splitsFor(gpu, m, n, k, { tile: tile(rows) })), [1, 4]);
    using a = Tensor.empty(gpu, [m, k]);
    using b = Tensor.empty(gpu, [k, n]);
    const kernelsOf = (rows: number) => gpu.tally(() => matmul(a, b, { tile: tile(rows) })[Symbol.dispose]()).kernels;
    assertEquals([1, 8].map(kernelsOf), [["matmul"], ["matmul", "sum_parts"]]);
  });
});
