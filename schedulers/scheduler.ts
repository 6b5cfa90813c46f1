import {
  amendConfig,
  type BaseConfig,
  type ConfigRules,
  resolveConfig,
  type ResolvedConfig,
  type SchedulerConfig,
} from "./config.ts";
import { SchedulerError } from "./error.ts";
import { alphasCumprod } from "./noise_schedule.ts";
import {
  type Combination,
  evaluate,
  mix,
  NOISE,
  type NoiseLevel,
  type Nonlinearity,
  of,
  OUTPUT,
  type PlanStep,
  SAMPLE,
  type SchedulerPlan,
  type Term,
} from "./plan.ts";
import { nearest } from "../pipeline/nearest.ts";
import { shown } from "../pipeline/shown.ts";
import type { FileTree } from "../pipeline/checkpoint/source/file_tree.ts";
import { readSchedulerConfig, type SchedulerSourceOptions } from "./pretrained.ts";
import type { Spacing } from "./spacing.ts";
import { TorchGenerator } from "./torch_generator.ts";

/** Options of {@linkcode Scheduler.step}. */
export interface StepOptions {
  /**
   * η of DDIM, 0 … 1: the share of noise that is drawn anew. Other samplers ignore it. Default: 0.
   */
  readonly eta?: number;
  /** Source of the noise that stochastic samplers add. Default: a generator with a random seed. */
  readonly generator?: TorchGenerator;
  /** The noise itself, in place of a generator. */
  readonly noise?: Float32Array;
  /**
   * Number of images in the sample; `thresholding` treats each separately. Default: 1.
   */
  readonly batchSize?: number;
}

/** What {@linkcode Scheduler.step} returns. */
export interface StepResult {
  /** The sample at the next timestep. */
  readonly prevSample: Float32Array;
  /** The clean image x̂_0 that the model output implies. */
  readonly predOriginalSample: Float32Array;
}

/** A scheduler class, as {@linkcode Scheduler.compatibles} lists them. */
export interface SchedulerClass {
  /** Makes a scheduler from a diffusers configuration. */
  new (config?: SchedulerConfig, overrides?: SchedulerConfig): Scheduler;
  /** Makes a scheduler from the configuration of any class. `overrides` take precedence. */
  fromConfig(config?: SchedulerConfig, overrides?: SchedulerConfig): Scheduler;
  /** The class's name, as diffusers has it. */
  readonly name: string;
  /** Whether it draws only with models that were trained or distilled for it. */
  readonly needsItsOwnModel?: boolean;
}

const registered = new Map<string, SchedulerClass>();

/** Makes classes known by name. The module of all classes does so, which this one cannot import. */
export function registerSchedulers(classes: Readonly<Record<string, SchedulerClass>>): void {
  for (const [name, one] of Object.entries(classes)) registered.set(name, one);
}

/** The classes that draw with any Stable Diffusion model. */
export function interchangeableClasses(): SchedulerClass[] {
  return [...registered.values()].filter((one) => !one.needsItsOwnModel);
}

/**
 * A sampler of diffusion models, with the names and the behavior of diffusers 0.23.
 *
 * There are two ways to run a scheduler. `plan()` returns the whole run as linear combinations, for
 * a loop that stays on the GPU. `step()` executes the same plan on the host, one model call at a
 * time:
 *
 * ```ts
 * const scheduler = DDIMScheduler.fromConfig({ clip_sample: false });
 * scheduler.setTimesteps(50);
 * let sample = new TorchGenerator(7).randn(shape).map((x) => x * scheduler.initNoiseSigma);
 * for (const timestep of scheduler.timesteps) {
 *   const output = await model(scheduler.scaleModelInput(sample, timestep), timestep);
 *   sample = scheduler.step(output, timestep, sample).prevSample;
 * }
 * ```
 *
 * Each public class names its paper. A subclass implements `build()` and nothing else.
 */
