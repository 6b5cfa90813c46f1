import type { Tensor } from "../../engine/tensor.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { linearCombination } from "../../kernels/shape/linear_combination.ts";
import type { WeightScope } from "../checkpoint/bind.ts";
import { Conv2d } from "./conv2d.ts";
import { Linear } from "./linear.ts";
import { GroupNorm } from "./norm.ts";

/** The dimensions of a residual block. */
export interface ResnetOptions {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly groups: number;
  readonly epsilon: number;
  /** Where the block's projection of the time embedding belongs; none in the VAE. */
  readonly times?: TimeProjections;
  /** The sum is divided by this. Default: 1. */
  readonly outputScale?: number;
  /** See {@linkcode Conv2d}. Default: true. */
  readonly allowF16Operands?: boolean;
}

/**
 * The projections of the time embedding of all residual blocks of a UNet, side by side. They do not
 * depend on the picture, so one product per block computes those of all steps.
 */
export class TimeProjections {
  /** Width of the time embedding. */
  readonly features: number;
  readonly #layers: Linear[] = [];
  #columns = 0;

  constructor(features: number) {
    this.features = features;
  }

  /** Takes a block's projection in; returns the first of its columns. */
  add(w: WeightScope, channels: number): number {
    this.#layers.push(new Linear(w, this.features, channels));
    this.#columns += channels;
    return this.#columns - channels;
  }

  /** [n, features] after SiLU → [n, columns of all blocks] */
  forward(embedding: Tensor): Tensor {
    return concat(this.#layers.map((layer) => layer.forward(embedding)), 1);
  }
}

/**
 * Two 3×3 convolutions, each after group norm and SiLU, around a shortcut (diffusers'
 * `ResnetBlock2D`).
 */
export class ResnetBlock {
  readonly #norm1: GroupNorm;
  readonly #conv1: Conv2d;
  readonly #timeColumn: number | undefined;
  readonly #norm2: GroupNorm;
  readonly #conv2: Conv2d;
  readonly #shortcut: Conv2d | undefined;
  readonly #outputScale: number;

  constructor(w: WeightScope, options: ResnetOptions) {
    const { inChannels, outChannels, groups, epsilon, times, outputScale = 1, allowF16Operands } = options;
    this.#norm1 = new GroupNorm(w.at("norm1"), inChannels, groups, epsilon);
    this.#conv1 = new Conv2d(w.at("conv1"), inChannels, outChannels, { padding: 1, allowF16Operands });
    this.#timeColumn = times?.add(w.at("time_emb_proj"), outChannels);
    this.#norm2 = new GroupNorm(w.at("norm2"), outChannels, groups, epsilon);
    this.#conv2 = new Conv2d(w.at("conv2"), outChannels, outChannels, { padding: 1, allowF16Operands });
    this.#shortcut = inChannels === outChannels
      ? undefined
      : new Conv2d(w.at("conv_shortcut"), inChannels, outChannels, { kernelSize: 1, allowF16Operands });
    this.#outputScale = outputScale;
  }

  /** x [B, in, H, W], time [B, …] or [1, …] of {@linkcode TimeProjections} → [B, out, H, W] */
  forward(x: Tensor, time?: Tensor): Tensor {
    return x.gpu.scope(() => {
      const channelBias = time && { tensor: time, first: this.#timeColumn };
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

  constructor(w: WeightScope, channels: number, padding: number, options: { allowF16Operands?: boolean } = {}) {
    this.#conv = new Conv2d(w.at("conv"), channels, channels, {
      ...options,
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

  constructor(w: WeightScope, channels: number, options: { allowF16Operands?: boolean } = {}) {
    this.#conv = new Conv2d(w.at("conv"), channels, channels, { ...options, padding: 1 });
  }

  forward(x: Tensor, size?: readonly [number, number]): Tensor {
    return this.#conv.forward(x, { upsample: size ?? true });
  }
}
