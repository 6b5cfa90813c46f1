/** Watches a sample for NaN and infinities while it is denoised. */

import { advise } from "../advice.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { squaredNorms } from "../../kernels/linalg/squared_norms.ts";
import { ActivationRangeError, NonFiniteError } from "../errors.ts";

/** The norms of a step's sample, on the device. */
interface Observed {
  readonly step: number;
  readonly norms: Tensor;
}

/**
 * Checks the sample of each step by the squared norms of its rows, which hold NaN or an infinity
 * where the row does. The norms are read for groups of steps, while the device computes the next
 * group: each read costs a wait, and the loop must not wait for the work that it has just recorded.
 * The error names the first step whose sample was not finite.
 */
export class FiniteWatch implements Disposable {
  readonly #activations: "f32" | "f16";
  readonly #every: number;
  #observed: Observed[] = [];
  #reading: Promise<{ step: number; values: Float32Array }[]> | undefined;

  /**
   * @param activations how the UNet stores its activations, for the message
   * @param every steps of a group
   */
  constructor(activations: "f32" | "f16", every: number) {
    this.#activations = activations;
    this.#every = every;
  }

  /**
   * Notes the sample [..., width] of a step. At the end of a group, begins to read it and checks
   * the group before.
   *
   * @throws {NonFiniteError} or {ActivationRangeError} for a step of the group before
   */
  async observe(step: number, sample: Tensor): Promise<void> {
    this.#observed.push({ step, norms: sample.gpu.scope(() => squaredNorms(sample)).keep() });
    if (this.#observed.length < this.#every) return;
    const before = this.#reading;
    this.#read();
    if (before) this.#checkAll(await before);
  }

  /**
   * Checks the steps that have not been checked.
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
    this.#observed = [];
    this.#reading = Promise.all(group.map(async ({ step, norms }) => {
      using tensor = norms;
      return { step, values: await tensor.data() };
    }));
    this.#reading.catch(() => {}); // reported when it is awaited, unless another error comes first
  }

  #checkAll(steps: readonly { step: number; values: Float32Array }[]): void {
    for (const { step, values } of steps) this.#check(step, values);
  }

  #check(step: number, norms: Float32Array): void {
    if (norms.every(Number.isFinite)) return;
    throw this.#activations === "f16"
      ? new ActivationRangeError(
        "Cannot generate this picture with f16 activations as the UNet's activations exceed 65504, f16's largest number, " +
          `and step ${step + 1} gives NaN: ${advise("useF32")}`,
      )
      : new NonFiniteError(
        `Cannot generate this picture as the latents hold NaN or infinities after step ${step + 1}: ` +
          "a weight of the model or of an adapter may be broken, or a scale too large",
        { step },
      );
  }
}
