import { mix, of, type PlanStep, SAMPLE } from "./plan.ts";
import { COMMON_DEFAULTS, type ConfigRules, type SchedulerConfig } from "./scheduler.ts";
import { type SigmaConfig, SigmaScheduler } from "./sigma_scheduler.ts";

/** The configuration of {@linkcode EulerDiscreteScheduler}. */
export interface EulerDiscreteConfig extends SigmaConfig {
  /** Spacing of σ: "linear" (at the timesteps) or "log_linear" (evenly spaced in log σ). */
  readonly interpolation_type: string;
  /** Whether noise levels are evenly spaced in σ^(1/7), not in time (arXiv 2206.00364). */
  readonly use_karras_sigmas: boolean;
}

const RULES: ConfigRules<EulerDiscreteConfig> = {
  name: "EulerDiscreteScheduler",
  defaults: {
    ...COMMON_DEFAULTS,
    timestep_spacing: "linspace",
    interpolation_type: "linear",
    use_karras_sigmas: false,
  },
  choices: { interpolation_type: ["linear", "log_linear"] },
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
  static fromConfig(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}): EulerDiscreteScheduler {
    return new EulerDiscreteScheduler(config, overrides);
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
