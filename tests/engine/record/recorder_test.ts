import { assert, assertEquals, assertRejects } from "@std/assert";
import { GpuError, KernelError } from "../../../engine/errors.ts";
import { declareKernel, input, output } from "../../../engine/kernel/kernel.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { countSubmissions, gpuTest } from "../../gpu.ts";

/** y = 3 x + term modulo 2^12: the result shows the order and the parameters of the dispatches. */
const step = declareKernel({
  name: "test_step",
  bindings: { x: input(1), y: output(1) },
  params: { term: "u32" },
  wgsl: `@compute @workgroup_size(1) fn main() { y_put(0u, f32((u32(x_at(0u)) * 3u + params.term) % 4096u)); }`,
  grid: () => [1, 1, 1],
  cost: () => ({ flops: 3, bytes: 8 }),
});

gpuTest("dispatches keep their order and parameters across submissions", async (gpu) => {
  for (const runs of [1, 511, 512, 513, 1300]) {
    using a = Tensor.from(gpu, new Float32Array([1]), [1]);
    using b = Tensor.empty(gpu, [1]);
    let expected = 1;
    for (let run = 0; run < runs; run++) {
      step.run(gpu, run % 2 === 0 ? { x: a, y: b } : { x: b, y: a }, { term: run });
      expected = (expected * 3 + run) % 4096;
    }
    assertEquals([...await (runs % 2 === 0 ? a : b).data()], [expected], `${runs} runs`);
  }
});

gpuTest("copies keep their order among dispatches", async (gpu) => {
  using a = Tensor.from(gpu, new Float32Array([1]), [1]);
  using b = Tensor.empty(gpu, [1]);
  using kept = Tensor.empty(gpu, [1]);
  step.run(gpu, { x: a, y: b }, { term: 1 }); // b = 4
  gpu.context.recorder.copy({ source: b.buffer, sourceOffset: 0, target: kept.buffer, targetOffset: 0, bytes: 4 });
  step.run(gpu, { x: a, y: b }, { term: 2 }); // b = 5
  gpu.context.recorder.copy({ source: b.buffer, sourceOffset: 0, target: a.buffer, targetOffset: 0, bytes: 4 });
  step.run(gpu, { x: a, y: b }, { term: 0 }); // b = 15
  assertEquals([...await kept.data(), ...await a.data(), ...await b.data()], [4, 5, 15]);
});

gpuTest("nothing is submitted before a flush, a read or a wait", async (gpu) => {
  await gpu.finished();
  using a = Tensor.from(gpu, new Float32Array([1]), [1]);
  using b = Tensor.empty(gpu, [1]);
  const submissions = countSubmissions(gpu);
  step.run(gpu, { x: a, y: b }, { term: 1 });
  assertEquals(submissions(), 0);
  gpu.flush();
  gpu.flush();
  assertEquals(submissions(), 1);
  step.run(gpu, { x: a, y: b }, { term: 1 });
  await b.data();
  assertEquals(submissions(), 2);
  step.run(gpu, { x: a, y: b }, { term: 1 });
  await gpu.finished();
  assertEquals(submissions(), 3);
});

gpuTest("profile() returns a row per kernel with runs, time and cost, and then stops", async (gpu) => {
  const other = declareKernel({
    name: "test_other",
    bindings: { y: output(1) },
    params: {},
    wgsl: `@compute @workgroup_size(1) fn main() { y_put(0u, 1.0); }`,
    grid: () => [1, 1, 1],
    cost: () => ({ flops: 1, bytes: 4 }),
  });
  using a = Tensor.from(gpu, new Float32Array([1]), [1]);
  using b = Tensor.empty(gpu, [1]);
  const rows = await gpu.profile(async () => {
    // several submissions
    for (let run = 0; run < 1100; run++) step.run(gpu, { x: a, y: b }, { term: 1 });
    await b.data();
    other.run(gpu, { y: a }, {});
  });
  assertEquals(rows.map(({ kernel }) => kernel).sort(), ["test_other", "test_step"]);
  assert(rows[0].ms >= rows[1].ms, "costliest first");
  const row = rows.find(({ kernel }) => kernel === "test_step")!;
  assertEquals([row.runs, row.flops, row.bytes], [1100, 3300, 8800]);
  assert(rows.every(({ ms }) => ms >= 0 && Number.isFinite(ms)));
  assertEquals([...await a.data(), ...await b.data()], [1, 4]);
  assertEquals([gpu.context.recorder.needsCost, await gpu.profile(() => {})], [false, []]);
});

gpuTest("profile() ends when its body throws or a kernel fails, and can start again", async (gpu) => {
  await assertRejects(
    () =>
      gpu.profile(() => {
        throw new TypeError("on purpose");
      }),
    TypeError,
    "on purpose",
  );
  const broken = declareKernel({
    name: "test_broken_profile",
    bindings: { y: output(1) },
    params: {},
    wgsl: "@compute @workgroup_size(1) fn main() { nonsense }",
    grid: () => [1, 1, 1],
    cost: () => ({ flops: 0, bytes: 0 }),
  });
  using a = Tensor.from(gpu, new Float32Array([1]), [1]);
  using b = Tensor.empty(gpu, [1]);
  await assertRejects(() => gpu.profile(() => broken.run(gpu, { y: a }, {})), KernelError, "test_broken_profile");
  const rows = await gpu.profile(() => step.run(gpu, { x: a, y: b }, { term: 1 }));
  assertEquals(rows.map(({ kernel, runs }) => [kernel, runs]), [["test_step", 1]]);
});

gpuTest("profile() throws on a device without timestamps", async (gpu) => {
  await assertRejects(() => gpu.profile(() => {}), GpuError, 'no feature "timestamp-query"');
}, { withoutFeatures: ["timestamp-query"] });

gpuTest("rehearse() notes dispatches with parameters and bindings, executes none, and then stops", async (gpu) => {
  using a = Tensor.from(gpu, new Float32Array([1]), [1]);
  using b = Tensor.from(gpu, new Float32Array([7]), [1]);
  const runs = await gpu.context.rehearse(async () => {
    step.run(gpu, { x: a, y: b }, { term: 5 });
    gpu.context.recorder.copy({ source: a.buffer, sourceOffset: 0, target: b.buffer, targetOffset: 0, bytes: 4 });
    await gpu.finished();
    step.run(gpu, { x: b, y: a }, { term: 6 });
  });
  assertEquals([...await a.data(), ...await b.data()], [1, 7]);
  assertEquals(runs.map(({ kernel }) => kernel.name), ["test_step", "test_step"]);
  assertEquals(runs.map(({ params }) => new DataView(params.buffer).getUint32(0, true)), [5, 6]);
  assertEquals(runs[0].bindingBytes.length, 2);
  assert(gpu.context.pipelines.all.includes(runs[0].kernel) && runs[0].kernel === runs[1].kernel);
  await assertRejects(() => gpu.context.rehearse(() => Promise.reject(new GpuError("halt"))), GpuError, "halt");
  step.run(gpu, { x: a, y: b }, { term: 5 });
  assertEquals([...await b.data()], [8]);
});
