import { SchedulerError } from "./error.ts";
import { HISTORY, mix, NOISE, of, type PlanStep, predict, SAMPLE } from "./plan.ts";
import { type BaseConfig, COMMON_DEFAULTS, type ConfigRules, type SchedulerConfig } from "./config.ts";
import { Scheduler } from "./scheduler.ts";

/** The configuration of {@linkcode LCMScheduler}. */
export interface LCMConfig extends BaseConfig {
  /** Number of timesteps that the model was distilled on. */
  readonly original_inference_steps: number;
  /** Whether the predicted clean image is clipped. Must be false for latents. */
  readonly clip_sample: boolean;
  /** The largest magnitude that clipping leaves. */
  readonly clip_sample_range: number;
  /** Whether the last step ends at ᾱ = 1, not at ᾱ of timestep 0. */
  readonly set_alpha_to_one: boolean;
  /**
   * Whether dynamic thresholding limits the predicted clean image (arXiv 2205.11487). For models on
   * pixels, not latents.
   */
  readonly thresholding: boolean;
  /** The quantile of magnitudes that thresholding limits to. */
  readonly dynamic_thresholding_ratio: number;
  /** The largest bound of thresholding. */
  readonly sample_max_value: number;
  /** Factor of the timestep in the boundary condition c_skip, c_out. */
  readonly timestep_scaling: number;
  /** Whether the schedule is rescaled to zero terminal SNR (arXiv 2305.08891). */
  readonly rescale_betas_zero_snr: boolean;
}

const RULES: ConfigRules<LCMConfig> = {
  name: "LCMScheduler",
  defaults: {
    ...COMMON_DEFAULTS,
    beta_start: 0.00085,
    beta_end: 0.012,
    beta_schedule: "scaled_linear",
    original_inference_steps: 50,
    clip_sample: false,
    clip_sample_range: 1,
    set_alpha_to_one: true,
    thresholding: false,
    dynamic_thresholding_ratio: 0.995,
    sample_max_value: 1,
    timestep_scaling: 10,
    rescale_betas_zero_snr: false,
  },
};

/** σ_data: the standard deviation of the data in the boundary condition. */
const SIGMA_DATA = 0.5;

/**
 * LCM: "Latent Consistency Models", Luo et al., arXiv 2310.04378. For models distilled for it.
 *
 * Each call predicts the clean image, `f = c_skip x + c_out x_0`, where c_skip = 1 and c_out = 0 at
 * time 0. It then adds the noise of the next timestep: `x' = √ᾱ' f + √(1 − ᾱ') noise`. The result
 * is f of the last call.
 */
export class LCMScheduler extends Scheduler<LCMConfig> {
  /** It draws with models that were distilled for it. */
  static readonly needsItsOwnModel = true;

  /** Makes a scheduler from a diffusers configuration. Missing keys take diffusers' defaults. */
  constructor(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}) {
    super(RULES, config, overrides);
  }

  /** Makes a scheduler from the configuration of any class. `overrides` take precedence. */
  static override fromConfig(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}): LCMScheduler {
    return new LCMScheduler(config, overrides);
  }

  /** Plans the steps. */
  protected override build(count: number): PlanStep[] {
    const { prediction_type, timestep_scaling } = this.settings;
    const timesteps = this.#timesteps(count);
    return timesteps.map((timestep, i) => {
      const level = this.levelAt(timestep);
      const { original } = predict(prediction_type, { alpha: level.signal, sigma: level.noise });
      const { x0, keep } = this.limited(original, HISTORY);
      const scaled = timestep * timestep_scaling;
      const skip = SIGMA_DATA ** 2 / (scaled ** 2 + SIGMA_DATA ** 2);
      const out = scaled / Math.sqrt(scaled ** 2 + SIGMA_DATA ** 2);
      const denoised = mix([out, x0], [skip, of(SAMPLE)]);
      const last = i === timesteps.length - 1;
      const next = last ? { signal: 1, noise: 0 } : this.levelAt(timesteps[i + 1]);
      return {
        timestep,
        inputScale: 1,
        level,
        drawsNoise: !last,
        original: denoised,
        combine: [...keep, { target: SAMPLE, terms: mix([next.signal, denoised], [next.noise, of(NOISE)]) }],
      };
    });
  }

  /** An evenly spaced subset of the distillation timesteps, descending from the last. */
  #timesteps(count: number): number[] {
    const { original_inference_steps: distilled, num_train_timesteps } = this.settings;
    if (!(distilled <= num_train_timesteps)) {
      throw new SchedulerError(
        `Cannot plan an LCM run as original_inference_steps must be at most num_train_timesteps = ` +
          `${num_train_timesteps}: ${distilled}`,
        { original_inference_steps: distilled, num_train_timesteps },
      );
    }
    if (count > distilled) {
      throw new SchedulerError(
        `Cannot plan an LCM run as its steps must be at most original_inference_steps = ${distilled}: ${count}`,
        { steps: count, original_inference_steps: distilled },
      );
    }
    const stride = Math.floor(num_train_timesteps / distilled);
    const skip = Math.floor(distilled / count);
    return Array.from({ length: count }, (_, i) => (distilled - i * skip) * stride - 1);
  }
}
