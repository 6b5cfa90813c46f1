import { ShapeError } from "../../engine/errors.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { activate } from "../../kernels/shape/activate.ts";
import type { Activation } from "../../kernels/wgsl/activation.ts";
import type { WeightScope } from "../checkpoint/bind.ts";
import { type AutoencoderTinyConfig, parseAutoencoderTinyConfig } from "../checkpoint/diffusers/config/tiny_vae.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { Conv2d } from "../layers/conv2d.ts";
import { buildModel, checkModel, loadModel, type LoadOptions, Model, type ModelKind, type ModelParts } from "./load.ts";

/** Three convolutions with ReLU between them and around the sum with the input. */
class TinyBlock {
  readonly #convs: readonly Conv2d[];

  constructor(w: WeightScope, channels: number) {
    this.#convs = [0, 2, 4].map((layer) => new Conv2d(w.at("conv", layer), channels, channels, { padding: 1 }));
  }

  forward(x: Tensor): Tensor {
    return x.gpu.scope(() => {
      const [first, second, last] = this.#convs;
      const hidden = second.forward(first.forward(x, { activation: "relu" }), { activation: "relu" });
      return activate(last.forward(hidden, { residual: x }), "relu");
    });
  }
}

type Step = (x: Tensor) => Tensor;

/** The modules of one half under the indices that diffusers' `nn.Sequential` gives them. */
class TinyHalf {
  readonly #steps: Step[] = [];
  readonly #w: WeightScope;
  #index = 0;

  constructor(w: WeightScope) {
    this.#w = w;
  }

  /** Skips a module without weights. */
  skip(): void {
    this.#index++;
  }

