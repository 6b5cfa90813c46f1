import { ShapeError } from "../../engine/errors.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { attention } from "../../kernels/attention/attention.ts";
import { clamp } from "../../kernels/shape/clamp.ts";
import { slice } from "../../kernels/shape/slice.ts";
import { Conv2d } from "../layers/conv2d.ts";
import { Linear } from "../layers/linear.ts";
import { GroupNorm } from "../layers/norm.ts";
import { Downsample, ResnetBlock, Upsample } from "../layers/resnet.ts";
import type { WeightScope } from "../checkpoint/bind.ts";
import { type AutoencoderKLConfig, parseAutoencoderKLConfig } from "../checkpoint/diffusers/config/vae.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { buildModel, checkModel, loadModel, type LoadOptions, Model, type ModelKind, type ModelParts } from "./load.ts";

/** Epsilon of all norms of the autoencoder. */
const epsilon = 1e-6;

/** The scaling factor of the autoencoders of Stable Diffusion 1.x and 2.x, which tolerate f16. */
const scalingFactorOfSD = 0.18215;

/** Whether matrix units may round the operands to f16: see {@linkcode AutoencoderKLConfig}. */
function toleratesF16({ forceUpcast, scalingFactor }: AutoencoderKLConfig): boolean {
  return !forceUpcast || scalingFactor === scalingFactorOfSD;
}

/** Single-head self-attention over all pixels. The head is as wide as the channels. */
class VaeAttention {
  readonly #norm: GroupNorm;
  readonly #toQ: Linear;
  readonly #toK: Linear;
  readonly #toV: Linear;
  readonly #toOut: Linear;
  readonly #allowF16Operands: boolean;

  constructor(w: WeightScope, channels: number, groups: number, allowF16Operands: boolean) {
    this.#allowF16Operands = allowF16Operands;
    // diffusers before 0.17 used other names for the four projections.
    const [q, k, v, out] = w.has("query.weight")
      ? ["query", "key", "value", "proj_attn"]
      : ["to_q", "to_k", "to_v", "to_out.0"];
    this.#norm = new GroupNorm(w.at("group_norm"), channels, groups, epsilon);
    this.#toQ = new Linear(w.at(q), channels, channels, { allowF16Operands });
    this.#toK = new Linear(w.at(k), channels, channels, { allowF16Operands });
    this.#toV = new Linear(w.at(v), channels, channels, { allowF16Operands });
    this.#toOut = new Linear(w.at(out), channels, channels, { allowF16Operands });
  }

  forward(x: Tensor): Tensor {
    const [batch, channels, height, width] = x.dims(4);
    const allowF16Operands = this.#allowF16Operands;
    const picture = x.reshape([batch, channels, height * width]);
    const normed = this.#norm.forward(picture); // [B, C, H·W]
    // [B, H·W, C]
    const [q, k, v] = [this.#toQ, this.#toK, this.#toV].map((layer) => layer.fromChannels(normed));
    return this.#toOut.toChannels(attention(q, k, v, { heads: 1, allowF16Operands }), { residual: picture }).reshape(
      x.shape,
    );
  }
}

class MidBlock {
  readonly #resnets: readonly ResnetBlock[];
  readonly #attention: VaeAttention;

  constructor(w: WeightScope, channels: number, groups: number, allowF16Operands: boolean) {
    this.#resnets = [0, 1].map((layer) =>
      new ResnetBlock(w.at("resnets", layer), {
        inChannels: channels,
        outChannels: channels,
        groups,
        epsilon,
        allowF16Operands,
      })
    );
    this.#attention = new VaeAttention(w.at("attentions", 0), channels, groups, allowF16Operands);
  }

  forward(x: Tensor): Tensor {
    return this.#resnets[1].forward(this.#attention.forward(this.#resnets[0].forward(x)));
  }
}

class Encoder {
  readonly #convIn: Conv2d;
  readonly #blocks: readonly { resnets: readonly ResnetBlock[]; downsample?: Downsample }[];
  readonly #mid: MidBlock;
  readonly #normOut: GroupNorm;
  readonly #convOut: Conv2d;

