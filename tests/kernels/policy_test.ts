import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { type DeviceTuning, Gpu, type GpuInfo } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { attentionFormOn } from "../../kernels/attention/form.ts";
import { conv2d, packConvWeight } from "../../kernels/conv/conv2d.ts";
import { gatedProduct } from "../../kernels/gemm/gated_product.ts";
import type { TileShape } from "../../kernels/gemm/tile.ts";
import { unsupportedReason } from "../../kernels/gemm/tile_support.ts";
import { policyFor, policyOf, tuningName } from "../../kernels/policy.ts";
import { tileKind } from "../../kernels/policy/tile_defaults.ts";
import { parseTuning, type Tuning, TuningError } from "../../kernels/tuning.ts";
import { assertClose, gpuTest, lackOfSubgroupMatrices, randomArray } from "../gpu.ts";

/** The policy that the device would have with a tuning. */
const tunedPolicy = ({ info }: Gpu, tuning: DeviceTuning) => policyFor({ info, options: { tuning } });

gpuTest("a tuning replaces the tiles of its own adapter only", (gpu) => {
  const before = policyOf(gpu).products.tiles();
  const tile = { strategy: "workgroup" as const, lanes: 64, threadsX: 8, rows: 2, columns: 1 };
  assertEquals(tunedPolicy(gpu, { "another adapter": { many: tile } }).products.tiles(), before);
  const tuned = tunedPolicy(gpu, { [gpu.info.name]: { many: tile } });
  assertEquals(tuned.products.tiles(), { ...before, many: tile });
  assertEquals(tuned.products.tileFor(1024, 1024), tile);
});

gpuTest("a tuned tile of f32 replaces one of f16 in f16 arithmetic", ({ info }) => {
  const half = { ...info, deviceClass: "amd" as const, arithmetic: "f16" as const };
  const tile = { strategy: "workgroup" as const, lanes: 64, threadsX: 8, rows: 4, columns: 2 };
  const strategyOf = (tuning: DeviceTuning) =>
    policyFor({ info: half, options: { tuning } }).products.tileFor(4096, 4096, { allowF16Operands: true }).strategy;
  assertEquals(strategyOf({}), "half");
  assertEquals(strategyOf({ [tuningName(half)]: { many: tile } }), "workgroup");
});

gpuTest("a tile is not twice as wide as a narrow result on software devices", ({ info }) => {
  const lanes = 8, tile = { strategy: "subgroup" as const, lanes, threadsX: lanes, rows: 32, columns: 4 };
  const software = { ...info, deviceClass: "software" as const, subgroupSize: lanes };
  const { products } = policyFor({ info: software, options: { tuning: { [info.name]: { few: tile } } } });
  const columns = (n: number, isGathered = false) => products.tileFor(65, n, { isGathered }).columns;
  assertEquals([4, 32, 36, 64, 68, 96, 128, 256].map((n) => columns(n)), [1, 1, 2, 2, 4, 4, 4, 4]);
  assertEquals(columns(256, true), 1);
});

gpuTest("products on software devices keep B where sizes allow it and rows are enough", ({ info }) => {
  const software = { ...info, deviceClass: "software" as const, subgroupSize: 8 };
  const { products } = policyFor({ info: software, options: {} });
  const choice = (m: number, n: number, isVec8 = true) => {
    const { strategy, rows, columns } = products.tileFor(m, n, { isVec8, vec4: n % 4 === 0 });
    return `${strategy} ${rows} × ${columns}`;
  };
  assertEquals(choice(77, 768), "stationary 256 × 2");
  assertEquals([1, 2, 3, 8, 9].map((m) => choice(m, 128)), [
    "stationary 256 × 2",
    "stationary 256 × 2",
    "subgroup 8 × 2",
    "subgroup 8 × 2",
    "stationary 256 × 2",
  ]);
  assertEquals([choice(77, 32), choice(77, 40)], ["subgroup 32 × 1", "stationary 256 × 2"]);
  assertEquals([choice(77, 64, false), choice(77, 77, false)], ["subgroup 32 × 2", "subgroup 8 × 1"]);
  const rounds = products.tileFor(77, 768, { isVec8: true, canHoldSums: false });
  assertEquals(rounds.strategy, "subgroup", "the result would round sums");
  const narrow = policyFor({ info: { ...software, subgroupSize: 4 }, options: {} }).products;
  assertEquals(narrow.tileFor(77, 768, { isVec8: true }).strategy, "subgroup", "slower with 4 lanes");
});

