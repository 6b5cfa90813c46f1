/** The device that all sessions of a server share. @module */

import { DeviceLostError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { openTunedGpu } from "../../pipeline/tuning_file.ts";

/** Opens a device when it is first needed, and another one when it is lost. */
export class SharedDevice implements AsyncDisposable {
  readonly #open: () => Promise<Gpu>;
  #gpu: Promise<Gpu> | undefined;

  /** @param open Default: a device with its saved tuning. */
  constructor(open: () => Promise<Gpu> = openTunedGpu) {
    this.#open = open;
  }

  /** The device. */
  async get(): Promise<Gpu> {
    this.#gpu ??= this.#open();
    try {
      return await this.#gpu;
    } catch (error) {
      this.#gpu = undefined; // the next attempt may succeed
      throw error;
    }
  }

  /** After a failure: leaves the device if it is lost. */
  async check(): Promise<void> {
    const pending = this.#gpu;
    try {
      await (await pending)?.finished();
    } catch (error) {
      if (error instanceof DeviceLostError && this.#gpu === pending) this.#gpu = undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const gpu = await this.#gpu?.catch(() => undefined);
    this.#gpu = undefined;
    gpu?.[Symbol.dispose]();
  }
}
