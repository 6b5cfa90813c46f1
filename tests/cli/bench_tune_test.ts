import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { strategiesOf } from "../../bench/doctor/strategies.ts";
import { type TuningStep, tuningSteps } from "../../bench/measure/tune.ts";
import { takeSteps } from "../../cli/bench_tune.ts";
import { progressFile, saveTuning, UnfinishedTuning } from "../../cli/tile_file.ts";
import type { AttentionForm } from "../../kernels/attention/form.ts";
import { policyOf } from "../../kernels/policy.ts";
import { type AdapterTuning, TuningError } from "../../kernels/tuning.ts";
import { openTunedGpu, savedTuning, tuningFile } from "../../pipeline/tuning_file.ts";
import { gpuTest } from "../gpu.ts";
import { run, said, temporaryFolder } from "./running.ts";
import { withTuningFolder } from "./tuning_folder.ts";

const staged: AttentionForm = { path: "staged" };
const times = { beforeMs: 2, bestMs: 1, tried: 2 };

/** A step that finds the staged form for a head width, and notes that it was taken. */
function step(width: number, taken: number[], fails = false): TuningStep {
  return {
    name: `heads of ${width}`,
    isIn: ({ attention = {} }) => attention[width] !== undefined,
    timings: () => 2,
    run(_gpu, tuning) {
      if (fails) return Promise.reject(new Error("interrupted"));
      taken.push(width);
      const attention = { ...tuning.attention, [width]: staged };
      return Promise.resolve({ tuned: { width, best: staged, ...times }, tuning: { ...tuning, attention } });
    },
  };
}

gpuTest(
  "an interrupted tuning keeps what it has measured, and the next one measures the rest only",
  (gpu) =>
    withTuningFolder(async () => {
      const own = () => savedTuning().then((saved) => saved[gpu.info.name]);
      const tile = { strategy: "workgroup" as const, lanes: 64, threadsX: 8, rows: 2, columns: 1 };
      await saveTuning(gpu.info.name, { few: tile, products: { "8x8x8": { ...tile, splits: 1 } } });
      const taken: number[] = [];
      const interrupted = [step(40, taken), step(64, taken), step(80, taken, true)];
      await said(() => assertRejects(() => takeSteps(gpu, interrupted, { budgetMs: 1 }), Error, "interrupted"));
      assertEquals(taken, [40, 64]);
      assertEquals((await own()).attention, { 40: staged, 64: staged });

      const { out } = await said(() =>
        takeSteps(gpu, [40, 64, 80].map((width) => step(width, taken)), { budgetMs: 1 })
      );
      assertStringIncludes(out, "2 of 3 choices measured before an interruption, 1 left");
      assertStringIncludes(out, progressFile());
      assertEquals(taken, [40, 64, 80]);
      assertEquals(await own(), {
        few: tile,
        products: { "8x8x8": { ...tile, splits: 1 } }, // an earlier tuning's
        attention: { 40: staged, 64: staged, 80: staged },
      });

      await said(() => takeSteps(gpu, [step(40, taken)], { budgetMs: 1 })); // a new one measures all again
      assertEquals(taken, [40, 64, 80, 40]);
      assertEquals([...Deno.readDirSync(tuningFile().replace(/[^/]+$/, ""))].map(({ name }) => name), ["tiles.json"]);
    }),
);

gpuTest("a tuning leaves out what the device cannot run any more", (gpu) =>
  withTuningFolder(async () => {
    const tile = { strategy: "subgroup" as const, lanes: 3, threadsX: 3, rows: 2, columns: 1 };
    await saveTuning(gpu.info.name, { few: tile, products: { "8x8x8": { ...tile, splits: 1 } } });
    await assertRejects(() => openTunedGpu(), TuningError, `${tuningFile()} says so: bluerose bench --tune replaces`);
    await said(() => takeSteps(gpu, [step(64, [])], { budgetMs: 1 }));
    using tuned = await openTunedGpu();
    assertEquals(policyOf(tuned).tuned, { products: {}, attention: { 64: staged } });
  }));

