import { inspectAs } from "../engine/inspect.ts";
import { GpuError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import type { Scheduler } from "../schedulers/mod.ts";
import type { DrawingComponents } from "./components.ts";
import { type Call, startCall } from "./generation/call.ts";
import type { DecodingOptions } from "./generation/decoding.ts";
import type { GenerateResult, OutputTypes } from "./generation/options.ts";
import { compileCall, runCall } from "./generation/run.ts";
import { naturalSize } from "./generation/size.ts";
import type { Autoencoder } from "./models/autoencoder.ts";
import type { Key } from "./models/keyed_slot.ts";
import type { UNet2DConditionModel } from "./models/unet.ts";
import type { BakedWeights } from "./saving.ts";

/**
 * What the pipelines of all model families share: a UNet that denoises latents by a scheduler, an
 * autoencoder that decodes them, and the life of their components and calls.
 */
export abstract class DrawingPipeline implements Disposable {
  /** Swap freely: `pipe.scheduler = LMSDiscreteScheduler.fromConfig(pipe.scheduler.config)`. */
  scheduler: Scheduler;
  /** Decodes latents to pictures. */
  readonly vae: Autoencoder;
  /** Predicts the noise of latents. */
  readonly unet: UNet2DConditionModel;
  readonly #owned: DisposableStack;
  /** Keys of the calls whose kernels have been compiled ahead. */
  readonly #compiled: Key[] = [];
  #slicing = false;
  #tiling: DecodingOptions["tiling"] | undefined;
  /** Calls that have not ended. */
  #runs = 0;
  #disposed = false;

  /** Takes over what is in `owned`. */
  protected constructor({ scheduler, vae, unet }: DrawingComponents, owned?: DisposableStack) {
    this.scheduler = scheduler;
    this.vae = vae;
    this.unet = unet;
    this.#owned = owned?.move() ?? new DisposableStack();
  }

  /** The scale of classifier-free guidance where `generate` is given none: that of diffusers. */
  get defaultGuidanceScale(): number {
    return 7.5;
  }

  /** The device of the UNet. */
  get gpu(): Gpu {
    return this.unet.gpu;
  }

  /** The pipeline in one line, as `console.log` shows it. */
  describe(): string {
    const side = naturalSize(this);
    return [
      `${this.constructor.name} of ${this.unet.weights.source}`,
      `${side} × ${side}`,
      this.scheduler.constructor.name,
      ...(this.unet.activations === "f16" ? ["f16 activations"] : []),
      ...(this.gpu.info.arithmetic === "f16" ? ["f16 arithmetic"] : []),
    ].join(", ");
  }

  /** Decodes the pictures of a batch one after the other, in the memory of one. */
  enableVaeSlicing(): void {
    this.#slicing = true;
  }

  /** Decodes whole batches again. */
  disableVaeSlicing(): void {
    this.#slicing = false;
  }

  /**
   * Decodes large pictures in overlapping tiles of the autoencoder's training size; seams are
   * blended, tones may differ a little between tiles.
   */
  enableVaeTiling(): void {
    this.#tiling = true;
  }

  /** Decodes pictures whole again. */
  disableVaeTiling(): void {
    this.#tiling = false;
  }

  /**
   * Frees the components that `fromPretrained` loaded, and the device if it opened one; at the end
   * of the calls that are running, if any.
   */
  [Symbol.dispose](): void {
    this.#disposed = true;
    if (this.#runs === 0) this.#owned.dispose();
  }

  /**
   * How latents are decoded, as it stands now.
   *
   * @internal
   */
  protected get decoding(): DecodingOptions {
    return { slicing: this.#slicing, tiling: this.#tiling ?? this.defaultTiling };
  }

  /** Which pictures are decoded in tiles, unless the caller says. */
  protected get defaultTiling(): DecodingOptions["tiling"] {
    return false;
  }

  /**
   * The weights of cross-attention projections with the edits folded in, as the edits stand now.
   * Editing pipelines override it.
   */
  protected bakedWeights(): BakedWeights {
    return { weight: () => undefined, [Symbol.dispose]: () => {} };
  }

  /**
   * Refuses calls of a pipeline that is gone.
   *
   * @throws {GpuError} after the pipeline was disposed
   */
  protected refuseDisposed(): void {
    if (this.#disposed) throw new GpuError("Cannot generate with a pipeline after it was disposed");
  }

  /**
   * Refuses what calls that have not ended would suffer from.
   *
   * @throws {GpuError} while a call runs
   */
  protected refuseRunning(action: string): void {
    if (this.#runs === 0) return;
    throw new GpuError(`Cannot ${action} while ${this.#runs} calls run: await them first`);
  }

  /**
   * Draws a prepared call, which it disposes of.
   *
   * @internal
   */
  protected async draw<T extends keyof OutputTypes>(prepared: Call): Promise<GenerateResult<T>> {
    using call = prepared;
    const start = startCall(call); // before the first wait
    return await this.running(() => runCall(call, start, this.#compiled));
  }

  /**
   * Compiles the kernels of a prepared call, which it disposes of.
   *
   * @internal
   */
  protected async compile(prepared: Call): Promise<void> {
    using call = prepared;
    await this.running(() => compileCall(call, this.#compiled));
  }

  /** Runs `body`; a disposal meanwhile frees the components at the end of it. */
  protected async running<T>(body: () => Promise<T>): Promise<T> {
    this.#runs++;
    try {
      return await body();
    } finally {
      this.#runs--;
      if (this.#disposed && this.#runs === 0) this.#owned.dispose();
    }
  }
}

inspectAs(DrawingPipeline.prototype, (pipe) => {
  if (!(pipe instanceof DrawingPipeline)) return "DrawingPipeline";
  return pipe.describe();
});
