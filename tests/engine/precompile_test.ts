import { assert, assertEquals, assertRejects } from "@std/assert";
import { compileAhead } from "../../engine/precompile.ts";
import { GpuError, KernelError, ShapeError } from "../../engine/errors.ts";
import { Gpu } from "../../engine/gpu.ts";
import { declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";
import { clamp } from "../../kernels/shape/clamp.ts";
import { assertClose, gpuTest, randomArray } from "../gpu.ts";

const without = await (async () => {
  using gpu = await Gpu.request();
  return gpu.info.compilesLate ? undefined : "its driver compiles when pipelines are created";
})();

/** Each test opens its own device: a shared one may have compiled the kernels already. */
function lateTest(name: string, body: (gpu: Gpu) => Promise<void>): void {
  Deno.test({
    name: without ? `${name} [skipped: ${without}]` : name,
    ignore: without !== undefined,
    fn: async () => {
      using gpu = await Gpu.request();
      await body(gpu);
      await gpu.finished();
      assertEquals(gpu.memory.live, 0, "bytes left live on the device");
    },
  });
}

const network = (x: Tensor) => x.gpu.scope(() => clamp(matmul(x, x, { transposeB: true }), -1, 1));

lateTest("compileAhead() compiles all rehearsed kernels and computes nothing", async (gpu) => {
  const numbers = randomArray(40 * 24);
  using x = Tensor.from(gpu, numbers, [40, 24]);
  let rehearsed: Tensor | undefined;
  await compileAhead(gpu, () => void (rehearsed = network(x)));
  rehearsed![Symbol.dispose]();
  const compiled = gpu.context.pipelines.all.length;
  assert(compiled >= 2, `${compiled} kernels`);
  assertEquals(await x.data(), numbers);

  using drawn = network(x);
  const actual = await drawn.data();
  assertEquals(gpu.context.pipelines.all.length, compiled, "nothing is left to compile");
  using fresh = await Gpu.request();
  using other = Tensor.from(fresh, numbers, [40, 24]);
  using expected = network(other);
  assertClose(actual, await expected.data(), 0);
});

lateTest("compileAhead() throws what its body throws; the device still works", async (gpu) => {
  using x = Tensor.from(gpu, randomArray(40 * 24), [40, 24]);
  // [40, 40] · [24, 40]ᵀ
  const body = () => gpu.scope(() => void matmul(network(x), x, { transposeB: true }));
  await assertRejects(() => compileAhead(gpu, body), ShapeError, "Cannot multiply");
  using y = network(x);
  const rows = await y.data();
  assert(rows.every((value) => Math.abs(value) <= 1));
});

lateTest("compileAhead() throws when a kernel does not compile", async (gpu) => {
  const broken = declareKernel({
    name: "test_broken",
    bindings: { x: input(1), y: output(1) },
    params: {},
    wgsl: `@compute @workgroup_size(1) fn main() { y_put(0u, nobody(x_at(0u))); }`,
    grid: () => [1, 1, 1],
    cost: () => ({ flops: 0, bytes: 0 }),
  });
  using x = Tensor.from(gpu, new Float32Array(1), [1]);
  using y = Tensor.empty(gpu, [1]);
  await assertRejects(() => compileAhead(gpu, () => broken.run(gpu, { x, y }, {})), KernelError, "nobody");
});

lateTest("compileAhead() compiles on the devices that there are when helpers cannot be opened", async (gpu) => {
  // Kernels of this run alone, which no cache on disk has, and long enough to call helpers.
  const kernels = Array.from({ length: 3 }, (_, i) =>
    declareKernel({
      name: `test_long_${i}`,
      bindings: { x: input(1), y: output(1) },
      params: {},
      wgsl: `@compute @workgroup_size(1) fn main() { var v = x_at(0u); ${
        Array.from({ length: 4000 }, () => `v = fma(v, v, ${Math.random()});`).join(" ")
      } y_put(0u, v); }`,
      grid: () => [1, 1, 1],
      cost: () => ({ flops: 0, bytes: 0 }),
    }));
  using x = Tensor.from(gpu, new Float32Array(1), [1]);
  using y = Tensor.empty(gpu, [1]);
  const { request } = Gpu;
  let asked = 0;
  Gpu.request = () => {
    asked++;
    return Promise.reject(new GpuError("no more devices"));
  };
  try {
    await compileAhead(gpu, () => kernels.forEach((kernel) => kernel.run(gpu, { x, y }, {})));
  } finally {
    Gpu.request = request;
  }
  assert(asked > 0, "no helper was asked for");
  assertEquals(gpu.context.pipelines.all.length, kernels.length);
});

gpuTest("work recorded by others around a synchronous rehearsal is executed", async (gpu) => {
  using x = Tensor.from(gpu, new Float32Array([1, 2, 3, 4]), [2, 2]);
  let y: Tensor | undefined;
  queueMicrotask(() => y = clamp(x, -1, 1));
  await gpu.context.rehearse(() => network(x)[Symbol.dispose]());
  using expected = clamp(x, -1, 1);
  assertEquals(await y!.data(), await expected.data());
  y![Symbol.dispose]();
});

gpuTest("compileAhead() does nothing during a rehearsal", async (gpu) => {
  let ran = false;
  await gpu.context.rehearse(() => compileAhead(gpu, () => void (ran = true)));
  assertEquals(ran, false);
});
