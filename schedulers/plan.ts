/**
 * Sampling as data: the work of a scheduler between two model calls, written as linear combinations
 * of numbered registers.
 *
 * Every sampler here is linear in the sample, the model outputs and the noise. A whole run is
 * therefore known before the first model call. The host, or a loop on the GPU, executes it without
 * knowing the sampler. A register holds an array of the sample's size. One run is:
 *
 * ```text
 * registers[SAMPLE] = initNoiseSigma · noise
 * for each step of the plan:
 *   registers[OUTPUT] = model(step.inputScale · registers[SAMPLE], step.timestep)
 *   registers[NOISE]  = a fresh draw of N(0, 1)                  if step.drawsNoise
 *   for each { target, terms } of step.combine, in order:
 *     registers[target] = Σ coefficient · registers[register]    (terms may read the target)
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
/** The first register that is free for the sampler: saved samples, previous outputs. */
export const HISTORY = 3;

/** One summand of a combination: `coefficient · registers[register]`. */
export interface Term {
  /** The register that is read. */
  readonly register: number;
  /** Factor of the register. */
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

/** One model call, with the work before and after it. */
export interface PlanStep {
  /**
   * The timestep that is passed to the model. Fractional for samplers that interpolate noise
   * levels.
   */
  readonly timestep: number;
  /** The model sees `inputScale · registers[SAMPLE]`. */
  readonly inputScale: number;
  /** Noise level of the sample at this step: `x_t = signal · x_0 + noise · N(0, 1)`. */
  readonly level: NoiseLevel;
  /**
   * Whether the sampler draws noise at this step. Like diffusers, some samplers draw noise that no
   * term reads (Euler, and the last ancestral step), which keeps a shared generator in step.
   */
  readonly drawsNoise: boolean;
  /**
   * The combinations to evaluate after the model call, in order. The last one writes {@linkcode
   * SAMPLE}.
   */
  readonly combine: readonly Combination[];
  /**
   * The predicted clean image x̂_0, in terms of the registers before the last combination.
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

/** The part of a sampler that is not linear; see {@linkcode SchedulerPlan.nonlinear}. */
export type Nonlinearity = "clip_sample" | "thresholding";

/** A whole run of a sampler: one {@linkcode PlanStep} per model call. */
export interface SchedulerPlan {
  /** The timesteps of all model calls, as `setTimesteps()` gives them. */
  readonly timesteps: readonly number[];
  /** The standard deviation of the first sample. */
  readonly initNoiseSigma: number;
  /** How many registers the plan uses, the fixed three included. */
  readonly registers: number;
  /**
   * The nonlinear operation on `limited` combinations, named by its configuration key. Runs where
   * this is not null must use `step()`, which implements the operation.
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
 * The linear form `Σ weight · form`, with one term per register and without zero coefficients.
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
 * The clean image x_0 and the noise ε that a model output implies, as linear forms of sample and
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
