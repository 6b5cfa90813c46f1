import type { Program } from "../../engine/record/program.ts";
import { Tensor } from "../../engine/tensor.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { copyBlock } from "../../kernels/shape/copy_block.ts";
import { guide } from "../../kernels/shape/guide.ts";
import { squaredNorms } from "../../kernels/linalg/squared_norms.ts";
import { linearCombination } from "../../kernels/shape/linear_combination.ts";
import {
  NOISE,
  OUTPUT,
  type PlanStep,
  SAMPLE,
  type Scheduler,
  type SchedulerConfig,
  type SchedulerPlan,
  TorchGenerator,
} from "../../schedulers/mod.ts";
import type { Key, KeyedSlot, Lease } from "../models/keyed_slot.ts";
import type { PromptContext } from "../models/prompt_context.ts";
import { keptWork, type UNet2DConditionModel } from "../models/unet.ts";
import { FiniteWatch } from "./finite_watch.ts";
import type { Generators } from "./generators.ts";

/**
 * Called while denoising: step from 0, the timestep, and the latents, which live until the callback
 * (or its promise) ends.
 */
export type StepCallback = (step: number, timestep: number, latents: Tensor) => void | Promise<void>;

/** What {@linkcode denoise} works with. */
export interface DenoisingOptions {
  readonly unet: UNet2DConditionModel;
  readonly scheduler: Scheduler;
  readonly numInferenceSteps: number;
  /** The scheduler's plan for these steps and this eta. */
  readonly plan: SchedulerPlan;
  /**
   * Keys and values of the prompts; under guidance those of the negative prompts first, so twice as
   * many as latents.
   */
  readonly context: PromptContext;
  /**
   * What the context depends on. With it, the captured prediction is kept for the next call of the
   * same key, shapes and guidance.
   */
  readonly contextKey?: Key;
  readonly guidanceScale: number;
  readonly eta: number;
  /** Draws the noise of samplers that add some, one for all or one per image. */
  readonly generator: Generators;
  readonly callback?: StepCallback;
  readonly callbackSteps: number;
  readonly signal?: AbortSignal;
  /** Records the UNet in the state that the call was made in. */
  readonly record: <T>(body: () => T) => T;
  /** Whether the UNet is still in that state, so that the captured prediction can be kept. */
  readonly isCurrent: () => boolean;
}

/**
 * Denoises latents by the scheduler's plan. Everything stays on the device. The host waits for
 * callbacks and abort signals, and for the norm of the sample one step before. Samplers with a
 * non-linear part run on the host.
 *
 * @param latents [B, 4, h, w], scaled by the scheduler's initial sigma; consumed
 * @returns the denoised latents
 * @throws the signal's reason when it is aborted, {NonFiniteError} or {ActivationRangeError} after
 *   the first step whose sample is not finite; nothing is left on the device
 */
export async function denoise(latents: Tensor, options: DenoisingOptions): Promise<Tensor> {
  const { unet, scheduler, callback, callbackSteps, signal } = options;
  const { gpu } = unet;
  using loop = options.record(() => new DenoisingLoop(latents, options));
  const host = loop.plan.nonlinear === null ? undefined : hostStepper(scheduler, options);
  // Where each step waits anyway, each is checked at once.
  using watch = new FiniteWatch(unet.activations, callback || signal || host ? 1 : checkedTogether);
  for (const [index, step] of loop.plan.steps.entries()) {
    signal?.throwIfAborted();
    loop.predict(index);
    if (host) loop.sample = await host(loop.sample, loop.output, step);
    else loop.applyStep(index);
    await watch.observe(index, loop.sample);
    if (callback && index % callbackSteps === 0) {
      await gpu.finished();
      await callback(index, step.timestep, loop.sample);
    } else if (signal) await gpu.finished(); // otherwise all steps would be submitted before an abort
  }
  await watch.finish();
  signal?.throwIfAborted();
  if (options.isCurrent()) loop.keepPrediction();
  return loop.release();
}

/** Steps whose samples are checked together where nothing waits for single steps. */
const checkedTogether = 8;

/**
 * Steps until the history of a multi-step sampler is full. Each of them may use other kernels than
 * the one before.
 */
