import { assertEquals, assertStringIncludes } from "@std/assert";
import { run, temporaryFolder } from "./running.ts";

const folder = new URL("../../bench/results/", import.meta.url).pathname;
const before = `${folder}llvmpipe-2026-11-25.json`;

Deno.test("bench --processor-time refuses what it cannot time, before anything is measured", async () => {
  for (
    const [args, reason] of [
      [["--peers"], "Cannot use --processor-time with --peers"],
      [["--tune"], "Cannot use --processor-time with --tune: the result is the tuning file"],
      [["--only", "edit"], "Cannot measure other parts than kernels with --processor-time"],
    ] as const
  ) {
    const { code, err } = await run("bench", "--processor-time", ...args);
    assertEquals(code, 2);
    assertStringIncludes(err, reason);
  }
});

Deno.test("records with and without the fixed cost of a dispatch, and of two clocks, are compared", async () => {
  await using temporary = await temporaryFolder();
  const path = `${temporary.path}/after.json`;
  const record = JSON.parse(await Deno.readTextFile(before));
  record.device.ceiling.dispatchMs = 0.05;
  record.device.times = "processor time";
  record.kernels[0].dispatchShare = 0.5;
  await Deno.writeTextFile(path, JSON.stringify(record));
  const { code, out } = await run("bench", "--from", path, "--compare", before);
  assertEquals(code, 0);
  assertStringIncludes(out, "an empty dispatch takes 50.0 µs");
  assertStringIncludes(out, "times: processor time of this process");
  assertStringIncludes(out, `${before} was measured by another clock (times: by the clock, recording included)`);
  const other = await run("bench", "--from", before, "--compare", path);
  assertStringIncludes(other.out, `${path} was measured by another clock (times: processor time`);
  assertStringIncludes(other.out, "geometric mean ×1.00");
});

Deno.test("bench refuses flags that would change nothing, and inputs that are not there, before it measures", async () => {
  await using temporary = await temporaryFolder();
  const missing = `${temporary.path}/missing`;
  for (
    const [args, code, reason] of [
      [["--only", "stages", "--filter", "matmul"], 2, "Cannot use --filter with --only stages: it applies to kernels"],
      [["--filter", "matmul", "--steps", "3"], 2, "Cannot use --steps with --only kernels"],
      [["--only", "edit", "--pixels", "64"], 2, "Cannot use --pixels with --only edit: it applies to full-size"],
      [["--shapes", "sdxl", "--checkpoint", missing], 2, "Cannot use --shapes with --checkpoint"],
      [["--only", ""], 2, 'Cannot use --only "" as it must be one of stages'],
      [["--only", "stages,edit"], 2, "browser; several parts need one --only each"],
      [["--only", "stages", "--model", missing], 1, "as there is no such file or folder"],
      [["--only", "stages", "--model", ""], 1, 'Cannot read --model "" as there is no such file or folder'],
      [["--only", "full-size", "--checkpoint", temporary.path], 1, "it holds no model_index.json"],
      [["--only", "edit", "--python", missing], 1, `Cannot run --python "${missing}" as there is no such file`],
      [["--only", "edit", "--python", "false"], 1, "it ended with code 1 when asked to do nothing"],
    ] as const
  ) {
    const ran = await run("bench", ...args);
    assertEquals([ran.code, ran.out], [code, ""]);
    assertStringIncludes(ran.err, reason);
  }
});

Deno.test("bench --from writes a page of odd records, takes --quiet, and refuses a page on standard output", async () => {
  await using temporary = await temporaryFolder();
  const path = `${temporary.path}/odd.json`, html = `${temporary.path}/odd.html`;
  const record = JSON.parse(await Deno.readTextFile(before));
  const ceilings = [0, 5e-324, 1e308, record.device.ceiling.gflops];
  for (const gflops of ceilings) {
    record.device.ceiling.gflops = gflops;
    record.kernels[0] = { ...record.kernels[0], gflops: 5e-324, gbps: 5e-324, ms: 5e-324 };
    await Deno.writeTextFile(path, JSON.stringify(record));
    assertEquals(await run("bench", "--from", path, "--html", html, "--overwrite", "--quiet"), {
      code: 0,
      out: "",
      err: "",
    });
    const page = await Deno.readTextFile(html);
    assertEquals(page.includes("<svg"), gflops === ceilings.at(-1));
    assertEquals(page.match(/NaN|Infinity|undefined/), null);
  }
  const { code, err } = await run("bench", "--from", before, "--html", "-");
  assertEquals(code, 2);
  assertStringIncludes(err, "Cannot write --html to standard output, which - stands for");
});
