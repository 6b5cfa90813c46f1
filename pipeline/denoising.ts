import type { Gpu } from "../engine/gpu.ts";
import { Tensor } from "../engine/tensor.ts";
import { concat } from "../kernels/concat.ts";
import { guide, linearCombination } from "../kernels/linear_combination.ts";
import { slice } from "../kernels/slice.ts";
import {
  NOISE,
  OUTPUT,
  type PlanStep,
  SAMPLE,
  type Scheduler,
  type SchedulerPlan,
  type TorchGenerator,
} from "../schedulers/mod.ts";
import type { PromptContext, UNet2DConditionModel } from "./models/unet.ts";

/** Called while denoising: step from 0, the timestep, and the latents, which live until the callback (or its promise) ends. */
export type StepCallback = (step: number, timestep: number, latents: Tensor) => void | Promise<void>;

/** What {@linkcode denoise} works with. */
export interface DenoisingOptions {
  readonly unet: UNet2DConditionModel;
  readonly scheduler: Scheduler;
  readonly numInferenceSteps: number;
  /** Keys and values of the prompts; under guidance those of the negative prompts first, so twice as many as latents. */
  readonly context: PromptContext;
  readonly guidanceScale: number;
  readonly eta: number;
  /** Draws the noise of samplers that add some, one for all or one per image. */
  readonly generator: TorchGenerator | readonly TorchGenerator[];
  readonly callback?: StepCallback;
  readonly callbackSteps: number;
  readonly signal?: AbortSignal;
}

/**
 * Denoises latents by the scheduler's plan. Everything stays on the device and nothing waits, except where a callback or an abort
 * signal wants to know how far it is, and for samplers with a non-linear part, which run on the host.
 *
 * @param latents [B, 4, h, w], scaled by the scheduler's initial sigma; consumed
 * @returns the denoised latents
 * @throws the signal's reason when it is aborted; nothing is left on the device
 */
export async function denoise(latents: Tensor, options: DenoisingOptions): Promise<Tensor> {
  const { unet, scheduler, eta, callback, callbackSteps, signal, context } = options;
  const { gpu } = unet;
  using registers = new Registers(latents); // first of all: what throws from here on leaves nothing behind
  const plan = scheduler.plan(options.numInferenceSteps, { eta });
  const host = plan.nonlinear === null ? undefined : hostStepper(scheduler, options);
  using times = embedTimes(unet, plan, context);
  for (const [index, step] of plan.steps.entries()) {
    signal?.throwIfAborted();
    const output = gpu.scope(() =>
      predict(
        registers.get(SAMPLE),
        step,
        slice(times, 0, index * context.batch, (index + 1) * context.batch),
        options,
      )
    );
    registers.set(OUTPUT, output);
    if (host) registers.set(SAMPLE, await host(registers.get(SAMPLE), output, step));
    else carryOut(gpu, registers, step, options.generator);
    if (callback && index % callbackSteps === 0) {
      await gpu.finished();
      await callback(index, step.timestep, registers.get(SAMPLE));
    } else if (signal) await gpu.finished(); // so that an abort finds a step to stop before
  }
  signal?.throwIfAborted();
  return registers.release(SAMPLE);
}

/** Standard normal noise [B, …]: all of it from one generator, or each image's from its own, as diffusers draws it. */
export function drawNoise(
  shape: readonly number[],
  generator: TorchGenerator | readonly TorchGenerator[],
): Float32Array<ArrayBuffer> {
  if (!(generator instanceof Array)) return new Float32Array((generator as TorchGenerator).randn(shape));
  return Float32Array.from(generator.flatMap((single) => [...single.randn([1, ...shape.slice(1)])]));
}

/** The model's word on a sample: guided, where the context holds negative prompts, by one batch of two. */
function predict(
  sample: Tensor,
  step: PlanStep,
  time: Tensor,
  { unet, context, guidanceScale }: DenoisingOptions,
): Tensor {
  const input = step.inputScale === 1 ? sample : linearCombination([{ tensor: sample, coefficient: step.inputScale }]);
  if (context.batch === sample.shape[0]) return unet.forward(input, time, context);
  return guide(unet.forward(concat([input, input], 0), time, context), guidanceScale);
}

function carryOut(
  gpu: Gpu,
  registers: Registers,
  step: PlanStep,
  generator: TorchGenerator | readonly TorchGenerator[],
): void {
  if (step.drawsNoise) {
    const { shape } = registers.get(SAMPLE);
    registers.set(NOISE, Tensor.from(gpu, drawNoise(shape, generator), shape));
  }
  for (const { target, terms } of step.combine) {
    registers.set(
      target,
      linearCombination(terms.map(({ register, coefficient }) => ({ tensor: registers.get(register), coefficient }))),
    );
  }
  registers.drop(OUTPUT);
  registers.drop(NOISE);
}

function embedTimes(unet: UNet2DConditionModel, plan: SchedulerPlan, { batch, loraScale }: PromptContext): Tensor {
  const rows = plan.timesteps.flatMap((timestep) => Array<number>(batch).fill(timestep));
  return unet.embedTimesteps(rows, { loraScale }); // [steps · B, features]
}

/** Carries a step out by the scheduler's own `step()`: for clipping and thresholding, at the price of a fence. */
function hostStepper(scheduler: Scheduler, { numInferenceSteps, eta, generator }: DenoisingOptions) {
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
