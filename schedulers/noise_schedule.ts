/**
 * Noise schedules (β, ᾱ, σ) and the spacing of timesteps.
 *
 * Models were trained on schedules that torch computes in float32. `Math.fround` reproduces its
 * rounding.
 *
 * @module
 */
import { SchedulerError } from "./error.ts";

const { fround } = Math;

/** The configuration keys that define the noise schedule. */
export interface NoiseScheduleConfig {
  /** Number of noise levels that the model was trained on. */
  readonly num_train_timesteps: number;
  /** The first β of the schedule. */
  readonly beta_start: number;
  /** The last β of the schedule. */
  readonly beta_end: number;
  /**
   * Shape of the β schedule: "linear", "scaled_linear" (linear in √β, as Stable Diffusion) or
   * "squaredcos_cap_v2".
   */
  readonly beta_schedule: string;
  /** Explicit β values, in place of a schedule. */
  readonly trained_betas: readonly number[] | null;
  /** Whether the schedule is rescaled to zero terminal SNR (arXiv 2305.08891). */
  readonly rescale_betas_zero_snr?: boolean;
}

/**
 * ᾱ_t = Π_{s ≤ t} (1 − β_s) for t = 0 … num_train_timesteps − 1, bit for bit as torch computes it
 * on the CPU.
 *
 * @throws {SchedulerError} where `trained_betas` has another length, or a beta lies outside of 0 …
 *   1.
 */
export function alphasCumprod(config: NoiseScheduleConfig): Float32Array {
  const plain = betas(config);
  const wrong = plain.findIndex((beta) => !(beta >= 0 && beta <= 1));
  if (wrong >= 0) {
    throw new SchedulerError(
      `Cannot make a noise schedule as betas must lie in 0 … 1: beta ${wrong} is ${plain[wrong]}`,
      {
        index: wrong,
        beta: plain[wrong],
      },
    );
  }
  return cumulativeAlphas(config.rescale_betas_zero_snr ? rescaledToZeroSnr(plain) : plain);
}

function betas(config: NoiseScheduleConfig): Float32Array {
  const { num_train_timesteps: count, beta_start: start, beta_end: end, beta_schedule, trained_betas } = config;
  if (trained_betas) {
    if (trained_betas.length !== count) {
      throw new SchedulerError(
        `Cannot use trained_betas as there must be num_train_timesteps of them: ${trained_betas.length} ≠ ${count}`,
        { trained_betas: trained_betas.length, num_train_timesteps: count },
      );
    }
    return Float32Array.from(trained_betas);
  }
  switch (beta_schedule) {
    case "linear":
      return torchLinspace(start, end, count);
    case "scaled_linear": // latent diffusion's own: linear in √β
      return torchLinspace(Math.sqrt(start), Math.sqrt(end), count).map((root) => root * root);
    case "squaredcos_cap_v2": // improved DDPM (2102.09672) eq. 17
      return betasFor((t) => Math.cos((t + 0.008) / 1.008 * Math.PI / 2) ** 2, count);
    case "exp":
      return betasFor((t) => Math.exp(-12 * t), count);
    default:
      throw new SchedulerError(`Cannot make a noise schedule of an unknown kind: beta_schedule "${beta_schedule}"`);
  }
}

/**
 * torch.linspace in float32: counted from both ends, each value rounded once (a fused
 * multiply-add).
 */
function torchLinspace(start: number, end: number, count: number): Float32Array {
  const first = fround(start), last = fround(end);
  const step = fround(fround(last - first) / (count - 1));
  return Float32Array.from(
    { length: count },
    (_, i) => i < count / 2 ? first + step * i : last - step * (count - 1 - i),
  );
}

/** The betas of a schedule whose ᾱ follows the curve alphaBar(t), t = 0 … 1. */
function betasFor(alphaBar: (t: number) => number, count: number): Float32Array {
  return Float32Array.from(
    { length: count },
    (_, i) => Math.min(1 - alphaBar((i + 1) / count) / alphaBar(i / count), 0.999),
  );
}

/** As torch.cumprod on the CPU: float64 accumulation, results rounded to float32. */
function cumulativeAlphas(betas: Float32Array): Float32Array {
  let product = 1;
  return betas.map((beta) => product *= fround(1 - beta));
}

/**
 * Betas of the same schedule, shifted and scaled so that √ᾱ ends at 0 (arXiv 2305.08891, algorithm
 * 1).
 */
function rescaledToZeroSnr(betas: Float32Array): Float32Array {
  const roots = cumulativeAlphas(betas).map(Math.sqrt);
  const first = roots[0], last = roots[roots.length - 1];
  const scale = fround(first / fround(first - last));
  const alphaBar = roots.map((root) => fround(fround(root - last) * scale) ** 2);
  return alphaBar.map((value, t) => 1 - fround(t === 0 ? value : value / alphaBar[t - 1]));
}

/** σ_t = √((1 − ᾱ_t) / ᾱ_t), the noise's share when the signal is scaled to 1; rising with t. */
export function sigmasOf(alphasCumprod: Float32Array): Float32Array {
  return alphasCumprod.map((alphaBar) => Math.sqrt(fround(fround(1 - alphaBar) / alphaBar)));
}

