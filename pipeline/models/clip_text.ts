import type { Tensor } from "../../engine/tensor.ts";
import type { AdapterSnapshot } from "../adapters/adapter_stack.ts";
import { type CLIPTextConfig, parseCLIPTextConfig } from "../checkpoint/diffusers/config/clip.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { OptionError } from "../errors.ts";
import { shown } from "../shown.ts";
import { ClipTextTransformer } from "./clip_text_transformer.ts";
import { buildModel, checkModel, loadModel, type LoadOptions, Model, type ModelKind, type ModelParts } from "./load.ts";

/** Options of encoding token ids. */
export interface EncodeIdsOptions {
  /**
   * Number of layers to leave out at the end, as in diffusers: 1 returns the output of the
   * penultimate layer. Default: 0.
   */
  readonly clipSkip?: number;
  /**
   * Whether the states pass the final norm. Without it they are transformers'
   * `hidden_states[-1 - clipSkip]`, as SDXL reads them. Default: true.
   */
  readonly finalNorm?: boolean;
  /** Factor of the LoRAs. Default: 1. */
  readonly loraScale?: number;
}

/** A text encoder's adapters and added tokens at one moment. */
export interface TextEncoderSnapshot extends AdapterSnapshot {
  /** Embeddings of added tokens, by id; more can be added. */
  readonly addedTokens: Map<number, Float32Array>;
}

/** What CLIP's text encoders with and without a projection share. */
export abstract class CLIPTextEncoder extends Model<CLIPTextConfig> {
  readonly #transformer: ClipTextTransformer;

  /** Takes over the weights. */
  protected constructor(parts: ModelParts<CLIPTextConfig, unknown>, transformer: ClipTextTransformer) {
    super(parts);
    this.#transformer = transformer;
  }

  /**
   * Hidden states [B, T, hidden], and pooled, normed states [B, hidden] of all layers at the
   * end-of-text tokens.
   */
  protected encode(
    inputIds: readonly (readonly number[])[],
    { clipSkip = 0, finalNorm = true }: EncodeIdsOptions,
  ): { states: Tensor; pooled: Tensor } {
    if (!Number.isInteger(clipSkip) || clipSkip < 0 || clipSkip > this.config.numHiddenLayers) {
      throw new OptionError(
        `Cannot skip ${
          shown(clipSkip)
        } layers: clipSkip must be a whole number from 0 to ${this.config.numHiddenLayers}`,
        { option: "clipSkip", value: clipSkip },
      );
    }
    return this.#transformer.forward(inputIds, { skip: clipSkip, finalNorm });
  }

  /**
   * Holds the adapters and added tokens as they are now: the returned object records a body with
   * them later, whatever has changed by then.
   *
   * @internal
   */
  snapshot(): TextEncoderSnapshot {
    const adapters = this.weights.adapters.snapshot();
    const tokens = new Map(this.addedTokens);
    return {
      get key() {
        return [...adapters.key, "added tokens", ...tokens.values()];
      },
      include: (name, weight) => adapters.include(name, weight),
      addedTokens: tokens,
      record: (body) => adapters.record(() => this.#transformer.withAddedTokens(tokens, body)),
      [Symbol.dispose]: () => adapters[Symbol.dispose](),
    };
  }

  /** The embeddings of added tokens (textual inversions), by id. */
  get addedTokens(): ReadonlyMap<number, Float32Array> {
    return this.#transformer.addedTokens;
  }

  /**
   * Sets the embedding [hidden] of a token id, overriding the token table, as textual inversion
   * does. `undefined` removes it. The model's weights are not modified.
   *
   * @throws {ShapeError} for another width, and for what is no token id
   * @throws {NonFiniteError} for an embedding that is not finite
   */
  setAddedToken(id: number, embedding: Float32Array | undefined): void {
    this.#transformer.setAddedToken(id, embedding);
  }
}

/** Loader of the text encoder. */
export const textEncoderKind: ModelKind<CLIPTextConfig, ClipTextTransformer> = {
  className: "CLIPTextModel",
  weightsName: "model",
  parseConfig: parseCLIPTextConfig,
  build: (w, config) => new ClipTextTransformer(w.at("text_model"), config),
};

/**
 * The text encoder of Stable Diffusion (transformers' `CLIPTextModel`): OpenAI's CLIP in 1.x,
 * OpenCLIP in 2.x.
 *
 * ```ts
 * using encoder = await CLIPTextModel.fromPretrained("models/pocket/text_encoder", { gpu });
 * const ids = tokenizer.encode("a field of roses", { padding: "max_length" });
 * const { lastHiddenState } = encoder.forward([ids]);
 * ```
 */
export class CLIPTextModel extends CLIPTextEncoder {
  private constructor(parts: ModelParts<CLIPTextConfig, ClipTextTransformer>) {
    super(parts, parts.modules);
  }

  /**
   * Loads a folder that holds `config.json` and `model*.safetensors`.
   *
   * @throws {CheckpointError} when files are missing, or weights and configuration disagree
   * @throws {ConfigError} for another kind of encoder
   */
  static async fromPretrained(directory: string | URL | FileTree, options: LoadOptions): Promise<CLIPTextModel> {
    return new CLIPTextModel(await loadModel(textEncoderKind, directory, options));
  }

  /** Builds the model of `config` on `weights`, whose keys are transformers'. */
  static async fromWeights(config: CLIPTextConfig, weights: Weights, options: LoadOptions): Promise<CLIPTextModel> {
    return new CLIPTextModel(await buildModel(textEncoderKind, config, weights, options));
  }

  /**
   * Checks weights against `config` by names and shapes alone. It needs no device.
   *
   * @throws {CheckpointError} that lists every missing and misshapen key
   */
  static checkWeights(config: CLIPTextConfig, weights: Weights): void {
    checkModel(textEncoderKind, config, weights);
  }

  /**
   * Encodes token ids.
   *
   * @param inputIds rows of equal length, at most `config.maxPositionEmbeddings`
   * @returns `lastHiddenState` [B, T, hidden], and `poolerOutput` [B, hidden], the output of all
   *   layers at the end-of-text token
   * @throws {ShapeError} for rows of different lengths, too many tokens, or ids outside the
   *   vocabulary
   */
  forward(
    inputIds: readonly (readonly number[])[],
    options: EncodeIdsOptions = {},
  ): { lastHiddenState: Tensor; poolerOutput: Tensor } {
    const { loraScale = 1 } = options;
    const { states, pooled } = this.weights.adapters.scaled(loraScale, () => this.encode(inputIds, options));
    return { lastHiddenState: states, poolerOutput: pooled };
  }
}
