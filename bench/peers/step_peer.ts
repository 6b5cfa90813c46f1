/**
 * Other engines that perform a guided step of a full-size model.
 *
 * @module
 */
import type { Work } from "../measure/timing.ts";

/** What a step is performed on. */
export interface StepInput {
  /** Side of the picture. */
  readonly pixels: number;
  readonly timestep: number;
  /** The latents, 1 × 4 × (pixels / 8)². */
  readonly latents: Float32Array<ArrayBuffer>;
  /** The sizes that SDXL's UNet is conditioned on. Default: none. */
  readonly timeIds?: readonly number[];
}

/** An engine that has loaded the model. */
export interface StepPeer extends Disposable {
  /** Name and version. */
  readonly name: string;
  /** @throws {Error} when the engine cannot do it, or would take minutes */
  prepare(input: StepInput): Promise<Work>;
  /** ‖ours − theirs‖ / ‖theirs‖ of the noise of the last run, if the engine tells it. */
  readonly difference?: (ours: Float32Array<ArrayBuffer>) => Promise<number>;
}