  conv(
    inChannels: number,
    outChannels: number,
    options: { stride?: number; bias?: boolean; upsample?: boolean; activation?: Activation } = {},
  ): void {
    const { stride, bias, upsample, activation } = options;
    const conv = new Conv2d(this.#w.at("layers", this.#index++), inChannels, outChannels, { padding: 1, stride, bias });
    this.#steps.push((x) => conv.forward(x, { upsample, activation }));
  }

  blocks(count: number, channels: number): void {
    for (let i = 0; i < count; i++) {
      const block = new TinyBlock(this.#w.at("layers", this.#index++), channels);
      this.#steps.push((x) => block.forward(x));
    }
  }

  /** Frees each intermediate result as soon as it is used: at full size they are large. */
  forward(x: Tensor): Tensor {
    const { gpu } = x;
    const [first, ...rest] = this.#steps;
    let result = gpu.scope(() => first(x));
    for (const step of rest) {
      using previous = result;
      result = gpu.scope(() => step(previous));
    }
    return result;
  }
}

class Modules {
  readonly encoder: TinyHalf | undefined;
  readonly decoder: TinyHalf;

  constructor(w: WeightScope, config: AutoencoderTinyConfig) {
    const { encoderChannels, decoderChannels, latentChannels } = config;
    // Files for previews have the decoder alone.
    if (w.has("encoder.layers.0.weight")) {
      const encoder = this.encoder = new TinyHalf(w.at("encoder"));
      config.numEncoderBlocks.forEach((blocks, stage) => {
        if (stage === 0) encoder.conv(config.inChannels, encoderChannels);
        else encoder.conv(encoderChannels, encoderChannels, { stride: 2, bias: false });
        encoder.blocks(blocks, encoderChannels);
      });
      encoder.conv(encoderChannels, latentChannels);
    }
    const decoder = this.decoder = new TinyHalf(w.at("decoder"));
    decoder.conv(latentChannels, decoderChannels, { activation: "relu" });
    decoder.skip(); // the activation
    config.numDecoderBlocks.forEach((blocks, stage) => {
      decoder.blocks(blocks, decoderChannels);
      const isLast = stage === config.numDecoderBlocks.length - 1;
      if (isLast) return decoder.conv(decoderChannels, config.outChannels, { activation: "to_signed" });
      decoder.skip(); // the upsampler
      decoder.conv(decoderChannels, decoderChannels, { bias: false, upsample: true });
    });
  }
}

/**
 * A tiny autoencoder for Stable Diffusion's latents (TAESD; diffusers' `AutoencoderTiny`): decodes
 * in a small fraction of {@linkcode AutoencoderKL}'s time, less sharply. For previews, or in its
 * place as `vae`.
 *
 * ```ts
 * using tiny = await AutoencoderTiny.fromPretrained("taesd", { gpu });
 * using picture = tiny.decode(latents); // [B, 3, 8h, 8w], in about -1…1
 * ```
 */
export class AutoencoderTiny extends Model<AutoencoderTinyConfig> {
  /** Picture pixels per latent pixel, along each side: 8 for Stable Diffusion. */
  readonly spatialScale: number;
  readonly #modules: Modules;

  private constructor(parts: ModelParts<AutoencoderTinyConfig, Modules>) {
    super(parts);
    this.spatialScale = 2 ** (parts.config.numDecoderBlocks.length - 1);
    this.#modules = parts.modules;
  }

  /**
   * Loads a folder that holds `config.json` and `diffusion_pytorch_model*.safetensors`.
   *
   * @throws {CheckpointError} when files are missing, or weights and configuration disagree
   * @throws {ConfigError} for another kind of autoencoder
   */
  static async fromPretrained(directory: string | FileTree, options: LoadOptions): Promise<AutoencoderTiny> {
    return new AutoencoderTiny(await loadModel(tinyVaeKind, directory, options));
  }

  /** Builds the model of `config` on `weights`, whose keys are diffusers'. */
  static async fromWeights(
    config: AutoencoderTinyConfig,
    weights: Weights,
    options: LoadOptions,
  ): Promise<AutoencoderTiny> {
    return new AutoencoderTiny(await buildModel(tinyVaeKind, config, weights, options));
  }

  /**
   * Checks weights against `config` by names and shapes alone. It needs no device.
   *
   * @throws {CheckpointError} that lists every missing and misshapen key
   */
  static checkWeights(config: AutoencoderTinyConfig, weights: Weights): void {
    checkModel(tinyVaeKind, config, weights);
  }

  /**
   * Encodes a picture. The encoder is deterministic: there is a mean and no variance.
   *
   * @param image [B, 3, H, W] in -1…1, sides divisible by {@linkcode spatialScale}
   * @returns `mean`: latents [B, 4, h, w] as the UNet takes them
   * @throws {ShapeError} if a side is not divisible by {@linkcode spatialScale}, or the file has no
   *   encoder
   */
  encode(image: Tensor): { mean: Tensor; logvar?: undefined } {
    const { encoder } = this.#modules;
    const [, , height, width] = image.dims(4);
    const { spatialScale } = this;
    if (encoder === undefined) {
      throw new ShapeError(`Cannot encode a picture as ${this.weights.source} holds the decoder alone`, [image.shape]);
    }
    if (height % spatialScale !== 0 || width % spatialScale !== 0) {
      throw new ShapeError(
        `Cannot encode a picture of ${width} × ${height} as its sides must be divisible by ${spatialScale}`,
        [image.shape],
      );
    }
    return { mean: this.gpu.scope(() => encoder.forward(activate(image, "to_unit"))) };
  }

  /**
   * Decodes latents [B, 4, h, w], divided by `config.scalingFactor` (1), to pictures [B, 3, H, W]
   * in about -1…1.
   */
  decode(latents: Tensor): Tensor {
    return this.gpu.scope(() => this.#modules.decoder.forward(activate(latents, "soft_clamp_3")));
  }
}

/** Loader of the tiny autoencoder. */
export const tinyVaeKind: ModelKind<AutoencoderTinyConfig, Modules> = {
  className: "AutoencoderTiny",
  weightsName: "diffusion_pytorch_model",
  parseConfig: parseAutoencoderTinyConfig,
  build: (w, config) => new Modules(w, config),
};
