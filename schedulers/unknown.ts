import { type BaseConfig, COMMON_DEFAULTS, type SchedulerConfig } from "./config.ts";
import { SchedulerError } from "./error.ts";
import type { PlanStep } from "./plan.ts";
import { interchangeableClasses, Scheduler, type SchedulerClass } from "./scheduler.ts";

/**
 * Stands for a scheduler class that is not supported, so that its model loads. It holds the
 * configuration for the sampler that is chosen in its place, and cannot draw.
 */
export class UnknownScheduler extends Scheduler<BaseConfig> {
  /** The class that the model names. */
  readonly className: string;
  /** The file that names it. */
  readonly file: string;

  /** Keeps a configuration. @param origin the class that it is for, and the file that says so */
  constructor(config: SchedulerConfig, { className, file }: { className: string; file: string }) {
    super({ name: className, defaults: COMMON_DEFAULTS, unchecked: true }, { ...config, _class_name: className }, {});
    this.className = className;
    this.file = file;
  }

  /** All classes: each can take its place. */
  override get compatibles(): SchedulerClass[] {
    return interchangeableClasses();
  }

  /**
   * Plans nothing.
   *
   * @throws {SchedulerError} which says how to choose a sampler
   */
  protected override build(): PlanStep[] {
    throw new SchedulerError(
      `Cannot draw with ${this.className}, which ${this.file} names and which is not supported: choose a sampler, ` +
        `pipe.scheduler = samplerByName("dpm++ 2m", pipe.scheduler.config)`,
      { className: this.className, file: this.file },
    );
  }
}
