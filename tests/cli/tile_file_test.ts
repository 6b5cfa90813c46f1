import { assertEquals, assertRejects } from "@std/assert";
import { saveTuning } from "../../cli/tile_file.ts";
import { policyOf, TuningError } from "../../kernels/policy.ts";
import { openTunedGpu, savedTuning, tuningFile } from "../../pipeline/tuning_file.ts";
import { gpuTest } from "../gpu.ts";

gpuTest(
  "a saved tuning is used on its adapter, beside those of others, and a broken file is refused by name",
  async (gpu) => {
    const folder = await Deno.makeTempDir();
    const before = Deno.env.get("BLUEROSE_TILES");
    Deno.env.set("BLUEROSE_TILES", `${folder}/cache/tiles.json`);
    try {
      const own = policyOf(gpu).tiles();
      assertEquals(await savedTuning(), {}); // no file
      const tile = { strategy: "workgroup" as const, lanes: 64, threadsX: 8, rows: 2, columns: 1 };
      await saveTuning("another adapter", { many: tile });
      await saveTuning(gpu.info.name, { few: tile });
      {
        using tuned = await openTunedGpu();
        assertEquals(policyOf(tuned).tiles(), { ...own, few: tile });
      }
      assertEquals(Object.keys(await savedTuning()), ["another adapter", gpu.info.name]);
      await Deno.writeTextFile(tuningFile(), "{");
      await assertRejects(() => openTunedGpu(), TuningError, tuningFile());
    } finally {
      if (before === undefined) Deno.env.delete("BLUEROSE_TILES");
      else Deno.env.set("BLUEROSE_TILES", before);
      await Deno.remove(folder, { recursive: true });
    }
  },
);