export abstract class Scheduler<Config extends BaseConfig = BaseConfig> {
  /**
   * The configuration with defaults filled in. Keys of other classes are kept.
   *
   * `Other.fromConfig(scheduler.config)` passes on explicitly set keys only, as diffusers'
   * `from_config` does. Keys that were left at this class's defaults take the other class's.
   */
  get config(): Config & SchedulerConfig {
    return this.#resolved.complete;
  }
  /** ᾱ_t, the signal's share of the variance at each training timestep. */
  readonly alphasCumprod: Float32Array;
  /** Model calls per interval: 2 for Heun's method. */
  readonly order: number = 1;

  /** The keys of this class only. */
  protected get settings(): Config {
    return this.#resolved.settings;
  }
  #resolved: ResolvedConfig<Config>;
  #plan: SchedulerPlan | undefined;
  #steps = 0;
  #eta = 0;
  #next = 0;
  #registers: (Float32Array | undefined)[] = [];
  #generator: TorchGenerator | undefined;

  /** Completes the configuration. @param rules keys and defaults of the subclass */
  protected constructor(rules: ConfigRules<Config>, config: SchedulerConfig, overrides: SchedulerConfig) {
    this.#resolved = resolveConfig(rules, config, overrides);
    const { settings } = this.#resolved;
    this.alphasCumprod = alphasCumprod(settings);
    if (settings.rescale_betas_zero_snr && rules.leastAlphaBar) {
      this.alphasCumprod[this.alphasCumprod.length - 1] = 2 ** -24;
    }
  }

  /**
   * Makes the scheduler that a configuration's `_class_name` names. Subclasses make one of their
   * own class.
   *
   * @throws {SchedulerError} where the class is unknown, or a value is not one of those allowed
   */
  static fromConfig(config: SchedulerConfig = {}, overrides: SchedulerConfig = {}): Scheduler {
    const name = (config as SchedulerConfig | null)?._class_name;
    const known = registered.get(name as string);
    if (known) return known.fromConfig(config, overrides);
    const names = [...registered.keys()];
    const near = typeof name === "string" ? nearest(name, names) : undefined;
    throw new SchedulerError(
      `Cannot make a scheduler as its _class_name must be one of ${names.join(", ")}: ${shown(name)}` +
        (near === undefined ? "" : `. Did you mean ${near}?`),
      { _class_name: name },
    );
  }

  /**
   * Reads a scheduler_config.json and makes a scheduler of it: of the class that this is called on,
   * or with `Scheduler.fromPretrained` of the class that the file names.
   *
   * ```ts
   * const source = "models/pocket";
   * const scheduler = await DDIMScheduler.fromPretrained(source, { subfolder: "scheduler" });
   * ```
   *
   * @param source the file, a folder that holds it, or a model of the hub
   * @throws {CheckpointError} where there is no such file; {HubError} where the hub fails
   */
  static async fromPretrained<S extends Scheduler>(
    this: { fromConfig(config: SchedulerConfig, overrides?: SchedulerConfig): S },
    source: string | URL | FileTree,
    options: SchedulerSourceOptions = {},
  ): Promise<S> {
    return this.fromConfig(await readSchedulerConfig(source, options));
  }

  /**
   * The classes that can take this scheduler's place, made of its configuration: those that draw
   * with any Stable Diffusion model, or this class alone where it needs a model of its own.
   */
  get compatibles(): SchedulerClass[] {
    const own = this.constructor as unknown as SchedulerClass;
    const all = interchangeableClasses();
    return all.includes(own) ? all : [own];
  }

  /**
   * Changes values of the configuration in place, as a pipeline does with outdated ones. For keys
   * that leave the noise schedule as it is. A run that has begun goes on as it was planned.
   */
  amend(values: SchedulerConfig): void {
    this.#resolved = amendConfig(this.#resolved, values);
  }

  /** The model calls of a run of `count` steps. */
  protected abstract build(count: number, eta: number): PlanStep[];

