/** Shared by the kernels' tests: simulated devices, random tensors and references in float64. */
import type { Gpu, GpuOptions } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { randomArray } from "../gpu.ts";

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

/** Runs `body` with the policy of a hardware GPU, also where the device is a software device. */
export function withGpuPolicy<T>(gpu: Gpu, body: () => T): T {
  return gpu.context.describedAs({ deviceClass: "other" }, body);
}

/** The number of elements of a shape. */
export function count(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}

/** `count` random elements that f16 represents exactly. */
export function randomF16(count: number, seed = 1): Float32Array<ArrayBuffer> {
  return Float32Array.from(Float16Array.from(randomArray(count, seed)));
}

/**
 * Bound of the relative error of storing a tensor in f16, which has 11 significant bits. WGSL lets
 * devices truncate; the norm of the error over a tensor is then about three quarters of this.
 */
export const f16Rounding = 2 ** -11;

/** A tensor of elements from {@linkcode randomArray}, and the elements. */
export function randomTensor(
  gpu: Gpu,
  shape: readonly number[],
  seed = 1,
): { tensor: Tensor; data: Float32Array<ArrayBuffer> } & Disposable {
  const data = randomArray(count(shape), seed);
  const tensor = Tensor.from(gpu, data, shape);
  return { tensor, data, [Symbol.dispose]: () => tensor[Symbol.dispose]() };
}

/** erf(x) in float64: its Maclaurin series for |x| < 3, else 1 − the continued fraction of erfc. */
export function erf(x: number): number {
  const z = Math.abs(x);
  if (z < 3) {
    let term = z, sum = z;
    for (let n = 1; n < 80; n++) sum += (term *= -z * z / n) / (2 * n + 1);
    return Math.sign(x) * sum * 2 / Math.sqrt(Math.PI);
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (z + fraction);
  return Math.sign(x) * (1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / (z + fraction));
}

/** Mean and variance (divided by n) of `length` elements from `start` on. */
export function meanAndVariance(data: ArrayLike<number>, start: number, length: number): [number, number] {
  let mean = 0, variance = 0;
  for (let i = start; i < start + length; i++) mean += data[i] / length;
  for (let i = start; i < start + length; i++) variance += (data[i] - mean) ** 2 / length;
  return [mean, variance];
}
