import { Tensor } from "../../engine/tensor.ts";
import { type PlanStep, type Scheduler, type SchedulerConfig, TorchGenerator } from "../../schedulers/mod.ts";
import { DenoisingLoop } from "./denoising_loop.ts";
import type { DenoisingOptions } from "./denoising_options.ts";
import { rehearseWatch } from "./finite_watch.ts";
import { drawNoise } from "./generators.ts";

/**
 * Denoises latents by the scheduler's plan. Everything stays on the device. The host waits for
 * callbacks and abort signals, and for the norms of samples that lie back. Samplers with a
 * non-linear part run on the host.
 *
 * @param latents [B, 4, h, w], scaled by the scheduler's initial sigma; consumed
 * @returns the denoised latents; `options.watch` has yet to check the last steps
 * @throws the signal's reason when it is aborted, {NonFiniteError} or {ActivationRangeError} after
 *   the first step whose sample is not finite; nothing is left on the device
 */
export async function denoise(latents: Tensor, options: DenoisingOptions): Promise<Tensor> {
  const { unet, scheduler, callback, callbackSteps, signal, watch } = options;
  const { gpu } = unet;
  using loop = options.record(() => new DenoisingLoop(latents, options));
  const host = loop.plan.nonlinear === null ? undefined : hostStepper(scheduler, options);
  for (const [index, step] of loop.plan.steps.entries()) {
    signal?.throwIfAborted();
    loop.predict(index);
    if (host) loop.sample = await host(loop.sample, loop.output, step);
    else loop.applyStep(index);
    // Where each step waits anyway, each is checked at once.
    await watch.observe(index, loop.sample, { now: Boolean(callback || signal || host) });
    if (callback && index % callbackSteps === 0) {
      await gpu.finished();
      await callback(index, step.timestep, loop.sample);
    } else if (signal) await gpu.finished(); // otherwise all steps would be submitted before an abort
  }
  signal?.throwIfAborted();
  if (options.isCurrent()) loop.keepPrediction();
  return loop.release();
}

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
  options: Omit<DenoisingOptions, "generator" | "contextKey" | "record" | "isCurrent" | "watch">,
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
  rehearseWatch(loop.sample);
  return loop.release();
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
