import { countText } from "../../engine/inspect.ts";
import { ShapeError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { activate } from "../../kernels/shape/activate.ts";
import { embedding } from "../../kernels/shape/embedding.ts";
import { add } from "../../kernels/shape/linear_combination.ts";
import type { Attention, KeysValues } from "../layers/attention.ts";
import type { Linear } from "../layers/linear.ts";
import { timestepSinusoids } from "../layers/timestep.ts";
import type { AdapterSnapshot } from "../adapters/adapter_stack.ts";
import { parseUNetConfig, type UNet2DConditionConfig } from "../checkpoint/diffusers/config/unet.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { type AddedConditions, addedEmbedding } from "./added_conditions.ts";
import { KeyedSlot } from "./keyed_slot.ts";
import { buildModel, checkModel, loadModel, type LoadOptions, Model, type ModelKind, type ModelParts } from "./load.ts";
import { type LayerStates, PromptContext } from "./prompt_context.ts";
import { type ActivationType, type Observer, storesF16, UNetModules } from "./unet_blocks.ts";

/** Options of loading a UNet. */
export interface UNetLoadOptions extends LoadOptions {
  /**
   * The dtype of the tensors between the UNet's kernels. f16 halves their memory and traffic and
   * rounds each stored tensor to 11 significant bits. Input latents, prediction, time embedding,
   * softmax and all accumulation stay in f32. Default: "f32".
   */
  readonly activations?: ActivationType;
}

/** Results of a generation that the next one can reuse. They are freed with the UNet's weights. */
export interface KeptWork {
  /** The prompt context of the last generation. */
  readonly context: KeyedSlot<PromptContext>;
  /** The captured prediction of the last generation. */
  readonly prediction: KeyedSlot<Disposable>;
}

/** Assigned inside the class, which alone can read its private field. */
let readKept: (unet: UNet2DConditionModel) => KeptWork;

/**
 * The results that a UNet keeps between generations. For pipelines only: `mod.ts` does not export
 * this function, so that the model's public interface does not show them.
 */
export function keptWork(unet: UNet2DConditionModel): KeptWork {
  return readKept(unet);
}

/**
 * The denoising network of Stable Diffusion 1.x, 2.x and XL (diffusers' `UNet2DConditionModel`).
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using unet = await UNet2DConditionModel.fromPretrained("models/pocket/unet", { gpu });
 * using noise = unet.forward(latents, 981, promptEmbeds); // [B, 4, h, w]
 * ```
 *
 * With `activations: "f16"`, the tensors between its kernels are f16. Kernels write f16 as vec4, so
 * the number of pixels must be divisible by four at every level; other sizes are computed in f32.
 * Latents of 64 × 64 and 8 × 32 qualify; 65 × 65 and, with four levels, 8 × 24 do not. Values
 * beyond 65504 overflow to infinity on common drivers (WGSL does not specify it), and the
 * prediction becomes NaN. The UNet does not check for NaN, because that would wait for the device;
 * the pipeline checks the latents after each step instead.
 */
export class UNet2DConditionModel extends Model<UNet2DConditionConfig> {
  /**
   * The dtype of the tensors between the kernels, where their shapes allow it. It can be changed at
   * any time: weights do not depend on it, and prepared contexts keep their dtype.
   */
  activations: ActivationType;
  readonly #kept: KeptWork = { context: new KeyedSlot(), prediction: new KeyedSlot() };
  readonly #modules: UNetModules;

  static {
    readKept = (unet) => unet.#kept;
  }

  private constructor(parts: ModelParts<UNet2DConditionConfig, UNetModules>, options: UNetLoadOptions) {
    super(parts);
    this.#modules = parts.modules;
    this.activations = options.activations ?? "f32";
    this.weights.adapters.onChange = () => this.#clearKept();
  }

  /**
   * Loads a folder that holds `config.json` and `diffusion_pytorch_model*.safetensors`.
   *
   * @throws {CheckpointError} when files are missing, or weights and configuration disagree
   * @throws {ConfigError} for another kind of UNet
   */
  static async fromPretrained(
    directory: string | URL | FileTree,
    options: UNetLoadOptions,
  ): Promise<UNet2DConditionModel> {
    return new UNet2DConditionModel(await loadModel(unetKind, directory, options), options);
  }

  /** Builds the model of `config` on `weights`, whose keys are diffusers'. */
  static async fromWeights(
    config: UNet2DConditionConfig,
    weights: Weights,
    options: UNetLoadOptions,
  ): Promise<UNet2DConditionModel> {
    return new UNet2DConditionModel(await buildModel(unetKind, config, weights, options), options);
  }

  /**
   * Checks weights against `config` by names and shapes alone. It needs no device.
   *
   * @throws {CheckpointError} that lists every missing and misshapen key
   */
  static checkWeights(config: UNet2DConditionConfig, weights: Weights): void {
    checkModel(unetKind, config, weights);
  }

  /**
   * The cross-attention layers, in checkpoint order. Edits apply to their projections.
   */
  get crossAttentions(): readonly Attention[] {
    return this.#modules.crossAttentions;
  }

  /** The layer of SDXL's UNets that reads pooled embeddings by its first columns. */
  get pooledProjection(): Linear | undefined {
    return this.#modules.addEmbedding?.linear1;
  }

  /**
   * Projects a prompt's embeddings to the keys and values of every cross-attention layer.
   *
   * @param states embeddings [B, T, cross_attention_dim], or a function that returns those of each
   *   layer
   * @param options.loraScale factor of the LoRAs, both here and in {@linkcode forward} with this
   *   context. Default: 1.
   * @param options.addedCondKwargs the conditions that SDXL's UNets take beside the embeddings, and
   *   others do not
   * @throws {ShapeError} if the embeddings or the added conditions do not have the model's widths
   * @throws {OptionError} if added conditions are missing, or the model takes none
   */
  prepareContext(
    states: Tensor | LayerStates,
    options: { loraScale?: number; addedCondKwargs?: AddedConditions } = {},
  ): PromptContext {
    const { loraScale = 1, addedCondKwargs } = options;
    const layerStates: LayerStates = states instanceof Tensor ? () => ({ keys: states, values: states }) : states;
    const layers = new Map<Attention, KeysValues>();
    let batch = 0;
    for (const layer of this.crossAttentions) {
      const { keys, values } = layerStates(layer.path);
      for (const { shape } of [keys, values]) {
        if (shape.length !== 3 || shape[2] !== this.config.crossAttentionDim) {
          throw new ShapeError(
            `Cannot prepare embeddings [${
              shape.join(", ")
            }] as this UNet takes [batch, tokens, ${this.config.crossAttentionDim}]`,
            [shape],
          );
        }
      }
      batch = keys.shape[0];
      layers.set(
        layer,
        this.weights.adapters.scaled(loraScale, () => layer.project(keys, values, { dtype: this.activations })),
      );
    }
    const added = this.weights.adapters.scaled(
      loraScale,
      () => addedEmbedding(this, this.#modules.addEmbedding, addedCondKwargs, batch),
    );
    return new PromptContext(layers, { batch, loraScale, addedEmbedding: added });
  }

  /**
   * Computes the time embedding's projections of all residual blocks for several timesteps. A
   * denoising loop calls this once for all of its steps, so that no step uploads data or reads
   * these weights.
   *
   * @param options.loraScale as in {@linkcode prepareContext}
   * @param options.addedEmbedding that of the {@linkcode PromptContext}, for SDXL's UNets
   * @returns [timesteps, columns]; the columns are the blocks' channels, concatenated. With an
   *   added embedding [B, 4 C], [timesteps · B, columns]: the rows of a timestep stand together
   * @param options.guidanceScale as in {@linkcode forward}
   */
  embedTimesteps(
    timesteps: readonly number[],
    options: { loraScale?: number; addedEmbedding?: Tensor; guidanceScale?: number } = {},
  ): Tensor {
    const { loraScale = 1, addedEmbedding, guidanceScale } = options;
    return this.weights.adapters.scaled(loraScale, () =>
      this.gpu.scope(() => {
        const embedded = this.#embed(timesteps, guidanceScale);
        return this.#project(addedEmbedding ? addToEach(embedded, addedEmbedding) : embedded);
      }));
  }

  /**
   * Predicts the noise in `sample` at `timestep` (or v or x₀, depending on how the checkpoint was
   * trained).
   *
   * @param sample [B, 4, h, w], f32
   * @param timestep one timestep for all samples; or rows of {@linkcode embedTimesteps}, either one
   *   for all samples or one per sample
   * @param encoderHiddenStates embeddings [B, T, cross_attention_dim], or the result of {@linkcode
   *   prepareContext}
   * @param options.addedCondKwargs the conditions that SDXL's UNets take beside the embeddings.
   *   Ignored for a prepared context, which has its own.
   * @param options.guidanceScale the scale of guidance that models of latent consistency
   *   (`time_cond_proj_dim`) are conditioned on, in place of classifier-free guidance. Ignored by
   *   others, and for rows of {@linkcode embedTimesteps}. Default: no condition.
   * @param options.observe called with the output of each module
   * @param options.loraScale factor of the LoRAs. Default: 1. Ignored for a prepared context, which
   *   has its own.
   * @returns [B, 4, h, w], f32
   * @throws {ShapeError} if the shapes do not match each other or the model
   * @throws {OptionError} if added conditions are missing, or the model takes none
   */
  forward(
    sample: Tensor,
    timestep: number | Tensor,
    encoderHiddenStates: Tensor | PromptContext,
    options: { observe?: Observer; loraScale?: number; addedCondKwargs?: AddedConditions; guidanceScale?: number } = {},
  ): Tensor {
    const { gpu, config } = this;
    const [batch, channels, height, width] = sample.dims(4);
    if (channels !== config.inChannels) {
      throw new ShapeError(
        `Cannot denoise [${sample.shape.join(", ")}] as this UNet takes ${config.inChannels} channels`,
        [sample.shape],
      );
    }
    const states = encoderHiddenStates instanceof Tensor ? encoderHiddenStates.shape[0] : encoderHiddenStates.batch;
    if (states !== batch) {
      throw new ShapeError(
        `Cannot denoise ${countText(batch, "latent")} with the embeddings of ${
          countText(states, "prompt")
        }: the numbers must be equal`,
        [sample.shape],
      );
    }
    const { observe = () => {}, addedCondKwargs } = options;
    const dtype = this.activations === "f16" && storesF16(config, height, width) ? "f16" : "f32";
    const { loraScale = 1 } = encoderHiddenStates instanceof Tensor ? options : encoderHiddenStates;
    return this.weights.adapters.scaled(loraScale, () =>
      gpu.scope(() => {
        const context = encoderHiddenStates instanceof Tensor
          ? this.prepareContext(encoderHiddenStates, { loraScale, addedCondKwargs })
          : encoderHiddenStates;
        let time: Tensor;
        if (timestep instanceof Tensor) time = timestep;
        else {
          const embedded = this.#embed(Array(batch).fill(timestep), options.guidanceScale);
          observe("time_embedding", embedded);
          time = this.#project(context.addedEmbedding ? add(embedded, context.addedEmbedding) : embedded);
        }
        return this.#modules.forward(sample, time, (layer) => context.of(layer), { observe, dtype });
      }));
  }

  /**
   * Holds the adapters and the activations' dtype as they are now: the returned object records a
   * body with them later, whatever has changed by then.
   *
   * @internal
   */
  snapshot(): AdapterSnapshot {
    const adapters = this.weights.adapters.snapshot();
    const { activations } = this;
    return {
      get key() {
        return [activations, ...adapters.key];
      },
      include: (name, weight) => adapters.include(name, weight),
      record: (body) => {
        const present = this.activations;
        this.activations = activations;
        try {
          return adapters.record(body);
        } finally {
          this.activations = present;
        }
      },
      [Symbol.dispose]: () => adapters[Symbol.dispose](),
    };
  }

  /** Frees the weights and the results kept for the next generation. */
  override [Symbol.dispose](): void {
    this.#clearKept();
    super[Symbol.dispose]();
  }

  #clearKept(): void {
    this.#kept.prediction.clear();
    this.#kept.context.clear();
  }

  #project(embedded: Tensor): Tensor {
    return this.#modules.times.forward(activate(embedded, "silu"));
  }

  /** The embedded guidance scale in `rows` equal rows, for models that are conditioned on it. */
  #guidance(scale: number, rows: number): Tensor | undefined {
    const { gpu, config: { timeCondProjDim: channels } } = this;
    if (channels === null) return undefined;
    const positions = Array<number>(rows).fill(1000 * (scale - 1));
    const values = timestepSinusoids(positions, { channels, flipSinToCos: false, freqShift: 1 });
    return Tensor.from(gpu, values, [rows, channels]);
  }

  #embed(timesteps: readonly number[], guidanceScale: number | undefined): Tensor {
    const { gpu, config } = this;
    const channels = config.blockOutChannels[0];
    const sinusoids = Tensor.from(gpu, timestepSinusoids(timesteps, { ...config, channels }), [
      timesteps.length,
      channels,
    ]);
    const condition = guidanceScale === undefined ? undefined : this.#guidance(guidanceScale, timesteps.length);
    return this.#modules.timeEmbedding.forward(sinusoids, condition); // [timesteps, 4 C]
  }
}

/** Every row of `rows` [n, F] plus every row of `added` [B, F]: [n · B, F], first row first. */
function addToEach(rows: Tensor, added: Tensor): Tensor {
  const { gpu } = rows;
  const [n] = rows.dims(2), [batch] = added.dims(2);
  const repeat = (table: Tensor, row: (i: number) => number) =>
    embedding(table, Tensor.from(gpu, Int32Array.from({ length: n * batch }, (_, i) => row(i)), [n * batch]));
  return add(repeat(rows, (i) => Math.floor(i / batch)), repeat(added, (i) => i % batch));
}

/** Loader of the UNet. */
export const unetKind: ModelKind<UNet2DConditionConfig, UNetModules> = {
  className: "UNet2DConditionModel",
  weightsName: "diffusion_pytorch_model",
  parseConfig: parseUNetConfig,
  build: (w, config) => new UNetModules(w, config),
};
