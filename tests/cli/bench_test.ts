import { assertEquals, assertStringIncludes } from "@std/assert";
import { run, temporaryFolder } from "./running.ts";

const folder = new URL("../../bench/results/", import.meta.url).pathname;
const before = `${folder}llvmpipe-2026-11-25.json`;

Deno.test("bench --processor-time refuses what it cannot time, before anything is measured", async () => {
  for (
    const [args, reason] of [
      [["--peers"], "Cannot use --processor-time with --peers"],
      [["--tune"], "Cannot use --processor-time with --tune"],
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
  assertStringIncludes(out, `${before} was measured by another clock (times: by the clock)`);
  const other = await run("bench", "--from", before, "--compare", path);
  assertStringIncludes(other.out, `${path} was measured by another clock (times: processor time`);
  assertStringIncludes(other.out, "geometric mean ×1.00");
});
