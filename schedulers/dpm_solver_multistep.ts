import {
  type BaseConfig,
  COMMON_DEFAULTS,
  type ConfigRules,
  FLOW_DEFAULTS,
  type FlowConfig,
  type SchedulerConfig,
} from "./config.ts";
import { countBelow, type Level, levelOf, solverWeights, weighted } from "./dpm_solver.ts";
import { SchedulerError } from "./error.ts";
import { type Combination, HISTORY, mix, NOISE, of, type PlanStep, predict, SAMPLE, type Term } from "./plan.ts";
import { Scheduler } from "./scheduler.ts";
import {
  sigmaSpacingOf,
  SOLVER_SCHEDULE_DEFAULTS,
  type SolverSchedule,
  solverSchedule,
  type SolverScheduleConfig,
} from "./sigma_levels.ts";

/** The configuration of {@linkcode DPMSolverMultistepScheduler}. */
export interface DPMSolverMultistepConfig extends BaseConfig, SolverScheduleConfig, FlowConfig {
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
  /** Fixed variances have no effect; models that predict theirs are not supported. */
  readonly variance_type: string | null;
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
  newer: { ...SOLVER_SCHEDULE_DEFAULTS, ...FLOW_DEFAULTS, rescale_betas_zero_snr: false },
  leastAlphaBar: true,
  choices: {
    solver_order: [1, 2, 3],
    algorithm_type: ["dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"],
    solver_type: ["midpoint", "heun"],
    variance_type: [null, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"],
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
    checkFinalSigma(this.settings);
  }

  /** Makes a scheduler from the configuration of any class. `overrides` take precedence. */
  static override fromConfig(
    config: SchedulerConfig = {},
    overrides: SchedulerConfig = {},
  ): DPMSolverMultistepScheduler {
    return new DPMSolverMultistepScheduler(config, overrides);
  }

  /** Plans the steps. */
  protected override build(count: number): PlanStep[] {
    const { solver_order, algorithm_type, solver_type } = this.settings;
    const { timesteps, sigmas } = this.#schedule(count);
    const predictionOf = (index: number) => HISTORY + index % solver_order;
    return timesteps.map((timestep, i) => {
      const levels = Array.from({ length: this.#orderAt(i, timesteps.length) }, (_, age) => levelOf(sigmas[i - age]));
      const [now] = levels;
      const next = levelOf(sigmas[i + 1]);
      const { keep, original, prediction } = this.#convert(predictionOf(i), now);
      const predictions = levels.map((_, age) => age === 0 ? prediction : of(predictionOf(i - age)));
      const halved = levels.length === 2 && solver_type === "midpoint";
      const weights = solverWeights(algorithm_type, { from: now, to: next, halved });
      const differences = differencesOf(predictions, levels.map(({ lambda }) => lambda), next.lambda);
      return {
        timestep,
        inputScale: 1,
        level: { signal: now.alpha, noise: now.sigma },
        drawsNoise: algorithm_type.startsWith("sde-"),
        original,
        combine: [...keep, {
          target: SAMPLE,
          terms: weighted(weights, { sample: of(SAMPLE), differences, noise: of(NOISE) }),
        }],
      };
    });
  }

  #schedule(count: number): SolverSchedule {
    const { use_lu_lambdas, use_karras_sigmas, lambda_min_clipped, final_sigmas_type } = this.settings;
    const last = this.alphasCumprod.length - countBelow(lambda_min_clipped, this.alphasCumprod);
    return solverSchedule(count, {
      alphasCumprod: this.alphasCumprod,
      spacing: { ...this.spacing, last },
      levels: use_lu_lambdas && !use_karras_sigmas ? "lu" : sigmaSpacingOf(this.settings),
      final: final_sigmas_type,
    });
  }

  #orderAt(index: number, calls: number): number {
    const { solver_order, lower_order_final, euler_at_final, final_sigmas_type } = this.settings;
    const ending = lower_order_final && calls < SHORT_RUN;
    const left = calls - index;
    const most = left === 1 && (ending || euler_at_final || final_sigmas_type === "zero")
      ? 1
      : left === 2 && ending
      ? 2
      : solver_order;
    return Math.min(solver_order, index + 1, most);
  }

  /**
   * Stores the integrand for the steps that follow: the predicted clean image (`++`) or the
   * predicted noise. `prediction` is the same as a linear form, which this step takes: see
   * {@linkcode SigmaScheduler.slope} for the reason.
   */
  #convert(
    register: number,
    { alpha, sigma }: Level,
  ): { keep: Combination[]; original: Term[]; prediction: Term[] } {
    const { prediction_type, algorithm_type, solver_order } = this.settings;
    const { original, epsilon } = predict(prediction_type, { alpha, sigma });
    if (algorithm_type.endsWith("++")) {
      const limited = this.nonlinear ? { limited: true } as const : {};
      const prediction = this.nonlinear ? of(register) : original;
      return { keep: [{ target: register, terms: original, ...limited }], original: of(register), prediction };
    }
    const { x0, keep } = this.limited(original, HISTORY + solver_order);
    const noise = this.nonlinear ? mix([1 / sigma, of(SAMPLE)], [-alpha / sigma, x0]) : epsilon;
    return { keep: [...keep, { target: register, terms: noise }], original: x0, prediction: noise };
  }
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

/** A step that integrates the noise has no limit at σ = 0. */
function checkFinalSigma({ algorithm_type, final_sigmas_type }: DPMSolverMultistepConfig): void {
  if (final_sigmas_type !== "zero" || algorithm_type.endsWith("++")) return;
  throw new SchedulerError(
    `Cannot configure DPMSolverMultistepScheduler as final_sigmas_type must be "sigma_min" with algorithm_type ` +
      `"${algorithm_type}": "zero"`,
    { algorithm_type, final_sigmas_type },
  );
}
