import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { casesFor, kernelCases, prepareTask } from "../../../bench/cases/cases.ts";
import { measureKernel } from "../../../bench/measure/kernels.ts";
import { projectionWidths, syntheticRows } from "../../../bench/measure/edit.ts";
import { PeerPace, resultsAgree } from "../../../bench/peers/peers.ts";
import {
  operands,
  operandShapes,
  type PeerTask,
  squareTask,
  taskFlops,
  testValues,
} from "../../../bench/cases/task.ts";
import { waitingMs } from "../../../bench/measure/timing.ts";
import { gpuTest } from "../../gpu.ts";

const tasks: PeerTask[] = [
  { op: "matmul", m: 5, k: 8, n: 12, transposeB: true },
  { op: "matmul", m: 5, k: 8, n: 12, transposeB: false },
  { op: "conv2d", batch: 2, inChannels: 4, outChannels: 8, side: 8, kernel: 3, stride: 2 },
  { op: "attention", batch: 2, heads: 2, t: 16, s: 8, dim: 8 },
];

Deno.test("no two cases share kernel and shape, by which runs are compared", () => {
  const names = kernelCases.map(({ kernel, shape }) => `${kernel} ${shape}`);
  assertEquals(new Set(names).size, names.length);
});

Deno.test("casesFor() filters by name, and leaves out cases for GPUs on software devices and large cases with quick", () => {
  const all = casesFor({ isSoftware: true, quick: false });
  assert(all.length > 60 && !all.some(({ forGpus }) => forGpus));
  assert(casesFor({ isSoftware: false, quick: false }).some(({ forGpus }) => forGpus));
  const quick = casesFor({ isSoftware: true, quick: true });
  assert(quick.length < all.length && quick.every(({ task }) => !task || taskFlops(task) < 3e9));
  const filtered = casesFor({ filter: /^conv2d.*vae/, isSoftware: true, quick: false });
  assert(
    filtered.length > 0 &&
      filtered.every(({ kernel, shape }) => kernel.startsWith("conv2d") && shape.startsWith("vae")),
  );
});

Deno.test("testValues() lie in −1…1 and repeat from run to run", () => {
  const values = testValues(200_000, 3);
  assert(values.every((value) => value >= -1 && value <= 1 && value !== 0));
  assertEquals(testValues(200_000, 3), values);
});

Deno.test("operands fit their shapes", () => {
  for (const task of tasks) {
    assertEquals(
      operands(task).map(({ length }) => length),
      operandShapes(task).map((shape) => shape.reduce((a, b) => a * b)),
    );
  }
});

Deno.test("a peer is skipped where its best rate for the operation predicts a run of over a minute", () => {
  const pace = new PeerPace();
  const small = squareTask(512), large = squareTask(8192); // 4096 times the work
  assertEquals(pace.skipReason("slow", large), undefined);
  pace.note("slow", small, 20);
  assert(pace.skipReason("slow", large)!.includes("82 s"), pace.skipReason("slow", large));
  pace.note("slow", small, 10);
  assertEquals(pace.skipReason("slow", large), undefined);
  assertEquals(pace.skipReason("other", large), undefined);
});

Deno.test("resultsAgree() compares sizes and sums of squares in any order, and rejects NaN", () => {
  const values = Float32Array.of(1, 2, 3);
  assert(resultsAgree(values, Float32Array.of(3, 1, 2)));
  assert(!resultsAgree(values, Float32Array.of(3, 1, 2.1)));
  assert(!resultsAgree(values, Float32Array.of(3, 1, NaN)));
  assert(!resultsAgree(values, Float32Array.of(1, 2, 3, 0)));
});

Deno.test("the synthetic edit has CLIP's norms, one begin token for all sentences and equal words before the edited one", () => {
  const { source, destination } = syntheticRows();
  const row = (values: Float32Array, index: number) => values.subarray(index * 768, (index + 1) * 768);
  assertEquals([source.length, destination.length], [308 * 768, 308 * 768]);
  for (let i = 0; i < 308; i++) {
    assertAlmostEquals(Math.hypot(...row(source, i)), 28, 1e-3);
    assertAlmostEquals(Math.hypot(...row(destination, i)), 28, 1e-3);
    const token = i % 77;
    const isSame = row(source, i).every((value, j) => value === row(destination, i)[j]);
    assertEquals(isSame, token < 4, `token ${token}`);
    if (token === 0) assertEquals(row(source, i), row(source, 0));
  }
});

Deno.test("the edit's matrices are those of the 16 cross-attention layers of Stable Diffusion 1.4", () => {
  assertEquals(projectionWidths.length, 16);
  assertEquals([320, 640, 1280].map((width) => projectionWidths.filter((each) => each === width).length), [5, 5, 6]);
});

gpuTest("the kernels declare the costs of their definitions", (gpu) => {
  for (const task of tasks) {
    using prepared = prepareTask(gpu, task);
    const cost = gpu.tally(() => gpu.scope(() => void prepared.run()));
    assertEquals(cost.flops, taskFlops(task), task.op);
    assert(cost.bytes > 0);
  }
});

gpuTest("measureKernel() returns rates that match the time, and remarks on peers that fail or differ", async (gpu) => {
  const waitMs = await waitingMs(() => gpu.finished());
  const ceiling = { gflops: 100, gbps: 10, bufferGbps: 10, dispatchMs: 1e-6 };
  const result = Float32Array.of(1);
  const peer = (name: string, prepare: () => Float32Array) => ({
    name,
    prepare: () =>
      Promise.resolve().then(prepare).then((values) => ({
        result: () => Promise.resolve(values),
        sample: () => Promise.reject(new Error("lost")),
        [Symbol.dispose]() {},
      })),
    [Symbol.dispose]() {},
  });
  const kernelCase = kernelCases.find(({ shape }) => shape.startsWith("pocket 128×96×96"))!;
  using prepared = kernelCase.prepare(gpu);
  using ours = gpu.scope(() => prepared.run());
  const right = await ours.data();
  const { record, remarks } = await measureKernel(gpu, kernelCase, {
    budgetMs: 4,
    waitMs,
    ceiling,
    peers: [
      peer("absent", () => {
        throw new Error("no such operation\nat line 3");
      }),
      peer("wrong", () => result),
      peer("breaking", () => right),
    ],
  });
  assertEquals(remarks.filter((remark) => remark !== "bound by the host"), [
    "absent: no such operation",
    "wrong: computes a different result",
    "breaking: lost",
  ]);
  assertEquals(record.peers, undefined);
  assertAlmostEquals(record.gflops * record.ms, 2 * 128 * 96 * 96 / 1e6, 1e-9);
  assertAlmostEquals(record.dispatchShare! * record.ms, ceiling.dispatchMs, 1e-12); // one dispatch
});
