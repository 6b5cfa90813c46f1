import { interpolate, karrasSigmas, linspace, sigmasOf, spacedTimesteps, timestepOf } from "./noise_schedule.ts";
import { mix, type NoiseLevel, of, type PlanStep, predict, SAMPLE, type Term } from "./plan.ts";
import { type BaseConfig, Scheduler } from "./scheduler.ts";

/** The configuration keys of samplers that work on σ. */
export interface SigmaConfig extends BaseConfig {
  /** Whether noise levels are evenly spaced in σ^(1/7), not in time (arXiv 2206.00364). */
  readonly use_karras_sigmas?: boolean;
  /** Spacing of σ: "linear" (at the timesteps) or "log_linear" (evenly spaced in log σ). */
  readonly interpolation_type?: string;
}

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
  /** The timesteps and noise levels of a run of `count` steps. */
  protected schedule(count: number): SigmaSchedule {
    const trained = sigmasOf(this.alphasCumprod);
    const { use_karras_sigmas = false, interpolation_type = "linear" } = this.settings;
    let timesteps = spacedTimesteps(count, this.spacing).map(Math.fround);
    let sigmas = timesteps.map((timestep) => interpolate(trained, timestep));
    if (interpolation_type === "log_linear") {
      const last = trained.length - 1;
      sigmas = linspace(Math.log(trained[last]), Math.log(trained[0]), count + 1).map(Math.exp);
    }
    if (use_karras_sigmas) {
      const logSigmas = trained.map(Math.log);
      sigmas = karrasSigmas(sigmas[0], sigmas[sigmas.length - 1], count);
      timesteps = sigmas.map((sigma) => timestepOf(sigma, logSigmas));
    }
    return { timesteps, sigmas: Float32Array.from([...sigmas, 0]) };
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

  /** The clean image x_0 and the slope dx/dσ = (x − x_0) / σ. */
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
