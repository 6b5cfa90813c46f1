import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { DeviceLostError, GpuError, KernelError, OutOfMemoryError } from "../../../engine/errors.ts";
import { Gpu } from "../../../engine/gpu.ts";
import { declareKernel, input, output } from "../../../engine/kernel/kernel.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { add, linearCombination } from "../../../kernels/shape/linear_combination.ts";
import { countSubmissions, gpuTest, randomArray } from "../../gpu.ts";

/** y = 3 x + term modulo 2^12: the result shows the order and the parameters of the dispatches. */
const step = declareKernel({
  name: "test_program_step",
  bindings: { x: input(1), y: output(1) },
  params: { term: "u32" },
  wgsl: `@compute @workgroup_size(1) fn main() { y_put(0u, f32((u32(x_at(0u)) * 3u + params.term) % 4096u)); }`,
  grid: () => [1, 1, 1],
  cost: () => ({ flops: 3, bytes: 8 }),
});

/** Applies `terms.length` steps to x, each into a new tensor. */
function steps(x: Tensor, terms: readonly number[]): Tensor {
  return x.gpu.scope(() =>
    terms.reduce((last, term) => {
      const next = Tensor.empty(x.gpu, [1]);
      step.run(x.gpu, { x: last, y: next }, { term });
      return next;
    }, x)
  );
}

const bytesOf = (...values: number[]) => new Uint8Array(new Float32Array(values).buffer);
const scaled = (x: Tensor, coefficient: number) => linearCombination([{ tensor: x, coefficient }]);

/**
 * Sums and differences with temporaries of several sizes, some of them long-lived.
 */
function network(x: Tensor): Tensor {
  return x.gpu.scope(() => {
    const skips = [2, 3, 4].map((factor) => scaled(x, factor));
    let y = x;
    for (const skip of skips.toReversed()) y = x.gpu.scope(() => add(scaled(add(y, skip), 0.5), y));
    return add(y, skips[0]);
  });
}

gpuTest(
  "a program computes bit for bit what recording does, on the current content of its inputs",
  async (gpu) => {
    using x = Tensor.from(gpu, new Float32Array(1000), [1000]);
    using program = gpu.capture(() => network(x));
    for (const seed of [1, 2, 3]) {
      x.write(new Uint8Array(randomArray(1000, seed).buffer));
      using recorded = network(x);
      program.run();
      assertEquals(await program.result.data(), await recorded.data());
    }
  },
);

gpuTest("capturing executes nothing; run() executes all commands in order with their parameters", async (gpu) => {
  const terms = Array.from({ length: 1300 }, (_, index) => index); // beyond two submissions
  using x = Tensor.from(gpu, new Float32Array([1]), [1]);
  await gpu.finished();
  const submissions = countSubmissions(gpu);
  using program = gpu.capture(() => steps(x, terms));
  gpu.flush();
  assertEquals([submissions(), program.dispatches], [0, 1300]);
  using recorded = steps(x, terms);
  program.run();
  assertEquals(await program.result.data(), await recorded.data());
});

gpuTest("a program keeps its order among other work, and may copy results to its inputs", async (gpu) => {
  using x = Tensor.from(gpu, new Float32Array([1]), [1]);
  using kept = Tensor.from(gpu, new Float32Array(3), [3]);
  using program = gpu.capture(() => {
    const y = steps(x, [1, 2]); // 9 x + 5
    gpu.context.recorder.copy({ source: y.buffer, sourceOffset: 0, target: x.buffer, targetOffset: 0, bytes: 4 });
    return y;
  });
  for (let run = 0; run < 3; run++) {
    program.run();
    gpu.context.recorder.copy({
      source: program.result.buffer,
      sourceOffset: 0,
      target: kept.buffer,
      targetOffset: 4 * run,
      bytes: 4,
    });
  }
  using after = steps(x, [7]);
  const expected = [14, 131, 1184];
  assertEquals([...await kept.data(), ...await after.data()], [...expected, (3 * 1184 + 7) % 4096]);
});

gpuTest(
  "a program keeps its buffers after trim() and after its tensors are disposed of",
  async (gpu) => {
    const x = Tensor.from(gpu, randomArray(1000), [1000], "f32");
    const weight = Tensor.empty(gpu, [1000], "f32", { exact: true });
    weight.write(new Uint8Array(randomArray(1000, 2).buffer));
    const body = () => network(gpu.scope(() => add(network(x), weight)));
    using recorded = gpu.scope(body);
    const expected = await recorded.data();
    using program = gpu.capture(body);
    x[Symbol.dispose]();
    weight[Symbol.dispose]();
    const { result } = program;
    using same = result.reshape([10, 100]); // another owner
    result[Symbol.dispose]();
    gpu.trim();
    const others = Array.from({ length: 40 }, () => Tensor.from(gpu, new Float32Array(1000).fill(7), [1000]));
    program.run();
    assertEquals(await same.data(), expected);
    for (const other of others) {
      assertEquals(await other.data(), new Float32Array(1000).fill(7));
      other[Symbol.dispose]();
    }
  },
);

