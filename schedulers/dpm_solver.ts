/**
 * What the solvers in log-SNR space share: noise levels in λ = log(α/σ), and the weights of
 * DPM-Solver's steps.
 *
 * @module
 */
import type { Term } from "./plan.ts";
import { mix } from "./plan.ts";

/** A noise level in the variance-preserving picture, and λ = log(α/σ). */
export interface Level {
  /** √ᾱ */
  readonly alpha: number;
  /** √(1 − ᾱ) */
  readonly sigma: number;
  /** Half the log-SNR; infinite at σ = 0. */
  readonly lambda: number;
}

/** The level of a σ at which the signal is scaled to 1. */
export function levelOf(sigma: number): Level {
  const alpha = 1 / Math.sqrt(sigma ** 2 + 1);
  return { alpha, sigma: sigma * alpha, lambda: -Math.log(sigma) };
}

/**
 * A step's weights of the sample, of D0, D1, D2 (the prediction and its differences) and of the
 * noise.
 */
export interface Weights {
  /** Factor of the sample. */
  readonly sample: number;
  /** Factors of D0, D1, D2. */
  readonly differences: readonly [number, number, number];
  /** Factor of fresh noise. */
  readonly noise: number;
}

/**
 * The weights of a step of length h = λ_to − λ_from: the exponential integrals of 1, λ and λ²
 * (arXiv 2206.00927, eq. 3.7; arXiv 2211.01095, eq. 5.2).
 *
 * @param halved whether D1 is taken at half its weight, as the "midpoint" rule does
 */
export function solverWeights(
  algorithm: string,
  { from, to, halved }: { from: Level; to: Level; halved: boolean },
): Weights {
  const h = to.lambda - from.lambda;
  if (h === 0) return { sample: 1, differences: [0, 0, 0], noise: 0 };
  switch (algorithm) {
    case "dpmsolver++": {
      const phi = Math.expm1(-h);
      const first = halved ? -phi / 2 : phi / h + 1;
      const differences = scaled([-phi, first, -((phi + h) / h ** 2 - 0.5)], to.alpha);
      return { sample: to.sigma / from.sigma, differences, noise: 0 };
    }
    case "dpmsolver": {
      const phi = Math.expm1(h);
      const first = halved ? -phi / 2 : -(phi / h - 1);
      const differences = scaled([-phi, first, -((phi - h) / h ** 2 - 0.5)], to.sigma);
      return { sample: to.alpha / from.alpha, differences, noise: 0 };
    }
    case "sde-dpmsolver++": {
      const phi = -Math.expm1(-2 * h);
      const differences = scaled([phi, halved ? phi / 2 : 1 - phi / (2 * h), 0], to.alpha);
      return { sample: to.sigma / from.sigma * Math.exp(-h), differences, noise: to.sigma * Math.sqrt(phi) };
    }
    default: { // sde-dpmsolver
      const phi = Math.expm1(h);
      const differences = scaled([-2 * phi, halved ? -phi : -2 * (phi / h - 1), 0], to.sigma);
      return { sample: to.alpha / from.alpha, differences, noise: to.sigma * Math.sqrt(Math.expm1(2 * h)) };
    }
  }
}

/** The linear form `weights · (sample, D0, D1, D2, noise)`. */
export function weighted(
  weights: Weights,
  { sample, differences, noise = [] }: { sample: Term[]; differences: Term[][]; noise?: Term[] },
): Term[] {
  return mix(
    [weights.sample, sample],
    ...differences.map((form, k) => [weights.differences[k], form] as const),
    [weights.noise, noise],
  );
}

/** The number of timesteps whose λ is below `least`: the cosine schedule has λ without bound. */
export function countBelow(least: number, alphasCumprod: Float32Array): number {
  const { fround, log, sqrt } = Math;
  return alphasCumprod.reduce((count, alphaBar) => {
    const lambda = fround(log(fround(sqrt(alphaBar)))) - fround(log(fround(sqrt(fround(1 - alphaBar)))));
    return lambda < least ? count + 1 : count;
  }, 0);
}

function scaled([a, b, c]: [number, number, number], by: number): [number, number, number] {
  return [a * by, b * by, c * by];
}
