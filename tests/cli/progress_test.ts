import { assert, assertEquals } from "@std/assert";
import { progressLines, type ProgressState, progressText } from "../../cli/progress.ts";
import { runDeno } from "../run_deno.ts";

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
    const { success, out, err } = await runDeno(["run", "-A", "--quiet", "--config", config, path]);
    assert(success, err);
    return { out, err };
  } finally {
    await Deno.remove(path);
  }
}

Deno.test("showProgress() writes nothing for short work if standard error is not a terminal", async () => {
  assertEquals(await written(), { out: "", err: "" });
});

/** A clock that a test moves, and the lines that are written. */
function fakeHost() {
  const timers: { ms: number; at: number; body: () => void }[] = [], written: string[] = [];
  let time = 5000;
  return {
    written,
    timers,
    now: () => time,
    every(ms: number, body: () => void) {
      const timer = { ms, at: time + ms, body };
      timers.push(timer);
      return { [Symbol.dispose]: () => void timers.splice(timers.indexOf(timer), 1) };
    },
    write: (line: string) => void written.push(line),
    pass(ms: number) {
      for (const end = time + ms; time < end; time++) {
        for (const timer of timers) if (timer.at === time) timer.body(), timer.at += timer.ms;
      }
    },
  };
}

Deno.test("without a terminal, a long work writes a line every minute, also while nothing is finished, and one at its end", () => {
  const host = fakeHost();
  {
    using progress = progressLines("shard 2/8", { total: 200, unit: "picture", everyMs: 60_000 }, host);
    host.pass(59_000);
    progress.advance(4);
    assertEquals(host.written, [], "nothing within the first minute");
    host.pass(2000);
    host.pass(60_000);
    progress.advance(4);
    host.pass(30_000);
  }
  assertEquals(host.written, [
    "shard 2/8: 4/200, 15.0 s/picture, 1:00 elapsed, 49:00 left",
    "shard 2/8: 4/200, 30.0 s/picture, 2:00 elapsed, 1:38:00 left",
    "shard 2/8: 8/200, 18.9 s/picture, 2:31 elapsed, 1:00:24 left",
  ]);
  assertEquals(host.timers, [], "no timer keeps the process alive");
});

Deno.test("without a terminal, other works write a line with a unit that ends ten seconds after the last line", () => {
  const host = fakeHost();
  {
    using progress = progressLines("drawing", { total: 3 }, host);
    host.pass(9000);
    progress.advance();
    host.pass(60_000);
    assertEquals(host.written, [], "lines come with units");
    progress.advance();
    progress.remark("compiling");
    progress.remark("compiling");
    progress.advance();
  }
  assertEquals(host.written, [
    "drawing: 2/3, 34.5 s/it, 1:09 elapsed, 0:35 left",
    "drawing: compiling",
    "drawing: 3/3, 23.0 s/it, 1:09 elapsed",
  ]);
});

Deno.test("the parts of a work have rates of their own, and lines name them", () => {
  const host = fakeHost(), mebibyte = 2 ** 20;
  {
    using progress = progressLines("loading", { total: 1, unit: "bytes" }, host);
    progress.set(mebibyte, { total: 40 * mebibyte, note: "unet" });
    host.pass(20_000);
    progress.set(40 * mebibyte, { total: 40 * mebibyte, note: "unet" });
    progress.set(0, { total: 40 * mebibyte, note: "vae" });
    host.pass(10_000);
    progress.set(20 * mebibyte, { total: 40 * mebibyte, note: "vae" });
  }
  assertEquals(host.written, [
    "loading: unet 40.0 MiB/40.0 MiB, 2.0 MiB/s, 0:20 elapsed",
    "loading: vae 20.0 MiB/40.0 MiB, 2.0 MiB/s, 0:30 elapsed, 0:10 left",
  ]);
});

Deno.test("progressText() tells done of total, the rate, elapsed and remaining time", () => {
  const at = (done: number, elapsedMs: number, first?: ProgressState["first"]) =>
    progressText({ done, total: 20, elapsedMs, first }, "it");
  assertEquals(at(0, 500), "0/20");
  assertEquals(at(10, 5000), "10/20, 2.0 it/s, 0:05 elapsed, 0:05 left");
  assertEquals(at(1, 90_000), "1/20, 90.0 s/it, 1:30 elapsed, 28:30 left");
  assertEquals(at(20, 3_724_000), "20/20, 186.2 s/it, 1:02:04 elapsed");
  // 8 s of compiling before the first of 11 steps, then 10 steps in 5 s
  assertEquals(at(11, 13_000, { done: 1, elapsedMs: 8000 }), "11/20, 2.0 it/s, 0:13 elapsed, 0:05 left");
  // batches of 4: 2 s of compiling and 2 s of drawing, then 2 s a batch
  assertEquals(at(4, 4000, { done: 4, elapsedMs: 4000 }), "4/20, 1.0 it/s, 0:04 elapsed, 0:16 left");
  assertEquals(at(8, 6000, { done: 4, elapsedMs: 4000 }), "8/20, 2.0 it/s, 0:06 elapsed, 0:06 left");
  assertEquals(
    progressText({ done: 2 ** 20, total: 2 ** 22, elapsedMs: 1000 }, "bytes"),
    "1.0 MiB/4.0 MiB, 1.0 MiB/s, 0:01 elapsed, 0:03 left",
  );
});
