/** Watches a sample for NaN and infinities while it is denoised. */

import { advise } from "../advice.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { squaredNorms } from "../../kernels/linalg/squared_norms.ts";
import { ActivationRangeError, NonFiniteError } from "../errors.ts";

/**
 * Checks the sample of each step by the squared norms of its rows, which hold NaN or an infinity
 * where the row does. The norms of a step are read while the device computes the next one, so that
 * the loop never waits for the work that it has just recorded.
 */
export class FiniteWatch {
  readonly #activations: "f32" | "f16";
  #pending: { readonly step: number; readonly norms: Promise<Float32Array> } | undefined;

  /** @param activations how the UNet stores its activations, for the message */
  constructor(activations: "f32" | "f16") {
    this.#activations = activations;
  }

  /**
   * Begins to read the norms of a step's sample [..., width], then checks the step before it.
   *
   * @throws {NonFiniteError} or {ActivationRangeError} for the step before
   */
  async observe(step: number, sample: Tensor): Promise<void> {
    const before = this.#pending;
    const norms = readNorms(sample);
    norms.catch(() => {}); // reported when it is awaited, unless another error comes first
    this.#pending = { step, norms };
    if (before) this.#check(before.step, await before.norms);
  }

  /**
   * Checks the last step.
   *
   * @throws {NonFiniteError} or {ActivationRangeError}
   */
  async finish(): Promise<void> {
    if (this.#pending) this.#check(this.#pending.step, await this.#pending.norms);
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

async function readNorms(sample: Tensor): Promise<Float32Array> {
  using norms = sample.gpu.scope(() => squaredNorms(sample));
  return await norms.data();
}
