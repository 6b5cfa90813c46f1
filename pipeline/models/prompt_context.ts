import type { Tensor } from "../../engine/tensor.ts";
import type { Attention, KeysValues } from "../layers/attention.ts";

/**
 * The keys and values of a batch of prompts in every cross-attention layer. They are computed once
 * and read in every denoising step.
 */
export class PromptContext implements Disposable {
  readonly #layers: ReadonlyMap<Attention, KeysValues>;
  /** Number of prompts, which is the batch size that the UNet must be called with. */
  readonly batch: number;
  /**
   * The factor of the LoRAs that keys and values were projected with. The other layers of the UNet
   * use the same one.
   */
  readonly loraScale: number;
  /**
   * What a UNet with added conditions (SDXL) adds to the time embedding of each prompt, [B, 4 C];
   * `undefined` for other UNets.
   */
  readonly addedEmbedding: Tensor | undefined;

  /** Takes ownership of the keys and values, and of the added embedding. */
  constructor(
    layers: ReadonlyMap<Attention, KeysValues>,
    options: { batch: number; loraScale?: number; addedEmbedding?: Tensor },
  ) {
    this.#layers = layers;
    this.batch = options.batch;
    this.loraScale = options.loraScale ?? 1;
    this.addedEmbedding = options.addedEmbedding;
  }

  /** Keeps the tensors alive beyond the current scope. */
  keep(): this {
    for (const { keys, values } of this.#layers.values()) {
      keys.keep();
      values.keep();
    }
    this.addedEmbedding?.keep();
    return this;
  }

  /** The keys and values of a layer. */
  of(layer: Attention): KeysValues {
    return this.#layers.get(layer)!;
  }

  /** Frees the keys and values, and the added embedding. */
  [Symbol.dispose](): void {
    this.addedEmbedding?.[Symbol.dispose]();
    for (const { keys, values } of this.#layers.values()) {
      keys[Symbol.dispose]();
      values[Symbol.dispose]();
    }
  }
}

/**
 * Returns the embeddings [B, T, d] that a cross-attention layer projects to keys and to values.
 * They are the same tensor unless an edit applies to only one of them.
 */
export type LayerStates = (layerPath: string) => { keys: Tensor; values: Tensor };
