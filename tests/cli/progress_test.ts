import { assert, assertEquals } from "@std/assert";

/** Runs a program that shows progress in another process, and returns its output. */
async function written(): Promise<{ out: string; err: string }> {
  const program = `
    import { showProgress } from ${JSON.stringify(new URL("../../cli/progress.ts", import.meta.url).href)};
    using progress = showProgress("drawing", { total: 3 });
    for (let i = 0; i < 3; i++) progress.advance(1, "rose");
    progress.set(3, { note: "done" });
  `;
  const path = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(path, program);
    const config = `${import.meta.dirname}/../../deno.json`;
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", "--config", config, path],
    }).output();
    const err = new TextDecoder().decode(stderr);
    assert(success, err);
    return { out: new TextDecoder().decode(stdout), err };
  } finally {
    await Deno.remove(path);
  }
}

Deno.test("showProgress() writes nothing for short work if standard error is not a terminal", async () => {
  assertEquals(await written(), { out: "", err: "" });
});