gpuTest(
  "products on software devices keep deep blocks of B where k fills them, and large ones deeper ones",
  ({ info }) => {
    const software = { ...info, deviceClass: "software" as const, subgroupSize: 8 };
    const tile = { strategy: "stationary" as const, lanes: 8, threadsX: 8, rows: 64, columns: 2 };
    const depth = (k: number, many?: TileShape) =>
      policyFor({ info: software, options: { tuning: many ? { [info.name]: { many } } : {} } })
        .products.tileFor(2 ** 16, 2 ** 9, { k, isVec8: true }).depth;
    assertEquals([8, 64, 96, 128, 192, 320, 640, 1280].map((k) => depth(k)), [64, 64, 96, 128, 64, 64, 128, 128]);
    assertEquals([depth(640, tile), depth(640, { ...tile, depth: 64 })], [128, 64], "unless a tuning says so");
    const { products } = policyFor({ info: software, options: {} });
    const small = (k: number) => products.tileFor(128, 96, { k, isVec8: true }).depth;
    assertEquals([32, 64, 72, 96, 104, 768].map(small), [64, 64, 96, 96, 64, 64], "small");
    const tuning = { [info.name]: { few: { ...tile, depth: 64 } } };
    const narrow = policyFor({ info: software, options: { tuning } }).products.tileFor(77, 32, { k: 64, isVec8: true });
    assertEquals([narrow.strategy, unsupportedReason(software, narrow)], ["subgroup", undefined], "without the depth");
  },
);

gpuTest("stationary tiles give all processors work, with at least 32 rows each", ({ info }) => {
  const rows = (processors: number, m: number, n: number, batch = 1) =>
    policyFor({ info: { ...info, deviceClass: "software", subgroupSize: 8, processors }, options: {} })
      .products.stationaryRows(m, batch * Math.ceil(n / 64));
  assertEquals([rows(2, 512, 64), rows(16, 512, 64), rows(64, 512, 64)], [256, 32, 32]);
  assertEquals(rows(2, 513, 64), 129, "four workgroups, as three would leave a processor idle");
  assertEquals(rows(2, 77, 128), 77);
  assertEquals(rows(2, 77, 64), 39);
  assertEquals(rows(4, 100, 320), 34, "15 workgroups");
  assertEquals(rows(2, 20, 64), 20);
  assertEquals(rows(2, 4096, 320, 2), 256);
});

gpuTest("a tuned product has its own tile and split, and shares nothing with other shapes", (gpu) => {
  const tile = { strategy: "workgroup" as const, lanes: 64, threadsX: 8, rows: 2, columns: 1 };
  const products = { "24x32x64": { ...tile, splits: 4 }, "24x32x6": { ...tile, splits: 4 } };
  const policy = tunedPolicy(gpu, { [gpu.info.name]: { products } });
  assertEquals(policy.products.tunedProduct(24, 32, 64), { tile, splits: 4 });
  assertEquals(policy.products.tunedProduct(32, 24, 64), undefined);
  assertEquals(policy.products.tunedProduct(24, 32, 6), undefined, "a split that does not divide k");
  assertEquals(policy.products.tiles(), policyOf(gpu).products.tiles());
  const wide = { products: { "1x1x1": { ...tile, lanes: 6, threadsX: 3, splits: 1 } } };
  assertThrows(() => tunedPolicy(gpu, { [gpu.info.name]: wide }), TuningError, 'tuned tile "1x1x1"');
});

const smallTile = { strategy: "workgroup" as const, lanes: 32, threadsX: 8, rows: 2, columns: 2 };

/** The kernels that run on the device with a tuning of single products, and what they compute. */
async function withProducts(products: Record<string, TileShape>, run: (gpu: Gpu) => Tensor) {
  using plain = await Gpu.request();
  const entries = Object.entries(products).map(([key, tile]) => [key, { ...tile, splits: 1 }]);
  using gpu = await Gpu.request({ tuning: { [plain.info.name]: { products: Object.fromEntries(entries) } } });
  let result: Tensor | undefined;
  const { kernels } = gpu.tally(() => gpu.scope(() => result = run(gpu)));
  using tensor = result!;
  return { kernels, data: await tensor.data() };
}

