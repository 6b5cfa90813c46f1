/**
 * The samplers of diffusers 0.23, and torch's random number generator.
 *
 * @module
 */
export type { HubOptions, HubProgress } from "../pipeline/checkpoint/hub/hub.ts";
export type { FileTree } from "../pipeline/checkpoint/source/file_tree.ts";
export type { ByteSource } from "../pipeline/checkpoint/source/byte_source.ts";
export { isSchedulerClass, schedulerFromConfig } from "./classes.ts";
export { type DDIMConfig, DDIMScheduler } from "./ddim.ts";
export { type DDPMConfig, DDPMScheduler } from "./ddpm.ts";
export { type DEISMultistepConfig, DEISMultistepScheduler } from "./deis_multistep.ts";
export { type DPMSolverMultistepConfig, DPMSolverMultistepScheduler } from "./dpm_solver_multistep.ts";
export { type DPMSolverSinglestepConfig, DPMSolverSinglestepScheduler } from "./dpm_solver_singlestep.ts";
export { SchedulerError } from "./error.ts";
export { EulerAncestralDiscreteScheduler } from "./euler_ancestral_discrete.ts";
export { type EulerDiscreteConfig, EulerDiscreteScheduler } from "./euler_discrete.ts";
export { type HeunDiscreteConfig, HeunDiscreteScheduler } from "./heun_discrete.ts";
export { type KDPM2AncestralDiscreteConfig, KDPM2AncestralDiscreteScheduler } from "./k_dpm_2_ancestral_discrete.ts";
export { type KDPM2DiscreteConfig, KDPM2DiscreteScheduler } from "./k_dpm_2_discrete.ts";
export { type LCMConfig, LCMScheduler } from "./lcm.ts";
export { type LMSDiscreteConfig, LMSDiscreteScheduler } from "./lms_discrete.ts";
export {
  type Combination,
  HISTORY,
  NOISE,
  type NoiseLevel,
  type Nonlinearity,
  OUTPUT,
  type PlanStep,
  SAMPLE,
  type SchedulerPlan,
  type Term,
} from "./plan.ts";
export { type PNDMConfig, PNDMScheduler } from "./pndm.ts";
export { type BaseConfig, COMMON_DEFAULTS, type ConfigRules, type FlowConfig, type SchedulerConfig } from "./config.ts";
export type { NoiseScheduleConfig } from "./noise_schedule.ts";
export type { SchedulerSourceOptions } from "./pretrained.ts";
export { SAMPLER_NAMES, samplerByName, SCHEDULE_NAMES } from "./samplers.ts";
export { Scheduler, type SchedulerClass, type StepOptions, type StepResult } from "./scheduler.ts";
export type { SigmaSpacingConfig, SolverScheduleConfig } from "./sigma_levels.ts";
export { type SigmaConfig, type SigmaSchedule, SigmaScheduler } from "./sigma_scheduler.ts";
export type { Spacing } from "./spacing.ts";
export { TorchGenerator } from "./torch_generator.ts";
export { type UniPCMultistepConfig, UniPCMultistepScheduler } from "./unipc_multistep.ts";
export { UnknownScheduler } from "./unknown.ts";
