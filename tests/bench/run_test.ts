import { assertEquals, assertThrows } from "@std/assert";
import type { BenchReport } from "../../bench/report/report.ts";
import { checkCases, runBench } from "../../bench/run.ts";
import { Gpu } from "../../engine/gpu.ts";
import { gpuTest } from "../gpu.ts";

gpuTest("what a run has measured is given after each kernel, by processor time where that is asked for", async () => {
  const kept: BenchReport[] = [], printed: string[] = [];
  const report = await runBench({
    parts: new Set(["kernels"]),
    openGpu: () => Gpu.request(),
    model: { folder: "", name: "" },
    steps: 1,
    filter: /^(layer_norm|geglu) pocket/,
    quick: true,
    byProcessorTime: true,
    peers: false,
    shapes: "sd14",
    print: (text) => printed.push(text),
    onMeasured: (report) => Promise.resolve(void kept.push(report)),
  });
  assertEquals(kept.map(({ kernels }) => kernels.map(({ kernel }) => kernel)), [
    ["layer_norm"],
    ["layer_norm", "geglu"],
  ]);
  assertEquals({ ...report, targets: undefined }, { ...kept[1], targets: undefined });
  assertEquals(report.device.times, "processor time");
  assertEquals(printed.filter((text) => /^(layer_norm|geglu) /.test(text)).length, 2);
});

Deno.test("a run fails where a quick run or the device leaves out all cases that a filter matches", () => {
  using gpu = Gpu.null();
  using software = Gpu.null({ ...gpu.info, deviceClass: "software" });
  const filter = /square 4096/;
  checkCases(gpu, { filter, quick: false });
  assertThrows(() => checkCases(software, { filter, quick: false }), RangeError, "software devices take too long for");
  const large = /vae 256² 256→256/;
  checkCases(software, { filter: large, quick: false });
  assertThrows(() => checkCases(software, { filter: large, quick: true }), RangeError, "omit quick, or choose others");
});
