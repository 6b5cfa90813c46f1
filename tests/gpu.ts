import { assertEquals } from "@std/assert";
import { findDawn } from "../bench/measure/dawn.ts";
import { Gpu, type GpuOptions } from "../engine/gpu.ts";

export { assertClose } from "./close.ts";
export { f32Tolerance, matrixTolerance, randomArray } from "../bench/oracles/numbers.ts";

/** Runs the tests on Dawn in place of Deno's own WebGPU: `deno task test:dawn`. */
const dawn = Deno.env.get("BLUEROSE_WEBGPU") === "dawn" ? await findDawn() : undefined;

const request = Gpu.request.bind(Gpu);
const opened = new Map<string, Promise<Gpu>>();
const open: Gpu[] = [];

/** One device per test file and set of options: opening one takes longer than most tests. */
function sharedGpu(options: GpuOptions): Promise<Gpu> {
  const key = JSON.stringify(options);
  let gpu = opened.get(key);
  if (!gpu) {
    opened.set(key, gpu = request({ gpu: dawn?.gpu, ...options }));
    gpu.then((gpu) => open.push(gpu), () => opened.delete(key)); // the caller gets the error
  }
  return gpu;
}

/**
 * Runs `body` with devices that outlive it: what it opens are the test file's, with their compiled
 * kernels, and disposing of them frees nothing. Compiling takes most of a small command's time.
 *
 * @throws if bytes are left live on a device, which disposing of it would hide
 */
export async function withSharedDevices<T>(body: () => Promise<T>): Promise<T> {
  const used = new Map<Gpu, number>();
  Gpu.request = async (options: GpuOptions = {}) => {
    // For helpers that compile.
    if (open.some((gpu) => gpu.options === options)) return await request(options);
    const gpu = await sharedGpu(options);
    Object.assign(gpu, { [Symbol.dispose]: () => {} });
    if (!used.has(gpu)) used.set(gpu, gpu.memory.live);
    return gpu;
  };
  try {
    return await body();
  } finally {
    Gpu.request = request;
    for (const [gpu, before] of used) {
      await gpu.finished();
      assertEquals(gpu.memory.live - before, 0, "bytes left live on the device");
    }
  }
}

// The drivers' threads must end before the process does. Dawn ends by itself, and crashes when a
// device is destroyed at that time.
globalThis.addEventListener("unload", () => {
  if (dawn) return;
  // Synchronously: the process ends after this event.
  for (const gpu of open) Gpu.prototype[Symbol.dispose].call(gpu);
});

/**
 * Why the tests' device has no subgroup matrices, or undefined if it has: for tests that need them.
 */
export async function lackOfSubgroupMatrices(): Promise<string | undefined> {
  if (dawn?.missing) return dawn.missing;
  const { subgroupMatrix, name } = (await sharedGpu({ subgroupMatrices: true })).info;
  return subgroupMatrix ? undefined : `${name} has no subgroup matrices${dawn ? "" : " in Deno's own WebGPU"}`;
}

/** Why the tests' device lacks a feature, or undefined if it has it: for tests that need it. */
export async function lackOf(feature: string): Promise<string | undefined> {
  if (dawn?.missing) return dawn.missing;
  const { features, name } = (await sharedGpu({})).info;
  return features.has(feature) ? undefined : `${name} has no ${feature}`;
}

/**
 * Registers a test that gets a device and fails if it leaves live bytes on it. `lacking` is the
 * reason to skip it, if any.
 */
export function gpuTest(
  name: string,
  body: (gpu: Gpu) => void | Promise<void>,
  options: GpuOptions = {},
  lacking: string | undefined = dawn?.missing,
): void {
  Deno.test({
    name: lacking ? `${name} [skipped: ${lacking}]` : name,
    ignore: lacking !== undefined,
    // The device is shared and outlives the test.
    sanitizeResources: false,
    sanitizeOps: false,
    fn: async () => {
      const gpu = await sharedGpu(options);
      const before = gpu.memory.live;
      await body(gpu);
      await gpu.finished();
      assertEquals(gpu.memory.live - before, 0, "bytes left live on the device");
    },
  });
}

/** Counts the submissions to a device from now on. */
export function countSubmissions(gpu: Gpu): () => number {
  const { queue } = gpu.context.device;
  const original = queue.submit;
  let count = 0;
  queue.submit = (...args) => {
    count++;
    return original.apply(queue, args);
  };
  return () => count;
}

/** Values rounded to f16, to compare with those of a device. */
export function roundedToF16(numbers: ArrayLike<number>): Float32Array<ArrayBuffer> {
  return Float32Array.from(Float16Array.from(numbers));
}
