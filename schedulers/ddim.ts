import { roundHalfEven, spacedTimesteps } from "./spacing.ts";
import { HISTORY, mix, NOISE, of, type PlanStep, predict, SAMPLE } from "./plan.ts";
import { type BaseConfig, COMMON_DEFAULTS, type ConfigRules, type SchedulerConfig } from "./config.ts";
import { Scheduler } from "./scheduler.ts";

/** The configuration of {@linkcode DDIMScheduler}. */
export interface DDIMConfig extends BaseConfig {
  /** Whether the predicted clean image is clipped. Must be false for latents. */
  readonly clip_sample: boolean;
  /** Whether the last step ends at ᾱ = 1, not at ᾱ of timestep 0. */
  readonly set_alpha_to_one: boolean;
  /**
   * Whether dynamic thresholding limits the predicted clean image (arXiv 2205.11487). For models on
   * pixels, not latents.
   */
  readonly thresholding: boolean;
  /** The quantile of magnitudes that thresholding limits to. */
  readonly dynamic_thresholding_ratio: number;
  /** The largest magnitude that clipping leaves. */
  readonly clip_sample_range: number;
  /** The largest bound of thresholding. */
  readonly sample_max_value: number;
  /** Whether the schedule is rescaled to zero terminal SNR (arXiv 2305.08891). */
  readonly rescale_betas_zero_snr: boolean;
}

const RULES: ConfigRules<DDIMConfig> = {
  name: "DDIMScheduler",
  defaults: {
    ...COMMON_DEFAULTS,
    clip_sample: true,
    set_alpha_to_one: true,
    thresholding: false,
    dynamic_thresholding_ratio: 0.995,
    clip_sample_range: 1,
    sample_max_value: 1,
    rescale_betas_zero_snr: false,
  },
};

/**
 * DDIM: "Denoising Diffusion Implicit Models", Song et al., arXiv 2010.02502.
 *
 * Each step predicts the clean image and adds the noise of the previous timestep (eq. 12 and 16):
 * `x' = √ᾱ' x_0 + √(1 − ᾱ' − σ²) ε + σ · noise`, where `σ = η √((1 − ᾱ') / (1 − ᾱ)) √(1 − ᾱ / ᾱ')`.
 * With η = 0 it is deterministic, with η = 1 it is DDPM.
 */
export class DDIMScheduler extends Scheduler<DDIMConfig> {
  /** Makes a scheduler from a diffusers configuration. Missing keys take diffusers' defaults. */
  constructor(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}) {
    super(RULES, config, overrides);
  }

  /** Makes a scheduler from the configuration of any class. `overrides` take precedence. */
  static override fromConfig(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}): DDIMScheduler {
    return new DDIMScheduler(config, overrides);
  }

  /** Plans the steps. */
  protected override build(count: number, eta: number): PlanStep[] {
    const { num_train_timesteps, prediction_type, set_alpha_to_one } = this.settings;
    const stride = Math.floor(num_train_timesteps / count);
    const finalAlphaBar = set_alpha_to_one ? 1 : this.alphasCumprod[0];
    return spacedTimesteps(count, this.spacing).map(roundHalfEven).map((timestep) => {
      const alphaBar = this.alphaBar(timestep);
      const next = timestep >= stride ? this.alphaBar(timestep - stride) : finalAlphaBar;
      const level = { signal: Math.sqrt(alphaBar), noise: Math.sqrt(1 - alphaBar) };
      const { original, epsilon } = predict(prediction_type, { alpha: level.signal, sigma: level.noise });
      const { x0, keep } = this.limited(original, HISTORY);
      const sigma = eta * Math.sqrt((1 - next) / (1 - alphaBar) * (1 - alphaBar / next));
      const direction = Math.sqrt(1 - next - sigma ** 2);
      return {
        timestep,
        inputScale: 1,
        level,
        drawsNoise: eta > 0,
        original: x0,
        combine: [
          ...keep,
          { target: SAMPLE, terms: mix([Math.sqrt(next), x0], [direction, epsilon], [sigma, of(NOISE)]) },
        ],
      };
    });
  }
}