Deno.test("a gated product has a tuned tile of its own, on which it gates in the product's kernel", async () => {
  const [m, n, k] = [9, 20, 24];
  const run = (gpu: Gpu) =>
    gatedProduct(
      Tensor.from(gpu, randomArray(m * k, 1), [m, k]),
      Tensor.from(gpu, randomArray(2 * n * k, 2), [2 * n, k]),
    );
  const tuned = await withProducts({ "gated 9x20x24": smallTile }, run);
  assertEquals(tuned.kernels, ["matmul"]);
  const others = await withProducts({ "9x20x24": smallTile, "gated 9x24x20": smallTile }, run);
  const untuned = await withProducts({}, run);
  assertEquals(others.kernels, untuned.kernels);
  assertEquals(others.data, untuned.data);
  assertClose(tuned.data, untuned.data, 1e-5);
});

Deno.test("a convolution has a tuned tile of its own, by kernel, stride and sizes, on the general kernel", async () => {
  const run = (gpu: Gpu) => {
    const weight = packConvWeight(Tensor.from(gpu, randomArray(12 * 6 * 9, 2), [12, 6, 3, 3]));
    return conv2d(Tensor.from(gpu, randomArray(6 * 64, 1), [1, 6, 8, 8]), weight, { padding: 1 });
  };
  const generalTile = (gpu: Gpu) => gpu.tally(() => gpu.scope(() => void run(gpu))).kernels;
  const tuned = await withProducts({ "conv 3x3/1 12x64x72": smallTile }, run);
  assertEquals(tuned.kernels.toSorted(), ["conv2d", "pack_conv_weight"]);
  const others = await withProducts({ "conv 3x3/2 12x64x72": smallTile, "12x64x72": smallTile }, run);
  using plain = await Gpu.request();
  assertEquals(others.kernels, generalTile(plain));
  assertClose(tuned.data, others.data, 1e-5);
});

gpuTest("software devices attend to wide heads in one pass only where that runs long", (gpu) => {
  const policy = policyOf(gpu);
  if (!policy.isSoftware || gpu.info.subgroupSize === 0) return;
  const path = (dim: number, t: number) =>
    policy.attention.formFor({ batch: 2, heads: 8, t, s: 77, dim, causal: false, scale: 1 }).path;
  assertEquals([path(160, 64), path(160, 32), path(96, 1), path(164, 4096)], [
    "subgroup",
    "staged",
    "subgroup",
    "staged",
  ]);
});

gpuTest("attention on subgroups of 8 takes fewer queries per lane where more would pad too many rows", ({ info }) => {
  const queriesFor = (t: number, dim: number, { heads = 1, causal = false } = {}) => {
    const sizes = { batch: 1, heads, t, s: t, dim, causal, scale: 1 };
    const form = attentionFormOn({ ...info, subgroupSize: 8 }, "subgroup", sizes);
    return form?.path === "subgroup" ? [form.queries, form.keys] : undefined;
  };
  assertEquals(queriesFor(77, 64, { heads: 12 }), [2, 2]); // 80 rows rather than 96
  assertEquals(queriesFor(64, 64), [3, 2]); // 72 rather than 64
  assertEquals(queriesFor(256, 64), [3, 2]);
  assertEquals(queriesFor(4096, 64), [4, 4]); // long
  assertEquals(queriesFor(77, 64, { heads: 40, causal: true }), [2, 2]); // of a text encoder
  assertEquals(queriesFor(77, 40), [2, 2]); // short
  assertEquals(queriesFor(4096, 40), [4, 4]);
  assertEquals(queriesFor(4096, 160), [3, 2]); // wide
  assertEquals(queriesFor(77, 16), [4, 4]);
});

