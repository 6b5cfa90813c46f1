import type { Tensor } from "../../engine/tensor.ts";
import { linearCombination } from "../../kernels/linear_combination.ts";
import type { WeightScope } from "../loading/binding.ts";
import { Conv2d } from "./conv2d.ts";
import { Linear } from "./linear.ts";
import { GroupNorm } from "./norm.ts";

/** What a residual block is made of. */
export interface ResnetOptions {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly groups: number;
  readonly epsilon: number;
  /** Width of the time embedding; none in the VAE. */
  readonly timeFeatures?: number;
  /** The sum is divided by this. Default: 1. */
  readonly outputScale?: number;
}

/** Two 3×3 convolutions, each after group norm and SiLU, around a shortcut (diffusers' `ResnetBlock2D`). */
export class ResnetBlock {
  readonly #norm1: GroupNorm;
  readonly #conv1: Conv2d;
  readonly #timeProjection: Linear | undefined;
  readonly #norm2: GroupNorm;
  readonly #conv2: Conv2d;
  readonly #shortcut: Conv2d | undefined;
  readonly #outputScale: number;

  constructor(w: WeightScope, options: ResnetOptions) {
    const { inChannels, outChannels, groups, epsilon, timeFeatures, outputScale = 1 } = options;
    this.#norm1 = new GroupNorm(w.at("norm1"), inChannels, groups, epsilon);
    this.#conv1 = new Conv2d(w.at("conv1"), inChannels, outChannels, { padding: 1 });
    this.#timeProjection = timeFeatures === undefined
      ? undefined
      : new Linear(w.at("time_emb_proj"), timeFeatures, outChannels);
    this.#norm2 = new GroupNorm(w.at("norm2"), outChannels, groups, epsilon);
    this.#conv2 = new Conv2d(w.at("conv2"), outChannels, outChannels, { padding: 1 });
    this.#shortcut = inChannels === outChannels
      ? undefined
      : new Conv2d(w.at("conv_shortcut"), inChannels, outChannels, { kernelSize: 1 });
    this.#outputScale = outputScale;
  }

  /** x [B, in, H, W], time [B, timeFeatures] after SiLU → [B, out, H, W] */
  forward(x: Tensor, time?: Tensor): Tensor {
    return x.gpu.scope(() => {
      const channelBias = time && this.#timeProjection?.forward(time); // [B, out]
      const hidden = this.#conv1.forward(this.#norm1.forward(x, "silu"), { channelBias });
      const residual = this.#shortcut?.forward(x) ?? x;
      const sum = this.#conv2.forward(this.#norm2.forward(hidden, "silu"), { residual });
      if (this.#outputScale === 1) return sum;
      return linearCombination([{ tensor: sum, coefficient: 1 / this.#outputScale }]);
    });
  }
}

/** Halves a picture by a 3×3 convolution of stride 2. The VAE pads below and right only. */
export class Downsample {
  readonly #conv: Conv2d;

  constructor(w: WeightScope, channels: number, padding: number) {
    this.#conv = new Conv2d(w.at("conv"), channels, channels, {
      stride: 2,
      padding: padding === 0 ? [0, 0, 1, 1] : padding,
    });
  }

  forward(x: Tensor): Tensor {
    return this.#conv.forward(x);
  }
}

/** Doubles a picture by its nearest pixels (or brings it to `size`), then a 3×3 convolution. */
export class Upsample {
  readonly #conv: Conv2d;

  constructor(w: WeightScope, channels: number) {
    this.#conv = new Conv2d(w.at("conv"), channels, channels, { padding: 1 });
  }

  forward(x: Tensor, size?: readonly [number, number]): Tensor {
    return this.#conv.forward(x, { upsample: size ?? true });
  }
}