gpuTest(
  "a tuning is saved under names by which products and convolutions find it, and doctor says so",
  (gpu) =>
    withTuningFolder(async () => {
      const operations = [
        { op: "product", m: 16, n: 16, k: 16 },
        { op: "conv2d", batch: 1, inChannels: 4, outChannels: 8, side: 8, kernel: 1, stride: 1 },
      ] as const;
      const steps = tuningSteps({ operations, heads: { 8: [8, 1] } })
        .filter(({ name }) => /^(row|16x16x16|conv .*|heads of 8)$/.test(name));
      assertEquals(steps.map(({ name }) => name), ["row", "16x16x16", "conv 1x1/1 8x64x4", "heads of 8"]);
      const { out } = await said(() => takeSteps(gpu, steps, { budgetMs: 1 }));
      for (const name of ["row", "16×16×16", "conv 1×1/1 8×64×4"]) assertStringIncludes(out, `  ${name} `);
      const saved = (await savedTuning())[gpu.info.name];
      using tuned = await openTunedGpu();
      const { products } = policyOf(tuned);
      assertEquals(products.tiles().row, saved.row);
      const { splits, ...tile } = saved.products!["16x16x16"];
      assertEquals(products.tunedProduct(16, 16, 16), { tile, splits });
      const strategies = strategiesOf(tuned);
      const reasonOf = (beginning: string) => strategies.find(({ part }) => part.startsWith(beginning))?.reason;
      assertEquals(reasonOf("products, up to 8 rows"), "tuned on this device by bluerose bench --tune");
      assert(reasonOf("products, large")?.startsWith("default of "));
      assertEquals(reasonOf("attention, heads of 8"), "tuned on this device by bluerose bench --tune");
      const convolutions = Object.keys(saved.products!).length - 1;
      assertEquals(
        strategies.find(({ part }) => part === "single shapes")?.choice,
        `tiles of their own for 1 products and ${convolutions} convolutions`,
      );
      assertEquals(strategiesOf(gpu).find(({ part }) => part === "single shapes"), undefined);
    }),
);

Deno.test("a progress file that is none is an error that names path and remedy", () =>
  withTuningFolder(async () => {
    await saveTuning("an adapter", {});
    await Deno.writeTextFile(progressFile(), '{ "an adapter": 5 }');
    const error = await assertRejects(() => UnfinishedTuning.open("an adapter"), TuningError);
    assertStringIncludes(error.message, `from ${progressFile()} as`);
    assertStringIncludes(error.message, "Remove the file");
  }));

gpuTest(
  "a tuning measures again what was measured before an interruption and is not saved any more",
  (gpu) =>
    withTuningFolder(async () => {
      const taken: number[] = [];
      const steps = () => [40, 64].map((width) => step(width, taken));
      await said(() => assertRejects(() => takeSteps(gpu, [step(40, taken), step(64, taken, true)], { budgetMs: 1 })));
      await Deno.remove(tuningFile()); // as the message about a broken file advises
      await said(() => takeSteps(gpu, steps(), { budgetMs: 1 }));
      assertEquals(taken, [40, 40, 64]);
      assertEquals((await savedTuning())[gpu.info.name].attention, { 40: staged, 64: staged });
    }),
);

Deno.test("every step of a tuning tells whether a tuning holds its result", () => {
  const operation = { op: "product", m: 16, n: 16, k: 16 } as const;
  const steps = tuningSteps({ operations: [operation], heads: {} });
  assertEquals(steps.filter((step) => step.isIn({})), []);
  const tile = { strategy: "workgroup" as const, lanes: 64, threadsX: 8, rows: 2, columns: 1 };
  const names = (tuning: AdapterTuning) => steps.filter((step) => step.isIn(tuning)).map(({ name }) => name);
  assertEquals(names({ few: tile }), ["few", "16x16x16"]);
  assertEquals(names({ attention: { 40: staged } }), ["heads of 40"]);
});

Deno.test("bench --tune refuses what it would ignore, and places that it cannot write, before it measures", () =>
  withTuningFolder(async () => {
    for (
      const args of [["--json"], ["--html", "x.html"], ["--only", "edit"], ["--filter", "matmul"], ["--peers"], [
        "--steps",
        "3",
      ]]
    ) {
      const { code, err } = await run("bench", "--tune", ...args);
      assertEquals(code, 2);
      assertStringIncludes(err, `Cannot use ${args[0]} with --tune: the result is the tuning file`);
    }
    await Deno.mkdir(progressFile(), { recursive: true });
    const { code, err } = await run("bench", "--tune");
    assertEquals(code, 1);
    assertStringIncludes(err, `Cannot write ${progressFile()} as it is a folder`);
    assertStringIncludes(err, "BLUEROSE_TILES names the tuning file");
  }));

Deno.test("bench --tune --checkpoint says what is wrong with the model's configuration", async () => {
  await using folder = await temporaryFolder();
  const checkpoint = folder.path;
  const tune = () => run("bench", "--tune", "--checkpoint", checkpoint);
  assertStringIncludes((await tune()).err, "as there is no such file");
  await Deno.mkdir(`${checkpoint}/unet`);
  for (
    const [config, why] of [
      ["{", "is not JSON"],
      ["null", "config.json"],
      ["{}", "lacks block_out_channels, layers_per_block"],
      ['{"_class_name":"UNet2DConditionModel","block_out_channels":["__proto__"]}', "block_out_channels"],
    ]
  ) {
    await Deno.writeTextFile(`${checkpoint}/unet/config.json`, config);
    const { code, err } = await tune();
    assert(code !== 0);
    assertStringIncludes(err, why);
    assert(!/Cannot (read properties|destructure)/.test(err), err);
  }
});
