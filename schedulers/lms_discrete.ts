import { HISTORY, mix, of, type PlanStep, SAMPLE } from "./plan.ts";
import { COMMON_DEFAULTS, type ConfigRules, type SchedulerConfig } from "./config.ts";
import { SIGMA_DEFAULTS, type SigmaConfig, SigmaScheduler } from "./sigma_scheduler.ts";

/** The configuration of {@linkcode LMSDiscreteScheduler}. */
export interface LMSDiscreteConfig extends SigmaConfig {
  /** Whether noise levels are evenly spaced in σ^(1/7), not in time (arXiv 2206.00364). */
  readonly use_karras_sigmas: boolean;
}

const RULES: ConfigRules<LMSDiscreteConfig> = {
  name: "LMSDiscreteScheduler",
  defaults: { ...COMMON_DEFAULTS, timestep_spacing: "linspace", use_karras_sigmas: false },
  newer: SIGMA_DEFAULTS,
};

/** Number of slopes in the formula. */
const ORDER = 4;

/**
 * LMS: the linear multistep (Adams-Bashforth) method on unevenly spaced noise levels, from K.
 * Crowson's k-diffusion, in the formulation of Karras et al., arXiv 2206.00364.
 *
 * `x' = x + Σ_j (∫_σ^σ' ℓ_j(τ) dτ) d_j`, where ℓ_j are the Lagrange polynomials through the last
 * four noise levels and d_j the slopes there.
 */
export class LMSDiscreteScheduler extends SigmaScheduler<LMSDiscreteConfig> {
  /** Makes a scheduler from a diffusers configuration. Missing keys take diffusers' defaults. */
  constructor(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}) {
    super(RULES, config, overrides);
  }

  /** Makes a scheduler from the configuration of any class. `overrides` take precedence. */
  static override fromConfig(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}): LMSDiscreteScheduler {
    return new LMSDiscreteScheduler(config, overrides);
  }

  /** Plans the steps. */
  protected override build(count: number): PlanStep[] {
    const { timesteps, sigmas } = this.schedule(count);
    const slopeOf = (index: number) => HISTORY + index % ORDER;
    return timesteps.map((timestep, i) => {
      const { original, slope } = this.slope(sigmas[i]);
      const order = Math.min(i + 1, ORDER);
      const known = Array.from({ length: order }, (_, age) => sigmas[i - age]);
      const weighted = known.map((_, age) =>
        [
          lagrangeIntegral(known, age, [sigmas[i], sigmas[i + 1]]),
          age === 0 ? slope : of(slopeOf(i - age)),
        ] as const
      );
      return {
        ...this.call(timestep, sigmas[i]),
        drawsNoise: false,
        original,
        combine: [
          { target: slopeOf(i), terms: slope },
          { target: SAMPLE, terms: mix([1, of(SAMPLE)], ...weighted) },
        ],
      };
    });
  }
}

/**
 * ∫ of the Lagrange polynomial that is 1 at nodes[which] and 0 at the others; at most four nodes.
 */
function lagrangeIntegral(nodes: number[], which: number, [from, to]: [number, number]): number {
  const polynomial = (tau: number) =>
    nodes.reduce((product, node, k) => k === which ? product : product * (tau - node) / (nodes[which] - node), 1);
  // Two-point Gauss-Legendre quadrature is exact up to degree 3.
  const middle = (from + to) / 2, half = (to - from) / 2;
  return half * (polynomial(middle - half / Math.sqrt(3)) + polynomial(middle + half / Math.sqrt(3)));
}
