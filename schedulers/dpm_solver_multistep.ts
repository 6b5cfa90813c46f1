import { SchedulerError } from "./error.ts";
import { type SolverSchedule, solverSchedule } from "./noise_schedule.ts";
import { type Combination, HISTORY, mix, NOISE, of, type PlanStep, predict, SAMPLE, type Term } from "./plan.ts";
import { type BaseConfig, COMMON_DEFAULTS, type ConfigRules, Scheduler, type SchedulerConfig } from "./scheduler.ts";

/** The configuration of {@linkcode DPMSolverMultistepScheduler}. */
export interface DPMSolverMultistepConfig extends BaseConfig {
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
  /**
   * "dpmsolver++" (integrates the clean image), "dpmsolver" (integrates the noise), or one of them
   * with the prefix "sde-".
   */
  readonly algorithm_type: string;
  /** "midpoint" or "heun", for the second order. */
  readonly solver_type: string;
  /** Whether short runs end with steps of lower order, for stability. */
  readonly lower_order_final: boolean;
  /** Whether the last step is of first order in runs of any length. */
  readonly euler_at_final: boolean;
  /** Whether noise levels are evenly spaced in σ^(1/7), not in time (arXiv 2206.00364). */
  readonly use_karras_sigmas: boolean;
  /** Whether noise levels are evenly spaced in log σ. */
  readonly use_lu_lambdas: boolean;
  /** Timesteps with a smaller λ are skipped. For the cosine schedule. */
  readonly lambda_min_clipped: number;
  /** Models that predict their variance are not supported. */
  readonly variance_type: null;
}

const RULES: ConfigRules<DPMSolverMultistepConfig> = {
  name: "DPMSolverMultistepScheduler",
  defaults: {
    ...COMMON_DEFAULTS,
    timestep_spacing: "linspace",
    solver_order: 2,
    thresholding: false,
    dynamic_thresholding_ratio: 0.995,
    sample_max_value: 1,
    algorithm_type: "dpmsolver++",
    solver_type: "midpoint",
    lower_order_final: true,
    euler_at_final: false,
    use_karras_sigmas: false,
    use_lu_lambdas: false,
    lambda_min_clipped: -Infinity,
    variance_type: null,
  },
  choices: {
    solver_order: [1, 2, 3],
    algorithm_type: ["dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"],
    solver_type: ["midpoint", "heun"],
    variance_type: [null],
  },
  // diffusers maps the variants of other solvers to the default one.
  synonyms: {
    algorithm_type: { deis: "dpmsolver++" },
    solver_type: { logrho: "midpoint", bh1: "midpoint", bh2: "midpoint" },
  },
};

/** Runs with fewer model calls end with steps of lower order if `lower_order_final` is set. */
const SHORT_RUN = 15;

/**
 * A step's weights of the sample, of D0, D1, D2 (the prediction and its differences) and of the
 * noise.
 */
interface Weights {
  readonly sample: number;
  readonly differences: readonly [number, number, number];
  readonly noise: number;
}

/**
 * DPM-Solver and DPM-Solver++, multistep: Lu et al., arXiv 2206.00927 and arXiv 2211.01095. The
 * default, second order "dpmsolver++", is what A1111 calls DPM++ 2M.
 *
 * With λ = log(α/σ), half the log-SNR, the linear part of the diffusion ODE is solved exactly. The
 * remaining integral over λ is of the predicted clean image (`++`) or of the predicted noise. Its
 * Taylor terms D0, D1, D2 are differences of the last predictions. The `sde-` variants solve the
 * stochastic equation.
 *
 * Where diffusers 0.23 divides by a last interval of length zero (second-order "heun" or third
 * order along Karras or Lu levels without a lower final order: NaN), this class leaves the sample
 * as it is.
 */
