import type { SchedulerConfig } from "./config.ts";
import { type KDPM2DiscreteConfig, kDpm2Rules } from "./k_dpm_2_discrete.ts";
import { midpointTimesteps } from "./midpoint.ts";
import { HISTORY, mix, NOISE, of, type PlanStep, SAMPLE } from "./plan.ts";
import { SigmaScheduler } from "./sigma_scheduler.ts";

/** The configuration of {@linkcode KDPM2AncestralDiscreteScheduler}. */
export type KDPM2AncestralDiscreteConfig = KDPM2DiscreteConfig;

const RULES = kDpm2Rules("KDPM2AncestralDiscreteScheduler");

const { fround } = Math;

/** The sample at the start of an interval. */
const INTERVAL_START = HISTORY;

/**
 * DPM-Solver-2 with ancestral sampling, from K. Crowson's k-diffusion (A1111's "DPM2 a"), in the
 * formulation of Karras et al., arXiv 2206.00364.
 *
 * As {@linkcode KDPM2DiscreteScheduler}, but each interval goes below σ', to σ_down = σ'² / σ, and
 * adds noise of σ_up = σ' √(σ² − σ'²) / σ to reach it. Its middle is √(σ σ_down).
 */
export class KDPM2AncestralDiscreteScheduler extends SigmaScheduler<KDPM2AncestralDiscreteConfig> {
  /** Two model calls per interval. */
  override readonly order = 2;
  /** As diffusers. */
  protected override readonly roundsKarrasTimesteps = true;

  /** Makes a scheduler from a diffusers configuration. Missing keys take diffusers' defaults. */
  constructor(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}) {
    super(RULES, config, overrides);
  }

  /** Makes a scheduler from the configuration of any class. `overrides` take precedence. */
  static override fromConfig(
    config: SchedulerConfig = {},
    overrides: SchedulerConfig = {},
  ): KDPM2AncestralDiscreteScheduler {
    return new KDPM2AncestralDiscreteScheduler(config, overrides);
  }

  /** Plans the steps. */
  protected override build(count: number): PlanStep[] {
    const { timesteps, sigmas } = this.schedule(count);
    const intervals = timesteps.slice(1).map((_, i) => intervalOf(sigmas[i], sigmas[i + 1]));
    const middles = intervals.map(({ middle }) => middle);
    const middleTimesteps = midpointTimesteps(middles, this.alphasCumprod);
    return timesteps.flatMap((timestep, i) => {
      const sigma = sigmas[i];
      const first = this.slope(sigma);
      const { middle, up, down } = intervals[i] ?? { middle: 0, up: 0, down: 0 };
      const start: PlanStep = {
        ...this.call(timestep, sigma),
        drawsNoise: true, // as diffusers, which draws at each call and uses every second draw
        original: first.original,
        combine: [
          { target: INTERVAL_START, terms: of(SAMPLE) },
          { target: SAMPLE, terms: mix([1, of(SAMPLE)], [middle - sigma, first.slope]) },
        ],
      };
      if (middle === 0) return [start];
      const second = this.slope(middle);
      return [start, {
        ...this.call(middleTimesteps[i], middle),
        drawsNoise: true,
        original: second.original,
        combine: [{
          target: SAMPLE,
          terms: mix([1, of(INTERVAL_START)], [down - sigma, second.slope], [up, of(NOISE)]),
        }],
      }];
    });
  }
}

/**
 * σ_up, σ_down and √(σ σ_down) as diffusers computes them, in float32: σ_down² = σ'² − σ_up²
 * cancels where σ' is much less than σ, and the timestep that the model is given follows from it.
 */
function intervalOf(sigma: number, next: number): { middle: number; up: number; down: number } {
  const square = fround(sigma * sigma), nextSquare = fround(next * next);
  const up = fround(Math.sqrt(fround(fround(nextSquare * fround(square - nextSquare)) / square)));
  const downSquare = fround(nextSquare - fround(up * up));
  // Where it cancels altogether, diffusers' run is NaN.
  const down = downSquare > 0 ? fround(Math.sqrt(downSquare)) : next ** 2 / sigma;
  const logSigma = fround(Math.log(sigma)), logDown = fround(Math.log(down));
  const middle = fround(Math.exp(fround(logDown - fround(fround(logDown - logSigma) * 0.5))));
  return { middle, up, down };
}
