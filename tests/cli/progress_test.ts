import { assert, assertEquals } from "@std/assert";
import { progressText } from "../../cli/progress.ts";

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

Deno.test("progressText() tells done of total, the rate, elapsed and remaining time", () => {
  const at = (done: number, elapsedMs: number, steadyMs?: number) =>
    progressText({ done, total: 20, elapsedMs, steadyMs }, "it");
  assertEquals(at(0, 500), "0/20");
  assertEquals(at(10, 5000), "10/20, 2.0 it/s, 0:05 elapsed, 0:05 left");
  assertEquals(at(1, 90_000), "1/20, 90.0 s/it, 1:30 elapsed, 28:30 left");
  assertEquals(at(20, 3_724_000), "20/20, 186.2 s/it, 1:02:04 elapsed");
  // 8 s of compiling before the first of 11 steps, then 10 steps in 5 s
  assertEquals(at(11, 13_000, 5000), "11/20, 2.0 it/s, 0:13 elapsed, 0:05 left");
  assertEquals(
    progressText({ done: 2 ** 20, total: 2 ** 22, elapsedMs: 1000 }, "bytes"),
    "1.0 MiB/4.0 MiB, 1.0 MiB/s, 0:01 elapsed, 0:03 left",
  );
});