  constructor(w: WeightScope, config: AutoencoderKLConfig) {
    const { blockOutChannels: widths, normNumGroups: groups, layersPerBlock } = config;
    const last = widths.length - 1;
    const allowF16Operands = toleratesF16(config);
    this.#convIn = new Conv2d(w.at("conv_in"), config.inChannels, widths[0], { padding: 1, allowF16Operands });
    this.#blocks = widths.map((outChannels, index) => ({
      resnets: Array.from(
        { length: layersPerBlock },
        (_, layer) =>
          new ResnetBlock(w.at("down_blocks", index, "resnets", layer), {
            inChannels: layer === 0 ? widths[Math.max(index - 1, 0)] : outChannels,
            outChannels,
            groups,
            epsilon,
            allowF16Operands,
          }),
      ),
      downsample: index === last
        ? undefined
        : new Downsample(w.at("down_blocks", index, "downsamplers", 0), outChannels, 0, { allowF16Operands }),
    }));
    this.#mid = new MidBlock(w.at("mid_block"), widths[last], groups, allowF16Operands);
    this.#normOut = new GroupNorm(w.at("conv_norm_out"), widths[last], groups, epsilon);
    this.#convOut = new Conv2d(w.at("conv_out"), widths[last], 2 * config.latentChannels, {
      padding: 1,
      allowF16Operands,
    });
  }

  forward(image: Tensor): Tensor {
    let x = this.#convIn.forward(image); // [B, C₀, H, W]
    for (const { resnets, downsample } of this.#blocks) {
      for (const resnet of resnets) x = resnet.forward(x);
      if (downsample) x = downsample.forward(x); // [B, Cᵢ, H / 2^(i+1), W / 2^(i+1)]
    }
    x = this.#mid.forward(x);
    return this.#convOut.forward(this.#normOut.forward(x, "silu")); // [B, 2 · latent, h, w]
  }
}

class Decoder {
  readonly #convIn: Conv2d;
  readonly #mid: MidBlock;
  readonly #blocks: readonly { resnets: readonly ResnetBlock[]; upsample?: Upsample }[];
  readonly #normOut: GroupNorm;
  readonly #convOut: Conv2d;

