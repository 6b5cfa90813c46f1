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
import { type Combination, HISTORY, mix, of, type PlanStep, predict, SAMPLE, type Term } from "./plan.ts";
import { Scheduler } from "./scheduler.ts";
import { sigmaSpacingOf, SOLVER_SCHEDULE_DEFAULTS, solverSchedule, type SolverScheduleConfig } from "./sigma_levels.ts";

/** The configuration of {@linkcode DPMSolverSinglestepScheduler}. */
export interface DPMSolverSinglestepConfig extends BaseConfig, SolverScheduleConfig, FlowConfig {
  /** Number of model calls of an interval. */
  readonly solver_order: number;
  /**
   * Whether dynamic thresholding limits the predicted clean image (arXiv 2205.11487). For models on
   * pixels, not latents; "dpmsolver++" only.
   */
  readonly thresholding: boolean;
  /** The quantile of magnitudes that thresholding limits to. */
  readonly dynamic_thresholding_ratio: number;
  /** The largest bound of thresholding. */
  readonly sample_max_value: number;
  /** "dpmsolver++" (integrates the clean image) or "dpmsolver" (integrates the noise). */
  readonly algorithm_type: string;
  /** "midpoint" or "heun". */
  readonly solver_type: string;
  /** Whether runs end with intervals of lower order; else their calls must divide by the order. */
  readonly lower_order_final: boolean;
  /** Whether noise levels are evenly spaced in σ^(1/7), not in time (arXiv 2206.00364). */
  readonly use_karras_sigmas: boolean;
  /** Timesteps with a smaller λ are skipped. For the cosine schedule. */
  readonly lambda_min_clipped: number;
  /** Fixed variances have no effect; models that predict theirs are not supported. */
  readonly variance_type: string | null;
}

// It has no timestep_spacing: timesteps are spaced as "linspace".
const { timestep_spacing: _, steps_offset: __, ...COMMON } = COMMON_DEFAULTS;

