import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import type { Ceiling } from "../../../bench/measure/ceiling.ts";
import { parseGpuModel } from "../../../bench/report/gpu_model.ts";
import { benchPage } from "../../../bench/report/page.ts";
import { decades } from "../../../bench/report/roofline.ts";
import { type BenchReport, kernelRecord, netShare, summarizePeers } from "../../../bench/report/report.ts";
import { BenchRecordError, parseReport } from "../../../bench/report/schema.ts";
import { compareReports, comparisonText } from "../../../bench/report/comparison.ts";
import {
  ceilingText,
  digits,
  fullSizeText,
  kernelHead,
  kernelLine,
  netNote,
  stageLine,
  stepText,
} from "../../../bench/report/text.ts";
import { reportText } from "../../../bench/report/whole.ts";

const ceiling: Ceiling = { gflops: 100, gflopsF64: 50, gbps: 10, bufferGbps: 20 };

function report(kernels: BenchReport["kernels"], stages: BenchReport["stages"] = []): BenchReport {
  const device = {
    name: 'A "<fast>" device',
    deviceClass: "software",
    isFallbackAdapter: true,
    subgroupSize: 8,
    features: ["subgroups"],
    runtime: "Deno 2",
    system: "linux",
    date: "2025-01-01T00:00:00.000Z",
    ceiling,
  };
  return { device, kernels, stages };
}

const row = (shape: string, ms: number, peers?: Record<string, { ms: number }>) => ({
  ...kernelRecord({ kernel: "matmul", shape, ms, cost: { flops: 2e8, bytes: 1e6 } }, ceiling),
  ...(peers ? { peers } : {}),
});

Deno.test("a kernel's share is the larger of arithmetic and bandwidth share, relative to the ceiling of its element type", () => {
  // 50 GFLOPS, 0.5 GB/s
  const busy = { kernel: "k", shape: "s", ms: 2, cost: { flops: 1e8, bytes: 1e6 } };
  assertEquals(kernelRecord(busy, ceiling), { kernel: "k", shape: "s", ms: 2, gflops: 50, gbps: 0.5, share: 0.5 });
  assertEquals(kernelRecord({ ...busy, real: "f64" }, ceiling).share, 1);
  assertEquals(kernelRecord({ ...busy, real: "f64" }, { ...ceiling, gflopsF64: undefined }).share, 0.5);
  const moving = { ...busy, cost: { flops: 0, bytes: 16e6 } }; // 8 GB/s
  assertEquals(kernelRecord(moving, ceiling).share, 0.8);
});

/** A kernel of two dispatches that reaches half of the ceiling in `ms`, where one takes 0.02 ms. */
const short = (ms: number) =>
  kernelRecord({ kernel: "short", shape: `${ms}`, ms, cost: { flops: 5e7 * ms, bytes: 0, runs: 2 } }, {
    ...ceiling,
    dispatchMs: 0.02,
  });

Deno.test("the net share leaves the time of as many empty dispatches out, where these count and leave enough", () => {
  assertAlmostEquals(short(0.1).share, 0.5);
  assertAlmostEquals(short(0.1).dispatchShare!, 0.4);
  assertAlmostEquals(netShare(short(0.1))!, 0.5 / 0.6);
  assertEquals(netShare(short(1)), undefined); // 4 %
  assertEquals(netShare(short(0.045)), NaN); // 89 %
  assertEquals(netShare(short(0.02)), NaN); // an empty one took longer
  assertEquals(netShare(row("8³", 2)), undefined); // a record without the time of a dispatch
});

Deno.test("the table of kernels is 100 characters wide, and its last column is the net share", () => {
  assertEquals(kernelHead().length, 100);
  assert(kernelHead().endsWith("    net"));
  assert(kernelLine(short(0.1)).endsWith("  50.0 %  83.3 %"), kernelLine(short(0.1)));
  assert(kernelLine(short(1)).endsWith("  50.0 %"), kernelLine(short(1)));
  assert(kernelLine(short(0.02)).endsWith("  50.0 %       –"), kernelLine(short(0.02)));
  assertEquals(kernelLine(short(0.1)).length, 100);
});

Deno.test("texts and pages have the empty dispatch and the net share where the record has them", () => {
  const sentence = "n empty dispatch takes 20.0 µs, as long as 0.500 MFLOP at a quarter of the ceiling";
  assert(ceilingText({ ...ceiling, dispatchMs: 0.02 }).includes(sentence));
  const before = report([row("a", 1)]);
  const now = report([short(0.1), short(1)]);
  const measured = { ...now, device: { ...now.device, ceiling: { ...ceiling, dispatchMs: 0.02 } } };
  assertEquals(parseReport(JSON.stringify(measured), "a.json"), measured);
  for (const [whole, has] of [[measured, true], [before, false]] as const) {
    const page = benchPage(whole, { compared: { report: before, name: "before" } });
    assertEquals([page.includes(sentence), page.includes("<th>net</th>"), page.includes(netNote)], [has, has, has]);
    const text = reportText(whole);
    assertEquals([text.includes(sentence), text.includes(netNote)], [has, has]);
  }
  assert(/<td data-title="net">83\.3 %<\/td>/.test(benchPage(measured)));
});

