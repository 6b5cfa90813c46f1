/**
 * What several kernels' tests share: devices to pretend, shapes that trip kernels up, and
 * mathematics in float64.
 */
import type { Gpu, GpuOptions } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { randomArray } from "../gpu.ts";

/** Kernels with subgroups have a sibling without; both are tested. */
export const devices: Readonly<Record<string, GpuOptions>> = {
  "with subgroups": {},
  "without subgroups": { withoutFeatures: ["subgroups"] },
};

/**
 * Runs `body` as on a device that binds no more than `bytes`; the engine refuses larger bindings.
 */
export function withBindingLimit<T>(gpu: Gpu, bytes: number | undefined, body: () => T): T {
  const limits = gpu.info.limits as { maxStorageBufferBindingSize: number };
  const real = limits.maxStorageBufferBindingSize;
  limits.maxStorageBufferBindingSize = bytes ?? real;
  try {
    return body();
  } finally {
    limits.maxStorageBufferBindingSize = real;
  }
}

/** Runs `body` as a GPU would: with the kernels' choices for one, whatever the device is. */
export function asOnGpu<T>(gpu: Gpu, body: () => T): T {
  const info = gpu.info as { deviceClass: string };
  const real = info.deviceClass;
  info.deviceClass = "other";
  try {
    return body();
  } finally {
    info.deviceClass = real;
  }
}

/** The number of elements of a shape. */
export function count(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}

/** `count` numbers that f16 holds exactly. */
export function randomHalves(count: number, seed = 1): Float32Array<ArrayBuffer> {
  return Float32Array.from(Float16Array.from(randomArray(count, seed)));
}

/**
 * What storing a result in f16 may add to its relative error: 11 bits. Devices that cut off, as
 * WGSL lets them, come to three quarters of it over a tensor.
 */
export const halfRounding = 2 ** -11;

/** A tensor of {@linkcode randomArray}'s numbers, and the numbers. */
export function randomTensor(
  gpu: Gpu,
  shape: readonly number[],
  seed = 1,
): { tensor: Tensor; data: Float32Array<ArrayBuffer> } & Disposable {
  const data = randomArray(count(shape), seed);
  const tensor = Tensor.from(gpu, data, shape);
  return { tensor, data, [Symbol.dispose]: () => tensor[Symbol.dispose]() };
}

/** erf by its integral's series (Maclaurin below 3, else 1 - the tail's continued fraction). */
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

/** Mean and variance (over n) of a stretch. */
export function meanAndVariance(data: ArrayLike<number>, start: number, length: number): [number, number] {
  let mean = 0, variance = 0;
  for (let i = start; i < start + length; i++) mean += data[i] / length;
  for (let i = start; i < start + length; i++) variance += (data[i] - mean) ** 2 / length;
  return [mean, variance];
}
