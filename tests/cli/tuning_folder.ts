/** Runs `body` with the tuning file in a new folder. */
export async function withTuningFolder(body: () => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  const before = Deno.env.get("BLUEROSE_TILES");
  Deno.env.set("BLUEROSE_TILES", `${folder}/cache/tiles.json`);
  try {
    await body();
  } finally {
    if (before === undefined) Deno.env.delete("BLUEROSE_TILES");
    else Deno.env.set("BLUEROSE_TILES", before);
    await Deno.remove(folder, { recursive: true });
  }
}
