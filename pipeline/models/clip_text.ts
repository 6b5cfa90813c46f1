import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { embedding } from "../../kernels/embedding.ts";
import { add } from "../../kernels/linear_combination.ts";
import { ClipEncoder } from "../layers/clip_encoder.ts";
import { LayerNorm } from "../layers/norm.ts";
import { bindWeights, type ModelWeights, type WeightScope } from "../loading/binding.ts";
import { type FileTree, openTree } from "../loading/byte_source.ts";
import { type CLIPTextConfig, parseCLIPTextConfig } from "../loading/config.ts";
import { folderOrigin, type ModelOrigin } from "../loading/origin.ts";
import type { Weights } from "../loading/safetensors.ts";
import type { LoadOptions } from "./unet.ts";

/** CLIP's text transformer, to be found under `text_model` in text encoders and whole CLIP models alike. */
export class ClipTextTransformer {
  readonly #tokens: Tensor; // [vocabulary, hidden]
  readonly #positions: Tensor; // [positions, hidden]
  readonly #encoder: ClipEncoder;
  readonly #finalNorm: LayerNorm;
  readonly #config: CLIPTextConfig;

  constructor(w: WeightScope, config: CLIPTextConfig) {
    const { hiddenSize, vocabSize, maxPositionEmbeddings } = config;
    this.#tokens = w.get("embeddings.token_embedding.weight", [vocabSize, hiddenSize]);
    this.#positions = w.get("embeddings.position_embedding.weight", [maxPositionEmbeddings, hiddenSize]);
    this.#encoder = new ClipEncoder(w.at("encoder"), config, { causal: true });
    this.#finalNorm = new LayerNorm(w.at("final_layer_norm"), hiddenSize, config.layerNormEps);
    this.#config = config;
  }