const RULES: ConfigRules<DPMSolverSinglestepConfig> = {
  name: "DPMSolverSinglestepScheduler",
  defaults: {
    ...COMMON,
    solver_order: 2,
    thresholding: false,
    dynamic_thresholding_ratio: 0.995,
    sample_max_value: 1,
    algorithm_type: "dpmsolver++",
    solver_type: "midpoint",
    lower_order_final: true,
    use_karras_sigmas: false,
    lambda_min_clipped: -Infinity,
    variance_type: null,
  } as unknown as DPMSolverSinglestepConfig,
  newer: { ...SOLVER_SCHEDULE_DEFAULTS, ...FLOW_DEFAULTS },
  choices: {
    solver_order: [1, 2, 3],
    algorithm_type: ["dpmsolver++", "dpmsolver"],
    solver_type: ["midpoint", "heun"],
    variance_type: [null, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"],
  },
  // diffusers maps the variants of other solvers to the default one.
  synonyms: {
    algorithm_type: { deis: "dpmsolver++" },
    solver_type: { logrho: "midpoint", bh1: "midpoint", bh2: "midpoint" },
  },
};

/** The sample at the start of an interval. */
const INTERVAL_START = HISTORY;
const PREDICTIONS = HISTORY + 1;

/**
 * DPM-Solver and DPM-Solver++, singlestep: Lu et al., arXiv 2206.00927 and arXiv 2211.01095. With
 * `solver_order` 2 it is what A1111 calls DPM++ 2S, without ancestral noise.
 *
 * An interval of order k takes k model calls. Each starts again from the interval's first sample
 * and takes a step of one order more, with the weights of the multistep solver. Runs end as in
 * diffusers 0.23; later versions end runs of second order with two steps of first order.
 */
export class DPMSolverSinglestepScheduler extends Scheduler<DPMSolverSinglestepConfig> {
  /** Makes a scheduler from a diffusers configuration. Missing keys take diffusers' defaults. */
  constructor(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}) {
    super(RULES, config, overrides);
    const { algorithm_type, final_sigmas_type } = this.settings;
    if (final_sigmas_type === "zero" && algorithm_type === "dpmsolver") {
      throw new SchedulerError(
        `Cannot configure DPMSolverSinglestepScheduler as final_sigmas_type must be "sigma_min" with algorithm_type ` +
          `"dpmsolver": "zero"`,
        { algorithm_type, final_sigmas_type },
      );
    }
  }

  /** Makes a scheduler from the configuration of any class. `overrides` take precedence. */
  static override fromConfig(
    config: SchedulerConfig = {},
    overrides: SchedulerConfig = {},
  ): DPMSolverSinglestepScheduler {
    return new DPMSolverSinglestepScheduler(config, overrides);
  }

  /** Thresholding, where the configuration asks for it and the clean image is integrated. */
  protected override get nonlinear(): "thresholding" | null {
    return this.settings.thresholding && this.settings.algorithm_type === "dpmsolver++" ? "thresholding" : null;
  }

  /** Plans the steps. */
  protected override build(count: number): PlanStep[] {
    const { solver_order, algorithm_type, solver_type, lambda_min_clipped, num_train_timesteps } = this.settings;
    const { timesteps, sigmas } = solverSchedule(count, {
      alphasCumprod: this.alphasCumprod,
      spacing: {
        kind: "linspace",
        train: num_train_timesteps,
        offset: 0,
        last: num_train_timesteps - countBelow(lambda_min_clipped, this.alphasCumprod),
      },
      levels: sigmaSpacingOf(this.settings),
      final: this.settings.final_sigmas_type,
    });
    const orders = this.#orders(count);
    const predictionOf = (index: number) => PREDICTIONS + index % solver_order;
    return timesteps.map((timestep, i) => {
      const order = orders[i];
      const levels = Array.from({ length: order }, (_, age) => levelOf(sigmas[i - age])); // newest first
      const next = levelOf(sigmas[i + 1]);
      const { kept, original, prediction } = this.#convert(predictionOf(i), levels[0]);
      const predictions = levels.map((_, age) => age === 0 ? prediction : of(predictionOf(i - age)));
      const from = levels[order - 1];
      const weights = solverWeights(algorithm_type, {
        from,
        to: next,
        halved: order === 2 && solver_type === "midpoint",
      });
      const differences = differencesOf(predictions, { levels, next, solver_type });
      const sample = order === 1 ? of(SAMPLE) : of(INTERVAL_START);
      return {
        timestep,
        inputScale: 1,
        level: { signal: levels[0].alpha, noise: levels[0].sigma },
        drawsNoise: false,
        original,
        combine: [
          kept,
          ...order === 1 ? [{ target: INTERVAL_START, terms: of(SAMPLE) }] : [],
          { target: SAMPLE, terms: weighted(weights, { sample, differences }) },
        ],
      };
    });
  }

  /** The order of the step after each model call. */
  #orders(calls: number): number[] {
    const { solver_order, lower_order_final, final_sigmas_type } = this.settings;
    const orders = Array.from({ length: calls }, (_, i) => i % solver_order + 1);
    // Without lower orders at the end, diffusers takes them where the calls do not divide.
    const lowers = lower_order_final || calls % solver_order !== 0 || final_sigmas_type === "zero";
    if (!lowers) return orders;
    // Third order: the last interval is of one call less than fits, so that the last call is of
    // first order.
    if (solver_order === 3 && calls % 3 === 0) orders[calls - 1] = 1;
    if (final_sigmas_type === "zero") orders[calls - 1] = 1;
    return orders;
  }

  /** Stores the integrand: the predicted clean image (`++`) or the predicted noise. */
  #convert(register: number, { alpha, sigma }: Level): { kept: Combination; original: Term[]; prediction: Term[] } {
    const { prediction_type, algorithm_type } = this.settings;
    const { original, epsilon } = predict(prediction_type, { alpha, sigma });
    if (algorithm_type === "dpmsolver") {
      return { kept: { target: register, terms: epsilon }, original, prediction: epsilon };
    }
    const limited = this.nonlinear ? { limited: true } as const : {};
    const prediction = this.nonlinear ? of(register) : original;
    return { kept: { target: register, terms: original, ...limited }, original: of(register), prediction };
  }
}

/**
 * D0, D1 and D2 of the predictions in an interval, whose start comes last, in units of its length.
 */
function differencesOf(
  predictions: Term[][],
  { levels, next, solver_type }: { levels: Level[]; next: Level; solver_type: string },
): Term[][] {
  const start = levels[levels.length - 1];
  const h = next.lambda - start.lambda;
  const ratio = (level: Level) => (level.lambda - start.lambda) / h;
  const [m0, m1, m2] = predictions;
  if (!m1) return [m0];
  const r0 = ratio(levels[0]);
  if (!m2) return [m1, mix([1 / r0, m0], [-1 / r0, m1])];
  const whole = mix([1 / r0, m0], [-1 / r0, m2]);
  if (solver_type === "midpoint") return [m2, whole];
  const r1 = ratio(levels[1]);
  const half = mix([1 / r1, m1], [-1 / r1, m2]);
  return [
    m2,
    mix([r0 / (r0 - r1), half], [-r1 / (r0 - r1), whole]),
    mix([2 / (r0 - r1), whole], [-2 / (r0 - r1), half]),
  ];
}