Deno.test("texts and pages say that times are processor time", () => {
  const plain = report([row("a", 1)]);
  const byProcessor = {
    ...plain,
    device: { ...plain.device, system: "linux x86_64, 2 threads", times: "processor time" as const },
  };
  const said = "times: processor time of this process, divided by the machine's 2 threads";
  assertEquals(parseReport(JSON.stringify(byProcessor), "a.json"), byProcessor);
  assert(reportText(byProcessor).includes(said) && benchPage(byProcessor).includes(said));
  const onOne = { ...byProcessor, device: { ...byProcessor.device, system: "linux x86_64, 1 thread" } };
  assert(reportText(onOne).includes("divided by the machine's 1 thread,"));
  const replayed = { ...plain, device: { ...plain.device, runs: "replayed" as const } };
  for (const [whole, said] of [[plain, "recording included"], [replayed, "of replayed programs"]] as const) {
    const sentence = `times: by the clock, ${said}`;
    assert(reportText(whole).includes(sentence) && benchPage(whole).includes(sentence));
    assertEquals(parseReport(JSON.stringify(whole), "a.json"), whole);
  }
  const page = benchPage(byProcessor, { compared: { report: plain, name: "plain" } });
  assert(page.includes("<b>Times: by the clock, recording included.</b>"));
});

Deno.test("digits() keeps three digits and no more than four places", () => {
  assertEquals([0, 0.00001, 0.01234, 1.234, 12.34, 123.4, 1234.5, -1.234, NaN].map(digits), [
    "0",
    "0.0000",
    "0.0123",
    "1.23",
    "12.3",
    "123",
    "1235",
    "-1.23",
    "–",
  ]);
});

Deno.test("the JSON form holds device, kernels and stages, and parses to an equal report", () => {
  const whole = report([row("8³", 2, { other: { ms: 6 } })], [{ stage: "picture", ms: 3 }]);
  assertEquals(Object.keys(whole), ["device", "kernels", "stages"]);
  assertEquals(Object.keys(whole.kernels[0]), ["kernel", "shape", "ms", "gflops", "gbps", "share", "peers"]);
  assertEquals(parseReport(JSON.stringify(whole), "a.json"), whole);
});

Deno.test("parseReport() refuses what is no record, and names the place", () => {
  const whole = JSON.stringify(report([row("8³", 2)]));
  for (
    const [text, reason] of [
      ["null", "it must be an object, not null"],
      ["{", "it must be JSON"],
      ["{}", "device is missing"],
      [whole.replace('"ms":2', '"ms":"2"'), 'kernels[0].ms must be a number from 0, not "2"'],
      [whole.replace('"ms":2', '"ms":-1'), "kernels[0].ms must be a number from 0, not -1"],
      [whole.replace('"gbps":10', '"gbps":null'), "device.ceiling.gbps must be a number from 0, not null"],
      [whole.replace('"stages":[]', '"stages":[{"stage":"x"}]'), "stages[0].ms is missing"],
    ]
  ) {
    const error = assertThrows(() => parseReport(text, "a.json"), BenchRecordError);
    assert(error.message.startsWith('Cannot read "a.json" as a bench record as ' + reason), error.message);
    assertEquals(error.path, "a.json");
  }
});

Deno.test("parseReport() reads every record that bench/results/ keeps, without loss", async () => {
  const folder = new URL("../../../bench/results/", import.meta.url);
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) => /^llvmpipe.*\.json$/.test(name));
  assert(names.length > 0);
  for (const name of names) {
    const text = await Deno.readTextFile(new URL(name, folder));
    assertEquals(parseReport(text, name), JSON.parse(text), name);
  }
});

Deno.test("compareReports() matches by name, lists the largest change first and names entries of only one run", () => {
  const before = report([row("a", 10), row("b", 10), row("gone", 1)], [{ stage: "picture", ms: 100 }]);
  const after = report([row("a", 9), row("b", 40), row("new", 1)], [{ stage: "picture", ms: 50 }]);
  const comparison = compareReports(before, after);
  assertEquals(comparison.changes.map(({ name, ratio }) => [name, ratio]), [
    ["matmul b", 4],
    ["picture", 0.5],
    ["matmul a", 0.9],
  ]);
  assertEquals([comparison.added, comparison.missing], [["matmul new"], ["matmul gone"]]);
});

