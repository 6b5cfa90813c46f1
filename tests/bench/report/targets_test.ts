import { assert, assertEquals } from "@std/assert";
import { kernelCases } from "../../../bench/cases/cases.ts";
import type { BenchReport, KernelRecord, TargetRecord } from "../../../bench/report/report.ts";
import { judgeTargets, targetsText } from "../../../bench/report/targets.ts";
import { type PeerTask, squareTask } from "../../../bench/cases/task.ts";
import { guidedTasks, mostCommonCount } from "../../../bench/cases/unet_shapes.ts";

function report(parts: Partial<Omit<BenchReport, "device">>, deviceClass = "software"): BenchReport {
  const device = {
    name: "device",
    deviceClass,
    isFallbackAdapter: true,
    subgroupSize: 8,
    features: [],
    runtime: "Deno 2",
    system: "linux",
    date: "2025-01-01T00:00:00.000Z",
    ceiling: { gflops: 100, gbps: 10, bufferGbps: 20 },
  };
  return { device, kernels: [], stages: [], ...parts };
}

/** A record of 10 ms, with peers whose times are multiples of it. */
function record(task: PeerTask, ratios: Record<string, number> = {}, more: Partial<KernelRecord> = {}): KernelRecord {
  const { kernel, shape } = kernelCases.find((each) => JSON.stringify(each.task) === JSON.stringify(task))!;
  const peers = Object.fromEntries(Object.entries(ratios).map(([name, ratio]) => [name, { ms: 10 * ratio }]));
  return { kernel, shape, ms: 10, gflops: 10, gbps: 1, share: 0.1, task, peers, ...more };
}

function find(records: readonly TargetRecord[], beginning: string): TargetRecord {
  return records.find(({ target }) => target.startsWith(beginning))!;
}

function verdictOf(parts: Partial<Omit<BenchReport, "device">>, beginning: string, deviceClass = "software"): string {
  return find(judgeTargets(report(parts, deviceClass)), beginning).verdict;
}

Deno.test("a run without records measures no target", () => {
  const records = judgeTargets(report({}));
  assert(records.length > 10 && records.every(({ verdict }) => verdict === "not measured"));
  assertEquals(targetsText(records), `${records.length} of ${records.length} are not in this run`);
});

Deno.test("the fastest WebGPU peer decides; PyTorch is not one", () => {
  const judged = (ratios: Record<string, number>) =>
    verdictOf({ kernels: [record(squareTask(512), ratios)] }, "matmul 512³");
  assertEquals(judged({ "tfjs 4": 9, "jax-js 0": 6 }), "met");
  assertEquals(judged({ "tfjs 4": 9, "jax-js 0": 5.9 }), "missed");
  assertEquals(judged({ "tfjs 4": 9, "jax-js 0": 7, "PyTorch 2 CPU": 0.2 }), "met");
  assertEquals(judged({ "PyTorch 2 CPU": 0.2 }), "not measured");
});

Deno.test("one slow shape misses the target, but all most common shapes are needed to meet it", () => {
  const tasks = guidedTasks.slice(0, mostCommonCount).map(({ task }) => task);
  const judged = (kernels: KernelRecord[]) => find(judgeTargets(report({ kernels })), "the 30 most common shapes");
  const fast = tasks.map((task) => record(task, { "tfjs 4": 3 }));
  assertEquals(judged(fast).verdict, "met");
  assertEquals(judged(fast.slice(1)).verdict, "not measured");
  assert(judged(fast.slice(1)).measured.endsWith("1 of 30 are missing"));
  const beyond = record(tasks[0], { "PyTorch 2 CPU": 0.5 }, { unable: { "tfjs 4": "too large", "jax-js 0": "wrong" } });
  assertEquals(judged(fast.with(0, beyond)).verdict, "met");
  assert(judged(fast.with(0, beyond)).measured.endsWith("of 29; 1 more are supported by none of them"));
  const slow = record(tasks[4], { "tfjs 4": 3, "jax-js 0": 0.9 });
  assertEquals(judged([slow]).verdict, "missed");
  assert(judged([...fast, slow]).measured.startsWith(`0.900 × jax-js 0 at ${slow.kernel} ${slow.shape}`));
});

Deno.test("the worst convolution of UNet and VAE decides", () => {
  const wanted = kernelCases.filter(({ kernel, shape, peersOnRequest }) =>
    kernel === "conv2d 3×3" && /^(unet|vae)/.test(shape) && !peersOnRequest
  );
  assert(wanted.some(({ shape }) => shape.startsWith("vae")) && wanted.length > 8);
  const kernels = wanted.map(({ task }) => record(task!, { "tfjs 4": 8, "jax-js 0": 1 }));
  assertEquals(verdictOf({ kernels }, "conv 3×3"), "met");
  const worse = record(wanted[3].task!, { "tfjs 4": 7.9 });
  assertEquals(verdictOf({ kernels: kernels.with(3, worse) }, "conv 3×3"), "missed");
});

Deno.test("times, ratios to PyTorch and memory are compared with their limits", () => {
  const step = (ms: number, peakReservedBytes: number) => ({
    fullSize: [{
      pixels: 512,
      ms,
      batches: 2,
      loadMs: 1,
      weightsBytes: 2e9,
      peakBytes: 2.1e9,
      peakReservedBytes,
      peers: { "PyTorch 2 CPU": { ms: 10, difference: 0 } },
    }],
  });
  assertEquals(verdictOf(step(50, 3.5e9), "guided step"), "met");
  assertEquals(verdictOf(step(51, 3.5e9), "guided step"), "missed");
  assertEquals(verdictOf(step(50, 3.5e9), "memory"), "met");
  assertEquals(verdictOf(step(50, 3.6e9), "memory"), "missed");
  const half = { ...step(51, 3.6e9).fullSize[0], activations: "f16" as const };
  // of f32 activations
  assertEquals(verdictOf({ fullSize: [half, ...step(50, 3.5e9).fullSize] }, "guided step"), "met");
  const compilation = (createMs: number) => ({
    compilation: { device: "d", model: "m", pipelines: 1, createMs, firstRunMs: 1000, variants: [] },
  });
  assertEquals(verdictOf(compilation(4000), "compiling"), "met");
  assertEquals(verdictOf(compilation(4001), "compiling"), "missed");
  assertEquals(verdictOf({ stages: [{ stage: "picture, 20 steps, guided", ms: 2001 }] }, "picture"), "missed");
  assertEquals(verdictOf({ stages: [{ stage: "picture, 4 steps, guided", ms: 1 }] }, "picture"), "not measured");
});

Deno.test("GPUs have other targets: shares of the measured peak", () => {
  const kernels = [record(squareTask(4096), {}, { gflops: 50 })];
  assertEquals(verdictOf({ kernels }, "matmul 4096³", "nvidia"), "met");
  assertEquals(verdictOf({ kernels: [record(squareTask(4096), {}, { gflops: 49 })] }, "matmul 4096³", "amd"), "missed");
  assertEquals(
    judgeTargets(report({ kernels }, "nvidia")).some(({ target }) => target.startsWith("matmul 512")),
    false,
  );
  assertEquals(judgeTargets(report({ kernels })).some(({ target }) => target.startsWith("matmul 4096")), false);
});
