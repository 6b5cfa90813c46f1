import type { Tensor } from "../../engine/tensor.ts";
import type { Scheduler, SchedulerPlan } from "../../schedulers/mod.ts";
import type { Key } from "../models/keyed_slot.ts";
import type { PromptContext } from "../models/prompt_context.ts";
import type { UNet2DConditionModel } from "../models/unet.ts";
import type { FiniteWatch } from "./finite_watch.ts";
import type { Generators } from "./generators.ts";

/**
 * Called while denoising: step from 0, the timestep, and the latents, which live until the callback
 * (or its promise) ends.
 */
export type StepCallback = (step: number, timestep: number, latents: Tensor) => void | Promise<void>;

/** What `denoise()` works with. */
export interface DenoisingOptions {
  readonly unet: UNet2DConditionModel;
  readonly scheduler: Scheduler;
  readonly numInferenceSteps: number;
  /** The scheduler's plan for these steps and this eta. */
  readonly plan: SchedulerPlan;
  /**
   * Keys and values of the prompts; under guidance those of the negative prompts first, so twice as
   * many as latents.
   */
  readonly context: PromptContext;
  /**
   * What the context depends on. With it, the captured prediction is kept for the next call of the
   * same key, shapes and guidance.
   */
  readonly contextKey?: Key;
  readonly guidanceScale: number;
  /** φ of the rescaled guidance (2305.08891, section 3.4); 0 for none. */
  readonly guidanceRescale: number;
  readonly eta: number;
  /** Draws the noise of samplers that add some, one for all or one per image. */
  readonly generator: Generators;
  readonly callback?: StepCallback;
  readonly callbackSteps: number;
  readonly signal?: AbortSignal;
  /** Checks the sample of each step. */
  readonly watch: FiniteWatch;
  /** Records the UNet in the state that the call was made in. */
  readonly record: <T>(body: () => T) => T;
  /** Whether the UNet is still in that state, so that the captured prediction can be kept. */
  readonly isCurrent: () => boolean;
}

/** What the loop on the device works with. */
export type LoopOptions = Omit<DenoisingOptions, "watch">;
