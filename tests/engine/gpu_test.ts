import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { DeviceLostError, GpuError, NoAdapterError } from "../../engine/errors.ts";
import { Gpu } from "../../engine/gpu.ts";
import { subgroupMatrixOf } from "../../engine/open_device.ts";
import { Tensor } from "../../engine/tensor.ts";
import { add } from "../../kernels/shape/linear_combination.ts";
import { gpuTest, lackOfSubgroupMatrices } from "../gpu.ts";

/** The real WebGPU with another `requestAdapter`. */
function pretend(requestAdapter: () => Promise<unknown>): GPU {
  return { requestAdapter } as unknown as GPU;
}

Deno.test("Gpu.request() without an adapter says what to install, or that another WebGPU found none", async () => {
  const given = () => Gpu.request({ gpu: pretend(() => Promise.resolve(null)) });
  await assertRejects(given, NoAdapterError, "the given WebGPU implementation found no adapter");
  const { gpu } = navigator;
  Object.defineProperty(navigator, "gpu", { value: pretend(() => Promise.resolve(null)), configurable: true });
  try {
    const error = await assertRejects(() => Gpu.request(), NoAdapterError, "no adapter was found. Install a Vulkan");
    assert(error instanceof GpuError);
    for (const advice of ["apt-get install mesa-vulkan-drivers", "dnf install", "pacman -S"]) {
      assert(error.message.includes(advice), advice);
    }
  } finally {
    Object.defineProperty(navigator, "gpu", { value: gpu, configurable: true });
  }
});

Deno.test("Gpu.request() with allowFallback false rejects a software adapter by name", async () => {
  const info = { isFallbackAdapter: true, description: "paper and pencil" };
  await assertRejects(
    () => Gpu.request({ gpu: pretend(() => Promise.resolve({ info, limits: {} })), allowFallback: false }),
    NoAdapterError,
    "Cannot open a GPU: the only adapter is a software one, paper and pencil",
  );
});

/** An adapter like the real one that refuses some features. */
function refusing(...refused: string[]): GPU {
  return pretend(async () => {
    const adapter = await navigator.gpu.requestAdapter();
    return adapter && {
      info: adapter.info,
      limits: adapter.limits,
      requestDevice: (descriptor: GPUDeviceDescriptor) =>
        [...descriptor.requiredFeatures ?? []].some((feature) => refused.includes(feature))
          ? Promise.reject(new TypeError("unsupported feature"))
          : adapter.requestDevice(descriptor),
    };
  });
}

Deno.test({
  name: "Gpu.request() opens a device with the features that it supports, also with none",
  sanitizeResources: false, // of the drivers
  sanitizeOps: false,
  fn: async () => {
    using whole = await Gpu.request();
    for (const refused of [["shader-f16"], ["subgroups", "timestamp-query", "shader-f16", "wgpu-shader-f64"]]) {
      using gpu = await Gpu.request({ gpu: refusing(...refused) });
      assertEquals(gpu.info.features, whole.info.features.difference(new Set(refused)));
      assertEquals(gpu.info.f64, gpu.info.features.has("wgpu-shader-f64"));
      if (!gpu.info.features.has("subgroups")) assertEquals(gpu.info.subgroupSize, 0);
      using x = Tensor.from(gpu, new Float32Array([1, 2]), [2]);
      using y = add(x, x);
      assertEquals([...await y.data()], [2, 4]);
    }
  },
});

gpuTest("withoutFeatures leaves features unused", (gpu) => {
  assertEquals([gpu.info.features.has("subgroups"), gpu.info.subgroupSize], [false, 0]);
}, { withoutFeatures: ["subgroups"] });

gpuTest("subgroup matrices are not used by default", ({ info }) => {
  assertEquals(info.subgroupMatrix, undefined);
  assert(!info.features.has("chromium-experimental-subgroup-matrix"));
});

for (const feature of ["chromium-experimental-subgroup-matrix", "shader-f16", "subgroups"]) {
  gpuTest(`a device without ${feature} uses no subgroup matrices, and works`, async (gpu) => {
    assertEquals(gpu.info.subgroupMatrix, undefined);
    using x = Tensor.from(gpu, new Float32Array([1, 2]), [2]);
    using y = add(x, x);
    assertEquals([...await y.data()], [2, 4]);
  }, { subgroupMatrices: true, withoutFeatures: [feature] });
}

gpuTest(
  "subgroup matrices are used where they are requested and supported",
  ({ info }) => {
    for (const extension of ["subgroups", "f16", "chromium_experimental_subgroup_matrix"] as const) {
      assert(info.enables.has(extension), extension);
    }
    const { m, n, k, lanes } = info.subgroupMatrix!;
    for (const size of [m, n, k]) assert([8, 16, 32].includes(size), `${size}`);
    assert(lanes > 0);
  },
  { subgroupMatrices: true },
  await lackOfSubgroupMatrices(),
);

