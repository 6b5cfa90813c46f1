import { bytesPerElement } from "../../engine/dtype.ts";
import { type Cost, mostWorkgroups } from "../../engine/kernel/kernel.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor, type TensorWindow } from "../../engine/tensor.ts";
import { alignmentBytes, unitsPerRange } from "../wgsl/launch.ts";

/** The sizes of one attention, which all paths take. */
export interface AttentionSizes {
  readonly batch: number;
  readonly heads: number;
  /** Number of queries. */
  readonly t: number;
  /** Number of keys. */
  readonly s: number;
  /** Width of a head. */
  readonly dim: number;
  readonly causal: boolean;
  /** Scale of the scores. */
  readonly scale: number;
}

/** Cost by definition: two matrix products; q, k and v are read once, the result written once. */
export function attentionCost(
  { batch, heads, t, s, dim }: Pick<AttentionSizes, "batch" | "heads" | "t" | "s" | "dim">,
): Cost {
  return { flops: 4 * batch * heads * t * s * dim, bytes: 8 * batch * heads * (t + s) * dim };
}

/** What the kernels in one pass read and write: whole tensors, or the same images of each. */
export type AttentionTensors = Readonly<Record<"q" | "k" | "v" | "y", Tensor | TensorWindow>>;

/** The device of a bound tensor. */
export function gpuOf({ q }: AttentionTensors): Gpu {
  return (q instanceof Tensor ? q : q.tensor).gpu;
}

/**
 * Splits the batch into parts that the device can bind and a grid holds: whole, unless a tensor is
 * larger than the device's largest binding. A part begins at an image that begins on the alignment
 * of bindings in all tensors, so the kernels need no offsets.
 */
export function* bindableBatches(
  gpu: Gpu,
  tensors: Readonly<Record<"q" | "k" | "v" | "y", Tensor>>,
  sizes: AttentionSizes,
): Generator<{ tensors: AttentionTensors; sizes: AttentionSizes }> {
  const { q, k, v, y } = tensors;
  const all = [q, k, v, y];
  const { maxStorageBufferBindingSize: limit } = gpu.info.limits;
  const { batch } = sizes;
  if (all.every(({ bytes }) => bytes <= limit) && batch <= mostWorkgroups) return yield { tensors, sizes };
  const imageBytes = (tensor: Tensor) => tensor.size / batch * bytesPerElement[tensor.dtype];
  let unit = 1;
  while (all.some((tensor) => unit * imageBytes(tensor) % alignmentBytes !== 0)) unit *= 2;
  const units = Math.ceil(batch / unit);
  const bindable = unitsPerRange(gpu, units, unit * Math.max(...all.map(imageBytes)), 0);
  const count = unit * Math.min(bindable, Math.floor(mostWorkgroups / unit));
  for (let first = 0; first < batch; first += count) {
    const images = Math.min(count, batch - first);
    const part = (tensor: Tensor) => tensor.window(first * tensor.size / batch, images * tensor.size / batch);
    yield { tensors: { q: part(q), k: part(k), v: part(v), y: part(y) }, sizes: { ...sizes, batch: images } };
  }
}

/**
 * Largest head width of attention in one pass over the keys. An invocation holds its part of the
 * results of its queries in registers, and wider heads would spill.
 */
export const widestOnePass = 160;
