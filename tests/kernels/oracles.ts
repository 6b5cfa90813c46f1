/** Shared by the kernels' tests: simulated devices and random tensors. */
import { randomArray } from "../../bench/oracles/numbers.ts";
import type { Gpu, GpuOptions } from "../../engine/gpu.ts";
import { elements, Tensor } from "../../engine/tensor.ts";

export { f16Rounding, randomF16 } from "../../bench/oracles/numbers.ts";

/** Options of the devices on which kernels with and without subgroups are tested. */
export const devices: Readonly<Record<string, GpuOptions>> = {
  "with subgroups": {},
  "without subgroups": { withoutFeatures: ["subgroups"] },
};

/**
 * Runs `body` as on a device whose largest binding is `bytes`; the engine rejects larger ones.
 * Undefined keeps the device's own limit.
 */
export function withBindingLimit<T>(gpu: Gpu, bytes: number | undefined, body: () => T): T {
  const { limits } = gpu.info;
  const maxStorageBufferBindingSize = bytes ?? limits.maxStorageBufferBindingSize;
  return gpu.context.describedAs({ limits: { ...limits, maxStorageBufferBindingSize } }, body);
}

/**
 * Runs `body` with the policy of a hardware GPU, also where the device is a software device.
 *
 * @param deviceClass whose defaults apply. Default: GPUs with few registers
 */
export function withGpuPolicy<T>(gpu: Gpu, body: () => T, deviceClass: "other" | "amd" = "other"): T {
  return gpu.context.describedAs({ deviceClass }, body);
}

/** A tensor of elements from {@linkcode randomArray}, and the elements. */
export function randomTensor(
  gpu: Gpu,
  shape: readonly number[],
  seed = 1,
): { tensor: Tensor; data: Float32Array<ArrayBuffer> } & Disposable {
  const data = randomArray(elements(shape), seed);
  const tensor = Tensor.from(gpu, data, shape);
  return { tensor, data, [Symbol.dispose]: () => tensor[Symbol.dispose]() };
}
