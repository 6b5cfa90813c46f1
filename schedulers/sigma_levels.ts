/**
 * How the noise levels σ of a run are spaced, and the timesteps that belong to them.
 *
 * @module
 */
import { symmetricBetaQuantile } from "./beta_distribution.ts";
import { SchedulerError } from "./error.ts";
import { sigmasOf } from "./noise_schedule.ts";
import { interpolate, linspace, roundHalfEven, spacedTimesteps, type Spacing } from "./spacing.ts";

const { fround } = Math;

/** The configuration keys that space noise levels otherwise than at the timesteps; at most one. */
export interface SigmaSpacingConfig {
  /** Whether noise levels are evenly spaced in σ^(1/7), not in time (arXiv 2206.00364). */
  readonly use_karras_sigmas?: boolean;
  /** Whether noise levels are evenly spaced in log σ. */
  readonly use_exponential_sigmas?: boolean;
  /** Whether noise levels are quantiles of the Beta(0.6, 0.6) distribution (arXiv 2407.12173). */
  readonly use_beta_sigmas?: boolean;
}

/** The keys of {@linkcode SigmaSpacingConfig} that later versions of diffusers added. */
export const SIGMA_SPACING_DEFAULTS = {
  use_exponential_sigmas: false,
  use_beta_sigmas: false,
} as const satisfies SigmaSpacingConfig;

/** "plain" is at the timesteps; "lu" evenly in log σ, as DPM-Solver's use_lu_lambdas. */
export type SigmaSpacing = "plain" | "karras" | "exponential" | "beta" | "lu";

/**
 * The spacing that a configuration asks for.
 *
 * @throws {SchedulerError} for more than one
 */
export function sigmaSpacingOf(config: SigmaSpacingConfig): SigmaSpacing {
  const chosen = (["karras", "exponential", "beta"] as const).filter((kind) => config[`use_${kind}_sigmas`]);
  if (chosen.length > 1) {
    throw new SchedulerError(
      `Cannot space noise levels as at most one of use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas can ` +
        `be true: ${chosen.map((kind) => `use_${kind}_sigmas`).join(" and ")} are`,
      { chosen },
    );
  }
  return chosen[0] ?? "plain";
}

/** `steps` noise levels from `max` down to `min`. */
export function spacedSigmas(
  kind: Exclude<SigmaSpacing, "plain">,
  { max, min, steps }: { max: number; min: number; steps: number },
): number[] {
  switch (kind) {
    case "karras": { // Karras et al., arXiv 2206.00364, eq. 5
      const rho = 7;
      const first = max ** (1 / rho), last = min ** (1 / rho);
      return linspace(0, 1, steps).map((ramp) => (first + ramp * (last - first)) ** rho);
    }
    case "beta": // Lee et al., arXiv 2407.12173
      return linspace(0, 1, steps).map((ramp) => min + symmetricBetaQuantile(1 - ramp, 0.6) * (max - min));
    default: {
      const first = Math.log(max), last = Math.log(min);
      return linspace(first, last, steps).map(Math.exp);
    }
  }
}

/**
 * The fractional timestep at which the training schedule, interpolated linearly in log σ, reaches
 * `sigma`.
 */
export function timestepOf(sigma: number, logSigmas: Float32Array): number {
  const target = Math.log(Math.max(sigma, 1e-10));
  const above = logSigmas.findLastIndex((logSigma) => logSigma <= fround(target));
  const low = Math.min(Math.max(above, 0), logSigmas.length - 2);
  const weight = (logSigmas[low] - target) / fround(logSigmas[low] - logSigmas[low + 1]);
  const clipped = Math.min(Math.max(weight, 0), 1);
  return (1 - clipped) * low + clipped * (low + 1);
}

/** Configuration keys of the solvers in log-SNR space that later versions of diffusers added. */
export interface SolverScheduleConfig extends SigmaSpacingConfig {
  /**
   * Where the last step ends: at "zero", as later versions do by default, or at "sigma_min", that
   * of timestep 0. With null, as in diffusers 0.23, it ends at the latter, or at the last of spaced
   * levels.
   */
  readonly final_sigmas_type?: string | null;
}

/** The defaults of {@linkcode SolverScheduleConfig}. */
export const SOLVER_SCHEDULE_DEFAULTS = {
  ...SIGMA_SPACING_DEFAULTS,
  final_sigmas_type: null,
} as const satisfies SolverScheduleConfig;

/** The schedule of the multistep solvers in log-SNR space (DPM-Solver, DEIS, UniPC). */
export interface SolverSchedule {
  /** The timesteps that are passed to the model, descending. */
  readonly timesteps: number[];
  /** σ at each timestep, then the one at which the last step ends. */
  readonly sigmas: Float32Array;
}

/**
 * Timesteps and noise levels of the solvers in log-SNR space: as for the σ samplers, but they end
 * at σ_min unless told otherwise.
 */
export function solverSchedule(
  steps: number,
  { alphasCumprod, spacing, levels = "plain", final = null, min, max }: {
    alphasCumprod: Float32Array;
    spacing: Spacing;
    levels?: SigmaSpacing;
    /** As `final_sigmas_type`. */
    final?: string | null;
    /** The least σ of spaced levels. Default: that of timestep 0. */
    min?: number | null;
    /** The largest σ of spaced levels. Default: that of the last training timestep. */
    max?: number | null;
  },
): SolverSchedule {
  const trained = sigmasOf(alphasCumprod);
  const logSigmas = trained.map(Math.log);
  const endingAt = (sigmas: number[], least: number) => Float32Array.from([...sigmas, final === "zero" ? 0 : least]);
  if (levels === "plain") {
    const timesteps = spacedTimesteps(steps, { ...spacing, open: true }).map(roundHalfEven);
    return { timesteps, sigmas: endingAt(timesteps.map((timestep) => interpolate(trained, timestep)), trained[0]) };
  }
  const last = trained.length - 1;
  const sigmas = levels === "lu"
    // on log σ rounded to float32, as diffusers
    ? linspace(0, 1, steps).map((ramp) => Math.exp(logSigmas[last] + ramp * (logSigmas[0] - logSigmas[last])))
    : spacedSigmas(levels, { max: max ?? trained[last], min: min ?? trained[0], steps });
  // diffusers truncates the timesteps of the spacings that it added later. A level at a timestep is
  // off by the rounding of its logarithm, which must not make it the timestep before.
  const truncates = levels === "exponential" || levels === "beta";
  const whole = truncates ? (timestep: number) => Math.floor(timestep + 1e-4) : roundHalfEven;
  const timesteps = sigmas.map((sigma) => whole(timestepOf(sigma, logSigmas)));
  return { timesteps, sigmas: endingAt(sigmas, final === null ? sigmas[steps - 1] : trained[0]) };
}