  /**
   * The standard deviation of the first sample of a run of `count` steps. Without `count`: of a run
   * over all training timesteps.
   */
  protected startingSigma(_count?: number): number {
    return 1;
  }

  /** The nonlinear operation on predicted clean images, if the configuration asks for one. */
  protected get nonlinear(): Nonlinearity | null {
    return this.settings.thresholding ? "thresholding" : this.settings.clip_sample ? "clip_sample" : null;
  }

  /**
   * The noise level at a timestep, which need not belong to the current run.
   */
  protected levelAt(timestep: number): NoiseLevel {
    const alphaBar = this.alphaBar(timestep);
    return { signal: Math.sqrt(alphaBar), noise: Math.sqrt(1 - alphaBar) };
  }

  /** The timesteps of the model calls. Empty before {@linkcode setTimesteps}. */
  get timesteps(): number[] {
    return [...this.#plan?.timesteps ?? []];
  }

  /**
   * The standard deviation of the first sample. Multiply standard normal noise by it.
   */
  get initNoiseSigma(): number {
    return this.#plan?.initNoiseSigma ?? this.startingSigma();
  }

  /**
   * Starts a run of `steps` steps. Some samplers need more model calls than steps: see
   * {@linkcode timesteps}.
   *
   * @throws {SchedulerError} where `steps` is not a whole number from 1 to `num_train_timesteps`.
   */
  setTimesteps(steps: number): void {
    this.#plan = this.plan(steps);
    this.#steps = steps;
    this.#eta = 0;
    this.#next = 0;
    this.#registers = [];
  }

  /**
   * A whole run of `steps` steps as data; see {@linkcode SchedulerPlan}. Does not change the
   * scheduler.
   *
   * @throws {SchedulerError} where `steps` is not a whole number from 1 to `num_train_timesteps`,
   *   or the configuration makes a coefficient infinite (an `epsilon` model cannot start from pure
   *   noise, where ᾱ = 0).
   */
  plan(steps: number, options: { eta?: number } = {}): SchedulerPlan {
    const eta = options?.eta ?? 0; // null counts as no options
    const { num_train_timesteps } = this.settings;
    if (!Number.isInteger(steps) || steps < 1 || steps > num_train_timesteps) {
      throw new SchedulerError(
        `Cannot plan a run as its steps must be a whole number in 1 … num_train_timesteps = ` +
          `${num_train_timesteps}: ${shown(steps)}`,
        { steps, num_train_timesteps },
      );
    }
    if (!Number.isFinite(eta) || eta < 0) {
      throw new SchedulerError(`Cannot plan a run as eta must be a finite number from 0: ${shown(eta)}`, { eta });
    }
    const calls = this.build(steps, eta);
    for (const { timestep, combine } of calls) {
      const broken = combine.flatMap(({ terms }) => terms).find(({ coefficient }) => !Number.isFinite(coefficient));
      if (!broken) continue;
      throw new SchedulerError(
        `Cannot plan a run of ${steps} steps as its coefficients must be finite: ${broken.coefficient} at timestep ` +
          `${timestep} with prediction_type "${this.settings.prediction_type}", eta ${eta}`,
        { steps, timestep, eta, coefficient: broken.coefficient },
      );
    }
    const targets = calls.flatMap(({ combine }) => combine.map(({ target }) => target));
    return {
      timesteps: calls.map(({ timestep }) => timestep),
      initNoiseSigma: this.startingSigma(steps),
      registers: Math.max(NOISE, ...targets) + 1,
      nonlinear: this.nonlinear,
      steps: calls,
    };
  }

  /**
   * The sample times the step's input scale, as the model expects it. Returns the same array where
   * the scale is 1.
   */
  scaleModelInput(sample: Float32Array, timestep: number): Float32Array {
    const { inputScale } = this.#locate(timestep).step;
    return inputScale === 1 ? sample : sample.map((value) => value * inputScale);
  }

  /**
   * Computes the sample at the next timestep from the sample at `timestep`.
   *
   * @param modelOutput the model's output for `scaleModelInput(sample, timestep)`; as long as the
   *   sample
   * @throws {SchedulerError} before `setTimesteps()`, after the last step, at a timestep that is
   *   not the run's, and where a multistep sampler has not seen the calls that it builds on.
   */
  step(
    modelOutput: Float32Array,
    timestep: number,
    sample: Float32Array,
    { eta = 0, generator, noise, batchSize = 1 }: StepOptions = {},
  ): StepResult {
    this.#planFor(eta);
    const { step, index } = this.#locate(timestep);
    if (modelOutput.length !== sample.length) {
      throw new SchedulerError(
        `Cannot step as the model's output must be as long as the sample: ${modelOutput.length} ≠ ${sample.length}`,
        { modelOutput: modelOutput.length, sample: sample.length },
      );
    }
    const registers = this.#registers;
    registers[SAMPLE] = sample;
    registers[OUTPUT] = modelOutput;
    registers[NOISE] = step.drawsNoise ? this.#noise(step, sample.length, { generator, noise }) : undefined;
    const before = step.combine.slice(0, -1), last = step.combine[step.combine.length - 1];
    for (const combination of before) this.#applyStep(combination, { timestep, batchSize });
    const predOriginalSample = evaluate(step.original, registers);
    this.#applyStep(last, { timestep, batchSize });
    this.#next = index + 1;
    return { prevSample: registers[SAMPLE], predOriginalSample };
  }

  /**
   * Adds noise to a clean image: `signal · original + sigma · noise`, with the noise level of
   * `timestep`.
   *
   * @throws {SchedulerError} where the timestep is neither the run's nor a training timestep.
   */
  addNoise(original: Float32Array, noise: Float32Array, timestep: number): Float32Array {
    const level = this.#plan?.steps.find((step) => step.timestep === timestep)?.level ?? this.levelAt(timestep);
    return original.map((value, i) => level.signal * value + level.noise * noise[i]);
  }

  /**
   * The configuration as diffusers saves it: `JSON.stringify(scheduler)` is a
   * scheduler_config.json.
   */
  toJSON(): Record<string, unknown> {
    // JSON has no infinity. Leaving out a key whose default is infinite (lambda_min_clipped) is
    // equivalent.
    const writable = Object.entries(this.config).filter(([, value]) => typeof value !== "number" || isFinite(value));
    return Object.fromEntries(writable.sort(([a], [b]) => a < b ? -1 : 1));
  }

  /** ᾱ at a training timestep. */
  protected alphaBar(timestep: number): number {
    const value = this.alphasCumprod[timestep];
    if (value === undefined) {
      const last = this.alphasCumprod.length - 1;
      throw new SchedulerError(
        `Cannot read the noise schedule as timesteps must be whole numbers in 0 … ${last}: ${timestep} ` +
          `(timestep_spacing "${this.settings.timestep_spacing}", steps_offset ${this.settings.steps_offset})`,
        { timestep, last },
      );
    }
    return value;
  }

  /** The spacing of timesteps that the configuration asks for. */
  protected get spacing(): Spacing {
    const { timestep_spacing: kind, num_train_timesteps: train, steps_offset: offset } = this.settings;
    return { kind, train, offset };
  }

  /**
   * Stores a predicted clean image in a register of its own if clipping or thresholding applies.
   * Otherwise it stays a linear form.
   */
  protected limited(original: Term[], register: number): { x0: Term[]; keep: Combination[] } {
    if (!this.nonlinear) return { x0: original, keep: [] };
    return { x0: of(register), keep: [{ target: register, terms: mix([1, original]), limited: true }] };
  }

  /** Plans again for another η, which diffusers accepts at every step. */
  #planFor(eta: number): void {
    if (!this.#plan || eta === this.#eta) return;
    this.#plan = this.plan(this.#steps, { eta });
    this.#eta = eta;
  }

  /**
   * The run's next step, or a later one to start from. Of equal timesteps it takes the last, which
   * starts an interval.
   */
  #locate(timestep: number): { step: PlanStep; index: number } {
    const plan = this.#plan;
    if (!plan) throw new SchedulerError("Cannot step before setTimesteps() has begun a run");
    const { timesteps, steps } = plan;
    if (this.#next === steps.length) {
      throw new SchedulerError(
        `Cannot step at timestep ${timestep} as all ${steps.length} steps are done: call setTimesteps() to begin again`,
        { timestep, steps: steps.length },
      );
    }
    const index = timesteps[this.#next] === timestep ? this.#next : timesteps.lastIndexOf(timestep);
    if (index < 0) {
      throw new SchedulerError(
        `Cannot step at timestep ${timestep} as it is not one of the run's: expected ${timesteps[this.#next]} ` +
          `of [${timesteps.join(", ")}]`,
        { timestep, expected: timesteps[this.#next] },
      );
    }
    return { step: steps[index], index };
  }

  #noise(
    step: PlanStep,
    length: number,
    { generator, noise }: { generator?: TorchGenerator; noise?: Float32Array },
  ): Float32Array | undefined {
    if (noise && generator) throw new SchedulerError("Cannot step with both a generator and noise: give one of them");
    if (noise && noise.length !== length) {
      throw new SchedulerError(`Cannot step as the noise must be as long as the sample: ${noise.length} ≠ ${length}`, {
        noise: noise.length,
        sample: length,
      });
    }
    if (noise) return noise;
    if (generator) return generator.randn([length]);
    if (!step.combine.some(({ terms }) => terms.some(({ register }) => register === NOISE))) return undefined;
    return (this.#generator ??= new TorchGenerator()).randn([length]);
  }

  #applyStep(
    { target, terms, limited }: Combination,
    { timestep, batchSize }: { timestep: number; batchSize: number },
  ) {
    const missing = terms.find(({ register }) => !this.#registers[register]);
    if (missing) {
      throw new SchedulerError(
        `Cannot step at timestep ${timestep} as this sampler builds on the calls before it: begin at ${
          this.timesteps[0]
        }`,
        { timestep, register: missing.register },
      );
    }
    const result = evaluate(terms, this.#registers);
    if (limited) this.#limit(result, batchSize);
    this.#registers[target] = result;
  }

  #limit(original: Float32Array, batchSize: number): void {
    if (this.nonlinear === "clip_sample") {
      clamp(original, this.settings.clip_sample_range ?? 1);
      return;
    }
    // Dynamic thresholding (Imagen, arXiv 2205.11487, section 2.3), separately for each image.
    const { dynamic_thresholding_ratio: ratio = 0.995, sample_max_value: most = 1 } = this.settings;
    if (!Number.isInteger(batchSize) || batchSize < 1 || original.length % batchSize !== 0) {
      throw new SchedulerError(
        `Cannot threshold as batchSize must divide the sample's length: ${original.length} by ${batchSize}`,
        { length: original.length, batchSize },
      );
    }
    const size = original.length / batchSize;
    for (let start = 0; start < original.length; start += size) {
      const image = original.subarray(start, start + size);
      const bound = Math.min(Math.max(quantile(image.map(Math.abs), ratio), 1), most);
      clamp(image, bound);
      for (let i = 0; i < size; i++) image[i] /= bound;
    }
  }
}

function clamp(values: Float32Array, bound: number): void {
  for (let i = 0; i < values.length; i++) values[i] = Math.min(Math.max(values[i], -bound), bound);
}

/** As torch.quantile: linear interpolation between the two nearest ranks. */
function quantile(values: Float32Array, ratio: number): number {
  const sorted = values.toSorted();
  const rank = ratio * (sorted.length - 1);
  const low = sorted[Math.floor(rank)], high = sorted[Math.ceil(rank)];
  return low + (high - low) * (rank - Math.floor(rank));
}
