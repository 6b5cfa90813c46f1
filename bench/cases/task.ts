import { elements } from "../../engine/tensor.ts";
import { randomArray } from "../oracles/numbers.ts";

/** Work that other engines can perform as well. The description ensures that each does the same. */
export type PeerTask = MatmulTask | Conv2dTask | AttentionTask;

/** C = A·B, or A·Bᵀ with B stored [n, k]. */
export interface MatmulTask {
  readonly op: "matmul";
  readonly m: number;
  readonly k: number;
  readonly n: number;
  readonly transposeB: boolean;
}

/** A convolution with a square kernel, zero-padded by half the kernel size. */
export interface Conv2dTask {
  readonly op: "conv2d";
  readonly batch: number;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly side: number;
  readonly kernel: number;
  readonly stride: number;
}

/** softmax(QKᵀ/√dim)·V for `heads` heads. */
export interface AttentionTask {
  readonly op: "attention";
  readonly batch: number;
  readonly heads: number;
  readonly t: number;
  readonly s: number;
  readonly dim: number;
}

/** m = n = k. */
export function squareTask(side: number): MatmulTask {
  return { op: "matmul", m: side, k: side, n: side, transposeB: false };
}

/** Multiplications and additions of a task, counted separately. */
export function taskFlops(task: PeerTask): number {
  switch (task.op) {
    case "matmul":
      return 2 * task.m * task.n * task.k;
    case "conv2d":
      return 2 * task.batch * task.outChannels * (task.side / task.stride) ** 2 * task.inChannels * task.kernel ** 2;
    case "attention":
      return 4 * task.batch * task.heads * task.t * task.s * task.dim;
  }
}

/**
 * Pseudo-random values from −1 to 1, the same in every run and for every peer. Long arrays repeat a
 * block, which is fast and does not affect the time of a kernel.
 */
export function testValues(count: number, seed = 1): Float32Array<ArrayBuffer> {
  const values = new Float32Array(count);
  const block = Math.min(count, 65521); // a prime, so that rows of common widths differ
  values.set(randomArray(block, seed));
  for (let filled = block; filled < count; filled *= 2) values.copyWithin(filled, 0, Math.min(filled, count - filled));
  return values;
}

/** Operand shapes of a task in this project's layout. */
export function operandShapes(task: PeerTask): number[][] {
  switch (task.op) {
    case "matmul":
      return [[task.m, task.k], task.transposeB ? [task.n, task.k] : [task.k, task.n]];
    case "conv2d":
      return [
        [task.batch, task.inChannels, task.side, task.side],
        [task.outChannels, task.inChannels, task.kernel, task.kernel],
      ];
    case "attention": {
      const width = task.heads * task.dim;
      return [[task.batch, task.t, width], [task.batch, task.s, width], [task.batch, task.s, width]];
    }
  }
}

/** Operand values. Weights are scaled so that results stay near 1. */
export function operands(task: PeerTask): Float32Array<ArrayBuffer>[] {
  return operandShapes(task).map((shape, index) => {
    const values = testValues(elements(shape), index + 1);
    if (index === 0 || task.op === "attention") return values;
    const terms = task.op === "matmul" ? task.k : task.inChannels * task.kernel ** 2;
    return values.map((value) => value / Math.sqrt(terms));
  });
}