gpuTest("a tuned attention form applies to its own head width only", (gpu) => {
  const sizes = { batch: 1, heads: 2, t: 64, s: 64, dim: 40, causal: false, scale: 1 };
  const before = policyOf(gpu).attention.formFor(sizes);
  const form = { path: "workgroup" as const, threadsX: 8, threadsY: 4, rows: 2, keys: 1, depth: 5 };
  assertNotEquals(before, form);
  const tuned = tunedPolicy(gpu, { [gpu.info.name]: { attention: { 40: form } } });
  assertEquals(tuned.attention.formFor(sizes), form);
  const other = { ...sizes, dim: 44 };
  assertEquals(tuned.attention.formFor(other), attentionFormOn(gpu.info, before.path, other));
  for (
    const [wrong, why] of [
      [
        { path: "subgroup", lanes: 3, queries: 1, keys: 1, unrollK: 1 },
        `lanes must be its subgroup size, ${gpu.info.subgroupSize}: 3`,
      ],
      [
        { path: "workgroup", threadsX: 1024, threadsY: 1024, rows: 1, keys: 1, depth: 1 },
        "threadsX · threadsY must be at most",
      ],
      [{ path: "workgroup", threadsX: 16, threadsY: 16, rows: 64, keys: 1, depth: 1 }, "bytes of workgroup memory"],
      [{ path: "workgroup", threadsX: 8, threadsY: 8, rows: 1, keys: 1, depth: 3 }, "depth must divide"],
    ] as const
  ) {
    assertThrows(() => tunedPolicy(gpu, { [gpu.info.name]: { attention: { 40: wrong } } }), TuningError, why);
  }
  assertThrows(
    () => tunedPolicy(gpu, { [gpu.info.name]: { attention: { 42: form } } }),
    TuningError,
    "multiple of 4",
  );
});

gpuTest("a tuning with tiles that the device cannot run throws a TuningError with limit and value", (gpu) => {
  const many = 256, lanes = gpu.info.subgroupSize;
  const info = { ...gpu.info, limits: { ...gpu.info.limits, maxComputeInvocationsPerWorkgroup: many } };
  const stationary = { strategy: "stationary" as const, lanes, threadsX: lanes, rows: 64, columns: 2 };
  for (
    const [tile, why] of [
      [
        { strategy: "subgroup", lanes: 3, threadsX: 3, rows: 8, columns: 1 },
        `lanes must be its subgroup size, ${gpu.info.subgroupSize}: 3`,
      ],
      [
        { strategy: "workgroup", lanes: 2 * many, threadsX: many, rows: 1, columns: 1 },
        `lanes must be at most ${many}: ${2 * many}`,
      ],
      [
        { strategy: "subgroup", lanes: gpu.info.subgroupSize, threadsX: 1, rows: 9, columns: 1 },
        "rows must be at most 8, or a multiple of it: 9",
      ],
      ...[8 * lanes - 16, 8 * lanes + 8, 16 * lanes + 16].map((depth) =>
        [
          { ...stationary, depth },
          `depth must be a multiple of 16 from ${8 * lanes} to ${16 * lanes}: ${depth}`,
        ] as const
      ),
      [{ strategy: "workgroup", lanes: 6, threadsX: 3, rows: 1, columns: 1 }, "lanes must be a multiple of 4"],
      [
        { strategy: "workgroup", lanes: 16, threadsX: 3, rows: 1, columns: 1 },
        "lanes must be a multiple of threadsX: 16, 3",
      ],
      [{ strategy: "workgroup", lanes: 256, threadsX: 16, rows: 64, columns: 2 }, "bytes of workgroup memory"],
      [{ strategy: "matrix", lanes: 64, threadsX: 2, rows: 2, columns: 2 }, "subgroup matrices are not supported"],
    ] as const
  ) {
    const options = { tuning: { [info.name]: { few: tile } } };
    assertThrows(() => policyFor({ info, options }), TuningError, why);
  }
});