Deno.test("a comparison prints the ratio of every common entry and marks those more than 5 % slower", () => {
  const before = report([row("same", 10), row("fast", 10), row("slow", 10)], [{ stage: "picture", ms: 100 }]);
  const after = report([row("same", 10.3), row("fast", 5), row("slow", 30)], [{ stage: "picture", ms: 106 }]);
  const lines = comparisonText(compareReports(before, after), { beforeName: "old.json" }).split("\n");
  const line = (name: string) => lines.find((line) => line.startsWith(`  ${name} `));
  assert(lines[0].startsWith("Compared with old.json"), lines[0]);
  assert(line("matmul same")?.endsWith("ms  ×1.03"), line("matmul same"));
  assert(line("matmul fast")?.endsWith("ms  ×0.500"), line("matmul fast"));
  assert(line("matmul slow")?.endsWith("ms  ×3.00  slower"), line("matmul slow"));
  assert(line("picture")?.endsWith("ms  ×1.06  slower"), line("picture"));
});

Deno.test("a comparison ends with a summary line: entries, geometric mean, worst ratio, number slower", () => {
  const before = report([row("fast", 10), row("slow", 10)], [{ stage: "picture", ms: 100 }]);
  const after = report([row("fast", 5), row("slow", 20)], [{ stage: "picture", ms: 100 }]);
  const text = comparisonText(compareReports(before, after), { beforeName: "old.json" });
  assertEquals(
    text.split("\n").at(-1),
    "3 entries in common, geometric mean ×1.00, worst ×2.00 (matmul slow), 1 slower by more than 5.00 %",
  );
  const apart = comparisonText(compareReports(report([row("a", 1)]), report([row("b", 1)])), {
    beforeName: "old.json",
  });
  assertEquals(apart.split("\n").at(-1), "0 entries in common");
});

Deno.test("a comparison names the first entries that only one run has, and counts the rest", () => {
  const before = report(["a", "b", "c", "d", "e", "f", "g", "h"].map((shape) => row(shape, 1)));
  const text = comparisonText(compareReports(before, report([row("a", 1)])), { beforeName: "old.json" });
  const expected = "only in the old run: matmul b; matmul c; matmul d; matmul e; matmul f; matmul g and 1 more";
  assert(text.includes(expected), text);
});

Deno.test("fullSizeText() gives the ratio to PyTorch and the memory besides the weights", () => {
  const step = {
    pixels: 512,
    ms: 40_000,
    batches: 2,
    loadMs: 1,
    weightsBytes: 2 ** 31,
    peakBytes: 2 ** 31 + 2 ** 29,
    peakReservedBytes: 2 ** 31 + 2 ** 30,
    peers: { "PyTorch 2 CPU": { ms: 10_000, difference: 4e-6 } },
  };
  const text = fullSizeText(step);
  for (const part of ["512²", "40.0 s", "our time is 4.00 times", "4.0e-6", "2048 MiB", "512 MiB", "1024 MiB"]) {
    assert(text.includes(part), `${part}: ${text}`);
  }
  const page = benchPage({ ...report([]), fullSize: [step] });
  assert(page.includes("<p>No kernels were measured.</p>"));
  assertEquals(page.match(/<table|<ul|<svg|Roofline<|<tbody>\s*<\/tbody>/), null, "nothing that is empty is shown");
  assert(page.includes("our time is 4.00 times"));
});

Deno.test("a full-size step with f16 activations is a separate entry in texts and comparisons", () => {
  const step = { pixels: 512, ms: 40_000, batches: 2, loadMs: 1, weightsBytes: 0, peakBytes: 0, peakReservedBytes: 0 };
  const half = { ...step, ms: 44_000, activations: "f16" as const };
  assert(fullSizeText(half).startsWith("guided step of a full-size UNet, 512², activations in f16: 44.0 s"));
  const both = { ...report([]), fullSize: [step, half] };
  assertEquals(compareReports(both, both).changes.map(({ beforeMs }) => beforeMs).sort(), [40_000, 44_000]);
});

Deno.test("stageLine() gives the memory where it was measured", () => {
  assert(stageLine({ stage: "UNet step", ms: 70 }).endsWith("70.0 ms"));
  const line = stageLine({ stage: "UNet step", ms: 70, bytes: 2.5 * 2 ** 20 });
  assert(line.endsWith("70.0 ms, at most 2.50 MiB besides the weights"), line);
});

Deno.test("stepText() weights each time by its occurrences in a step", () => {
  const text = stepText([
    { ...row("a", 2000), perStep: 3 },
    { ...row("b", 500), kernel: "conv", perStep: 1 },
    row("c", 9),
  ]);
  assert(text.endsWith("6.50 s: matmul 6.00 s, conv 0.500 s"), text);
});

