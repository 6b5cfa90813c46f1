import { SchedulerError } from "./error.ts";
import { roundHalfEven, spacedTimesteps } from "./spacing.ts";
import { type Combination, HISTORY, mix, of, OUTPUT, type PlanStep, predict, SAMPLE, type Term } from "./plan.ts";
import { type BaseConfig, COMMON_DEFAULTS, type ConfigRules, type SchedulerConfig } from "./config.ts";
import { Scheduler } from "./scheduler.ts";

/** The configuration of {@linkcode PNDMScheduler}. */
export interface PNDMConfig extends BaseConfig {
  /** Whether the first steps are of lower order, in place of Runge-Kutta steps. */
  readonly skip_prk_steps: boolean;
  /** Whether the last step ends at ᾱ = 1, not at ᾱ of timestep 0. */
  readonly set_alpha_to_one: boolean;
}

const RULES: ConfigRules<PNDMConfig> = {
  name: "PNDMScheduler",
  defaults: { ...COMMON_DEFAULTS, skip_prk_steps: false, set_alpha_to_one: false },
  choices: { prediction_type: ["epsilon", "v_prediction"] },
};

/** The sample at the start of a Runge-Kutta interval, or of the repeated first step. */
const INTERVAL_START = HISTORY;
/** The weighted sum of the outputs in the current Runge-Kutta interval. */
const SUM = HISTORY + 1;
const OUTPUTS = HISTORY + 2;

/** Number of outputs in the multistep formula. */
const ORDER = 4;

/** Adams-Bashforth weights (eq. 12 of the paper and its lower orders), the newest output first. */
const ADAMS_BASHFORTH = [
  [1],
  [3 / 2, -1 / 2],
  [23 / 12, -16 / 12, 5 / 12],
  [55 / 24, -59 / 24, 37 / 24, -9 / 24],
];

/** Runge-Kutta weights of the four calls of an interval (eq. 13). */
const RUNGE_KUTTA = [1 / 6, 1 / 3, 1 / 3, 1 / 6];

/**
 * PNDM: "Pseudo Numerical Methods for Diffusion Models on Manifolds", Liu et al., arXiv 2202.09778.
 *
 * DDIM's step (eq. 9) with an ε that combines the last four outputs (PLMS). The first outputs come
 * from Runge-Kutta intervals of four model calls each (PRK). With `skip_prk_steps`, as in Stable
 * Diffusion, they come from steps of lower order, and the first step is repeated: 50 steps take 51
 * model calls.
 */
export class PNDMScheduler extends Scheduler<PNDMConfig> {
  /** Makes a scheduler from a diffusers configuration. Missing keys take diffusers' defaults. */
  constructor(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}) {
    super(RULES, config, overrides);
  }

  /** Makes a scheduler from the configuration of any class. `overrides` take precedence. */
  static override fromConfig(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}): PNDMScheduler {
    return new PNDMScheduler(config, overrides);
  }

  /** Plans the steps. */
  protected override build(count: number): PlanStep[] {
    const grid = spacedTimesteps(count, this.spacing).map(roundHalfEven); // falling
    const stride = Math.floor(this.settings.num_train_timesteps / count);
    if (!this.settings.skip_prk_steps) return [...this.#prk(grid, stride), ...this.#plms(grid.slice(3), stride, 3)];
    // The second timestep appears twice: the first interval is repeated with the mean of the
    // outputs at its two ends.
    return this.#plms(grid.length === 1 ? grid : [grid[0], grid[1], ...grid.slice(1)], stride, 0);
  }

  /** Runge-Kutta intervals for the first three strides. */
  #prk(grid: number[], stride: number): PlanStep[] {
    if (grid.length < ORDER) {
      throw new SchedulerError(
        `Cannot plan a PNDM run as its Runge-Kutta steps need at least ${ORDER} steps (or skip_prk_steps): ` +
          `${grid.length}`,
        { steps: grid.length },
      );
    }
    const half = Math.floor(stride / 2);
    return grid.slice(0, 3).flatMap((start, interval) => {
      // One call at each end and two in the middle. Each starts from the sample at the beginning.
      const middle = grid[interval + 1] + half;
      const end = grid[interval + 1];
      return [start, middle, middle, end].map((timestep, call) => {
        const target = [start - half, middle, middle - half, end][call];
        const last = call === 3;
        const weighted = mix([1, call === 0 ? [] : of(SUM)], [RUNGE_KUTTA[call], of(OUTPUT)]);
        const before: Combination[] = [];
        if (call === 0) {
          before.push({ target: INTERVAL_START, terms: of(SAMPLE) });
          before.push({ target: OUTPUTS + interval, terms: of(OUTPUT) });
        }
        before.push({ target: SUM, terms: weighted });
        const output = last ? of(SUM) : of(OUTPUT);
        return this.#call(timestep, { before, from: start, to: target, sample: of(INTERVAL_START), output });
      });
    });
  }

  /** The multistep calls, after `known` outputs of Runge-Kutta intervals. */
  #plms(timesteps: number[], stride: number, known: number): PlanStep[] {
    let outputs = known;
    return timesteps.map((timestep, call) => {
      if (known === 0 && call === 1) {
        const output = mix([1 / 2, of(OUTPUT)], [1 / 2, of(OUTPUTS)]);
        return this.#call(timestep, { from: timestep + stride, to: timestep, sample: of(INTERVAL_START), output });
      }
      const before: Combination[] = [{ target: OUTPUTS + outputs % ORDER, terms: of(OUTPUT) }];
      if (known === 0 && call === 0) before.push({ target: INTERVAL_START, terms: of(SAMPLE) });
      outputs++;
      const weights = ADAMS_BASHFORTH[Math.min(outputs, ORDER) - 1];
      const output = mix(
        ...weights.map((weight, age) => [weight, of(OUTPUTS + (outputs - 1 - age) % ORDER)] as const),
      );
      return this.#call(timestep, { before, from: timestep, to: timestep - stride, sample: of(SAMPLE), output });
    });
  }

  /** A model call at `timestep`, followed by DDIM's step of `sample` between two timesteps. */
  #call(
    timestep: number,
    { before = [], from, to, sample, output }: {
      before?: Combination[];
      from: number;
      to: number;
      sample: Term[];
      output: Term[];
    },
  ): PlanStep {
    const { prediction_type, set_alpha_to_one } = this.settings;
    const alphaBar = this.alphaBar(from);
    const next = to >= 0 ? this.alphaBar(to) : set_alpha_to_one ? 1 : this.alphasCumprod[0];
    const alpha = Math.sqrt(alphaBar), sigma = Math.sqrt(1 - alphaBar);
    const epsilon = prediction_type === "v_prediction" ? mix([alpha, output], [sigma, sample]) : output;
    // eq. 9, without the cancellation of √ᾱ'·x_0 + √(1 − ᾱ')·ε
    const denominator = alphaBar * Math.sqrt(1 - next) + Math.sqrt(alphaBar * (1 - alphaBar) * next);
    const terms = mix([Math.sqrt(next / alphaBar), sample], [-(next - alphaBar) / denominator, epsilon]);
    const level = this.levelAt(timestep);
    return {
      timestep,
      inputScale: 1,
      level,
      drawsNoise: false,
      original: predict(prediction_type, { alpha: level.signal, sigma: level.noise }).original,
      combine: [...before, { target: SAMPLE, terms }],
    };
  }
}