  /**
   * Token ids (rows of one length) to the last hidden states [B, T, hidden] after the final norm, and their rows at the end-of-text tokens [B, hidden].
   * `skip` leaves out that many layers at the end for the states.
   */
  forward(inputIds: readonly (readonly number[])[], skip: number): { states: Tensor; pooled: Tensor } {
    const { gpu } = this.#tokens;
    const tokens = this.#check(inputIds);
    return gpu.scope(() => {
      const ids = Tensor.from(gpu, Int32Array.from(inputIds.flat()), [inputIds.length, tokens]);
      const places = Tensor.from(
        gpu,
        Int32Array.from(inputIds.flatMap((row) => row.map((_, place) => place))),
        ids.shape,
      );
      const x = add(embedding(this.#tokens, ids), embedding(this.#positions, places)); // [B, T, hidden]
      const last = this.#finalNorm.forward(this.#encoder.forward(x));
      const ends = Int32Array.from(inputIds, (row, b) => b * tokens + this.#endOf(row));
      const pooled = embedding(
        last.reshape([inputIds.length * tokens, this.#config.hiddenSize]),
        Tensor.from(gpu, ends, [ends.length]),
      );
      return { states: skip === 0 ? last : this.#finalNorm.forward(this.#encoder.forward(x, { skip })), pooled };
    });
  }

  /** Where a row's text ends; old configurations name id 2 by mistake and mean the largest id (as transformers reads them). */
  #endOf(row: readonly number[]): number {
    const { eosTokenId } = this.#config;
    return eosTokenId === 2 ? row.indexOf(Math.max(...row)) : Math.max(row.indexOf(eosTokenId), 0);
  }

  #check(inputIds: readonly (readonly number[])[]): number {
    const { maxPositionEmbeddings, vocabSize } = this.#config;
    const tokens = inputIds[0]?.length ?? 0;
    const refuse = (why: string) => {
      throw new ShapeError(`Cannot encode token ids [${inputIds.length}, ${tokens}] as ${why}`, [[
        inputIds.length,
        tokens,
      ]]);
    };
    if (tokens === 0) refuse("there must be at least one");
    if (tokens > maxPositionEmbeddings) refuse(`this text encoder takes ${maxPositionEmbeddings} tokens at most`);
    for (const row of inputIds) {
      if (row.length !== tokens) refuse(`all rows must be of one length: ${row.length} ≠ ${tokens}`);
      const stranger = row.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
      if (stranger !== undefined) refuse(`ids are whole numbers below ${vocabSize}: ${stranger}`);
    }
    return tokens;
  }
}

/**
 * The text encoder of Stable Diffusion (transformers' `CLIPTextModel`): OpenAI's CLIP in 1.x, OpenCLIP in 2.x.
 *
 * ```ts
 * using encoder = await CLIPTextModel.fromPretrained("models/pocket/text_encoder", { gpu });
 * const { lastHiddenState } = encoder.forward([tokenizer.encode("a field of roses", { padding: "max_length" })]);
 * ```
 */
export class CLIPTextModel implements Disposable {
  readonly gpu: Gpu;
  readonly config: CLIPTextConfig;
  readonly weights: ModelWeights;
  /** The files that the model came from, where they are known. */
  readonly origin: ModelOrigin | undefined;
  readonly #transformer: ClipTextTransformer;

  private constructor(
    config: CLIPTextConfig,
    transformer: ClipTextTransformer,
    weights: ModelWeights,
    options: LoadOptions,
  ) {
    this.gpu = options.gpu;
    this.config = config;
    this.#transformer = transformer;
    this.weights = weights;
    this.origin = options.origin;
  }

  /**
   * Loads a folder that holds `config.json` and `model*.safetensors`.
   *
   * @throws {CheckpointError} when the folder lacks them or weights and configuration disagree; {ConfigError} for another kind of encoder
   */
  static async fromPretrained(directory: string | FileTree, options: LoadOptions): Promise<CLIPTextModel> {
    const tree = await openTree(directory);
    const origin = await folderOrigin(tree, "model", options);
    const config = parseCLIPTextConfig(origin.config, `${tree.name}/config.json`);
    using weights = await origin.openWeights();
    return await CLIPTextModel.fromWeights(config, weights, { ...options, origin });
  }

  /** Builds the encoder of `config` on `weights`, whose keys are transformers'. */
  static async fromWeights(config: CLIPTextConfig, weights: Weights, options: LoadOptions): Promise<CLIPTextModel> {
    const build = (w: WeightScope) => new ClipTextTransformer(w.at("text_model"), config);
    // Old transformers saved the row numbers of the position table, and some files carry the projection of whole CLIP models.
    const ignore = /position_ids$|^text_projection/;
    const { model, owner } = await bindWeights(options.gpu, weights, build, { ...options, ignore });
    return new CLIPTextModel(config, model, owner, options);
  }

  /**
   * Encodes token ids.
   *
   * @param inputIds rows of one length, at most `config.maxPositionEmbeddings`
   * @param options.clipSkip how many layers to leave out at the end, as diffusers counts: 1 takes the states before the last layer, after the final norm
   * @returns `lastHiddenState` [B, T, hidden] and `poolerOutput` [B, hidden], the row of the end-of-text token without skipping
   * @throws {ShapeError} for ragged rows, too many tokens, or ids outside the vocabulary
   */
  forward(
    inputIds: readonly (readonly number[])[],
    options: { clipSkip?: number } = {},
  ): { lastHiddenState: Tensor; poolerOutput: Tensor } {
    const { clipSkip = 0 } = options;
    if (!Number.isInteger(clipSkip) || clipSkip < 0 || clipSkip > this.config.numHiddenLayers) {
      throw new RangeError(`Cannot skip ${clipSkip} layers of a text encoder that has ${this.config.numHiddenLayers}`);
    }
    const { states, pooled } = this.#transformer.forward(inputIds, clipSkip);
    return { lastHiddenState: states, poolerOutput: pooled };
  }

  /** Frees the weights. */
  [Symbol.dispose](): void {
    this.weights[Symbol.dispose]();
  }
}
