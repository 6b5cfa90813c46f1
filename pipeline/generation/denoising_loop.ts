import { Tensor } from "../../engine/tensor.ts";
import { copyBlock } from "../../kernels/shape/copy_block.ts";
import { linearCombination } from "../../kernels/shape/linear_combination.ts";
import { NOISE, OUTPUT, SAMPLE, type SchedulerPlan } from "../../schedulers/mod.ts";
import type { KeyedSlot, Lease } from "../models/keyed_slot.ts";
import { keptWork } from "../models/unet.ts";
import type { LoopOptions } from "./denoising_options.ts";
import { drawNoise } from "./generators.ts";
import { mostKeptBytes, Prediction } from "./prediction.ts";

/**
 * The denoising loop on the device. The UNet and guidance are captured once, on input tensors of
 * their own, and replayed at each step: pipelines, bind groups, parameters and memory are resolved.
 */
export class DenoisingLoop implements Disposable {
  readonly plan: SchedulerPlan;
  readonly #options: LoopOptions;
  readonly #registers: Registers;
  /**
   * Rows of the UNet's time projections, one a step; with an added embedding one for each row of
   * the context in each step.
   */
  readonly #times: Tensor;
  readonly #prediction: Lease<Prediction>;
  readonly #held = new DisposableStack();

  constructor(latents: Tensor, options: LoopOptions) {
    const { unet, context, contextKey, guidanceScale, guidanceRescale } = options;
    this.#options = options;
    this.plan = options.plan;
    const { loraScale, addedEmbedding } = context;
    try {
      // The registers take the latents first, so that an error below frees them.
      this.#registers = this.#held.use(new Registers(latents));
      this.#times = this.#held.use(
        unet.embedTimesteps(this.plan.timesteps, { loraScale, addedEmbedding, guidanceScale }),
      );
      const [, columns] = this.#times.dims(2);
      const rows = context.addedEmbedding ? context.batch : 1;
      const key = contextKey && [...contextKey, guidanceScale, guidanceRescale, ...latents.shape];
      const slot = keptWork(unet).prediction as KeyedSlot<Prediction>;
      this.#prediction = this.#held.use(slot.take(key, () => new Prediction(latents.shape, [rows, columns], options)));
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

/** Copies as many elements as `to` holds. */
function copyAll(from: Tensor, to: Tensor, start = 0): void {
  const length = to.size;
  copyBlock({ tensor: from, start, stride: length }, { tensor: to, start: 0, stride: length }, { rows: 1, length });
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