gpuTest(
  "large products that allow f16 operands run on subgroup matrices, which have a tuning of their own",
  (gpu) => {
    const { lanes } = gpu.info.subgroupMatrix!;
    const onMatrices = (policy: typeof plain, allowF16Operands: boolean) => {
      const { row, skinny, few, many } = policy.products.tiles({ allowF16Operands });
      return [row, skinny, few, many].map(({ strategy }) => strategy === "matrix");
    };
    const plain = policyOf(gpu), name = tuningName(gpu.info);
    assertEquals(onMatrices(plain, true), [false, false, true, true]);
    assertEquals(onMatrices(plain, false), [false, false, false, false]);
    const tile = { strategy: "matrix" as const, lanes: 2 * lanes, threadsX: 1, rows: 1, columns: 2 };
    assertEquals(tunedPolicy(gpu, { [gpu.info.name]: { many: tile } }).products.tiles(), plain.products.tiles());
    const tuned = tunedPolicy(gpu, { [name]: { many: tile } });
    assertEquals(tuned.products.tileFor(1024, 1024, { allowF16Operands: true }), tile);
    assertEquals(onMatrices(tuned, false), [false, false, false, false]);
    const refused = (shape: Partial<typeof tile>, why: string) =>
      assertThrows(() => tunedPolicy(gpu, { [name]: { many: { ...tile, ...shape } } }), TuningError, why);
    refused({ lanes: lanes + 1 }, `(threadsX): ${lanes + 1}`);
    refused({ lanes: 6 * lanes, threadsX: 4 }, `(threadsX): ${6 * lanes}`);
    refused({ rows: 128 }, "bytes of workgroup memory");
    refused({ rows: 1024 }, "rows · columns must be at most");
  },
  { subgroupMatrices: true },
  await lackOfSubgroupMatrices(),
);

gpuTest("attention that allows f16 operands runs on the subgroup matrices of GPUs", ({ info }) => {
  const subgroupMatrix = { m: 16, n: 16, k: 16, lanes: 32 };
  const limits = { ...info.limits, maxComputeInvocationsPerWorkgroup: 1024, maxComputeWorkgroupStorageSize: 49152 };
  const policyWith = (more: Partial<GpuInfo>, tuning: DeviceTuning = {}) =>
    policyFor({ info: { ...info, deviceClass: "nvidia", limits, subgroupMatrix, ...more }, options: { tuning } })
      .attention;
  const sizes = (dim: number) => ({ batch: 2, heads: 8, t: 4096, s: 4096, dim, causal: false, scale: 1 });
  const paths = (policy: ReturnType<typeof policyWith>, allowF16Operands: boolean) =>
    [40, 64, 80, 128, 160, 512].map((dim) => policy.formFor(sizes(dim), { allowF16Operands }).path);
  const [matrix, workgroup] = ["matrix", "workgroup"].map((path) => [...Array(5).fill(path), "staged"]);
  assertEquals(paths(policyWith({}), true), matrix);
  assertEquals(paths(policyWith({}), false), workgroup);
  assertEquals(paths(policyWith({ subgroupMatrix: undefined }), true), workgroup);
  assertNotEquals(
    policyWith({ deviceClass: "software" }).formFor(sizes(40), { allowF16Operands: true }).path,
    "matrix",
  );
  // a matrix needs more workgroup memory than there is
  const poor = { ...limits, maxComputeWorkgroupStorageSize: 1024 };
  assertEquals(paths(policyWith({ limits: poor }), true), Array(6).fill("staged"));
  const tuned = { path: "matrix" as const, subgroups: 2, rows: 2, keys: 32 };
  const name = tuningName({ ...info, subgroupMatrix });
  const withTuning = policyWith({}, { [name]: { attention: { 40: tuned } } });
  assertEquals(withTuning.formFor(sizes(40), { allowF16Operands: true }), tuned);
  assertEquals(withTuning.formFor(sizes(40)).path, "workgroup");
  assertThrows(
    () => policyWith({}, { [name]: { attention: { 40: { ...tuned, keys: 24 } } } }),
    TuningError,
    "keys must be a multiple of 16",
  );
});

