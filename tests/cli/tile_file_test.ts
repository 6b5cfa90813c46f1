import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { saveTuning } from "../../cli/tile_file.ts";
import { policyOf } from "../../kernels/policy.ts";
import { TuningError } from "../../kernels/tuning.ts";
import { openTunedGpu, savedTuning, tuningFile } from "../../pipeline/tuning_file.ts";
import { gpuTest } from "../gpu.ts";
import { withTuningFolder } from "./tuning_folder.ts";

gpuTest("a tuning file keeps one tuning for each adapter", (gpu) =>
  withTuningFolder(async () => {
    const own = policyOf(gpu).products.tiles();
    assertEquals(await savedTuning(), {}); // no file
    const tile = { strategy: "workgroup" as const, lanes: 64, threadsX: 8, rows: 2, columns: 1 };
    await saveTuning("another adapter", { many: tile });
    await saveTuning(gpu.info.name, { few: tile });
    {
      using tuned = await openTunedGpu();
      assertEquals(policyOf(tuned).products.tiles(), { ...own, few: tile });
    }
    assertEquals(Object.keys(await savedTuning()), ["another adapter", gpu.info.name]);
  }));

Deno.test("tuners that save at the same time all keep their results", () =>
  withTuningFolder(async () => {
    const adapters = Array.from({ length: 10 }, (_, i) => `adapter ${i}`);
    await Promise.all(adapters.map((adapter) => saveTuning(adapter, {})));
    assertEquals(Object.keys(await savedTuning()).sort(), adapters);
  }));

const stationary = '"strategy": "stationary", "lanes": 8, "threadsX": 8, "rows": 64, "columns": 2';

Deno.test("a malformed tuning file is an error that names path, cause and remedy; saving keeps the file", () =>
  withTuningFolder(async () => {
    await saveTuning("an adapter", {});
    const path = tuningFile();
    for (
      const [text, cause] of [
        ["{", "it is not JSON"],
        ["[]", "it must be a JSON object with adapter names as keys"],
        ...['"2"', "null", "0", "1.5", "[2]"].map((depth) => [
          `{ "x": { "many": { ${stationary}, "depth": ${depth} } } }`,
          `depth must be a whole number from 1 to 1024: ${depth} (x for many)`,
        ]),
        [
          `{ "x": { "many": { ${stationary}, "dept": 64 } } }`,
          'a stationary tile has the fields strategy, lanes, threadsX, rows, columns, depth, not "dept" (x for many)',
        ],
      ]
    ) {
      await Deno.writeTextFile(path, text);
      const attempts = [() => savedTuning(), () => openTunedGpu(), () => saveTuning("another adapter", {})];
      for (const attempt of attempts) {
        const { message } = await assertRejects(
          attempt,
          TuningError,
          `Cannot read the tuning from ${path} as ${cause}`,
        );
        assertStringIncludes(message, "Repair or remove it, or set BLUEROSE_TILES");
      }
      assertEquals(await Deno.readTextFile(path), text);
    }
  }));

Deno.test("a tuning file that cannot be read is an error, for reading and for saving", () =>
  withTuningFolder(async () => {
    const path = tuningFile();
    await Deno.mkdir(path, { recursive: true }); // a folder in the file's place
    for (const attempt of [() => savedTuning(), () => saveTuning("an adapter", {})]) {
      const error = await assertRejects(attempt, TuningError, `Cannot read the tuning from ${path} as `);
      assertStringIncludes(error.message, "Repair or remove it");
      assert(error.cause instanceof Error);
    }
  }));

Deno.test({
  name: "without permission to read there is no tuning, and none is saved",
  permissions: { env: "inherit", read: false, write: "inherit" },
  fn: async () => {
    assertEquals(await savedTuning(), {});
    await assertRejects(() => saveTuning("an adapter", {}), TuningError, "Allow reading it");
  },
});