const warmUpSteps = 5;

/**
 * Records each kind of dispatch of {@linkcode denoise}, for `GpuContext.rehearse`: the steps until
 * the history of a multi-step sampler is full. It does not advance the call's generators.
 */
export function rehearseDenoising(
  latents: Tensor,
  options: Omit<DenoisingOptions, "generator" | "contextKey" | "record" | "isCurrent">,
): Tensor {
  using loop = new DenoisingLoop(latents, {
    ...options,
    generator: new TorchGenerator(0),
    record: (body) => body(),
    isCurrent: () => false,
  });
  for (const index of loop.plan.steps.slice(0, warmUpSteps).keys()) {
    loop.predict(index);
    if (loop.plan.nonlinear === null) loop.applyStep(index);
  }
  loop.sample.gpu.scope(() => squaredNorms(loop.sample));
  return loop.release();
}

/**
 * Standard normal noise [B, …], from one generator for all images or one for each, as in diffusers.
 */
export function drawNoise(
  shape: readonly number[],
  generator: Generators,
): Float32Array<ArrayBuffer> {
  if (!(generator instanceof Array)) return new Float32Array((generator as TorchGenerator).randn(shape));
  return Float32Array.from(generator.flatMap((single) => [...single.randn([1, ...shape.slice(1)])]));
}

/**
 * The denoising loop on the device. The UNet and guidance are captured once, on input tensors of
 * their own, and replayed at each step: pipelines, bind groups, parameters and memory are resolved.
 */
class DenoisingLoop implements Disposable {
  readonly plan: SchedulerPlan;
  readonly #options: DenoisingOptions;
  readonly #registers: Registers;
  /** Rows of the UNet's time projections, one a step. */
  readonly #times: Tensor;
  readonly #prediction: Lease<Prediction>;
  readonly #held = new DisposableStack();

  constructor(latents: Tensor, options: DenoisingOptions) {
    const { unet, context, contextKey, guidanceScale } = options;
    this.#options = options;
    this.plan = options.plan;
    try {
      // The registers take the latents first, so that an error below frees them.
      this.#registers = this.#held.use(new Registers(latents));
      // [steps, columns]
      this.#times = this.#held.use(unet.embedTimesteps(this.plan.timesteps, { loraScale: context.loraScale }));
      const [, columns] = this.#times.dims(2);
      const key = contextKey && [...contextKey, guidanceScale, ...latents.shape];
      const slot = keptWork(unet).prediction as KeyedSlot<Prediction>;
      this.#prediction = this.#held.use(slot.take(key, () => new Prediction(latents.shape, columns, options)));
    } catch (error) {
      this.#held.dispose();
      throw error;
    }
  }

  get sample(): Tensor {
    return this.#registers.get(SAMPLE);
  }

  set sample(tensor: Tensor) {
    this.#registers.set(SAMPLE, tensor);
  }

  /** The last prediction. */
  get output(): Tensor {
    return this.#prediction.value.program.result;
  }

