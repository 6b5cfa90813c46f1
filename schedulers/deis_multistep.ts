import {
  type BaseConfig,
  COMMON_DEFAULTS,
  type ConfigRules,
  FLOW_DEFAULTS,
  type FlowConfig,
  type SchedulerConfig,
} from "./config.ts";
import { levelOf } from "./dpm_solver.ts";
import { HISTORY, mix, of, type PlanStep, predict, SAMPLE } from "./plan.ts";
import { Scheduler } from "./scheduler.ts";
import { SIGMA_SPACING_DEFAULTS, type SigmaSpacingConfig, sigmaSpacingOf, solverSchedule } from "./sigma_levels.ts";

/** The configuration of {@linkcode DEISMultistepScheduler}. */
export interface DEISMultistepConfig extends BaseConfig, SigmaSpacingConfig, FlowConfig {
  /** Number of predictions that a step combines. */
  readonly solver_order: number;
  /**
   * Whether dynamic thresholding limits the predicted clean image (arXiv 2205.11487). For models on
   * pixels, not latents.
   */
  readonly thresholding: boolean;
  /** The quantile of magnitudes that thresholding limits to. */
  readonly dynamic_thresholding_ratio: number;
  /** The largest bound of thresholding. */
  readonly sample_max_value: number;
  /** "deis". */
  readonly algorithm_type: string;
  /** "logrho": polynomials in log ρ, where ρ = σ/α. */
  readonly solver_type: string;
  /** Whether short runs end with steps of lower order, for stability. */
  readonly lower_order_final: boolean;
  /** Whether noise levels are evenly spaced in σ^(1/7), not in time (arXiv 2206.00364). */
  readonly use_karras_sigmas: boolean;
}

const RULES: ConfigRules<DEISMultistepConfig> = {
  name: "DEISMultistepScheduler",
  defaults: {
    ...COMMON_DEFAULTS,
    timestep_spacing: "linspace",
    solver_order: 2,
    thresholding: false,
    dynamic_thresholding_ratio: 0.995,
    sample_max_value: 1,
    algorithm_type: "deis",
    solver_type: "logrho",
    lower_order_final: true,
    use_karras_sigmas: false,
  },
  newer: { ...SIGMA_SPACING_DEFAULTS, ...FLOW_DEFAULTS },
  choices: { solver_order: [1, 2, 3], algorithm_type: ["deis"], solver_type: ["logrho"] },
  // diffusers maps the variants of other solvers to the only one.
  synonyms: {
    algorithm_type: { "dpmsolver": "deis", "dpmsolver++": "deis" },
    solver_type: { midpoint: "logrho", heun: "logrho", bh1: "logrho", bh2: "logrho" },
  },
};

/** Runs with fewer model calls end with steps of lower order if `lower_order_final` is set. */
const SHORT_RUN = 15;

/**
 * DEIS: "Fast Sampling of Diffusion Models with Exponential Integrator", Zhang and Chen, arXiv
 * 2204.13902, the multistep variant in log ρ.
 *
 * With ρ = σ/α, `x'/α' = x/α + Σ_j (∫_ρ^ρ' ℓ_j(log r) dr) ε_j`, where ℓ_j are the Lagrange
 * polynomials in log ρ through the last levels and ε_j the noise predicted there.
 */
export class DEISMultistepScheduler extends Scheduler<DEISMultistepConfig> {
  /** Makes a scheduler from a diffusers configuration. Missing keys take diffusers' defaults. */
  constructor(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}) {
    super(RULES, config, overrides);
  }

  /** Makes a scheduler from the configuration of any class. `overrides` take precedence. */
  static override fromConfig(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}): DEISMultistepScheduler {
    return new DEISMultistepScheduler(config, overrides);
  }

  /** Plans the steps. */
  protected override build(count: number): PlanStep[] {
    const { solver_order, prediction_type, lower_order_final } = this.settings;
    const { timesteps, sigmas } = solverSchedule(count, {
      alphasCumprod: this.alphasCumprod,
      spacing: this.spacing,
      levels: sigmaSpacingOf(this.settings),
    });
    const calls = timesteps.length;
    const noiseOf = (index: number) => HISTORY + index % solver_order;
    return timesteps.map((timestep, i) => {
      const { alpha, sigma } = levelOf(sigmas[i]);
      const next = levelOf(sigmas[i + 1]);
      const { original, epsilon } = predict(prediction_type, { alpha, sigma });
      const { x0, keep } = this.limited(original, HISTORY + solver_order);
      const noise = this.nonlinear ? mix([1 / sigma, of(SAMPLE)], [-alpha / sigma, x0]) : epsilon;
      const left = lower_order_final && calls < SHORT_RUN ? calls - i : solver_order;
      const nodes = Array.from({ length: Math.min(solver_order, i + 1, left) }, (_, age) => sigmas[i - age]);
      const weights = nodes.map((_, age) => integralOfLagrange(nodes, age, { from: sigmas[i], to: sigmas[i + 1] }));
      return {
        timestep,
        inputScale: 1,
        level: { signal: alpha, noise: sigma },
        drawsNoise: false,
        original: x0,
        combine: [...keep, { target: noiseOf(i), terms: noise }, {
          target: SAMPLE,
          terms: mix(
            [next.alpha / alpha, of(SAMPLE)],
            // The current noise is a linear form, so that it is not rounded before σ multiplies it.
            ...weights.map((weight, age) => [next.alpha * weight, age === 0 ? noise : of(noiseOf(i - age))] as const),
          ),
        }],
      };
    });
  }
}

/**
 * ∫ from `from` to `to` of the Lagrange polynomial in log r that is 1 at nodes[which] and 0 at the
 * other nodes; at most three.
 *
 * With p = log r − a and q = log r − b: ∫ p dr = r (p − 1) and ∫ p q dr = r (p q − p − q + 2).
 */
function integralOfLagrange(
  nodes: readonly number[],
  which: number,
  { from, to }: { from: number; to: number },
): number {
  const at = Math.log(nodes[which]);
  const others = nodes.filter((_, k) => k !== which).map(Math.log);
  const scale = others.reduce((product, other) => product * (at - other), 1);
  const antiderivative = (r: number) => {
    const [p, q] = others.map((other) => Math.log(r) - other);
    if (p === undefined) return r;
    return q === undefined ? r * (p - 1) : r * (p * q - p - q + 2);
  };
  return (antiderivative(to) - antiderivative(from)) / scale;
}
