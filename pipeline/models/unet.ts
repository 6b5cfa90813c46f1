import { ShapeError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { activate } from "../../kernels/shape/activate.ts";
import { concat } from "../../kernels/shape/concat.ts";
import type { Attention, KeysValues } from "../layers/attention.ts";
import { Conv2d } from "../layers/conv2d.ts";
import { GroupNorm } from "../layers/norm.ts";
import { Downsample, ResnetBlock, TimeProjections, Upsample } from "../layers/resnet.ts";
import { TimestepEmbedding, timestepSinusoids } from "../layers/timestep.ts";
import { type ContextOf, Transformer2D } from "../layers/transformer.ts";
import type { WeightScope } from "../checkpoint/bind.ts";
import { parseUNetConfig, type UNet2DConditionConfig } from "../checkpoint/diffusers/config/unet.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { KeyedSlot } from "./keyed_slot.ts";
import { buildModel, checkModel, loadModel, type LoadOptions, Model, type ModelKind, type ModelParts } from "./load.ts";

/** How tensors between a network's kernels are stored. Arithmetic is f32 either way. */
export type ActivationType = "f32" | "f16";

/** How a UNet is loaded. */
export interface UNetLoadOptions extends LoadOptions {
  /**
   * How the tensors between the UNet's kernels are stored: f16 takes half the memory and traffic,
   * and each stored tensor is rounded to 11 bits. Products and norms are summed in f32, softmax and
   * the time embedding are f32; so are the latents that come in and the prediction that goes out.
   * Default: "f32".
   */
  readonly activations?: ActivationType;
}

/**
 * Called with the output of each module under its checkpoint key. The tensor lives as long as the
 * forward pass: `keep()` or read a copy.
 */
export type Observer = (path: string, output: Tensor) => void;

/**
 * The keys and values of a prompt in every cross-attention layer. Computed once, read in every
 * denoising step.
 */
export class PromptContext implements Disposable {
  readonly #layers: ReadonlyMap<Attention, KeysValues>;
  /** Number of prompts: the batch that the UNet must be called with. */
  readonly batch: number;
  /**
   * The factor of LoRAs that keys and values were projected with: the rest of the UNet reads it
   * here.
   */
  readonly loraScale: number;

  /** Takes over the keys and values. */
  constructor(layers: ReadonlyMap<Attention, KeysValues>, options: { batch: number; loraScale?: number }) {
    this.#layers = layers;
    this.batch = options.batch;
    this.loraScale = options.loraScale ?? 1;
  }

  /** Takes the tensors out of the scope they were made in. */
  keep(): this {
    for (const { keys, values } of this.#layers.values()) {
      keys.keep();
      values.keep();
    }
    return this;
  }

  /** The keys and values of a layer. */
  of(layer: Attention): KeysValues {
    return this.#layers.get(layer)!;
  }

  /** Frees the keys and values. */
  [Symbol.dispose](): void {
    for (const { keys, values } of this.#layers.values()) {
      keys[Symbol.dispose]();
      values[Symbol.dispose]();
    }
  }
}

/**
 * The embeddings [B, T, d] that a cross-attention layer projects to keys and to values: the same
 * tensor for both unless an edit tells them apart.
 */
export type LayerStates = (layerPath: string) => { keys: Tensor; values: Tensor };

/** Residual blocks, each followed by a transformer if the block has them; then downsampling. */
class DownBlock {
  readonly resnets: readonly ResnetBlock[];
  readonly attentions: readonly Transformer2D[];
  readonly #downsample: Downsample | undefined;

  constructor(w: WeightScope, config: UNet2DConditionConfig, index: number, times: TimeProjections) {
    const channels = config.blockOutChannels[index];
    const previous = config.blockOutChannels[Math.max(index - 1, 0)];
    this.resnets = count(config.layersPerBlock, (layer) =>
      new ResnetBlock(w.at("resnets", layer), {
        inChannels: layer === 0 ? previous : channels,
        outChannels: channels,
        groups: config.normNumGroups,
        epsilon: config.normEps,
        times,
      }));
    this.attentions = config.downBlockTypes[index] === "CrossAttnDownBlock2D"
      ? count(config.layersPerBlock, (layer) => transformer(w.at("attentions", layer), config, index))
      : [];
    const isLast = index === config.blockOutChannels.length - 1;
    this.#downsample = isLast ? undefined : new Downsample(w.at("downsamplers", 0), channels, config.downsamplePadding);
  }

  /** The output, and the output of each layer as a skip connection. */
  forward(x: Tensor, time: Tensor, contextOf: ContextOf, observe: Observer): { x: Tensor; skips: Tensor[] } {
    const skips: Tensor[] = [];
    this.resnets.forEach((resnet, layer) => {
      x = observed(observe, `resnets.${layer}`, resnet.forward(x, time));
      if (this.attentions.length > 0) {
        x = observed(observe, `attentions.${layer}`, this.attentions[layer].forward(x, contextOf));
      }
      skips.push(x);
    });
    if (this.#downsample) skips.push(x = this.#downsample.forward(x));
    return { x, skips };
  }
}

/** Residual block, transformer, residual block at the lowest resolution. */
class MidBlock {
  readonly #resnets: readonly ResnetBlock[];
  readonly attention: Transformer2D;

  constructor(w: WeightScope, config: UNet2DConditionConfig, times: TimeProjections) {
    const last = config.blockOutChannels.length - 1;
    const channels = config.blockOutChannels[last];
    this.#resnets = count(2, (layer) =>
      new ResnetBlock(w.at("resnets", layer), {
        inChannels: channels,
        outChannels: channels,
        groups: config.normNumGroups,
        epsilon: config.normEps,
        times,
        outputScale: config.midBlockScaleFactor,
      }));
    this.attention = transformer(w.at("attentions", 0), config, last);
  }

  forward(x: Tensor, time: Tensor, contextOf: ContextOf): Tensor {
    x = this.#resnets[0].forward(x, time);
    x = this.attention.forward(x, contextOf);
    return this.#resnets[1].forward(x, time);
  }
}

/** As {@linkcode DownBlock}, with a skip connection into each layer; then upsampling. */
class UpBlock {
  readonly resnets: readonly ResnetBlock[];
  readonly attentions: readonly Transformer2D[];
  readonly #upsample: Upsample | undefined;

  constructor(w: WeightScope, config: UNet2DConditionConfig, index: number, times: TimeProjections) {
    const widths = [...config.blockOutChannels].reverse();
    const channels = widths[index];
    const previous = widths[Math.max(index - 1, 0)];
    const skipOfLast = widths[Math.min(index + 1, widths.length - 1)];
    const layers = config.layersPerBlock + 1;
    this.resnets = count(layers, (layer) =>
      new ResnetBlock(w.at("resnets", layer), {
        inChannels: (layer === 0 ? previous : channels) + (layer === layers - 1 ? skipOfLast : channels),
        outChannels: channels,
        groups: config.normNumGroups,
        epsilon: config.normEps,
        times,
      }));
    this.attentions = config.upBlockTypes[index] === "CrossAttnUpBlock2D"
      ? count(layers, (layer) => transformer(w.at("attentions", layer), config, widths.length - 1 - index))
      : [];
    this.#upsample = index === widths.length - 1 ? undefined : new Upsample(w.at("upsamplers", 0), channels);
  }

  /** Takes its skip connections from the end of `skips`. */
  forward(x: Tensor, skips: Tensor[], time: Tensor, contextOf: ContextOf, observe: Observer): Tensor {
    this.resnets.forEach((resnet, layer) => {
      x = concat([x, skips.pop()!], 1); // [B, C + skip, H, W]
      x = observed(observe, `resnets.${layer}`, resnet.forward(x, time));
      if (this.attentions.length > 0) {
        x = observed(observe, `attentions.${layer}`, this.attentions[layer].forward(x, contextOf));
      }
    });
    if (!this.#upsample) return x;
    // Upsample to the size of the next skip connection: odd sides do not halve evenly.
    const [, , height, width] = skips.at(-1)!.dims(4);
    return this.#upsample.forward(x, [height, width]);
  }
}

/**
 * The denoising network of Stable Diffusion 1.x and 2.x (diffusers' `UNet2DConditionModel`).
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using unet = await UNet2DConditionModel.fromPretrained("models/pocket/unet", { gpu });
 * using noise = unet.forward(latents, 981, promptEmbeds); // [B, 4, h, w]
 * ```
 *
 * With `activations: "f16"` the tensors between its kernels are f16. Kernels write f16 as
 * vec4, so the number of pixels must divide by four at every level; other sizes are computed in
 * f32. Latents of 64 × 64 and 8 × 32 qualify; 65 × 65 and, with four levels, 8 × 24 do not. Values
 * beyond 65504 become infinite (WGSL leaves it open), and the prediction NaN. The UNet does not
 * check for that, since a check waits for the device: the pipeline checks the finished picture.
 */
export class UNet2DConditionModel extends Model<UNet2DConditionConfig> {
  /**
   * How tensors between the kernels are stored, where their shapes allow it. It may change at any
   * time: weights do not depend on it, and prepared contexts keep the dtype they were made with.
   */
  activations: ActivationType;
  /**
   * The prompt context of the last generation, kept for the next. Freed with the model.
   *
   * @internal
   */
  readonly lastContext: KeyedSlot<PromptContext> = new KeyedSlot();
  /**
   * The captured prediction of the last generation, kept for the next. Freed with the model.
   *
   * @internal
   */
  readonly lastPrediction: KeyedSlot<Disposable> = new KeyedSlot();
  readonly #modules: Modules;

  private constructor(parts: ModelParts<UNet2DConditionConfig, Modules>, options: UNetLoadOptions) {
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
  static async fromPretrained(directory: string | FileTree, options: UNetLoadOptions): Promise<UNet2DConditionModel> {
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
   * @throws {CheckpointError} that lists every missing, misshapen and unused key
   */
  static checkWeights(config: UNet2DConditionConfig, weights: Weights): void {
    checkModel(unetKind, config, weights);
  }

  /**
   * The cross-attention layers, in checkpoint order. Edits change their projections.
   */
  get crossAttentions(): readonly Attention[] {
    return this.#modules.crossAttentions;
  }

  /**
   * Projects a prompt's embeddings to the keys and values of every cross-attention layer.
   *
   * @param states [B, T, cross_attention_dim], or what each layer is to read
   * @param options.loraScale factor of the LoRAs, here and in all of {@linkcode forward}. Default:
   *   1.
   */
  prepareContext(states: Tensor | LayerStates, options: { loraScale?: number } = {}): PromptContext {
    const { loraScale = 1 } = options;
    const layerStates: LayerStates = states instanceof Tensor ? () => ({ keys: states, values: states }) : states;
    const layers = new Map<Attention, KeysValues>();
    let batch = 0;
    for (const layer of this.crossAttentions) {
      const { keys, values } = layerStates(layer.path);
      for (const { shape } of [keys, values]) {
        if (shape.length !== 3 || shape[2] !== this.config.crossAttentionDim) {
          throw new ShapeError(
            `Cannot read embeddings [${
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
    return new PromptContext(layers, { batch, loraScale });
  }

  /**
   * The projections of the time embedding that the residual blocks add to their channels, side by
   * side, for several timesteps. A denoising loop computes all of them before it starts, so that no
   * step uploads data or reads these weights.
   *
   * @param options.loraScale as in {@linkcode prepareContext}
   * @returns [timesteps, columns]
   */
  embedTimesteps(timesteps: readonly number[], options: { loraScale?: number } = {}): Tensor {
    const { loraScale = 1 } = options;
    return this.weights.adapters.scaled(loraScale, () => this.gpu.scope(() => this.#project(this.#embed(timesteps))));
  }

  /**
   * Predicts the noise (or v, or x₀, as the checkpoint was trained) in `sample` at `timestep`.
   *
   * @param sample [B, 4, h, w], f32
   * @param timestep one for all, or rows of {@linkcode embedTimesteps}: one, or one for each sample
   * @param encoderHiddenStates [B, T, cross_attention_dim], or the result of {@linkcode
   *   prepareContext}
   * @param options.loraScale factor of the LoRAs. Default: 1; a prepared context brings its own.
   * @returns [B, 4, h, w], f32
   * @throws {ShapeError} when the shapes do not fit each other or the model
   */
  forward(
    sample: Tensor,
    timestep: number | Tensor,
    encoderHiddenStates: Tensor | PromptContext,
    options: { observe?: Observer; loraScale?: number } = {},
  ): Tensor {
    const { gpu, config } = this;
    const [batch, channels, height, width] = sample.dims(4);
    if (channels !== config.inChannels) {
      throw new ShapeError(
        `Cannot denoise [${sample.shape.join(", ")}] as this UNet takes ${config.inChannels} channels`,
        [
          sample.shape,
        ],
      );
    }
    const states = encoderHiddenStates instanceof Tensor ? encoderHiddenStates.shape[0] : encoderHiddenStates.batch;
    if (states !== batch) {
      throw new ShapeError(
        `Cannot denoise ${batch} latents with the embeddings of ${states} prompts as there must be as many`,
        [
          sample.shape,
        ],
      );
    }
    const { observe = () => {} } = options;
    const dtype = this.activations === "f16" && storesF16(config, height, width) ? "f16" : "f32";
    const { loraScale = 1 } = encoderHiddenStates instanceof Tensor ? options : encoderHiddenStates;
    return this.weights.adapters.scaled(loraScale, () =>
      gpu.scope(() => {
        let time: Tensor;
        if (timestep instanceof Tensor) time = timestep;
        else {
          const embedded = this.#embed(Array(batch).fill(timestep));
          observe("time_embedding", embedded);
          time = this.#project(embedded);
        }
        if (!(encoderHiddenStates instanceof Tensor)) {
          return this.#modules.forward(sample, time, (layer) => encoderHiddenStates.of(layer), { observe, dtype });
        }
        const context = this.prepareContext(encoderHiddenStates, { loraScale });
        return this.#modules.forward(sample, time, (layer) => context.of(layer), { observe, dtype });
      }));
  }

  /** Frees the weights, and what was computed with them for the next generation. */
  override [Symbol.dispose](): void {
    this.#clearKept();
    super[Symbol.dispose]();
  }

  #clearKept(): void {
    this.lastPrediction.clear();
    this.lastContext.clear();
  }

  #project(embedded: Tensor): Tensor {
    return this.#modules.times.forward(activate(embedded, "silu"));
  }

  #embed(timesteps: readonly number[]): Tensor {
    const { gpu, config } = this;
    const channels = config.blockOutChannels[0];
    const sinusoids = Tensor.from(gpu, timestepSinusoids(timesteps, { ...config, channels }), [
      timesteps.length,
      channels,
    ]);
    return this.#modules.timeEmbedding.forward(sinusoids); // [timesteps, 4 C]
  }
}

class Modules {
  readonly timeEmbedding: TimestepEmbedding;
  readonly times: TimeProjections;
  readonly #convIn: Conv2d;
  readonly #down: readonly DownBlock[];
  readonly #mid: MidBlock;
  readonly #up: readonly UpBlock[];
  readonly #normOut: GroupNorm;
  readonly #convOut: Conv2d;

  constructor(w: WeightScope, config: UNet2DConditionConfig) {
    const [first] = config.blockOutChannels;
    this.times = new TimeProjections(4 * first);
    this.timeEmbedding = new TimestepEmbedding(w.at("time_embedding"), first, this.times.features);
    this.#convIn = new Conv2d(w.at("conv_in"), config.inChannels, first, { padding: 1 });
    this.#down = config.downBlockTypes.map((_, index) =>
      new DownBlock(w.at("down_blocks", index), config, index, this.times)
    );
    this.#mid = new MidBlock(w.at("mid_block"), config, this.times);
    this.#up = config.upBlockTypes.map((_, index) => new UpBlock(w.at("up_blocks", index), config, index, this.times));
    this.#normOut = new GroupNorm(w.at("conv_norm_out"), first, config.normNumGroups, config.normEps);
    this.#convOut = new Conv2d(w.at("conv_out"), first, config.outChannels, { padding: 1 });
  }

  get crossAttentions(): Attention[] {
    return [
      ...this.#down.flatMap((block) => block.attentions),
      this.#mid.attention,
      ...this.#up.flatMap((block) => block.attentions),
    ]
      .flatMap((transformer) => transformer.crossAttentions);
  }

  /** The dtype propagates from conv_in; only conv_out forces f32. */
  forward(
    sample: Tensor,
    time: Tensor,
    contextOf: ContextOf,
    { observe, dtype }: { observe: Observer; dtype: ActivationType },
  ): Tensor {
    let x = observed(observe, "conv_in", this.#convIn.forward(sample, { dtype })); // [B, C, H, W]
    const skips = [x];
    this.#down.forEach((block, index) => {
      const down = block.forward(x, time, contextOf, below(observe, `down_blocks.${index}`));
      x = down.x; // [B, Cᵢ, H / 2^(i+1), W / 2^(i+1)]
      skips.push(...down.skips);
    });
    x = observed(observe, "mid_block", this.#mid.forward(x, time, contextOf));
    this.#up.forEach((block, index) => {
      x = block.forward(x, skips, time, contextOf, below(observe, `up_blocks.${index}`));
    });
    x = observed(observe, "conv_norm_out", this.#normOut.forward(x));
    return this.#convOut.forward(activate(x, "silu"), { dtype: "f32" }); // [B, 4, H, W]
  }
}

/** How a UNet is loaded. */
export const unetKind: ModelKind<UNet2DConditionConfig, Modules> = {
  className: "UNet2DConditionModel",
  weightsName: "diffusion_pytorch_model",
  parseConfig: parseUNetConfig,
  build: (w, config) => new Modules(w, config),
};

/**
 * Whether all activations for latents of this size can be f16. Kernels write f16 as vec4, so the
 * pixels of every level and the widths of heads must divide by four.
 */
function storesF16(config: UNet2DConditionConfig, height: number, width: number): boolean {
  const halved = (side: number) => config.downsamplePadding === 0 ? Math.floor(side / 2) : Math.ceil(side / 2);
  return config.blockOutChannels.every((channels, level) => {
    if (level > 0) [height, width] = [halved(height), halved(width)];
    return height * width % 4 === 0 && channels % (4 * config.attentionHeads[level]) === 0;
  });
}

function transformer(w: WeightScope, config: UNet2DConditionConfig, block: number): Transformer2D {
  return new Transformer2D(
    w,
    config.blockOutChannels[block],
    config.attentionHeads[block],
    config.crossAttentionDim,
    config.normNumGroups,
  );
}

function count<T>(length: number, make: (index: number) => T): T[] {
  return Array.from({ length }, (_, index) => make(index));
}

function observed(observe: Observer, path: string, output: Tensor): Tensor {
  observe(path, output);
  return output;
}

function below(observe: Observer, prefix: string): Observer {
  return (path, output) => observe(`${prefix}.${path}`, output);
}
