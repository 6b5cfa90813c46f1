import { mix, NOISE, of, type PlanStep, SAMPLE } from "./plan.ts";
import { type BaseConfig, COMMON_DEFAULTS, type ConfigRules, type SchedulerConfig } from "./config.ts";
import { SigmaScheduler } from "./sigma_scheduler.ts";

const RULES: ConfigRules<BaseConfig> = {
  name: "EulerAncestralDiscreteScheduler",
  defaults: { ...COMMON_DEFAULTS, timestep_spacing: "linspace" },
  newer: { rescale_betas_zero_snr: false },
  choices: { prediction_type: ["epsilon", "v_prediction"] },
  leastAlphaBar: true,
};

/**
 * Ancestral sampling with Euler steps, from K. Crowson's k-diffusion, after DDPM (Ho et al., arXiv
 * 2006.11239) in the formulation of Karras et al., arXiv 2206.00364.
 *
 * Each step goes below σ' and adds fresh noise to reach it: `x' = x + (σ_down − σ)
 * d + σ_up · noise`, `σ_up² = σ'² (σ² − σ'²) / σ²`, `σ_down² = σ'² − σ_up²`.
 */
export class EulerAncestralDiscreteScheduler extends SigmaScheduler<BaseConfig> {
  /** Makes a scheduler from a diffusers configuration. Missing keys take diffusers' defaults. */
  constructor(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}) {
    super(RULES, config, overrides);
  }

  /** Makes a scheduler from the configuration of any class. `overrides` take precedence. */
  static override fromConfig(
    config: SchedulerConfig = {},
    overrides: SchedulerConfig = {},
  ): EulerAncestralDiscreteScheduler {
    return new EulerAncestralDiscreteScheduler(config, overrides);
  }

  /** Plans the steps. */
  protected override build(count: number): PlanStep[] {
    const { timesteps, sigmas } = this.schedule(count);
    return timesteps.map((timestep, i) => {
      const { original, slope } = this.slope(sigmas[i]);
      const sigma = sigmas[i], next = sigmas[i + 1];
      const up = next * Math.sqrt((sigma ** 2 - next ** 2) / sigma ** 2);
      const down = next ** 2 / sigma; // √(σ'² − σ_up²)
      return {
        ...this.call(timestep, sigma),
        drawsNoise: true,
        original,
        combine: [{ target: SAMPLE, terms: mix([1, of(SAMPLE)], [down - sigma, slope], [up, of(NOISE)]) }],
      };
    });
  }
}
