/**
 * Samplers by the names that other programs give them: A1111, ComfyUI, stable-diffusion.cpp and
 * k-diffusion. Names are compared without case, spaces and punctuation, and "++" is "pp".
 *
 * @module
 */
import type { ClassName } from "./classes.ts";
import type { SchedulerConfig } from "./config.ts";

/** What a sampler's name stands for. */
export interface Sampler {
  /** The name that is shown. */
  readonly name: string;
  /** Other names. */
  readonly aliases: readonly string[];
  /** Its class. */
  readonly scheduler: ClassName;
  /** What its configuration says whatever the model's says. */
  readonly overrides: SchedulerConfig;
}

// Latents exceed ±1; the defaults of some classes would clip them.
const UNCLIPPED = { clip_sample: false };
const PLUS_PLUS = { algorithm_type: "dpmsolver++", solver_order: 2 };
const SDE = { algorithm_type: "sde-dpmsolver++", solver_order: 2 };

/** All samplers. */
export const SAMPLERS: readonly Sampler[] = [
  sampler("euler", "EulerDiscreteScheduler", {}),
  sampler("euler_a", "EulerAncestralDiscreteScheduler", {}, ["euler_ancestral"]),
  sampler("heun", "HeunDiscreteScheduler", UNCLIPPED),
  sampler("lms", "LMSDiscreteScheduler", {}),
  sampler("dpm2", "KDPM2DiscreteScheduler", {}, ["dpm_2"]),
  sampler("dpm2 a", "KDPM2AncestralDiscreteScheduler", {}, ["dpm_2_ancestral", "dpm2_ancestral"]),
  sampler("dpm++2m", "DPMSolverMultistepScheduler", PLUS_PLUS),
  sampler("dpm++2m sde", "DPMSolverMultistepScheduler", SDE, ["dpmpp_2m_sde_gpu"]),
  sampler("dpm++2m sde heun", "DPMSolverMultistepScheduler", { ...SDE, solver_type: "heun" }, [
    "dpmpp_2m_sde_heun_gpu",
  ]),
  sampler("dpm++2s", "DPMSolverSinglestepScheduler", PLUS_PLUS),
  // As diffusers' documentation maps it: its own SDE solver needs torchsde.
  sampler("dpm++ sde", "DPMSolverSinglestepScheduler", PLUS_PLUS, ["dpmpp_sde_gpu"]),
  sampler("deis", "DEISMultistepScheduler", { algorithm_type: "deis" }),
  sampler("unipc", "UniPCMultistepScheduler", {}),
  sampler("unipc bh2", "UniPCMultistepScheduler", { solver_type: "bh2" }),
  sampler("ddim", "DDIMScheduler", UNCLIPPED),
  sampler("ddpm", "DDPMScheduler", UNCLIPPED),
  sampler("plms", "PNDMScheduler", { skip_prk_steps: true }),
  sampler("pndm", "PNDMScheduler", {}),
  sampler("lcm", "LCMScheduler", UNCLIPPED),
];

/** How a sampler's noise levels are spaced, by what follows its name. */
export interface Schedule {
  /** The name that is shown. */
  readonly name: string;
  /** Other names. */
  readonly aliases: readonly string[];
  /** Which classes know it: those with spaced σ, those with timestep_spacing, or both. */
  readonly needs: "sigmas" | "timesteps";
  /** What it sets in the configuration. */
  readonly overrides: SchedulerConfig;
}

/** The keys that space noise levels; at most one may be true. */
export const SIGMA_SPACING_KEYS = ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"] as const;

/** All schedules. Those of timesteps are as diffusers' documentation maps the names of A1111. */
export const SCHEDULES: readonly Schedule[] = [
  { name: "karras", aliases: [], needs: "sigmas", overrides: { use_karras_sigmas: true } },
  {
    name: "exponential",
    aliases: ["polyexponential"], // with ρ = 1, A1111's default, they are equal
    needs: "sigmas",
    overrides: { use_exponential_sigmas: true, timestep_spacing: "linspace" },
  },
  { name: "beta", aliases: [], needs: "sigmas", overrides: { use_beta_sigmas: true, timestep_spacing: "linspace" } },
  {
    name: "ddim_uniform",
    aliases: ["leading"],
    needs: "timesteps",
    overrides: { timestep_spacing: "leading", steps_offset: 1 },
  },
  { name: "sgm_uniform", aliases: [], needs: "timesteps", overrides: { timestep_spacing: "trailing" } },
  { name: "simple", aliases: ["trailing"], needs: "timesteps", overrides: { timestep_spacing: "trailing" } },
  {
    name: "normal",
    aliases: ["uniform", "discrete", "linspace"],
    needs: "timesteps",
    overrides: { timestep_spacing: "linspace" },
  },
  { name: "automatic", aliases: ["default"], needs: "timesteps", overrides: {} },
];

/** Samplers and schedules of other programs that are not computed, and what to choose instead. */
export const UNSUPPORTED: Readonly<Record<string, string>> = {
  "DPMSolverSDEScheduler": "dpm++2m sde",
  "dpm++ 2s a": "dpm++2s",
  "dpmpp_2s_ancestral": "dpm++2s",
  "dpm++ 3m sde": "dpm++2m sde",
  "dpmpp_3m_sde": "dpm++2m sde",
  "dpmpp_3m_sde_gpu": "dpm++2m sde",
  "dpm fast": "dpm++2m",
  "dpm adaptive": "dpm++2m",
  "restart": "heun",
  "heunpp2": "heun",
  "ipndm": "plms",
  "ipndm_v": "plms",
  "ddim cfg++": "ddim",
  "euler_cfg_pp": "euler",
  "euler_ancestral_cfg_pp": "euler_a",
  "dpmpp_2m_cfg_pp": "dpm++2m",
  "res_multistep": "dpm++2m",
  "res_multistep_ancestral": "dpm++2m sde",
  "gradient_estimation": "euler",
  "er_sde": "dpm++2m sde",
  "sa_solver": "dpm++2m sde",
  "seeds_2": "dpm++2m sde",
  "seeds_3": "dpm++2m sde",
  "tcd": "lcm",
};

/** Schedules of other programs that are not computed, and what to choose instead. */
export const UNSUPPORTED_SCHEDULES: Readonly<Record<string, string>> = {
  "align your steps": "karras",
  "ays": "karras",
  "gits": "karras",
  "kl optimal": "karras",
  "linear_quadratic": "simple",
  "turbo": "sgm_uniform",
};

/** A name in the form in which names are compared. */
export function plainName(name: string): string {
  return name.toLowerCase().replaceAll("++", "pp").replace(/[^a-z0-9]/g, "").replace(/^k(?=euler|heun|lms|dpm)/, "");
}

function sampler(name: string, scheduler: ClassName, overrides: SchedulerConfig, aliases: string[] = []): Sampler {
  return { name, scheduler, overrides, aliases };
}