  /** Keeps the captured prediction for the next call, unless it holds much memory. */
  keepPrediction(): void {
    if (this.#prediction.value.program.temporaryBytes <= mostKeptBytes) this.#prediction.keep();
  }

  /** Runs the model on the sample. */
  predict(index: number): void {
    const { gpu } = this.#options.unet;
    const { inputScale } = this.plan.steps[index];
    const { sample, time } = this.#prediction.value;
    gpu.scope(() => {
      const scaled = inputScale === 1
        ? this.sample
        : linearCombination([{ tensor: this.sample, coefficient: inputScale }]);
      copyAll(scaled, sample);
      copyAll(this.#times, time, index * time.size);
    });
    this.#prediction.value.program.run();
  }

  /** Applies a step of the scheduler's plan to the sample. */
  applyStep(index: number): void {
    const { unet: { gpu }, generator } = this.#options;
    const { drawsNoise, combine } = this.plan.steps[index];
    const registers = this.#registers;
    registers.set(OUTPUT, this.output.reshape(this.output.shape)); // the program stays its owner
    if (drawsNoise) registers.set(NOISE, Tensor.from(gpu, drawNoise(this.sample.shape, generator), this.sample.shape));
    for (const { target, terms } of combine) {
      registers.set(
        target,
        linearCombination(terms.map(({ register, coefficient }) => ({ tensor: registers.get(register), coefficient }))),
      );
    }
    registers.drop(OUTPUT);
    registers.drop(NOISE);
  }

  /** Transfers ownership of the sample to the caller. */
  release(): Tensor {
    return this.#registers.release(SAMPLE);
  }

  [Symbol.dispose](): void {
    this.#held.dispose();
  }
}

/**
 * Temporaries of a prediction that are kept between calls, at most: those of 512 × 512 pictures fit
 * several times. They stay allocated while pictures are decoded, so that larger ones are freed.
 */
const mostKeptBytes = 512 * 1024 ** 2;

/** The UNet and guidance, captured on inputs of their own. */
class Prediction implements Disposable {
  readonly sample: Tensor; // [B, latent channels, h, w]
  readonly time: Tensor; // [1, columns]
  readonly program: Program<Tensor>;
  readonly #owned: DisposableStack;

  constructor(shape: readonly number[], columns: number, options: DenoisingOptions) {
    const { gpu } = options.unet;
    using owned = new DisposableStack();
    this.sample = owned.use(Tensor.empty(gpu, shape).keep());
    this.time = owned.use(Tensor.empty(gpu, [1, columns]).keep());
    this.program = owned.use(gpu.capture(() => predictNoise(this, options)));
    this.#owned = owned.move();
  }

  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}

/**
 * Runs the UNet. Applies classifier-free guidance when the context holds negative prompts, which
 * then run in the same batch.
 */
function predictNoise(
  { sample, time }: { sample: Tensor; time: Tensor },
  { unet, context, guidanceScale }: DenoisingOptions,
): Tensor {
  if (context.batch === sample.shape[0]) return unet.forward(sample, time, context);
  return guide(unet.forward(concat([sample, sample], 0), time, context), guidanceScale);
}

/** Copies as many elements as `to` holds. */
function copyAll(from: Tensor, to: Tensor, start = 0): void {
  const length = to.size;
  copyBlock({ tensor: from, start, stride: length }, { tensor: to, start: 0, stride: length }, { rows: 1, length });
}

/**
 * Applies steps by the scheduler's own `step()` on the host, for plans with clipping or
 * thresholding. Each step waits for the device. A scheduler holds the history of its run, so each
 * call steps a copy: calls may overlap.
 */
function hostStepper(original: Scheduler, { numInferenceSteps, eta, generator }: DenoisingOptions) {
  const { fromConfig } = original.constructor as { fromConfig?: (config: SchedulerConfig) => Scheduler };
  const scheduler = fromConfig?.call(original.constructor, original.config) ?? original;
  scheduler.setTimesteps(numInferenceSteps);
  return async (sample: Tensor, output: Tensor, { timestep, drawsNoise }: PlanStep): Promise<Tensor> => {
    const { gpu, shape } = sample;
    const noise = drawsNoise ? drawNoise(shape, generator) : undefined;
    const { prevSample } = scheduler.step(await output.data(), timestep, await sample.data(), {
      eta,
      noise,
      batchSize: shape[0],
    });
    return Tensor.from(gpu, prevSample as Float32Array<ArrayBuffer>, shape);
  };
}

/** The plan's numbered registers, each the owner of its tensor. */
class Registers implements Disposable {
  readonly #tensors: (Tensor | undefined)[] = [];

  constructor(sample: Tensor) {
    this.#tensors[SAMPLE] = sample;
  }

  get(register: number): Tensor {
    return this.#tensors[register]!;
  }

  set(register: number, tensor: Tensor): void {
    this.#tensors[register]?.[Symbol.dispose]();
    this.#tensors[register] = tensor;
  }

  drop(register: number): void {
    this.release(register)?.[Symbol.dispose]();
  }

  release(register: number): Tensor {
    const tensor = this.#tensors[register]!;
    this.#tensors[register] = undefined;
    return tensor;
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#tensors) tensor?.[Symbol.dispose]();
  }
}
