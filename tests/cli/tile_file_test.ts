import { assertEquals, assertRejects } from "@std/assert";
import { saveTiles, tileFile, useSavedTiles } from "../../cli/tile_file.ts";
import { tilesOf, TileTableError } from "../../kernels/policy.ts";
import { gpuTest } from "../gpu.ts";

gpuTest(
  "saved tiles are used on their adapter, beside those of others, and a broken file is refused by name",
  async (gpu) => {
    const folder = await Deno.makeTempDir();
    const before = Deno.env.get("BLUEROSE_TILES");
    Deno.env.set("BLUEROSE_TILES", `${folder}/cache/tiles.json`);
    try {
      const own = tilesOf(gpu);
      await useSavedTiles(gpu); // no file: nothing changes
      assertEquals(tilesOf(gpu), own);
      const tile = { strategy: "workgroup" as const, lanes: 64, threadsX: 8, rows: 2, columns: 1 };
      await saveTiles("another adapter", { many: tile });
      await saveTiles(gpu.info.name, { few: tile });
      await useSavedTiles(gpu);
      assertEquals(tilesOf(gpu), { ...own, few: tile });
      assertEquals(Object.keys(JSON.parse(await Deno.readTextFile(tileFile()))), ["another adapter", gpu.info.name]);
      await Deno.writeTextFile(tileFile(), "{");
      await assertRejects(() => useSavedTiles(gpu), TileTableError, tileFile());
    } finally {
      if (before === undefined) Deno.env.delete("BLUEROSE_TILES");
      else Deno.env.set("BLUEROSE_TILES", before);
      await Deno.remove(folder, { recursive: true });
    }
  },
);
