import type { BaseConfig } from "./config.ts";
import { sigmasOf } from "./noise_schedule.ts";
import { mix, type NoiseLevel, of, type PlanStep, predict, SAMPLE, type Term } from "./plan.ts";
import { Scheduler } from "./scheduler.ts";
import {
  SIGMA_SPACING_DEFAULTS,
  type SigmaSpacingConfig,
  sigmaSpacingOf,
  spacedSigmas,
  timestepOf,
} from "./sigma_levels.ts";
import { interpolate, linspace, roundHalfEven, spacedTimesteps } from "./spacing.ts";

/** The configuration keys of samplers that work on σ. */
export interface SigmaConfig extends BaseConfig, SigmaSpacingConfig {
  /** Spacing of σ: "linear" (at the timesteps) or "log_linear" (evenly spaced in log σ). */
  readonly interpolation_type?: string;
  /** The σ at which a run ends: "zero", or "sigma_min", that of timestep 0. */
  readonly final_sigmas_type?: string;
  /** The least σ of spaced noise levels. Default: that of the last timestep. */
  readonly sigma_min?: number | null;
  /** The largest σ of spaced noise levels. Default: that of the first timestep. */
  readonly sigma_max?: number | null;
}

/** The keys that later versions of diffusers added to all samplers of k-diffusion. */
export const SIGMA_DEFAULTS = SIGMA_SPACING_DEFAULTS;

/** The timesteps of a run, and their noise levels with the final one. */
export interface SigmaSchedule {
  /** The timesteps that are passed to the model, descending. */
  readonly timesteps: readonly number[];
  /** The noise level at each timestep, then the one at which the last step ends. */
  readonly sigmas: Float32Array;
}

/**
 * Base class of the k-diffusion samplers, in the formulation of Karras et al. (arXiv 2206.00364).
 *
 * A sample is `x = x_0 + σ · noise`. Sampling solves `dx/dσ = ε(x, σ)` from σ_max down to 0. The
 * model was trained on samples of variance 1, so its input is `x / √(σ² + 1)`.
 */
export abstract class SigmaScheduler<Config extends SigmaConfig> extends Scheduler<Config> {
  /** Whether the timesteps of Karras levels are rounded to whole ones. */
  protected readonly roundsKarrasTimesteps: boolean = false;

  /** The timesteps and noise levels of a run of `count` steps. */
  protected schedule(count: number): SigmaSchedule {
    const trained = sigmasOf(this.alphasCumprod);
    const { interpolation_type = "linear", final_sigmas_type = "zero", sigma_min, sigma_max } = this.settings;
    let timesteps = spacedTimesteps(count, this.spacing).map(Math.fround);
    let sigmas = timesteps.map((timestep) => interpolate(trained, timestep));
    if (interpolation_type === "log_linear") {
      const last = trained.length - 1;
      sigmas = linspace(Math.log(trained[last]), Math.log(trained[0]), count + 1).map(Math.exp);
    }
    const kind = sigmaSpacingOf(this.settings);
    if (kind !== "plain") {
      const logSigmas = trained.map(Math.log);
      const max = sigma_max ?? sigmas[0], min = sigma_min ?? sigmas[sigmas.length - 1];
      sigmas = spacedSigmas(kind, { max, min, steps: count });
      timesteps = sigmas.map((sigma) => timestepOf(sigma, logSigmas));
      if (kind === "karras" && this.roundsKarrasTimesteps) timesteps = timesteps.map(roundHalfEven);
    }
    const final = final_sigmas_type === "sigma_min" ? trained[0] : 0;
    return { timesteps, sigmas: Float32Array.from([...sigmas, final]) };
  }

  /** The largest noise level of a plan of `count` steps, or of the training schedule. */
  protected override startingSigma(count?: number): number {
    const sigmas = count === undefined ? sigmasOf(this.alphasCumprod) : this.schedule(count).sigmas;
    const most = sigmas.reduce((a, b) => Math.max(a, b));
    // "leading" does not start at the timestep of σ_max. The first sample therefore contains a
    // signal of variance 1, too.
    return this.settings.timestep_spacing === "leading" ? Math.fround(Math.sqrt(most ** 2 + 1)) : most;
  }

  /** The noise level at a timestep: the signal keeps scale 1. */
  protected override levelAt(timestep: number): NoiseLevel {
    return { signal: 1, noise: interpolate(sigmasOf(this.alphasCumprod), timestep) };
  }

  /** The parts of a step apart from its combinations. */
  protected call(timestep: number, sigma: number): Pick<PlanStep, "timestep" | "inputScale" | "level"> {
    return { timestep, inputScale: 1 / Math.sqrt(sigma ** 2 + 1), level: { signal: 1, noise: sigma } };
  }

  /**
   * The clean image x_0 and the slope dx/dσ = (x − x_0) / σ, as forms of the sample and the output.
   *
   * Combinations take the current slope as such a form, not from a register: a slope rounded to
   * float32 is off by 2⁻²⁴, which σ multiplies, and σ_max of the cosine schedule is 2·10⁴.
   */
  protected slope(sigma: number): { original: Term[]; slope: Term[] } {
    const alpha = 1 / Math.sqrt(sigma ** 2 + 1);
    const { original, epsilon } = predict(this.settings.prediction_type, {
      alpha,
      sigma: sigma * alpha,
      sample: mix([alpha, of(SAMPLE)]),
    });
    return { original, slope: epsilon };
  }
}
