import { bytesPerElement } from "../../engine/dtype.ts";
import type { Gpu } from "../../engine/gpu.ts";
import type { Tensor, TensorWindow } from "../../engine/tensor.ts";

/**
 * Bindings start at multiples of this many bytes: the strictest that WebGPU lets a device demand.
 */
const alignmentBytes = 256;

/** Neighbouring units of a tensor that a kernel works on in one run: `count` from `first` on. */
export interface Stretch {
  readonly first: number;
  readonly count: number;
}

/**
 * Cuts `total` units (rows, planes, …) into stretches that the device can bind, lead-in to the
 * alignment included: one where all fit, else about equal ones. A unit that is too large by itself
 * comes alone; binding it throws a ShapeError.
 */
export function* stretches(gpu: Gpu, total: number, unitBytes: number): Generator<Stretch> {
  const limit = gpu.info.limits.maxStorageBufferBindingSize;
  let share = total;
  if (total * unitBytes + alignmentBytes > limit) {
    const most = Math.max(1, Math.floor((limit - alignmentBytes) / unitBytes));
    share = Math.ceil(total / Math.ceil(total / most));
  }
  for (let first = 0; first < total; first += share) yield { first, count: Math.min(share, total - first) };
}

/**
 * Elements in the unit of {@linkcode quadStretches}: with it each stretch starts on the alignment,
 * whatever the elements' type.
 */
const blockElements = alignmentBytes;

/**
 * Cuts `size` elements of at most 4 bytes into stretches that start on the alignment and in fours;
 * counts in fours, the last rounded up.
 */
export function* quadStretches(gpu: Gpu, size: number): Generator<Stretch & { quads: number }> {
  for (const block of stretches(gpu, Math.ceil(size / blockElements), blockElements * 4)) {
    const first = block.first * blockElements;
    const count = Math.min(block.count * blockElements, size - first);
    yield { first, count, quads: Math.ceil(count / 4) };
  }
}

/**
 * `count` elements from `first` on, bound from the aligned place at or before them: the kernel
 * skips `start` elements of lead-in.
 */
export function bindFrom(tensor: Tensor, first: number, count: number): { window: TensorWindow; start: number } {
  const start = first % (alignmentBytes / bytesPerElement[tensor.dtype]);
  return { window: tensor.window(first - start, start + count), start };
}
