import { type BaseConfig, COMMON_DEFAULTS, type ConfigRules, type SchedulerConfig } from "./config.ts";
import { HISTORY, mix, NOISE, of, type PlanStep, predict, SAMPLE } from "./plan.ts";
import { Scheduler } from "./scheduler.ts";
import { roundHalfEven, spacedTimesteps } from "./spacing.ts";

/** The configuration of {@linkcode DDPMScheduler}. */
export interface DDPMConfig extends BaseConfig {
  /**
   * The variance of the noise that is added: "fixed_small" (β̃) or "fixed_small_log", the same, or
   * "fixed_large" (β). Models that predict their variance are not supported, nor is
   * "fixed_large_log", whose steps are NaN in diffusers.
   */
  readonly variance_type: string;
  /** Whether the predicted clean image is clipped. Must be false for latents. */
  readonly clip_sample: boolean;
  /** The largest magnitude that clipping leaves. */
  readonly clip_sample_range: number;
  /**
   * Whether dynamic thresholding limits the predicted clean image (arXiv 2205.11487). For models on
   * pixels, not latents.
   */
  readonly thresholding: boolean;
  /** The quantile of magnitudes that thresholding limits to. */
  readonly dynamic_thresholding_ratio: number;
  /** The largest bound of thresholding. */
  readonly sample_max_value: number;
}

const RULES: ConfigRules<DDPMConfig> = {
  name: "DDPMScheduler",
  defaults: {
    ...COMMON_DEFAULTS,
    variance_type: "fixed_small",
    clip_sample: true,
    thresholding: false,
    dynamic_thresholding_ratio: 0.995,
    clip_sample_range: 1,
    sample_max_value: 1,
  },
  newer: { rescale_betas_zero_snr: false },
  choices: {
    variance_type: ["fixed_small", "fixed_small_log", "fixed_large"],
    beta_schedule: ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"],
  },
};

/**
 * DDPM: "Denoising Diffusion Probabilistic Models", Ho et al., arXiv 2006.11239.
 *
 * Each step is the posterior mean of eq. 7, `√ᾱ' β / (1 − ᾱ) x_0 + √α (1 − ᾱ') / (1 − ᾱ) x` with
 * α = ᾱ/ᾱ' and β = 1 − α, and noise of the variance β̃ = (1 − ᾱ') / (1 − ᾱ) β.
 */
export class DDPMScheduler extends Scheduler<DDPMConfig> {
  /** Makes a scheduler from a diffusers configuration. Missing keys take diffusers' defaults. */
  constructor(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}) {
    super(RULES, config, overrides);
  }

  /** Makes a scheduler from the configuration of any class. `overrides` take precedence. */
  static override fromConfig(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}): DDPMScheduler {
    return new DDPMScheduler(config, overrides);
  }

  /** Plans the steps. */
  protected override build(count: number): PlanStep[] {
    const { num_train_timesteps, prediction_type, variance_type } = this.settings;
    const stride = Math.floor(num_train_timesteps / count);
    return spacedTimesteps(count, this.spacing).map(roundHalfEven).map((timestep) => {
      const alphaBar = this.alphaBar(timestep);
      const next = timestep >= stride ? this.alphaBar(timestep - stride) : 1;
      const level = { signal: Math.sqrt(alphaBar), noise: Math.sqrt(1 - alphaBar) };
      const { original } = predict(prediction_type, { alpha: level.signal, sigma: level.noise });
      const { x0, keep } = this.limited(original, HISTORY);
      const alpha = alphaBar / next, beta = 1 - alpha;
      // diffusers takes the logarithm of the variance, and so keeps it above zero.
      const smallVariance = Math.max((1 - next) / (1 - alphaBar) * beta, 1e-20);
      const deviation = Math.sqrt(variance_type === "fixed_large" ? beta : smallVariance);
      return {
        timestep,
        inputScale: 1,
        level,
        drawsNoise: timestep > 0,
        original: x0,
        combine: [...keep, {
          target: SAMPLE,
          terms: mix(
            [Math.sqrt(next) * beta / (1 - alphaBar), x0],
            [Math.sqrt(alpha) * (1 - next) / (1 - alphaBar), of(SAMPLE)],
            [timestep > 0 ? deviation : 0, of(NOISE)],
          ),
        }],
      };
    });
  }
}