export class DPMSolverMultistepScheduler extends Scheduler<DPMSolverMultistepConfig> {
  /** Makes a scheduler from a diffusers configuration. Missing keys take diffusers' defaults. */
  constructor(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}) {
    super(RULES, config, overrides);
    const { algorithm_type, solver_order } = this.settings;
    if (algorithm_type.startsWith("sde-") && solver_order === 3) {
      throw new SchedulerError(
        `Cannot configure DPMSolverMultistepScheduler as algorithm_type "${algorithm_type}" ` +
          "goes up to solver_order 2: 3",
        { algorithm_type, solver_order },
      );
    }
  }

  /** Makes a scheduler from the configuration of any class. `overrides` take precedence. */
  static fromConfig(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}): DPMSolverMultistepScheduler {
    return new DPMSolverMultistepScheduler(config, overrides);
  }

  /** Plans the steps. */
  protected override build(count: number): PlanStep[] {
    const { solver_order, algorithm_type } = this.settings;
    const { timesteps, sigmas } = this.#schedule(count);
    const predictionOf = (index: number) => HISTORY + index % solver_order;
    return timesteps.map((timestep, i) => {
      const levels = Array.from({ length: this.#orderAt(i, timesteps.length) }, (_, age) => levelOf(sigmas[i - age]));
      const [now] = levels;
      const { keep, original } = this.#convert(predictionOf(i), now);
      const predictions = levels.map((_, age) => of(predictionOf(i - age)));
      const weights = this.#weights({ from: now, to: levelOf(sigmas[i + 1]), order: levels.length });
      const differences = differencesOf(predictions, levels.map(({ lambda }) => lambda), levelOf(sigmas[i + 1]).lambda);
      return {
        timestep,
        inputScale: 1,
        level: { signal: now.alpha, noise: now.sigma },
        drawsNoise: algorithm_type.startsWith("sde-"),
        original,
        combine: [...keep, {
          target: SAMPLE,
          terms: mix(
            [weights.sample, of(SAMPLE)],
            ...differences.map((form, k) => [weights.differences[k], form] as const),
            [weights.noise, of(NOISE)],
          ),
        }],
      };
    });
  }

  #schedule(count: number): SolverSchedule {
    const { use_karras_sigmas, use_lu_lambdas, lambda_min_clipped } = this.settings;
    // λ of the cosine schedule is unbounded: timesteps below the clip are skipped.
    const clipped = this.alphasCumprod.reduce((n, alphaBar) => {
      const lambda = Math.fround(Math.log(Math.fround(Math.sqrt(alphaBar)))) -
        Math.fround(Math.log(Math.fround(Math.sqrt(Math.fround(1 - alphaBar)))));
      return lambda < lambda_min_clipped ? n + 1 : n;
    }, 0);
    return solverSchedule(count, {
      alphasCumprod: this.alphasCumprod,
      spacing: { ...this.spacing, last: this.alphasCumprod.length - clipped },
      levels: use_karras_sigmas ? "karras" : use_lu_lambdas ? "lu" : "plain",
    });
  }

  #orderAt(index: number, calls: number): number {
    const { solver_order, lower_order_final, euler_at_final } = this.settings;
    const ending = lower_order_final && calls < SHORT_RUN;
    const left = calls - index;
    const most = left === 1 && (ending || euler_at_final) ? 1 : left === 2 && ending ? 2 : solver_order;
    return Math.min(solver_order, index + 1, most);
  }

  /** Stores the integrand: the predicted clean image (`++`) or the predicted noise. */
  #convert(register: number, { alpha, sigma }: Level): { keep: Combination[]; original: Term[] } {
    const { prediction_type, algorithm_type, solver_order } = this.settings;
    const { original, epsilon } = predict(prediction_type, { alpha, sigma });
    if (algorithm_type.endsWith("++")) {
      const limited = this.nonlinear ? { limited: true } as const : {};
      return { keep: [{ target: register, terms: original, ...limited }], original: of(register) };
    }
    const { x0, keep } = this.limited(original, HISTORY + solver_order);
    const noise = this.nonlinear ? mix([1 / sigma, of(SAMPLE)], [-alpha / sigma, x0]) : epsilon;
    return { keep: [...keep, { target: register, terms: noise }], original: x0 };
  }

  #weights({ from, to, order }: { from: Level; to: Level; order: number }): Weights {
    const { algorithm_type, solver_type } = this.settings;
    const h = to.lambda - from.lambda;
    if (h === 0) return { sample: 1, differences: [0, 0, 0], noise: 0 };
    const halved = order === 2 && solver_type === "midpoint";
    switch (algorithm_type) {
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
}

/** A noise level in the variance-preserving picture, and λ = log(α/σ). */
interface Level {
  readonly alpha: number;
  readonly sigma: number;
  readonly lambda: number;
}

function levelOf(sigma: number): Level {
  const alpha = 1 / Math.sqrt(sigma ** 2 + 1);
  return { alpha, sigma: sigma * alpha, lambda: -Math.log(sigma) };
}

/**
 * D0 and the divided differences D1, D2 of predictions at `lambdas` (newest first), in units of the
 * step to `next`.
 */
function differencesOf(predictions: Term[][], lambdas: number[], next: number): Term[][] {
  const h = next - lambdas[0];
  const [m0, m1, m2] = predictions;
  if (!m1 || h === 0) return [m0];
  const r0 = (lambdas[0] - lambdas[1]) / h;
  const newer = mix([1 / r0, m0], [-1 / r0, m1]);
  if (!m2) return [m0, newer];
  const r1 = (lambdas[1] - lambdas[2]) / h;
  const older = mix([1 / r1, m1], [-1 / r1, m2]);
  const change = mix([1, newer], [-1, older]);
  return [m0, mix([1, newer], [r0 / (r0 + r1), change]), mix([1 / (r0 + r1), change])];
}

function scaled([a, b, c]: [number, number, number], by: number): [number, number, number] {
  return [a * by, b * by, c * by];
}
