import { mix, of, type PlanStep, SAMPLE } from "./plan.ts";
import { COMMON_DEFAULTS, type ConfigRules, type SchedulerConfig } from "./config.ts";
import { SIGMA_DEFAULTS, type SigmaConfig, type SigmaSchedule, SigmaScheduler } from "./sigma_scheduler.ts";

/** The configuration of {@linkcode EulerDiscreteScheduler}. */
export interface EulerDiscreteConfig extends SigmaConfig {
  /** Spacing of σ: "linear" (at the timesteps) or "log_linear" (evenly spaced in log σ). */
  readonly interpolation_type: string;
  /** Whether noise levels are evenly spaced in σ^(1/7), not in time (arXiv 2206.00364). */
  readonly use_karras_sigmas: boolean;
  /** Whether the schedule is rescaled to zero terminal SNR (arXiv 2305.08891). */
  readonly rescale_betas_zero_snr?: boolean;
  /**
   * "discrete", or "continuous": models that predict v are then given log(σ) / 4 as the timestep
   * (arXiv 2206.00364, table 1).
   */
  readonly timestep_type?: string;
}

const RULES: ConfigRules<EulerDiscreteConfig> = {
  name: "EulerDiscreteScheduler",
  defaults: {
    ...COMMON_DEFAULTS,
    timestep_spacing: "linspace",
    interpolation_type: "linear",
    use_karras_sigmas: false,
  },
  newer: {
    ...SIGMA_DEFAULTS,
    sigma_min: null,
    sigma_max: null,
    timestep_type: "discrete",
    rescale_betas_zero_snr: false,
    final_sigmas_type: "zero",
  },
  choices: { interpolation_type: ["linear", "log_linear"], timestep_type: ["discrete", "continuous"] },
  leastAlphaBar: true,
};

/**
 * Euler's method: "Elucidating the Design Space of Diffusion-Based Generative Models", Karras et
 * al., arXiv 2206.00364, algorithm 2 without churn and without its second order.
 *
 * `x' = x + (σ' − σ) d`.
 */
export class EulerDiscreteScheduler extends SigmaScheduler<EulerDiscreteConfig> {
  /** Makes a scheduler from a diffusers configuration. Missing keys take diffusers' defaults. */
  constructor(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}) {
    super(RULES, config, overrides);
  }

  /** Makes a scheduler from the configuration of any class. `overrides` take precedence. */
  static override fromConfig(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}): EulerDiscreteScheduler {
    return new EulerDiscreteScheduler(config, overrides);
  }

  /** The timesteps and noise levels of a run of `count` steps. */
  protected override schedule(count: number): SigmaSchedule {
    const { timesteps, sigmas } = super.schedule(count);
    const { timestep_type, prediction_type } = this.settings;
    if (timestep_type !== "continuous" || prediction_type !== "v_prediction") return { timesteps, sigmas };
    const levels = [...sigmas.subarray(0, -1)];
    return { timesteps: levels.map((sigma) => Math.fround(0.25 * Math.fround(Math.log(sigma)))), sigmas };
  }

  /** Plans the steps. */
  protected override build(count: number): PlanStep[] {
    const { timesteps, sigmas } = this.schedule(count);
    return timesteps.map((timestep, i) => {
      const { original, slope } = this.slope(sigmas[i]);
      return {
        ...this.call(timestep, sigmas[i]),
        drawsNoise: true, // as diffusers, which draws the noise of churn even where churn is zero
        original,
        combine: [{ target: SAMPLE, terms: mix([1, of(SAMPLE)], [sigmas[i + 1] - sigmas[i], slope]) }],
      };
    });
  }
}