Deno.test("benchPage() shows the targets with their verdicts", () => {
  const target = { target: "speed <all>", demanded: "8 ×", measured: "9 ×", verdict: "met" } as const;
  const page = benchPage({ ...report([row("a", 1)]), targets: [target] });
  assert(page.includes("speed &lt;all&gt;") && page.includes(">met<"));
});

Deno.test("summarizePeers() returns the geometric mean and the shape where a peer is fastest", () => {
  const [peer] = summarizePeers([row("a", 1, { other: { ms: 8 } }), row("b", 1, { other: { ms: 2 } }), row("c", 1)]);
  assertEquals([peer.peer, peer.shapes, peer.worst.shape, peer.worst.ratio], ["other", 2, "b", 2]);
  assertAlmostEquals(peer.meanRatio, 4);
});

Deno.test("kernelLine() shows a peer's time as a multiple of ours, and remarks", () => {
  const line = kernelLine(row("8³", 2, { other: { ms: 6 } }), ["tfjs: failed"]);
  for (const part of ["matmul", "8³", "2.00", "100 %", "other 6.00 ms (×3.00)", "tfjs: failed"]) {
    assert(line.includes(part), line);
  }
});

Deno.test("decades() spans its range", () => {
  assertEquals(decades(0.2, 30), [0.1, 1, 10, 100]);
  assertEquals(decades(1, 10), [1, 10]);
});

Deno.test("benchPage() loads nothing, escapes its texts, and plots every kernel with arithmetic inside the frame", () => {
  const copy = { ...row("copy", 1), kernel: "copy", gflops: 0 };
  const page = benchPage(report([row("a", 1), row("b", 1000), copy], [{ stage: "picture", ms: 5 }]));
  assert(!/(src|href)=|https?:/.test(page), "it must not load anything");
  assert(page.includes("A &quot;&lt;fast&gt;&quot; device"));
  const circles = [...page.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"/g)].map(([, x, y]) => [Number(x), Number(y)]);
  assertEquals(circles.length, 2);
  for (const [x, y] of circles) assert(x >= 70 && x <= 940 && y >= 20 && y <= 470, `${x}, ${y}`);
  assert(!page.includes("NaN"));
  assert(benchPage(report([])).includes("No kernels were measured"));
});

Deno.test("benchPage() shows another run's times and ratios beside this one's, and what only one of them has", () => {
  const before = report([row("a", 10), row("gone", 1)], [{ stage: "picture", ms: 100 }]);
  const page = benchPage(report([row("a", 20), row("new", 1)], [{ stage: "picture", ms: 50 }]), {
    compared: { report: before, name: "old <1>" },
  });
  assert(page.includes("<th>ms in old &lt;1&gt;</th>"));
  const rows = [...page.matchAll(/<tr><td.*?<\/tr>/g)].map(([text]) => text.replace(/<[^>]+>/g, " "));
  const line = (name: string) => rows.find((text) => text.includes(` ${name} `));
  assert(/ 20\.0 .* 10\.0 .* ×2\.00/.test(line("a")!), line("a"));
  assert(/ 50\.0 .* 100 .* ×0\.500/.test(line("picture")!), line("picture"));
  assert(page.includes('<span class="slower">×2.00') && page.includes('<span class="faster">×0.500'));
  assert(page.includes("Only in this run: matmul new") && page.includes("Only in old &lt;1&gt;: matmul gone"));
});

Deno.test("benchPage() shows the GPU model's shares by case and GPU; parseGpuModel() refuses what is no such record", () => {
  const kernel = { case: "matmul <4096³>", kernel: "matmul", registers: 96, spilled: 0, waves: 4, bound: "valu" };
  const gpus = [
    { gpu: "navi21", kernels: [{ ...kernel, reach: 0.9 }] },
    { gpu: "vega20", kernels: [{ ...kernel, reach: 0.5, sustained: 0.25, spilled: 7 }] },
  ];
  const json = JSON.stringify({ compiler: "RADV 25", runtime: "Deno 2", gpus });
  const page = benchPage(report([row("a", 1)]), { model: parseGpuModel(json, "m.json") });
  const line = page.match(/<tr><td[^>]*>matmul &lt;4096³&gt;.*<\/tr>/)?.[0].replace(/<[^>]+>/g, " ");
  assert(/ matmul +90\.0 % .*50\.0 % .*96 VGPR, 25\.0 % sustained.*7 spilled/.test(line!), line);
  const error = assertThrows(() => parseGpuModel(json.replace("0.5", '"half"'), "m.json"), BenchRecordError);
  assert(error.message.includes('gpus[1].kernels[0].reach must be a number from 0, not "half"'), error.message);
});
