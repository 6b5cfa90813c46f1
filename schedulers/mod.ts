/**
 * The samplers of diffusers 0.23, and torch's random number generator.
 *
 * @module
 */
import { DDIMScheduler } from "./ddim.ts";
import { DDPMScheduler } from "./ddpm.ts";
import { DEISMultistepScheduler } from "./deis_multistep.ts";
import { DPMSolverMultistepScheduler } from "./dpm_solver_multistep.ts";
import { DPMSolverSinglestepScheduler } from "./dpm_solver_singlestep.ts";
import { SchedulerError } from "./error.ts";
import { EulerAncestralDiscreteScheduler } from "./euler_ancestral_discrete.ts";
import { EulerDiscreteScheduler } from "./euler_discrete.ts";
import { HeunDiscreteScheduler } from "./heun_discrete.ts";
import { KDPM2AncestralDiscreteScheduler } from "./k_dpm_2_ancestral_discrete.ts";
import { KDPM2DiscreteScheduler } from "./k_dpm_2_discrete.ts";
import { LCMScheduler } from "./lcm.ts";
import { LMSDiscreteScheduler } from "./lms_discrete.ts";
import { PNDMScheduler } from "./pndm.ts";
import type { SchedulerConfig } from "./config.ts";
import type { Scheduler } from "./scheduler.ts";
import { UniPCMultistepScheduler } from "./unipc_multistep.ts";

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
export { Scheduler, type StepOptions, type StepResult } from "./scheduler.ts";
export type { SigmaSpacingConfig, SolverScheduleConfig } from "./sigma_levels.ts";
export { type SigmaConfig, type SigmaSchedule, SigmaScheduler } from "./sigma_scheduler.ts";
export type { Spacing } from "./spacing.ts";
export { TorchGenerator } from "./torch_generator.ts";
export { type UniPCMultistepConfig, UniPCMultistepScheduler } from "./unipc_multistep.ts";

/** The scheduler classes, by their diffusers names. */
const CLASSES = {
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
  const name = config._class_name;
  if (typeof name === "string" && Object.hasOwn(CLASSES, name)) {
    return CLASSES[name as keyof typeof CLASSES].fromConfig(config, overrides);
  }
  throw new SchedulerError(
    `Cannot make a scheduler as its _class_name must be one of ${Object.keys(CLASSES).join(", ")}: ${
      JSON.stringify(name)
    }`,
    { _class_name: name },
  );
}

interface Sampler {
  readonly scheduler: keyof typeof CLASSES;
  readonly overrides: SchedulerConfig;
}

const KARRAS = { use_karras_sigmas: true };
// A name without "karras" means plain noise levels, whatever the configuration says.
const PLAIN = { use_karras_sigmas: false };
const SDE = { algorithm_type: "sde-dpmsolver++", solver_order: 2 };
const PLUS_PLUS = { algorithm_type: "dpmsolver++", solver_order: 2 };
// Latents exceed ±1; DDIM's default would clip them.
const UNCLIPPED = { clip_sample: false };

/** Samplers by their names in A1111 and stable-diffusion.cpp. */
const SAMPLERS: Readonly<Record<string, Sampler>> = {
  "euler": { scheduler: "EulerDiscreteScheduler", overrides: PLAIN },
  "euler karras": { scheduler: "EulerDiscreteScheduler", overrides: KARRAS },
  "euler_a": { scheduler: "EulerAncestralDiscreteScheduler", overrides: {} },
  "heun": { scheduler: "HeunDiscreteScheduler", overrides: { ...PLAIN, ...UNCLIPPED } },
  "heun karras": { scheduler: "HeunDiscreteScheduler", overrides: { ...KARRAS, ...UNCLIPPED } },
  "lms": { scheduler: "LMSDiscreteScheduler", overrides: PLAIN },
  "lms karras": { scheduler: "LMSDiscreteScheduler", overrides: KARRAS },
  "dpm++2m": { scheduler: "DPMSolverMultistepScheduler", overrides: { ...PLUS_PLUS, ...PLAIN } },
  "dpm++2m karras": { scheduler: "DPMSolverMultistepScheduler", overrides: { ...PLUS_PLUS, ...KARRAS } },
  "dpm++2m sde": { scheduler: "DPMSolverMultistepScheduler", overrides: { ...SDE, ...PLAIN } },
  "dpm++2m sde karras": { scheduler: "DPMSolverMultistepScheduler", overrides: { ...SDE, ...KARRAS } },
  "ddim": { scheduler: "DDIMScheduler", overrides: UNCLIPPED },
  "ddim_trailing": { scheduler: "DDIMScheduler", overrides: { ...UNCLIPPED, timestep_spacing: "trailing" } },
  "plms": { scheduler: "PNDMScheduler", overrides: { skip_prk_steps: true } },
  "pndm": { scheduler: "PNDMScheduler", overrides: {} },
  "unipc": { scheduler: "UniPCMultistepScheduler", overrides: PLAIN },
  "unipc karras": { scheduler: "UniPCMultistepScheduler", overrides: KARRAS },
  "lcm": { scheduler: "LCMScheduler", overrides: UNCLIPPED },
};

/** The names that {@linkcode samplerByName} knows. */
export const SAMPLER_NAMES: readonly string[] = Object.keys(SAMPLERS);

/**
 * The sampler that A1111 or stable-diffusion.cpp calls `name`, for a model with the scheduler
 * configuration `config`. Case, spaces, underscores and hyphens are ignored: "DPM++ 2M Karras",
 * "dpm++2m karras" and "dpm++2m_karras" are equal.
 *
 * ```ts
 * const scheduler = DDIMScheduler.fromConfig({ beta_schedule: "scaled_linear" });
 * const sampler = samplerByName("euler_a", scheduler.config);
 * ```
 *
 * @throws {SchedulerError} where the name is unknown; the message lists those that are known.
 */
export function samplerByName(name: string, config: SchedulerConfig = {}): Scheduler {
  const plain = (text: string) => text.toLowerCase().replace(/[\s_-]/g, "");
  const known = SAMPLER_NAMES.find((candidate) => plain(candidate) === plain(name));
  if (known === undefined) {
    throw new SchedulerError(
      `Cannot choose a sampler as its name must be one of ${SAMPLER_NAMES.join(", ")}: "${name}"`,
      {
        name,
      },
    );
  }
  const { scheduler, overrides } = SAMPLERS[known];
  return CLASSES[scheduler].fromConfig(config, overrides);
}
