import {
  type BaseConfig,
  COMMON_DEFAULTS,
  type ConfigRules,
  FLOW_DEFAULTS,
  type FlowConfig,
  type SchedulerConfig,
} from "./config.ts";
import { type Combination, HISTORY, mix, of, type PlanStep, predict, SAMPLE, type Term } from "./plan.ts";
import { Scheduler } from "./scheduler.ts";
import { sigmaSpacingOf, SOLVER_SCHEDULE_DEFAULTS, solverSchedule, type SolverScheduleConfig } from "./sigma_levels.ts";

/** The configuration of {@linkcode UniPCMultistepScheduler}. */
export interface UniPCMultistepConfig extends BaseConfig, SolverScheduleConfig, FlowConfig {
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
  /** Whether the solver integrates the predicted clean image, not the predicted noise. */
  readonly predict_x0: boolean;
  /** B(h): "bh1" (h) or "bh2" (e^h − 1). */
  readonly solver_type: string;
  /** Whether short runs end with steps of lower order, for stability. */
  readonly lower_order_final: boolean;
  /** Steps without a corrector. */
  readonly disable_corrector: readonly number[];
  /** Another scheduler as predictor is not supported. */
  readonly solver_p: null;
  /** Whether noise levels are evenly spaced in σ^(1/7), not in time (arXiv 2206.00364). */
  readonly use_karras_sigmas: boolean;
  /** The least σ of spaced noise levels. Default: that of timestep 0. */
  readonly sigma_min?: number | null;
  /** The largest σ of spaced noise levels. Default: that of the last training timestep. */
  readonly sigma_max?: number | null;
  /** Must be null: flow matching is another kind of model. */
  readonly shift_terminal?: null;
}

const RULES: ConfigRules<UniPCMultistepConfig> = {
  name: "UniPCMultistepScheduler",
  defaults: {
    ...COMMON_DEFAULTS,
    timestep_spacing: "linspace",
    solver_order: 2,
    thresholding: false,
    dynamic_thresholding_ratio: 0.995,
    sample_max_value: 1,
    predict_x0: true,
    solver_type: "bh2",
    lower_order_final: true,
    disable_corrector: [],
    solver_p: null,
    use_karras_sigmas: false,
  },
  newer: {
    ...SOLVER_SCHEDULE_DEFAULTS,
    ...FLOW_DEFAULTS,
    rescale_betas_zero_snr: false,
    sigma_min: null,
    sigma_max: null,
    shift_terminal: null,
  },
  leastAlphaBar: true,
  choices: { solver_order: [1, 2, 3, 4, 5], solver_type: ["bh1", "bh2"], solver_p: [null] },
  // diffusers maps the variants of other solvers to the default one.
  synonyms: { solver_type: { midpoint: "bh2", heun: "bh2", logrho: "bh2" } },
};

/** The corrected sample of the last call: the start of both predictor and corrector. */
const CORRECTED = HISTORY;
const PREDICTIONS = HISTORY + 1;

/**
 * UniPC: "A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models", Zhao et
 * al., arXiv 2302.04867, algorithms 5 to 8, with B(h) = h (bh1) or e^h − 1 (bh2).
 *
 * Each model call is used twice: to correct its own sample (UniC, one order higher than the
 * previous step), and to predict the next sample from the corrected one (UniP). Both use the same
 * formula in λ = log(α/σ), of the predicted clean image (`predict_x0`) or of the predicted noise.
 */
