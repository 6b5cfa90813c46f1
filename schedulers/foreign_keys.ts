/**
 * Keys that a class reads past, since a configuration is handed from one class to another.
 *
 * @module
 */

/**
 * The keys of all schedulers of diffusers that draw with Stable Diffusion, in 0.23 and later
 * versions.
 */
export const FOREIGN_KEYS: ReadonlySet<string> = new Set([
  "algorithm_type",
  "beta_end",
  "beta_schedule",
  "beta_start",
  "clip_sample",
  "clip_sample_range",
  "disable_corrector",
  "dynamic_thresholding_ratio",
  "euler_at_final",
  "final_sigmas_type",
  "flow_shift",
  "interpolation_type",
  "lambda_min_clipped",
  "lower_order_final",
  "noise_sampler_seed",
  "num_train_timesteps",
  "original_inference_steps",
  "predict_x0",
  "prediction_type",
  "rescale_betas_zero_snr",
  "sample_max_value",
  "set_alpha_to_one",
  "shift_terminal",
  "sigma_max",
  "sigma_min",
  "skip_prk_steps",
  "solver_order",
  "solver_p",
  "solver_type",
  "steps_offset",
  "thresholding",
  "time_shift_type",
  "timestep_scaling",
  "timestep_spacing",
  "timestep_type",
  "trained_betas",
  "use_beta_sigmas",
  "use_dynamic_shifting",
  "use_exponential_sigmas",
  "use_flow_sigmas",
  "use_karras_sigmas",
  "use_lu_lambdas",
  "variance_type",
]);

/** A value that a class without the key draws with anyway, and what to do about another one. */
export interface Ignored {
  /** The value that changes nothing. */
  readonly value: unknown;
  /** Which schedulers heed the key. */
  readonly advice: string;
}

const SIGMA_SPACING_ADVICE = "Choose Euler, Heun, LMS, DPM2, DPM++, DEIS or UniPC, which space noise levels so";
const FLOW_ADVICE = "Flow matching is another kind of model";

/** Keys that change pictures: a class that has no such key says so where they are set. */
export const IGNORED_AT: Readonly<Record<string, Ignored>> = {
  rescale_betas_zero_snr: {
    value: false,
    advice: "Choose DDIM, DDPM, Euler, Euler a, LCM, DPM++ 2M or UniPC for a model of zero terminal SNR",
  },
  use_exponential_sigmas: { value: false, advice: SIGMA_SPACING_ADVICE },
  use_beta_sigmas: { value: false, advice: SIGMA_SPACING_ADVICE },
  use_flow_sigmas: { value: false, advice: FLOW_ADVICE },
  use_dynamic_shifting: { value: false, advice: FLOW_ADVICE },
  timestep_type: { value: "discrete", advice: "Choose EulerDiscreteScheduler, which has continuous timesteps" },
};
