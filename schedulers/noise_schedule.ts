/**
 * The noise schedules that models were trained on: β, ᾱ and σ.
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
    case "sigmoid": // GeoDiff, arXiv 2203.02923
      return torchLinspace(-6, 6, count).map((x) => fround(1 / (1 + Math.exp(-x))) * fround(end - start) + start);
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