export class UniPCMultistepScheduler extends Scheduler<UniPCMultistepConfig> {
  /** Makes a scheduler from a diffusers configuration. Missing keys take diffusers' defaults. */
  constructor(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}) {
    super(RULES, config, overrides);
  }

  /** Makes a scheduler from the configuration of any class. `overrides` take precedence. */
  static override fromConfig(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}): UniPCMultistepScheduler {
    return new UniPCMultistepScheduler(config, overrides);
  }

  /** Thresholding, where the configuration asks for it. */
  protected override get nonlinear(): "thresholding" | null {
    return this.settings.thresholding && this.settings.predict_x0 ? "thresholding" : null;
  }

  /** Plans the steps. */
  protected override build(count: number): PlanStep[] {
    const { solver_order, predict_x0, prediction_type, disable_corrector, sigma_min, sigma_max } = this.settings;
    const { timesteps, sigmas } = solverSchedule(count, {
      alphasCumprod: this.alphasCumprod,
      spacing: this.spacing,
      levels: sigmaSpacingOf(this.settings),
      // Unlike DPM-Solver, UniPC takes the last of spaced levels for σ_min.
      final: this.settings.final_sigmas_type === "zero" ? "zero" : null,
      min: sigma_min,
      max: sigma_max,
    });
    // One more register than the predictor needs: the corrector reads the new prediction as well.
    const predictionOf = (index: number) => PREDICTIONS + index % (solver_order + 1);
    const orderAt = (index: number) => {
      const left = this.settings.lower_order_final ? timesteps.length - index : solver_order;
      return Math.min(solver_order, left, index + 1);
    };
    // The nodes of a step from index; the newest prediction is a linear form where it is one.
    const nodesAt = (index: number, order: number, newest?: Term[]) =>
      Array.from({ length: order }, (_, age) => ({
        sigma: sigmas[index - age],
        prediction: age === 0 && newest ? newest : of(predictionOf(index - age)),
      }));

    return timesteps.map((timestep, i) => {
      const alpha = 1 / Math.sqrt(sigmas[i] ** 2 + 1), sigma = sigmas[i] * alpha;
      const { original, epsilon } = predict(prediction_type, { alpha, sigma });
      const predicted: Combination = {
        target: predictionOf(i),
        terms: predict_x0 ? original : epsilon,
        ...this.nonlinear ? { limited: true } as const : {},
      };
      // As a linear form, the current prediction is not rounded before σ multiplies it.
      const current = this.nonlinear ? of(predictionOf(i)) : predicted.terms as Term[];
      const corrects = i > 0 && !disable_corrector.includes(i - 1);
      const began = corrects
        ? this.#advance(of(CORRECTED), {
          nodes: nodesAt(i - 1, orderAt(i - 1)),
          to: sigmas[i],
          arrived: current,
        })
        : of(SAMPLE);
      const start = corrects ? of(CORRECTED) : of(SAMPLE);
      return {
        timestep,
        inputScale: 1,
        level: { signal: alpha, noise: sigma },
        drawsNoise: false,
        original: predict_x0 ? of(predictionOf(i)) : original,
        combine: [
          predicted,
          { target: CORRECTED, terms: began },
          {
            target: SAMPLE,
            terms: this.#advance(start, { nodes: nodesAt(i, orderAt(i), current), to: sigmas[i + 1] }),
          },
        ],
      };
    });
  }

  /**
   * The sample at noise level `to`, from the one at the first node's and the predictions at all
   * nodes (the newest first). With `arrived`, a prediction made at `to` itself, this is the
   * corrector, else the predictor.
   */
  #advance(
    sample: Term[],
    { nodes, to, arrived }: { nodes: { sigma: number; prediction: Term[] }[]; to: number; arrived?: Term[] },
  ): Term[] {
    const { predict_x0, solver_type } = this.settings;
    const [now, ...older] = nodes;
    const alphaTo = 1 / Math.sqrt(to ** 2 + 1), sigmaTo = to * alphaTo;
    const alphaNow = 1 / Math.sqrt(now.sigma ** 2 + 1), sigmaNow = now.sigma * alphaNow;
    const h = Math.log(now.sigma / to); // λ_to − λ_now
    if (h === 0) return sample; // the last interval of Karras levels has length zero

    const signed = predict_x0 ? -h : h;
    const phi = Math.expm1(signed);
    const b = solver_type === "bh1" ? signed : phi;
    const scale = predict_x0 ? alphaTo : sigmaTo;
    const points = older.map(({ sigma, prediction }) => ({ r: Math.log(now.sigma / sigma) / h, prediction }));
    if (arrived) points.push({ r: 1, prediction: arrived });
    const rhos = weightsOf(points.map(({ r }) => r), { signed, b });
    return mix(
      [predict_x0 ? sigmaTo / sigmaNow : alphaTo / alphaNow, sample],
      [-scale * phi, now.prediction],
      ...points.flatMap(({ r, prediction }, k) => {
        const weight = -scale * b * rhos[k] / r;
        return [[weight, prediction], [-weight, now.prediction]] as const;
      }),
    );
  }
}

/**
 * The weights ρ of the differences at distances `r` (in steps): R ρ = b of the paper's eq. 11, or
 * its shortcuts.
 */
function weightsOf(r: number[], { signed, b }: { signed: number; b: number }): number[] {
  if (r.length === 0) return [];
  // The authors use 1/2, the limit for short steps, in place of solving one equation.
  if (r.length === 1) return [0.5];
  const matrix: number[][] = [], right: number[] = [];
  let factorial = 1;
  let phi = Math.expm1(signed) / signed - 1;
  for (let k = 0; k < r.length; k++) {
    matrix.push(r.map((distance) => distance ** k));
    right.push(phi * factorial / b);
    factorial *= k + 2;
    phi = phi / signed - 1 / factorial;
  }
  return solve(matrix, right);
}

/** Gaussian elimination with partial pivoting, for the few unknowns of a multistep formula. */
function solve(matrix: number[][], right: number[]): number[] {
  const rows = matrix.map((row, i) => [...row, right[i]]);
  const size = rows.length;
  for (let column = 0; column < size; column++) {
    let pivot = column;
    for (let i = column + 1; i < size; i++) {
      if (Math.abs(rows[i][column]) > Math.abs(rows[pivot][column])) pivot = i;
    }
    [rows[column], rows[pivot]] = [rows[pivot], rows[column]];
    for (let i = column + 1; i < size; i++) {
      const factor = rows[i][column] / rows[column][column];
      for (let j = column; j <= size; j++) rows[i][j] -= factor * rows[column][j];
    }
  }
  const solution = new Array<number>(size).fill(0);
  for (let i = size - 1; i >= 0; i--) {
    const known = solution.reduce((sum, value, j) => j > i ? sum + rows[i][j] * value : sum, 0);
    solution[i] = (rows[i][size] - known) / rows[i][i];
  }
  return solution;
}
