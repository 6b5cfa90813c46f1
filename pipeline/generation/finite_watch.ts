/** Watches a sample for NaN and infinities while it is denoised. */

import { advise } from "../advice.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { squaredNorms } from "../../kernels/linalg/squared_norms.ts";
import { ActivationRangeError, NonFiniteError } from "../errors.ts";

/**
 * Each read costs a wait of some milliseconds, and a run that is broken should end soon: a group
 * takes at most this time of the device, and at most so many steps.
 */
const mostGroupMs = 250, mostGroupSteps = 8;

/** The norms of a step's sample, on the device. */
interface Observed {
  readonly step: number;
  readonly norms: Tensor;
}

/**
 * Checks the sample of each step by the squared norms of its planes, which hold NaN or an infinity
 * where the plane does. The norms are read for groups of steps, while the device computes the next
 * group: each read costs a wait, and the loop must not wait for the work that it has just recorded.
 * A group is one step until the time of a step is known, and where a step takes 125 ms or more; so
 * a slow run ends one step after the first whose sample was not finite. The error names that step.
 */
export class FiniteWatch implements Disposable {
  readonly #half: "activations" | "arithmetic" | undefined;
  readonly #clock: () => number;
  #observed: Observed[] = [];
  #reading: Promise<{ step: number; values: Float32Array }[]> | undefined;
  #groupSteps = 1;
  /** When the last group was read, ms. */
  #readAt: number | undefined;

  /**
   * @param half what is f16, for the message: the UNet's activations or the arithmetic.
   * @param clock the time in ms
   */
  constructor(half: "activations" | "arithmetic" | undefined, clock: () => number = () => performance.now()) {
    this.#half = half;
    this.#clock = clock;
  }

  /**
   * Notes the sample [..., h, w] of a step. At the end of a group, begins to read it and checks
   * the group before.
   *
   * @param options.now whether to end the group with this step
   * @throws {NonFiniteError} or {ActivationRangeError} for a step of the group before
   */
  async observe(step: number, sample: Tensor, options: { now: boolean }): Promise<void> {
    this.#observed.push({ step, norms: sample.gpu.scope(() => planeNorms(sample)).keep() });
    if (!options.now && this.#observed.length < this.#groupSteps) return;
    const before = this.#reading;
    this.#read();
    if (before) this.#pace(this.#checkAll(await before));
  }

  /**
   * Checks the steps that have not been checked. After a wait for all work it costs little.
   *
   * @throws {NonFiniteError} or {ActivationRangeError}
   */
  async finish(): Promise<void> {
    const before = this.#reading;
    this.#read();
    if (before) this.#checkAll(await before);
    if (this.#reading) this.#checkAll(await this.#reading);
  }

  /** Frees the norms that have not been read. */
  [Symbol.dispose](): void {
    for (const { norms } of this.#observed) norms[Symbol.dispose]();
    this.#observed = [];
  }

  #read(): void {
    const group = this.#observed;
    if (group.length === 0) return;
    this.#observed = [];
    this.#reading = readNorms(group);
    this.#reading.catch(() => {}); // reported when it is awaited, unless another error comes first
  }

  /** Sizes the groups to come by the time since the group before, which ends as this one begins. */
  #pace(steps: number): void {
    const now = this.#clock();
    if (this.#readAt !== undefined) {
      const stepMs = (now - this.#readAt) / steps;
      this.#groupSteps = Math.floor(Math.min(Math.max(mostGroupMs / stepMs, 1), mostGroupSteps));
    }
    this.#readAt = now;
  }

  /** @returns how many steps they were */
  #checkAll(steps: readonly { step: number; values: Float32Array }[]): number {
    for (const { step, values } of steps) this.#check(step, values);
    return steps.length;
  }

  #check(step: number, norms: Float32Array): void {
    if (norms.every(Number.isFinite)) return;
    throw this.#half !== undefined
      ? new ActivationRangeError(
        `Cannot generate this picture with f16 ${this.#half} as the UNet's activations exceed 65504, f16's largest number, ` +
          `and step ${step + 1} gives NaN: ${advise(this.#half === "activations" ? "useF32" : "useF32Arithmetic")}`,
      )
      : new NonFiniteError(
        `Cannot generate this picture as the latents hold NaN or infinities after step ${step + 1}: ` +
          "a weight of the model or of an adapter may be broken, or a scale too large",
        { step },
      );
  }
}

/** Records the kernels of a watch once, for `GpuContext.rehearse`. */
export function rehearseWatch(sample: Tensor): void {
  sample.gpu.scope(() => {
    const norms = planeNorms(sample);
    concat([norms, norms], 0);
  });
}

/** Squared norms of the planes of [B, C, h, w]: rows as long as may be, as workgroups cost time. */
function planeNorms(sample: Tensor): Tensor {
  const plane = sample.shape.slice(-2).reduce((product, side) => product * side, 1);
  return squaredNorms(sample.reshape([sample.size / plane, plane]));
}

/**
 * Reads the norms of several steps at once: each read costs a wait of its own. The copy is
 * submitted before anything waits, so the norms are free at once, awaited or not.
 */
function readNorms(group: readonly Observed[]): Promise<{ step: number; values: Float32Array }[]> {
  using held = new DisposableStack();
  const norms = group.map(({ norms }) => held.use(norms));
  const reading = held.use(norms[0].gpu.scope(() => concat(norms, 0)).keep()).data();
  return reading.then((values) => {
    let first = 0;
    return group.map(({ step, norms: { size } }) => ({ step, values: values.subarray(first, first += size) }));
  });
}
