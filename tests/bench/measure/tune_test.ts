import { assert, assertEquals } from "@std/assert";
import { runnable, tune, tuningSteps } from "../../../bench/measure/tune.ts";
import { candidates, fastest } from "../../../bench/measure/tune_search.ts";
import { unetShapes } from "../../../bench/cases/model_shapes.ts";
import { configs } from "../../../bench/cases/sd14.ts";
import { countTasks, guidedSizes } from "../../../bench/cases/unet_shapes.ts";
import { tunedModel, tuneOperation } from "../../../bench/measure/tune_operation.ts";
import { tileKinds } from "../../../kernels/tuning.ts";
import { gpuTest, lackOf } from "../../gpu.ts";

gpuTest(
  "tiles of f16 arithmetic are tuned on a device that was opened with f16 arithmetic",
  (gpu) => {
    for (const kind of tileKinds) {
      const strategies = candidates(gpu, kind).map(({ strategy }) => strategy);
      assert(
        strategies.includes("half") && strategies.some((strategy) => strategy !== "half"),
        `${kind}: ${strategies}`,
      );
    }
  },
  { arithmetic: "f16" },
  await lackOf("shader-f16"),
);

gpuTest("tiles of f16 arithmetic are not tuned on other devices", (gpu) => {
  for (const kind of tileKinds) assertEquals(candidates(gpu, kind).filter(({ strategy }) => strategy === "half"), []);
});

Deno.test("what is tuned of a UNet are its products, convolutions, gates and the widths of its heads", () => {
  const shapes = unetShapes(configs.unet);
  const { operations, heads } = tunedModel(shapes, configs.unet, guidedSizes);
  assertEquals(heads, { 40: [4096, 8], 80: [1024, 8], 160: [256, 8] });
  const gated = operations.filter(({ op }) => op === "gated product");
  assertEquals(gated.map((each) => "n" in each ? [each.m, each.n, each.k] : []), [
    [8192, 1280, 320],
    [2048, 2560, 640],
    [512, 5120, 1280],
    [128, 5120, 1280],
  ]);
  const tasks = countTasks(shapes, configs.unet, guidedSizes).map(({ task }) => task);
  assertEquals(operations.length, tasks.filter(({ op }) => op !== "attention").length);
  assertEquals(operations.filter(({ op }) => op === "conv2d"), tasks.filter(({ op }) => op === "conv2d"));
});

gpuTest("the timings of a step are known before it is taken: its candidates, once for each work", async (gpu) => {
  const conv2d = { op: "conv2d", batch: 1, inChannels: 4, outChannels: 8, side: 8, kernel: 1, stride: 1 } as const;
  const sizes = { m: 16, n: 16, k: 16 };
  const all = tuningSteps({
    operations: [{ op: "product", ...sizes }, { op: "gated product", ...sizes, k: 32 }, conv2d],
    heads: { 8: [8, 1] },
  });
  const timings = new Map(all.map((step) => [step.name, step.timings(gpu)]));
  assertEquals(timings.get("few"), 2 * (1 + candidates(gpu, "few").length), "measured on two products");
  const steps = all.filter(({ name }) => !/^(skinny|few|many|heads of ..+)$/.test(name));
  assertEquals(steps.length, 5);
  await tune(gpu, {
    steps,
    budgetMs: 1,
    waitMs: 0,
    onStep({ name }, { tuned: { tried } }) {
      // The present choice may be one of the candidates.
      assert([tried, tried + 1].includes(timings.get(name)!), `${name}: ${timings.get(name)}, tried ${tried}`);
    },
  });
});

gpuTest("what the device can run of a tuning is kept, with the splits of products", (gpu) => {
  const many = { strategy: "workgroup", lanes: 64, threadsX: 8, rows: 4, columns: 1 } as const;
  const other = { ...many, strategy: "subgroup", lanes: 2 * gpu.info.subgroupSize } as const;
  const product = { ...many, splits: 2 };
  assertEquals(
    runnable(gpu, { many, few: other, products: { "8x8x8": product, "4x4x4": { ...other, splits: 1 } } }),
    { many, products: { "8x8x8": product }, attention: {} },
  );
});

gpuTest("a convolution is tuned under the name by which it is found", async (gpu) => {
  const task = { op: "conv2d", batch: 1, inChannels: 6, outChannels: 8, side: 8, kernel: 3, stride: 2 } as const;
  const { key, tried } = await tuneOperation(gpu, task, { tiles: {}, waitMs: 0, budgetMs: 1 });
  assertEquals(key, "conv 3x3/2 8x16x72");
  assert(tried > 1, `${tried}`);
});

gpuTest("a candidate replaces the present choice where it is faster, and once more beside it", async (gpu) => {
  let now = 0;
  /** A run that takes `ms` by the clock of this test. */
  const takes = (ms: number) => () => void (now += ms);
  const options = { waitMs: 0, budgetMs: 4, clock: () => now };
  // What other work slows down at first is the present choice.
  const measured = (disturbed: number) => {
    const times: Record<string, number[]> = { present: [disturbed, 20], other: [40, 40], slow: [60, 60] };
    return ({ name }: { name: string }) => [takes(times[name].shift()!)];
  };
  const shapes = ["present", "other", "slow"].map((name) => ({ name }));
  const kept = await fastest(gpu, shapes, measured(80), options);
  assertEquals([kept.best.name, kept.tried], ["present", 3]);
  assertEquals(kept.bestMs, kept.beforeMs);
  const steady = ({ name }: { name: string }) => [takes(name === "other" ? 20 : 60)];
  const replaced = await fastest(gpu, shapes, steady, options);
  assertEquals(replaced.best.name, "other");
  assert(replaced.bestMs < replaced.beforeMs);
});
