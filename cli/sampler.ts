import {
  EulerDiscreteScheduler,
  samplerByName,
  type Scheduler,
  SchedulerError,
  UnknownScheduler,
} from "../schedulers/mod.ts";
import { ArgumentError } from "./argument_error.ts";

/** The flags that choose a sampler. */
export interface SamplerValues {
  readonly samplingMethod?: string;
  readonly scheduler?: string;
}

/**
 * The sampler's name with the spacing of its noise levels, for a model with a scheduler of its own;
 * undefined where the flags choose neither.
 */
export function samplerName({ samplingMethod, scheduler }: SamplerValues, own: Scheduler): string | undefined {
  if (scheduler === undefined) return samplingMethod;
  return `${samplingMethod ?? own.config._class_name} ${scheduler}`;
}

/**
 * Checks the flags as far as that is possible without the model, so that a typing error costs no
 * loading.
 *
 * @throws {ArgumentError} for a sampler or a spacing that is unknown or not computed
 */
export function checkSampler(values: SamplerValues): void {
  samplerOf(values, new EulerDiscreteScheduler()); // which has every spacing
}

/**
 * The sampler that the flags choose for a model, or its own.
 *
 * @throws {ArgumentError} for a sampler that is unknown or not computed, and where none is chosen
 *   for a model whose own is not supported
 */
export function samplerOf(values: SamplerValues, own: Scheduler): Scheduler {
  if (own instanceof UnknownScheduler && values.samplingMethod === undefined) {
    throw new ArgumentError(
      `Cannot draw with ${own.className}, which ${own.file} names and which is not supported: choose a sampler, such ` +
        'as --sampling-method "dpm++2m"',
      { argument: "--sampling-method" },
    );
  }
  const name = samplerName(values, own);
  if (name === undefined) return own;
  try {
    return samplerByName(name, own.config);
  } catch (error) {
    if (!(error instanceof SchedulerError)) throw error;
    const flag = values.scheduler === undefined ? "--sampling-method" : "--scheduler";
    throw new ArgumentError(`${flag}: ${error.message}`, { argument: flag });
  }
}
