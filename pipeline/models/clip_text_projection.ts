import type { Tensor } from "../../engine/tensor.ts";
import { type CLIPTextConfig, parseCLIPTextConfig } from "../checkpoint/diffusers/config/clip.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { Linear } from "../layers/linear.ts";
import { CLIPTextEncoder, type EncodeIdsOptions } from "./clip_text.ts";
import { ClipTextTransformer } from "./clip_text_transformer.ts";
import { buildModel, checkModel, loadModel, type LoadOptions, type ModelKind, type ModelParts } from "./load.ts";

interface Modules {
  readonly text: ClipTextTransformer;
  readonly projection: Linear;
}

/** Loader of the text encoder with a projection. */
export const projectedTextEncoderKind: ModelKind<CLIPTextConfig, Modules> = {
  className: "CLIPTextModelWithProjection",
  weightsName: "model",
  parseConfig: parseCLIPTextConfig,
  build: (w, config) => ({
    text: new ClipTextTransformer(w.at("text_model"), config),
    projection: new Linear(w.at("text_projection"), config.hiddenSize, config.projectionDim, { bias: false }),
  }),
};

/**
 * The second text encoder of SDXL (transformers' `CLIPTextModelWithProjection`): OpenCLIP's, whose
 * pooled output is projected.
 *
 * ```ts
 * using encoder = await CLIPTextModelWithProjection.fromPretrained("sdxl/text_encoder_2", { gpu });
 * const ids = tokenizer.encode("a field of roses", { padding: "max_length" });
 * const { textEmbeds } = encoder.forward([ids]);
 * ```
 */
export class CLIPTextModelWithProjection extends CLIPTextEncoder {
  readonly #projection: Linear; // [projection, hidden]

  private constructor(parts: ModelParts<CLIPTextConfig, Modules>) {
    super(parts, parts.modules.text);
    this.#projection = parts.modules.projection;
  }

  /**
   * Loads a folder that holds `config.json` and `model*.safetensors`.
   *
   * @throws {CheckpointError} when files are missing, or weights and configuration disagree
   * @throws {ConfigError} for another kind of encoder
   */
  static async fromPretrained(
    directory: string | URL | FileTree,
    options: LoadOptions,
  ): Promise<CLIPTextModelWithProjection> {
    return new CLIPTextModelWithProjection(await loadModel(projectedTextEncoderKind, directory, options));
  }

  /** Builds the model of `config` on `weights`, whose keys are transformers'. */
  static async fromWeights(
    config: CLIPTextConfig,
    weights: Weights,
    options: LoadOptions,
  ): Promise<CLIPTextModelWithProjection> {
    return new CLIPTextModelWithProjection(await buildModel(projectedTextEncoderKind, config, weights, options));
  }

  /**
   * Checks weights against `config` by names and shapes alone. It needs no device.
   *
   * @throws {CheckpointError} that lists every missing and misshapen key
   */
  static checkWeights(config: CLIPTextConfig, weights: Weights): void {
    checkModel(projectedTextEncoderKind, config, weights);
  }

  /**
   * Encodes token ids.
   *
   * @param inputIds rows of equal length, at most `config.maxPositionEmbeddings`
   * @returns `lastHiddenState` [B, T, hidden], and `textEmbeds` [B, projection], the projected
   *   output of all layers at the end-of-text token
   * @throws {ShapeError} for rows of different lengths, too many tokens, or ids outside the
   *   vocabulary
   */
  forward(
    inputIds: readonly (readonly number[])[],
    options: EncodeIdsOptions = {},
  ): { lastHiddenState: Tensor; textEmbeds: Tensor } {
    const { loraScale = 1 } = options;
    return this.weights.adapters.scaled(loraScale, () =>
      this.gpu.scope(() => {
        const { states, pooled } = this.encode(inputIds, options);
        return { lastHiddenState: states, textEmbeds: this.#projection.forward(pooled) };
      }));
  }
}
