import { COMMON_DEFAULTS, type ConfigRules, type SchedulerConfig } from "./config.ts";
import { HISTORY, mix, of, type PlanStep, SAMPLE } from "./plan.ts";
import { SIGMA_DEFAULTS, type SigmaConfig, SigmaScheduler } from "./sigma_scheduler.ts";
import { midpointTimesteps } from "./midpoint.ts";

/** The configuration of {@linkcode KDPM2DiscreteScheduler}. */
export interface KDPM2DiscreteConfig extends SigmaConfig {
  /** Whether noise levels are evenly spaced in σ^(1/7), not in time (arXiv 2206.00364). */
  readonly use_karras_sigmas: boolean;
}

/** The configuration rules of DPM-Solver-2, with and without ancestral sampling. */
export function kDpm2Rules(name: string): ConfigRules<KDPM2DiscreteConfig> {
  return {
    name,
    defaults: {
      ...COMMON_DEFAULTS,
      beta_start: 0.00085,
      beta_end: 0.012,
      timestep_spacing: "linspace",
      use_karras_sigmas: false,
    },
    newer: SIGMA_DEFAULTS,
    choices: { prediction_type: ["epsilon", "v_prediction"] },
  };
}

const RULES = kDpm2Rules("KDPM2DiscreteScheduler");

/** The sample at the start of an interval. */
const INTERVAL_START = HISTORY;

/**
 * DPM-Solver-2 in k-diffusion's form (A1111's "DPM2"): Lu et al., arXiv 2206.00927, algorithm 1, in
 * the formulation of Karras et al., arXiv 2206.00364.
 *
 * Two model calls per interval: an Euler step to √(σ σ'), then the whole interval with the slope
 * there. The last interval ends at σ = 0 and takes one call: n steps take 2n − 1 model calls.
 */
export class KDPM2DiscreteScheduler extends SigmaScheduler<KDPM2DiscreteConfig> {
  /** Two model calls per interval. */
  override readonly order = 2;
  /** As diffusers. */
  protected override readonly roundsKarrasTimesteps = true;

  /** Makes a scheduler from a diffusers configuration. Missing keys take diffusers' defaults. */
  constructor(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}) {
    super(RULES, config, overrides);
  }

  /** Makes a scheduler from the configuration of any class. `overrides` take precedence. */
  static override fromConfig(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}): KDPM2DiscreteScheduler {
    return new KDPM2DiscreteScheduler(config, overrides);
  }

  /** Plans the steps. */
  protected override build(count: number): PlanStep[] {
    const { timesteps, sigmas } = this.schedule(count);
    const middles = timesteps.slice(1).map((_, i) => Math.fround(Math.sqrt(sigmas[i] * sigmas[i + 1])));
    const middleTimesteps = midpointTimesteps(middles, this.alphasCumprod);
    return timesteps.flatMap((timestep, i) => {
      const first = this.slope(sigmas[i]);
      const middle = middles[i] ?? 0;
      const start: PlanStep = {
        ...this.call(timestep, sigmas[i]),
        drawsNoise: false,
        original: first.original,
        combine: [
          { target: INTERVAL_START, terms: of(SAMPLE) },
          { target: SAMPLE, terms: mix([1, of(SAMPLE)], [middle - sigmas[i], first.slope]) },
        ],
      };
      if (middle === 0) return [start];
      const second = this.slope(middle);
      return [start, {
        ...this.call(middleTimesteps[i], middle),
        drawsNoise: false,
        original: second.original,
        combine: [{
          target: SAMPLE,
          terms: mix([1, of(INTERVAL_START)], [sigmas[i + 1] - sigmas[i], second.slope]),
        }],
      }];
    });
  }
}
