/**
 * Repairs configurations that were written before diffusers knew better, as diffusers'
 * `StableDiffusionPipeline` does when it is built.
 *
 * @module
 */
import type { Scheduler } from "../schedulers/mod.ts";
import type { UNet2DConditionModel } from "./models/unet.ts";
import { warn } from "./safe_text.ts";

/**
 * Changes the configurations of components in place, with one warning for each change:
 *
 * - `steps_offset` other than 1 becomes 1, and a `clip_sample` of true becomes false, also where
 *   they are true or 0 by default, and where the scheduler only keeps the key for other classes;
 * - the `sample_size` of a UNet that was saved before diffusers 0.9 becomes 64 where it is less.
 */
export function repairOutdated({ scheduler, unet }: { scheduler: Scheduler; unet: UNet2DConditionModel }): void {
  const { config } = scheduler;
  const file = "scheduler/scheduler_config.json";
  const offset = (config as Record<string, unknown>).steps_offset;
  if (offset !== undefined && offset !== 1) {
    warn(
      `The configuration of ${config._class_name} is outdated: steps_offset is ${offset}, which visits timesteps that ` +
        `Stable Diffusion does not draw best with. It is taken as 1, as diffusers does: set it in ${file}`,
    );
    scheduler.amend({ steps_offset: 1 });
  }
  if (config.clip_sample === true) {
    warn(
      `The configuration of ${config._class_name} is outdated: clip_sample is true, which would clip latents to ` +
        `±${config.clip_sample_range ?? 1}. It is taken as false, as diffusers does: set it in ${file}`,
    );
    scheduler.amend({ clip_sample: false });
  }
  const { sampleSize } = unet.config;
  const version = unet.origin?.config._diffusers_version;
  if (sampleSize === null || sampleSize >= 64 || typeof version !== "string" || !isBefore09(version)) return;
  warn(
    `The configuration of the UNet is outdated: sample_size is ${sampleSize}, in a file that diffusers ${version} wrote, ` +
      "whose default was 32 whatever the model. It is taken as 64, as diffusers does: set it in unet/config.json",
  );
  Object.assign(unet.config, { sampleSize: 64 });
}

/** Whether a version precedes 0.9.0; its development versions do not. */
function isBefore09(version: string): boolean {
  const [, major, minor] = /^v?(\d+)(?:\.(\d+))?/.exec(version) ?? [];
  return major !== undefined && Number(major) === 0 && Number(minor ?? 0) < 9;
}