Deno.test("parseTuning() reads a valid tuning and names the fault of an invalid one", () => {
  const table = {
    "a GPU": { row: { strategy: "workgroup", lanes: 64, threadsX: 8, rows: 1, columns: 1 } },
    "a third": {
      products: {
        "2x3x4": { strategy: "subgroup", lanes: 8, threadsX: 8, rows: 1, columns: 1, splits: 2 },
        "gated 2x4x4": { strategy: "workgroup", lanes: 8, threadsX: 8, rows: 1, columns: 2, splits: 1 },
        "conv 3x3/1 2x4x36": { strategy: "workgroup", lanes: 8, threadsX: 8, rows: 1, columns: 1, splits: 1 },
      },
    },
    "another": { many: { strategy: "matrix", lanes: 128, threadsX: 2, rows: 4, columns: 4 } },
  };
  assertEquals<unknown>(parseTuning(JSON.stringify(table), "tiles.json"), table);
  const tile = table["a GPU"].row;
  for (
    const [text, why] of [
      ["{", "not JSON"],
      ["[]", "object with adapter names"],
      [JSON.stringify({ a: { wide: tile } }), '"wide"'],
      [JSON.stringify({ a: { row: { ...tile, strategy: "warp" } } }), '"warp"'],
      [
        JSON.stringify({ a: { row: { ...tile, rows: 1.5 } } }),
        "rows must be a whole number from 1 to 1024: 1.5 (a for row)",
      ],
      [JSON.stringify({ a: { row: { ...tile, threadsX: 7 } } }), "multiple of threadsX"],
      [JSON.stringify({ a: { row: null } }), "a tile must be an object: null (a for row)"],
      [JSON.stringify({ a: { row: { ...tile, rows: 64, columns: 8 } } }), "at most 256, as code for more compiles"],
      ['{"a":{"__proto__":{}}}', 'products or attention: "__proto__"'],
      [JSON.stringify({ a: { products: { "2x3": { ...tile, splits: 1 } } } }), "(a for 2x3)"],
      [
        JSON.stringify({ a: { products: { "2x3x4": tile } } }),
        "splits must be a whole number from 1 to 1024: undefined (a for 2x3x4)",
      ],
      [JSON.stringify({ a: { products: { "conv 3x3 2x3x4": { ...tile, splits: 1 } } } }), "(a for conv 3x3 2x3x4)"],
      [JSON.stringify({ a: { products: { "conv 3x3/1 2x3x4": { ...tile, splits: 2 } } } }), "must be 1: 2"],
      [
        JSON.stringify({ a: { products: { "gated 2x3x4": { ...tile, splits: 1 } } } }),
        "workgroup or half with 2 columns",
      ],
      [JSON.stringify({ a: { attention: [] } }), "attention of a must be an object"],
      [JSON.stringify({ a: { attention: { wide: { path: "staged" } } } }), 'positive whole number: "wide"'],
      [JSON.stringify({ a: { attention: { 40: { path: "flash" } } } }), '"flash"'],
      [
        JSON.stringify({ a: { attention: { 40: { path: "workgroup", threadsX: 8 } } } }),
        "threadsY must be a whole number from 1 to 1024: undefined (a for heads of 40)",
      ],
    ]
  ) {
    assertThrows(() => parseTuning(text, "tiles.json"), TuningError, why);
  }
});

Deno.test("a device refuses a tuning that was not parsed, and shapes whose code would not compile in time", () => {
  using gpu = Gpu.null();
  const info = { ...gpu.info, subgroupSize: 8 };
  const tile = { strategy: "subgroup", lanes: 8, threadsX: 8, rows: 8, columns: 1 };
  const wide = { path: "subgroup", lanes: 8, queries: 1024, keys: 8, unrollK: 4 };
  for (
    const [entry, why] of [
      [null, "must be an object"],
      [{ row: undefined }, "a tile must be an object: undefined"],
      [{ row: { ...tile, rows: NaN } }, "rows must be a whole number from 1 to 1024: NaN"],
      [{ row: { ...tile, rows: 1024, columns: 1024 } }, "rows · columns must be at most 256"],
      [{ products: { "8x8x8": { ...tile, splits: 0 } } }, "splits must be a whole number from 1 to 1024: 0"],
      [{ attention: { 40: null } }, "a form must be an object: null"],
      [{ attention: { 40: wide } }, "queries · keys · head width must be at most 8192"],
    ] as const
  ) {
    const tuning = { [info.name]: entry } as unknown as Tuning;
    assertThrows(() => policyFor({ info, options: { tuning } }), TuningError, why);
  }
});

Deno.test("tileKind() depends on the number of rows and of elements of the result", () => {
  assertEquals([[8, 4096], [9, 4096], [65, 64], [128, 128], [1024, 1024]].map(([m, n]) => tileKind(m, n)), [
    "row",
    "skinny",
    "few",
    "few",
    "many",
  ]);
});