/** How timesteps are spaced; see {@linkcode spacedTimesteps}. */
export interface Spacing {
  /** "linspace", "leading" or "trailing" (arXiv 2305.08891, table 2). */
  readonly kind: string;
  /** Number of training timesteps. */
  readonly train: number;
  /** Added to "leading" timesteps. */
  readonly offset: number;
  /** Exclusive upper bound of the timesteps. Default: `train`. */
  readonly last?: number;
  /**
   * Whether one more timestep is spaced at the end and then dropped: for solvers that step toward
   * it.
   */
  readonly open?: boolean;
}

/**
 * `steps` timesteps, descending. "linspace" gives fractions; round them for models that expect
 * integers.
 */
export function spacedTimesteps(steps: number, { kind, train, offset, last = train, open = false }: Spacing): number[] {
  const points = open ? steps + 1 : steps;
  switch (kind) {
    case "linspace":
      return linspace(0, last - 1, points).reverse().slice(0, steps);
    case "leading": {
      const stride = Math.floor(last / points);
      return Array.from({ length: steps }, (_, i) => (points - 1 - i) * stride + offset);
    }
    case "trailing": {
      // numpy.arange uses the rounded difference of its first two values.
      const stride = (last - train / steps) - last;
      const count = Math.ceil(last / (train / steps));
      return Array.from({ length: count }, (_, i) => roundHalfEven(last + i * stride) - 1);
    }
    default:
      throw new SchedulerError(`Cannot space timesteps in an unknown way: timestep_spacing "${kind}"`);
  }
}

/** numpy.linspace in float64. */
export function linspace(start: number, end: number, count: number): number[] {
  const step = (end - start) / (count - 1);
  return Array.from({ length: count }, (_, i) => i === 0 ? start : i === count - 1 ? end : i * step + start);
}

/** As numpy.round: ties go to the even integer. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

/** Linear interpolation of `values` at a fractional index, constant beyond both ends. */
export function interpolate(values: Float32Array, position: number): number {
  const last = values.length - 1;
  if (position <= 0) return values[0];
  if (position >= last) return values[last];
  const low = Math.floor(position);
  return (values[low + 1] - values[low]) * (position - low) + values[low];
}

/**
 * Noise levels from `max` down to `min`, evenly spaced in σ^(1/7) (Karras et al., arXiv 2206.00364,
 * eq. 5).
 */
export function karrasSigmas(max: number, min: number, steps: number): number[] {
  const rho = 7;
  const first = max ** (1 / rho), last = min ** (1 / rho);
  return linspace(0, 1, steps).map((ramp) => (first + ramp * (last - first)) ** rho);
}

/**
 * The fractional timestep at which the training schedule, interpolated linearly in log σ, reaches
 * `sigma`.
 */
export function timestepOf(sigma: number, logSigmas: Float32Array): number {
  const target = Math.log(Math.max(sigma, 1e-10));
  const above = logSigmas.findLastIndex((logSigma) => logSigma <= target);
  const low = Math.min(Math.max(above, 0), logSigmas.length - 2);
  const weight = (logSigmas[low] - target) / fround(logSigmas[low] - logSigmas[low + 1]);
  const clipped = Math.min(Math.max(weight, 0), 1);
  return (1 - clipped) * low + clipped * (low + 1);
}

/** The schedule of the multistep solvers in log-SNR space (DPM-Solver, UniPC). */
export interface SolverSchedule {
  readonly timesteps: number[];
  /** σ at each timestep, then the one at which the last step ends. */
  readonly sigmas: Float32Array;
}

/**
 * Timesteps and noise levels of DPM-Solver and UniPC: as for the σ samplers, but they end at σ_0
 * and not at 0.
 */
export function solverSchedule(
  steps: number,
  { alphasCumprod, spacing, levels = "plain" }: {
    alphasCumprod: Float32Array;
    spacing: Spacing;
    /** Spacing of σ: "karras" in σ^(1/7), "lu" in log σ, "plain" at the timesteps. */
    levels?: "plain" | "karras" | "lu";
  },
): SolverSchedule {
  const trained = sigmasOf(alphasCumprod);
  const logSigmas = trained.map(Math.log);
  const last = trained.length - 1;
  if (levels === "plain") {
    const timesteps = spacedTimesteps(steps, { ...spacing, open: true }).map(roundHalfEven);
    const sigmas = timesteps.map((timestep) => interpolate(trained, timestep));
    return { timesteps, sigmas: Float32Array.from([...sigmas, trained[0]]) };
  }
  const sigmas = levels === "karras"
    ? karrasSigmas(trained[last], trained[0], steps)
    : linspace(0, 1, steps).map((ramp) => Math.exp(logSigmas[last] + ramp * (logSigmas[0] - logSigmas[last])));
  const timesteps = sigmas.map((sigma) => roundHalfEven(timestepOf(sigma, logSigmas)));
  return { timesteps, sigmas: Float32Array.from([...sigmas, sigmas[steps - 1]]) };
}