  constructor(w: WeightScope, config: AutoencoderKLConfig) {
    const { normNumGroups: groups, layersPerBlock } = config;
    const widths = [...config.blockOutChannels].reverse();
    const last = widths.length - 1;
    const allowF16Operands = toleratesF16(config);
    this.#convIn = new Conv2d(w.at("conv_in"), config.latentChannels, widths[0], { padding: 1, allowF16Operands });
    this.#mid = new MidBlock(w.at("mid_block"), widths[0], groups, allowF16Operands);
    this.#blocks = widths.map((outChannels, index) => ({
      resnets: Array.from(
        { length: layersPerBlock + 1 },
        (_, layer) =>
          new ResnetBlock(w.at("up_blocks", index, "resnets", layer), {
            inChannels: layer === 0 ? widths[Math.max(index - 1, 0)] : outChannels,
            outChannels,
            groups,
            epsilon,
            allowF16Operands,
          }),
      ),
      upsample: index === last
        ? undefined
        : new Upsample(w.at("up_blocks", index, "upsamplers", 0), outChannels, { allowF16Operands }),
    }));
    this.#normOut = new GroupNorm(w.at("conv_norm_out"), widths[last], groups, epsilon);
    this.#convOut = new Conv2d(w.at("conv_out"), widths[last], config.outChannels, { padding: 1, allowF16Operands });
  }

  /**
   * Each layer has its own scope, so that its input is freed at once: in the last levels, a layer's
   * output takes 128 MiB and more for each picture of 512 × 512.
   */
  forward(latents: Tensor): Tensor {
    const { gpu } = latents;
    let x = gpu.scope(() => this.#mid.forward(this.#convIn.forward(latents))); // [B, C, h, w]
    const step = (layer: { forward(x: Tensor): Tensor }) => {
      using previous = x;
      x = gpu.scope(() => layer.forward(previous));
    };
    for (const { resnets, upsample } of this.#blocks) {
      resnets.forEach(step);
      if (upsample) step(upsample); // [B, Cᵢ, 2H, 2W]
    }
    using last = x;
    // [B, 3, H, W]
    return gpu.scope(() => this.#convOut.forward(this.#normOut.forward(last, "silu")));
  }
}

class Modules {
  readonly encoder: Encoder;
  readonly decoder: Decoder;
  readonly quantConv: Conv2d;
  readonly postQuantConv: Conv2d;

  constructor(w: WeightScope, config: AutoencoderKLConfig) {
    const { latentChannels: latent } = config;
    const allowF16Operands = toleratesF16(config);
    this.encoder = new Encoder(w.at("encoder"), config);
    this.decoder = new Decoder(w.at("decoder"), config);
    this.quantConv = new Conv2d(w.at("quant_conv"), 2 * latent, 2 * latent, { kernelSize: 1, allowF16Operands });
    this.postQuantConv = new Conv2d(w.at("post_quant_conv"), latent, latent, { kernelSize: 1, allowF16Operands });
  }
}

/**
 * Stable Diffusion's autoencoder, which maps pictures to latents and back (diffusers'
 * `AutoencoderKL`).
 *
 * ```ts
 * using vae = await AutoencoderKL.fromPretrained("models/pocket/vae", { gpu });
 * using picture = vae.decode(latents); // [B, 3, 8h, 8w], in -1…1
 * ```
 */
export class AutoencoderKL extends Model<AutoencoderKLConfig> {
  /**
   * Picture pixels per latent pixel, along each side: 8 for Stable Diffusion (diffusers'
   * `vae_scale_factor`). Not to be confused with `config.scalingFactor`, which scales values.
   */
  readonly spatialScale: number;
  readonly #modules: Modules;

  private constructor(parts: ModelParts<AutoencoderKLConfig, Modules>) {
    super(parts);
    this.spatialScale = 2 ** (parts.config.blockOutChannels.length - 1);
    this.#modules = parts.modules;
  }

  /**
   * Loads a folder that holds `config.json` and `diffusion_pytorch_model*.safetensors`.
   *
   * @throws {CheckpointError} when files are missing, or weights and configuration disagree
   * @throws {ConfigError} for another kind of autoencoder
   */
  static async fromPretrained(directory: string | URL | FileTree, options: LoadOptions): Promise<AutoencoderKL> {
    return new AutoencoderKL(await loadModel(vaeKind, directory, options));
  }

  /** Builds the model of `config` on `weights`, whose keys are diffusers'. */
  static async fromWeights(
    config: AutoencoderKLConfig,
    weights: Weights,
    options: LoadOptions,
  ): Promise<AutoencoderKL> {
    return new AutoencoderKL(await buildModel(vaeKind, config, weights, options));
  }

  /**
   * Checks weights against `config` by names and shapes alone. It needs no device.
   *
   * @throws {CheckpointError} that lists every missing and misshapen key
   */
  static checkWeights(config: AutoencoderKLConfig, weights: Weights): void {
    checkModel(vaeKind, config, weights);
  }

  /**
   * Encodes a picture as a diagonal Gaussian distribution of latents. Multiply a sample by
   * `config.scalingFactor` before passing it to the UNet.
   *
   * @param image [B, 3, H, W] in -1…1, sides divisible by {@linkcode spatialScale}
   * @returns mean and log-variance (clamped to -30…20), each [B, 4, h, w]
   * @throws {ShapeError} if a side is not divisible by {@linkcode spatialScale}
   */
  encode(image: Tensor): { mean: Tensor; logvar: Tensor } {
    const [, , height, width] = image.dims(4);
    if (height % this.spatialScale !== 0 || width % this.spatialScale !== 0) {
      throw new ShapeError(
        `Cannot encode a picture of ${width} × ${height} as its sides must be divisible by ${this.spatialScale}`,
        [image.shape],
      );
    }
    const { latentChannels } = this.config;
    return this.gpu.scope(() => {
      // [B, 8, h, w]
      const moments = this.#modules.quantConv.forward(this.#modules.encoder.forward(image));
      return {
        mean: slice(moments, 1, 0, latentChannels),
        logvar: clamp(slice(moments, 1, latentChannels, 2 * latentChannels), -30, 20),
      };
    });
  }

  /**
   * Decodes latents [B, 4, h, w], already divided by `config.scalingFactor`, to pictures [B, 3, H,
   * W] in about -1…1.
   */
  decode(latents: Tensor): Tensor {
    return this.gpu.scope(() => this.#modules.decoder.forward(this.#modules.postQuantConv.forward(latents)));
  }
}

/** Loader of the autoencoder. */
export const vaeKind: ModelKind<AutoencoderKLConfig, Modules> = {
  className: "AutoencoderKL",
  weightsName: "diffusion_pytorch_model",
  parseConfig: parseAutoencoderKLConfig,
  build: (w, config) => new Modules(w, config),
};