gpuTest(
  "a program's temporaries are live while it lives, take no more than recording, and are freed with it",
  (gpu) => {
    using x = Tensor.from(gpu, randomArray(1000), [1000]);
    gpu.trim();
    const before = gpu.memory;
    gpu.resetPeak();
    network(x)[Symbol.dispose]();
    const recordedPeak = gpu.memory.peak - before.live;
    gpu.trim();
    gpu.resetPeak();
    const program = gpu.capture(() => network(x));
    const { live, peak, reserved } = gpu.memory;
    assertEquals(live - before.live, program.temporaryBytes + program.result.buffer.size);
    assertEquals([peak, reserved], [live, live - before.live + before.reserved]);
    assert(
      program.temporaryBytes > 0 && program.temporaryBytes <= recordedPeak,
      `${program.temporaryBytes} of ${recordedPeak}`,
    );
    program.run();
    assertEquals(gpu.memory.peak, peak);
    program[Symbol.dispose]();
    program[Symbol.dispose]();
    assertEquals(gpu.memory.live, before.live);
    gpu.trim();
    assertEquals(gpu.memory.reserved, before.reserved);
    assertThrows(() => program.run(), GpuError, "Cannot run a program after it was disposed");
  },
);

gpuTest("a program disposed of right after run() is still executed", async (gpu) => {
  using x = Tensor.from(gpu, new Float32Array([1]), [1]);
  using kept = Tensor.empty(gpu, [1]);
  {
    using program = gpu.capture(() => steps(x, [1, 2]));
    program.run();
    gpu.context.recorder.copy({
      source: program.result.buffer,
      sourceOffset: 0,
      target: kept.buffer,
      targetOffset: 0,
      bytes: 4,
    });
  }
  using other = Tensor.from(gpu, new Float32Array([5]), [1]);
  assertEquals([...await kept.data(), ...await other.data()], [14, 5]);
});

gpuTest("two programs may share an input; disposing of one does not affect the other", async (gpu) => {
  const x = Tensor.from(gpu, new Float32Array([1]), [1]);
  const first = gpu.capture(() => steps(x, [1]));
  using second = gpu.capture(() => steps(x, [2]));
  x[Symbol.dispose]();
  first[Symbol.dispose]();
  using other = Tensor.from(gpu, new Float32Array([100]), [1]);
  second.run();
  assertEquals([...await second.result.data(), ...await other.data()], [5, 100]);
});

gpuTest(
  "the program owns the tensors that its body returns; kept tensors belong to the caller",
  async (gpu) => {
    using x = Tensor.from(gpu, new Float32Array([1]), [1]);
    let kept: Tensor | undefined;
    {
      using program = gpu.scope(() =>
        gpu.capture(() => {
          kept = steps(x, [5]).keep();
          return { x, list: [steps(x, [1]), steps(x, [2]).reshape([1, 1])] };
        })
      );
      const { result } = program;
      program.run();
      assertEquals([result.x, result.list[1].shape], [x, [1, 1]]);
      assertEquals([...await result.list[0].data(), ...await result.list[1].data()], [4, 5]);
    }
    assertEquals([...await kept!.data(), ...await x.data()], [8, 1]);
    kept![Symbol.dispose]();
  },
);

gpuTest(
  "profile() and tally() see each dispatch of a program",
  async (gpu) => {
    using x = Tensor.from(gpu, new Float32Array([1]), [1]);
    const terms = Array.from({ length: 700 }, (_, index) => index);
    assertEquals(gpu.tally(() => gpu.capture(() => steps(x, terms))[Symbol.dispose]()).runs, 0);
    using program = gpu.capture(() => steps(x, terms));
    const cost = { runs: 1400, flops: 4200, bytes: 11200 };
    assertEquals(
      gpu.tally(() => {
        program.run();
        program.run();
      }),
      { ...cost, kernels: ["test_program_step"] },
    );
    if (!gpu.info.features.has("timestamp-query")) return;
    const rows = await gpu.profile(() => {
      program.run(); // several passes a submission, several submissions
      program.run();
    });
    assertEquals(rows.map(({ kernel, runs, flops, bytes }) => ({ kernel, runs, flops, bytes })), [{
      kernel: "test_program_step",
      ...cost,
    }]);
    using recorded = steps(x, terms);
    assertEquals(await program.result.data(), await recorded.data());
  },
);

