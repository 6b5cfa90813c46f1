/**
 * Sampling as data: what a scheduler does between two model calls, as linear combinations of
 * numbered registers.
 *
 * Every sampler here is linear in the sample, the model's outputs and the noise, so a whole run can
 * be written down before the first model call, and whoever holds the registers (the host, or
 * buffers on a GPU) can carry it out without knowing any sampler. A register holds an array of the
 * sample's size. One run is:
 *
 * ```text
 * registers[SAMPLE] = initNoiseSigma · noise
 * for each step of the plan:
 *   registers[OUTPUT] = model(step.inputScale · registers[SAMPLE], step.timestep)
 *   registers[NOISE]  = a fresh draw of N(0, 1)                         if step.drawsNoise
 *   for each { target, terms } of step.combine, in order:
 *     registers[target] = Σ coefficient · registers[register]           (terms may name the target: read, then write)
 * ```
 *
 * @module
 */

/** The register of the current sample x_t; after a step's combinations it holds the next one. */
export const SAMPLE = 0;
/** The register that receives the model's output (after guidance) before a step's combinations. */
export const OUTPUT = 1;
/**
 * The register that receives a fresh draw of standard normal noise where a step says `drawsNoise`.
 */
export const NOISE = 2;
/** The first register that a sampler may use as it likes: saved samples, previous outputs. */
export const HISTORY = 3;

/** One summand of a combination: `coefficient · registers[register]`. */
export interface Term {
  /** The register that is read. */
  readonly register: number;
  /** What it is multiplied by. */
  readonly coefficient: number;
}

/** `registers[target] = Σ coefficient · registers[register]` */
export interface Combination {
  /** The register that is written. */
  readonly target: number;
  /** The summands. */
  readonly terms: readonly Term[];
  /**
   * Whether the sum is a predicted clean image that the plan's nonlinearity (clipping,
   * thresholding) acts on.
   */
  readonly limited?: true;
}

/** What stands around one model call. */
export interface PlanStep {
  /**
   * The time that the model is told; a fraction for samplers that work on interpolated noise
   * levels.
   */
  readonly timestep: number;
  /** The model sees `inputScale · registers[SAMPLE]`. */
  readonly inputScale: number;
  /** How the sample is made up here: `x_t = signal · x_0 + noise · N(0, 1)`. */
  readonly level: NoiseLevel;
  /**
   * Whether the sampler draws noise here. The draw is made even where no term reads it (Euler's,
   * and the last ancestral step's), as diffusers makes it too, and a generator shared with a later
   * image has to stay in step.
   */
  readonly drawsNoise: boolean;
  /**
   * The combinations to carry out after the model call, in order. The last one writes {@linkcode
   * SAMPLE}.
   */
  readonly combine: readonly Combination[];
  /**
   * The clean image x̂_0 foreseen by this call, from the registers as they stand just before the
   * last combination.
   */
  readonly original: readonly Term[];
}

/** `x_t = signal · x_0 + noise · N(0, 1)` */
export interface NoiseLevel {
  /** The clean image's factor. */
  readonly signal: number;
  /** The noise's standard deviation. */
  readonly noise: number;
}

/** What a plan's linear combinations leave out; see {@linkcode SchedulerPlan.nonlinear}. */
export type Nonlinearity = "clip_sample" | "thresholding";

/** A whole run of a sampler, one {@linkcode PlanStep} a model call. */
export interface SchedulerPlan {
  /** The timesteps of all model calls, as `setTimesteps()` gives them. */
  readonly timesteps: readonly number[];
  /** The standard deviation of the first sample. */
  readonly initNoiseSigma: number;
  /** How many registers the plan uses, the fixed three included. */
  readonly registers: number;
  /**
   * What has to happen to `limited` combinations besides the sum, by the configuration key that
   * asks for it. Where this is not null, carry out the run with `step()`, which knows how.
   */
  readonly nonlinear: Nonlinearity | null;
  /** The model calls, in order. */
  readonly steps: readonly PlanStep[];
}

/** The linear form that reads one register. */
export function of(register: number): Term[] {
  return [{ register, coefficient: 1 }];
}

/**
 * The linear form `Σ weight · form`, with one term a register and without zero coefficients.
 *
 * ```ts
 * mix([2, of(SAMPLE)], [-1, of(OUTPUT)]); // 2 · sample − output
 * ```
 */
export function mix(...parts: readonly (readonly [weight: number, form: readonly Term[]])[]): Term[] {
  const sums = new Map<number, number>();
  for (const [weight, form] of parts) {
    if (weight === 0) continue;
    for (const { register, coefficient } of form) sums.set(register, (sums.get(register) ?? 0) + weight * coefficient);
  }
  return [...sums].filter(([, coefficient]) => coefficient !== 0)
    .map(([register, coefficient]) => ({ register, coefficient }));
}

/**
 * The clean image x_0 and the noise ε that a model output speaks of, as linear forms of sample and
 * output, where `x_t = alpha · x_0 + sigma · ε` and alpha² + sigma² = 1.
 *
 * `epsilon`: the output is ε. `sample`: it is x_0. `v_prediction`: it is v = alpha · ε − sigma ·
 * x_0 (arXiv 2202.00512).
 */
export function predict(
  predictionType: string,
  { alpha, sigma, sample = of(SAMPLE) }: { alpha: number; sigma: number; sample?: readonly Term[] },
): { original: Term[]; epsilon: Term[] } {
  const output = of(OUTPUT);
  if (predictionType === "sample") {
    return { original: output, epsilon: mix([1 / sigma, sample], [-alpha / sigma, output]) };
  }
  if (predictionType === "v_prediction") {
    return {
      original: mix([alpha, sample], [-sigma, output]),
      epsilon: mix([sigma, sample], [alpha, output]),
    };
  }
  return { original: mix([1 / alpha, sample], [-sigma / alpha, output]), epsilon: output };
}

/** `Σ coefficient · registers[register]`, summed in float64 and rounded once to float32. */
export function evaluate(terms: readonly Term[], registers: readonly (Float32Array | undefined)[]): Float32Array {
  const sources = terms.map(({ register, coefficient }) => ({ values: registers[register]!, coefficient }));
  const length = registers[SAMPLE]!.length;
  const result = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    let sum = 0;
    for (const { values, coefficient } of sources) sum += coefficient * values[i];
    result[i] = sum;
  }
  return result;
}
