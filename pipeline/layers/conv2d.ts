import type { DType } from "../../engine/dtype.ts";
import type { Tensor } from "../../engine/tensor.ts";
import type { Activation } from "../../kernels/wgsl/activation.ts";
import {
  type ChannelBias,
  conv2d,
  packConvWeight,
  type PackedConvWeight,
  unpackConvWeight,
} from "../../kernels/conv/conv2d.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";
import { linearCombination } from "../../kernels/shape/linear_combination.ts";
import type { WeightScope } from "../checkpoint/bind.ts";
import type { LayerUpdates } from "../adapters/layer_updates.ts";

/** Padding of a picture: the same on all sides, or [top, left, bottom, right]. */
export type Padding = number | readonly [number, number, number, number];

/** What one call of a convolution may add. */
export interface Conv2dForward {
  /** Nearest upsampling of the input first, to twice its size or to [height, width]. */
  readonly upsample?: boolean | readonly [number, number];
  /** Added to every pixel of a channel (the time embedding). */
  readonly channelBias?: ChannelBias;
  /** [B, out, H, W]: added last. */
  readonly residual?: Tensor;
  readonly activation?: Activation;
  /** Type of the result. Default: x's. */
  readonly dtype?: DType;
}

/** A 2-d convolution with weights [out, in, k, k], repacked into the layout of its kernels. */
export class Conv2d {
  readonly #bias: Tensor | undefined; // [out]
  readonly #stride: number;
  readonly #padding: Padding;
  readonly #allowF16Operands: boolean;
  readonly #updates: LayerUpdates<PackedConvWeight>;
  #weight: PackedConvWeight | undefined;

  /**
   * `allowF16Operands`: see {@linkcode matmul}'s options. Default: true, as the UNets and most
   * autoencoders tolerate it.
   */
  constructor(
    w: WeightScope,
    inChannels: number,
    outChannels: number,
    options: {
      kernelSize?: number;
      stride?: number;
      padding?: Padding;
      bias?: boolean;
      allowF16Operands?: boolean;
    } = {},
  ) {
    const { kernelSize = 3, stride = 1, padding = 0 } = options;
    const shape = [outChannels, inChannels, kernelSize, kernelSize];
    w.repacked("weight", shape, (weight) => this.#weight = packConvWeight(weight));
    this.#bias = options.bias ?? true ? w.get("bias", [outChannels]) : undefined;
    this.#updates = w.adaptable({
      shape,
      pack: (weight) => {
        using unpacked = weight;
        return packConvWeight(unpacked);
      },
      unpack: async (packed) => unpackConvWeight(packed, await packed.tensor.data()),
      read: async () => unpackConvWeight(this.#weight!, await this.#weight!.tensor.data()),
    });
    this.#allowF16Operands = options.allowF16Operands ?? true;
    this.#stride = stride;
    this.#padding = padding;
  }

  /** [B, in, H, W] → [B, out, H', W'] */
  forward(x: Tensor, options: Conv2dForward = {}): Tensor {
    const allowF16Operands = this.#allowF16Operands;
    const geometry = { stride: this.#stride, padding: this.#padding, upsample: options.upsample, allowF16Operands };
    const { channelBias, dtype = x.dtype } = options;
    return this.#updates.apply(options, {
      gpu: x.gpu,
      bias: this.#bias,
      base: (epilogue) => conv2d(x, this.#weight!, { ...geometry, channelBias, ...epilogue, dtype }),
      change: ({ weight, up, scale, residual }) => {
        if (up === undefined) {
          const change = { tensor: conv2d(x, weight, { ...geometry, dtype }), coefficient: scale };
          return linearCombination(residual ? [change, { tensor: residual, coefficient: 1 }] : [change]);
        }
        const inner = conv2d(x, weight, { ...geometry, dtype: "f32" }); // [B, rank, H', W']
        const [batch, rank, height, width] = inner.dims(4);
        const pixels = [batch, up.shape[0], height * width];
        const columns = inner.reshape([batch, rank, height * width]);
        return matmul(up, columns, { scale, residual: residual?.reshape(pixels), allowF16Operands, dtype })
          .reshape([batch, up.shape[0], height, width]);
      },
    });
  }
}