gpuTest("a captured body must not write, read, wait, capture or run a program; its tensors are freed", async (gpu) => {
  using x = Tensor.from(gpu, new Float32Array([1]), [1]);
  using other = gpu.capture(() => steps(x, [1]));
  const refuse = (body: () => unknown, message: string) => {
    const { live } = gpu.memory;
    assertThrows(
      () =>
        gpu.capture(() => {
          steps(x, [1, 2, 3]);
          return body();
        }),
      GpuError,
      message,
    );
    assertEquals(gpu.memory.live, live);
  };
  refuse(() => Tensor.from(gpu, new Float32Array(1), [1]), "Cannot write a tensor while a program is captured");
  refuse(() => x.write(bytesOf(1)), "Cannot write a tensor while a program is captured");
  refuse(() => gpu.capture(() => x), "Cannot capture a program while a program is captured");
  refuse(() => other.run(), "Cannot run a program while another is captured");
  refuse(() => Promise.resolve(x), "the body must not be async");
  let reading: Promise<unknown> | undefined;
  using _ = gpu.capture(() => void (reading = x.data()));
  await assertRejects(() => reading!, GpuError, "Cannot read a tensor while a program is captured");
  using y = steps(x, [1]); // the device still works
  assertEquals([...await y.data()], [4]);
});

gpuTest("a tensor larger than the device's largest buffer throws inside the body", (gpu) => {
  const elements = Math.ceil(gpu.info.limits.maxBufferSize / 4) + 64;
  assertThrows(() => gpu.capture(() => Tensor.empty(gpu, [elements])), OutOfMemoryError, "this device's largest");
});

gpuTest("the next wait throws a program's kernel error, with the source", async (gpu) => {
  const broken = declareKernel({
    name: "test_broken_program",
    bindings: { y: output(1) },
    params: {},
    wgsl: "@compute @workgroup_size(1) fn main() { nonsense }",
    grid: () => [1, 1, 1],
    cost: () => ({ flops: 0, bytes: 0 }),
  });
  using y = Tensor.empty(gpu, [1]);
  using program = gpu.capture(() => broken.run(gpu, { y }, {}));
  program.run();
  const error = await assertRejects(() => gpu.finished(), KernelError, "test_broken_program");
  assert(error.source.includes("nonsense"));
  await gpu.finished();
});

Deno.test({
  name: "run() throws on a lost or disposed device; the program can still be disposed of",
  sanitizeResources: false, // of the drivers
  sanitizeOps: false,
  fn: async () => {
    for (const lose of [(gpu: Gpu) => gpu.context.device.destroy(), (gpu: Gpu) => gpu[Symbol.dispose]()]) {
      using gpu = await Gpu.request();
      const x = Tensor.from(gpu, new Float32Array([1, 2]), [2]);
      const program = gpu.capture(() => add(x, x));
      program.run();
      lose(gpu);
      await gpu.context.device.lost;
      assertThrows(() => program.run(), DeviceLostError);
      assertThrows(() => gpu.capture(() => add(x, x)), DeviceLostError);
      program[Symbol.dispose]();
      x[Symbol.dispose]();
      assertEquals(gpu.memory.live, 0);
    }
  },
});

gpuTest("rehearse() notes a program's dispatches and executes none", async (gpu) => {
  using x = Tensor.from(gpu, new Float32Array([1]), [1]);
  using y = Tensor.from(gpu, new Float32Array([6]), [1]);
  const body = () => step.run(gpu, { x, y }, { term: 9 });
  const runs = await gpu.context.rehearse(() => {
    using program = gpu.capture(body);
    program.run();
    program.run();
  });
  const [recorded] = await gpu.context.rehearse(body);
  assertEquals(runs, [recorded, recorded]);
  assertEquals([...await y.data()], [6]);
});

gpuTest("a program keeps the inputs whose tensors its own body disposes of", async (gpu) => {
  for (const exact of [false, true]) {
    const x = Tensor.empty(gpu, [1000], "f32", { exact });
    x.write(new Uint8Array(randomArray(1000).buffer));
    using expected = scaled(x, 6);
    using program = gpu.capture(() => {
      using doubled = scaled(x, 2);
      x[Symbol.dispose]();
      return scaled(doubled, 3);
    });
    program.run();
    assertEquals(await program.result.data(), await expected.data());
  }
});

gpuTest("a capture that fails leaves its inputs to the pool", (gpu) => {
  const x = Tensor.from(gpu, randomArray(1000), [1000]);
  const before = gpu.memory.live;
  assertThrows(
    () =>
      gpu.capture(() => {
        scaled(x, 2);
        x[Symbol.dispose]();
        throw new RangeError("on purpose");
      }),
    RangeError,
    "on purpose",
  );
  assertEquals(before - gpu.memory.live, 4096);
});
