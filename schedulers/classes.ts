import type { SchedulerConfig } from "./config.ts";
import { DDIMScheduler } from "./ddim.ts";
import { DDPMScheduler } from "./ddpm.ts";
import { DEISMultistepScheduler } from "./deis_multistep.ts";
import { DPMSolverMultistepScheduler } from "./dpm_solver_multistep.ts";
import { DPMSolverSinglestepScheduler } from "./dpm_solver_singlestep.ts";
import { EulerAncestralDiscreteScheduler } from "./euler_ancestral_discrete.ts";
import { EulerDiscreteScheduler } from "./euler_discrete.ts";
import { HeunDiscreteScheduler } from "./heun_discrete.ts";
import { KDPM2AncestralDiscreteScheduler } from "./k_dpm_2_ancestral_discrete.ts";
import { KDPM2DiscreteScheduler } from "./k_dpm_2_discrete.ts";
import { LCMScheduler } from "./lcm.ts";
import { LMSDiscreteScheduler } from "./lms_discrete.ts";
import { PNDMScheduler } from "./pndm.ts";
import { registerSchedulers, Scheduler } from "./scheduler.ts";
import { UniPCMultistepScheduler } from "./unipc_multistep.ts";

/** The scheduler classes, by their diffusers names. */
export const CLASSES = {
  DDIMScheduler,
  DDPMScheduler,
  DEISMultistepScheduler,
  DPMSolverMultistepScheduler,
  DPMSolverSinglestepScheduler,
  EulerAncestralDiscreteScheduler,
  EulerDiscreteScheduler,
  HeunDiscreteScheduler,
  KDPM2AncestralDiscreteScheduler,
  KDPM2DiscreteScheduler,
  LCMScheduler,
  LMSDiscreteScheduler,
  PNDMScheduler,
  UniPCMultistepScheduler,
} as const;

/** The name of a class. */
export type ClassName = keyof typeof CLASSES;

registerSchedulers(CLASSES);

/** Whether a scheduler class of diffusers is supported. */
export function isSchedulerClass(name: string): boolean {
  return Object.hasOwn(CLASSES, name);
}

/**
 * Makes the scheduler that a diffusers scheduler_config.json describes, of the class in its
 * `_class_name`.
 *
 * ```ts
 * const text = await Deno.readTextFile("scheduler/scheduler_config.json");
 * const scheduler = schedulerFromConfig(JSON.parse(text));
 * ```
 *
 * @throws {SchedulerError} where the class is unknown, or a value is not one of those allowed.
 */
export function schedulerFromConfig(config: SchedulerConfig, overrides: SchedulerConfig = {}): Scheduler {
  return Scheduler.fromConfig(config, overrides);
}