Deno.test("subgroupMatrixOf() prefers 16 × 16 × 16, or else the largest f16 size with f32 results", () => {
  const config = (M: number, N: number, K: number, componentType = "f16", resultComponentType = "f32") => {
    return { M, N, K, componentType, resultComponentType };
  };
  const chosen = (...subgroupMatrixConfigs: ReturnType<typeof config>[]) => {
    const matrix = subgroupMatrixOf({ subgroupMaxSize: 32, subgroupMatrixConfigs });
    return matrix && [matrix.m, matrix.n, matrix.k, matrix.lanes];
  };
  assertEquals(chosen(config(16, 8, 8), config(16, 16, 16), config(32, 32, 32)), [16, 16, 16, 32]);
  assertEquals(chosen(config(8, 8, 8), config(8, 16, 16), config(16, 8, 8)), [8, 16, 16, 32]);
  assertEquals(chosen(config(16, 16, 16, "f16", "f16"), config(8, 8, 8)), [8, 8, 8, 32]);
  assertEquals(chosen(config(16, 16, 16, "f32"), config(16, 16, 16, "i8", "i32")), undefined);
  // rows that are not 16 bytes long; k larger than the blocks
  assertEquals(chosen(config(4, 8, 8), config(64, 16, 16)), undefined);
  assertEquals(subgroupMatrixOf({ subgroupMaxSize: 32 }), undefined); // Deno's own WebGPU
});

gpuTest("gpu.info holds the limits of the device", (gpu) => {
  for (const [name, value] of Object.entries(gpu.info.limits)) {
    assertEquals(value, gpu.context.device.limits[name as keyof typeof gpu.info.limits], name);
  }
  assert(gpu.info.name !== "");
});

gpuTest("describedAs() replaces facts and memos for the time of its body, also when the body throws", (gpu) => {
  const { info, context } = gpu;
  const nameOf = ({ info }: { info: { name: string } }) => info.name;
  assertEquals(context.memo(nameOf), info.name);
  assertThrows(
    () =>
      context.describedAs({ name: "another" }, () => {
        assertEquals([gpu.info.name, gpu.info.subgroupSize], ["another", info.subgroupSize]);
        assertEquals(context.memo(nameOf), "another");
        throw new Error("stop");
      }),
    Error,
    "stop",
  );
  assertEquals([gpu.info, context.memo(nameOf)], [info, info.name]);
});

Deno.test({
  name: "a disposed device rejects all work with a DeviceLostError; its tensors can still be disposed",
  sanitizeResources: false,
  sanitizeOps: false,
  fn: async () => {
    const gpu = await Gpu.request();
    const x = Tensor.from(gpu, new Float32Array([1, 2]), [2]);
    const exact = Tensor.empty(gpu, [2], "f32", { exact: true });
    const y = add(x, x); // recorded, never run
    gpu[Symbol.dispose]();
    gpu[Symbol.dispose]();
    const message = "The GPU device was disposed";
    assertThrows(() => Tensor.empty(gpu, [2]), DeviceLostError, message);
    assertThrows(() => add(x, x), DeviceLostError, message);
    assertThrows(() => x.write(new Uint8Array(8)), DeviceLostError, message);
    await assertRejects(() => y.data(), DeviceLostError, message);
    const error = await assertRejects(() => gpu.finished(), DeviceLostError, message);
    assertEquals(error.reason, "destroyed");
    for (const tensor of [x, y, exact]) tensor[Symbol.dispose]();
    gpu.trim();
    assertEquals(gpu.memory.live, 0);
  },
});

Deno.test({
  name: "a lost device fails the next wait and all later work with WebGPU's reason",
  sanitizeResources: false,
  sanitizeOps: false,
  fn: async () => {
    using gpu = await Gpu.request();
    const x = Tensor.from(gpu, new Float32Array([1, 2]), [2]);
    const y = add(x, x);
    gpu.context.device.destroy();
    await gpu.context.device.lost;
    const error = await assertRejects(() => gpu.finished(), DeviceLostError, "The GPU device was lost (destroyed)");
    assertEquals(error.reason, "destroyed");
    await assertRejects(() => y.data(), DeviceLostError);
    assertThrows(() => Tensor.empty(gpu, [2]), DeviceLostError);
    for (const tensor of [x, y]) tensor[Symbol.dispose]();
  },
});

gpuTest("an uncaptured WebGPU error is thrown by the next wait, once", async (gpu) => {
  using x = Tensor.empty(gpu, [4]);
  gpu.context.device.queue.writeBuffer(x.buffer, 1_000_000, new Uint8Array(4)); // beyond the buffer
  await assertRejects(() => gpu.finished(), GpuError);
  await gpu.finished();
});
