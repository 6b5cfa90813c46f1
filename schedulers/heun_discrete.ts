import { HISTORY, mix, of, type PlanStep, SAMPLE } from "./plan.ts";
import { COMMON_DEFAULTS, type ConfigRules, type SchedulerConfig } from "./config.ts";
import { SIGMA_DEFAULTS, type SigmaConfig, SigmaScheduler } from "./sigma_scheduler.ts";

/** The configuration of {@linkcode HeunDiscreteScheduler}. */
export interface HeunDiscreteConfig extends SigmaConfig {
  /** Whether noise levels are evenly spaced in σ^(1/7), not in time (arXiv 2206.00364). */
  readonly use_karras_sigmas: boolean;
  /** Whether the predicted clean image is clipped. Must be false for latents. */
  readonly clip_sample: boolean;
  /** The largest magnitude that clipping leaves. */
  readonly clip_sample_range: number;
}

const RULES: ConfigRules<HeunDiscreteConfig> = {
  name: "HeunDiscreteScheduler",
  defaults: {
    ...COMMON_DEFAULTS,
    beta_start: 0.00085,
    beta_end: 0.012,
    timestep_spacing: "linspace",
    use_karras_sigmas: false,
    clip_sample: false,
    clip_sample_range: 1,
  },
  newer: SIGMA_DEFAULTS,
  choices: { beta_schedule: ["linear", "scaled_linear", "squaredcos_cap_v2", "exp"] },
};

/** The sample at the start of an interval and its clean image; the clean image at its end. */
const INTERVAL_START = HISTORY, START_ORIGINAL = HISTORY + 1, END_ORIGINAL = HISTORY + 2;

/**
 * Heun's method: "Elucidating the Design Space of Diffusion-Based Generative Models", Karras et
 * al., arXiv 2206.00364, algorithm 1.
 *
 * Two model calls per interval: an Euler step to σ', then the interval again with the mean of the
 * slopes at its two ends. The last interval ends at σ = 0, where the slope is undefined, and takes
 * one call: n steps take 2n − 1 model calls.
 */
export class HeunDiscreteScheduler extends SigmaScheduler<HeunDiscreteConfig> {
  /** Two model calls per interval. */
  override readonly order = 2;

  /** Makes a scheduler from a diffusers configuration. Missing keys take diffusers' defaults. */
  constructor(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}) {
    super(RULES, config, overrides);
  }

  /** Makes a scheduler from the configuration of any class. `overrides` take precedence. */
  static override fromConfig(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}): HeunDiscreteScheduler {
    return new HeunDiscreteScheduler(config, overrides);
  }

  /** Plans the steps. */
  protected override build(count: number): PlanStep[] {
    const { timesteps, sigmas } = this.schedule(count);
    return timesteps.flatMap((timestep, i) => {
      const interval = sigmas[i + 1] - sigmas[i];
      const first = this.#callAt(timestep, sigmas[i], START_ORIGINAL);
      const predictor: PlanStep = {
        ...first.call,
        combine: [
          ...first.keep,
          { target: INTERVAL_START, terms: of(SAMPLE) },
          { target: SAMPLE, terms: mix([1, of(SAMPLE)], [interval, first.slope]) },
        ],
      };
      if (i === timesteps.length - 1) return [predictor];
      const second = this.#callAt(timesteps[i + 1], sigmas[i + 1], END_ORIGINAL);
      const startSlope = mix([1 / sigmas[i], of(INTERVAL_START)], [-1 / sigmas[i], of(START_ORIGINAL)]);
      const terms = mix([1, of(INTERVAL_START)], [interval / 2, startSlope], [interval / 2, second.slope]);
      return [predictor, { ...second.call, combine: [...second.keep, { target: SAMPLE, terms }] }];
    });
  }

  /** A model call, the combination that keeps its clean image, and its slope as a linear form. */
  #callAt(timestep: number, sigma: number, register: number) {
    const { original, slope } = this.slope(sigma);
    const limited = this.nonlinear ? { limited: true } as const : {};
    return {
      call: { ...this.call(timestep, sigma), drawsNoise: false, original: of(register) },
      keep: [{ target: register, terms: mix([1, original]), ...limited }],
      slope: this.nonlinear ? mix([1 / sigma, of(SAMPLE)], [-1 / sigma, of(register)]) : slope,
    };
  }
}
