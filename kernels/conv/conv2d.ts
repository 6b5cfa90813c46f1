import type { DType } from "../../engine/dtype.ts";
import { ShapeError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import type { TileShape } from "../gemm/tile.ts";
import type { ConvPath } from "../policy/convolutions.ts";
import { policyOf } from "../policy.ts";
import type { Activation } from "../wgsl/activation.ts";
import { convParts, type Geometry } from "./bindable_parts.ts";
import type { PackedConvWeight } from "./pack_weight.ts";
import { type ChannelBias, runPart } from "./run_part.ts";

export type { ConvPath } from "../policy/convolutions.ts";
export type { ChannelBias } from "./run_part.ts";
export { packConvWeight, type PackedConvWeight, unpackConvWeight } from "./pack_weight.ts";

/** Options of {@linkcode conv2d}. */
export interface Conv2dOptions {
  /** Bias per output channel [OC]. Default: none. */
  readonly bias?: Tensor;
  /** Step between outputs, in pixels. Default: 1. */
  readonly stride?: number;
  /**
   * Zero padding of the (upsampled) image in pixels: on all sides, or [top, left, bottom, right].
   * Default: 0.
   */
  readonly padding?: number | readonly [number, number, number, number];
  /**
   * Upsamples the input first (nearest neighbor), to twice its size or to [height, width]. The
   * upsampled image is not stored. Default: false.
   */
  readonly upsample?: boolean | readonly [number, number];
  /** A bias per image and channel, such as the projected time embedding. Default: none. */
  readonly channelBias?: ChannelBias;
  /** Added after the activation; [B, OC, OH, OW]. Default: none. */
  readonly residual?: Tensor;
  /** Applied to the sum of product, bias and channel bias. Default: none. */
  readonly activation?: Activation;
  /** Dtype of the result: f32, or f16 where OH · OW is a multiple of 4. Default: x's dtype. */
  readonly dtype?: DType;
  /**
   * Whether elements of x and the weight may be rounded to f16, a relative error of 2⁻¹¹ each. They
   * are rounded only where subgroup matrices or f16 arithmetic are in use. See {@linkcode
   * TileShape} for the error bounds. Default: false.
   */
  readonly allowF16Operands?: boolean;
  /**
   * Runs the general kernel on this tile, for the tuner and the tests. Default: kernel and tile by
   * device and size.
   */
  readonly tile?: TileShape;
  /** The kernel, for tests. Default: the policy's choice. */
  readonly path?: ConvPath;
}

/**
 * y = activation(weight ∗ x + bias + channelBias) + residual, where ∗ is cross-correlation over
 * images, as in torch's conv2d.
 *
 * Tensors larger than the device's largest binding are processed in parts: images, then output
 * channels, then input channels, whose partial sums are accumulated in the result.
 *
 * @param x [B, IC, H, W], f32 or f16
 * @param weight from {@linkcode packConvWeight}
 * @returns [B, OC, OH, OW] of `dtype`, with OH = ⌊(H + top + bottom − KH) / stride⌋ + 1 and OW
 *   alike; sums are f32
 * @throws {ShapeError} when channels, bias, channelBias or residual do not match, or the kernel is
 *   larger than the padded image
 * @throws {DTypeError} when the result is f16 and OH · OW is not a multiple of 4
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using x = Tensor.from(gpu, new Float32Array(16).fill(1), [1, 1, 4, 4]);
 * using weight = Tensor.from(gpu, new Float32Array(9).fill(1), [1, 1, 3, 3]);
 * using packed = packConvWeight(weight);
 * using y = conv2d(x, packed, { padding: 1 }); // 9 inside, 6 at edges, 4 in corners
 * ```
 */
export function conv2d(x: Tensor, weight: PackedConvWeight, options: Conv2dOptions = {}): Tensor {
  const { gpu } = x, { tensor } = weight, { bias, channelBias, residual } = options;
  const geometry = geometryOf(x, weight, options);
  const { batch, outChannels, outHeight, outWidth, dtype } = geometry;
  return Tensor.filled(gpu, [batch, outChannels, outHeight, outWidth], dtype, (y) => {
    for (const part of convParts(gpu, geometry, tensor)) {
      runPart(gpu, { x, weight: tensor, bias, channelBias, residual, y }, geometry, part, options);
    }
  });
}

/** The sizes of a convolution. @throws {ShapeError} as {@linkcode conv2d} */
function geometryOf(x: Tensor, weight: PackedConvWeight, options: Conv2dOptions): Geometry {
  const { outChannels, inChannels, kernelHeight, kernelWidth } = weight;
  const { stride = 1, padding = 0, upsample = false, path } = options;
  const [top, left, bottom, right] = typeof padding === "number" ? [padding, padding, padding, padding] : padding;
  const refuse: Refuse = (why) => {
    const weightShape = [outChannels, inChannels, kernelHeight, kernelWidth];
    throw new ShapeError(
      `Cannot convolve x [${x.shape.join(", ")}] with a weight [${weightShape.join(", ")}] as ${why}`,
      [x.shape, weightShape],
    );
  };
  if (x.shape.length !== 4) refuse(`x must have four axes: ${x.shape.length}`);
  const [batch, channels, height, width] = x.dims(4);
  if (channels === 0) refuse("x must have channels: 0");
  if (channels !== inChannels) refuse(`x's channels must equal the weight's: ${channels} ≠ ${inChannels}`);
  if (!Number.isInteger(stride) || stride < 1) refuse(`the stride must be a whole number of at least 1: ${stride}`);
  if (![top, left, bottom, right].every((side) => Number.isInteger(side) && side >= 0)) {
    refuse(`the padding must be whole numbers of at least 0: ${[top, left, bottom, right].join(", ")}`);
  }
  const [upHeight, upWidth] = upsample === true ? [2 * height, 2 * width] : upsample || [height, width];
  if (![upHeight, upWidth].every((side) => Number.isInteger(side) && side >= 0)) {
    refuse(`the upsampled image must have whole numbers of at least 0 pixels: ${upHeight} × ${upWidth}`);
  }
  const isResized = upHeight !== height || upWidth !== width;
  const [fullHeight, fullWidth] = [upHeight + top + bottom, upWidth + left + right];
  const outHeight = Math.floor((fullHeight - kernelHeight) / stride) + 1;
  const outWidth = Math.floor((fullWidth - kernelWidth) / stride) + 1;
  if (!(outHeight > 0 && outWidth > 0)) {
    refuse(`the padded image must be at least as large as the kernel: ${fullHeight} × ${fullWidth}`);
  }
  checkAddends([batch, outChannels, outHeight, outWidth], options, refuse);
  const geometry: Geometry = {
    ...{ batch, inChannels, outChannels, height, width, upHeight, upWidth, outHeight, outWidth },
    ...{ kernelHeight, kernelWidth, stride },
    padding: [top, left, bottom, right],
    isPlain: !options.residual && !options.channelBias && !options.activation,
    pixels: batch * outHeight * outWidth,
    dtype: options.dtype ?? x.dtype,
    upsample: !isResized ? "none" : upHeight === 2 * height && upWidth === 2 * width ? "double" : "any",
  };
  const why = path && policyOf(x.gpu).convolutions.unsupportedReason(path, geometry);
  if (why) refuse(why);
  return geometry;
}

/** Throws a ShapeError that names the operands and tells why they do not fit. */
type Refuse = (why: string) => never;

/** Checks the shapes of what is added to a result [B, OC, OH, OW]. */
function checkAddends(
  shape: readonly [batch: number, outChannels: number, outHeight: number, outWidth: number],
  { bias, channelBias, residual }: Conv2dOptions,
  refuse: Refuse,
): void {
  const [batch, outChannels] = shape;
  if (bias && bias.size !== outChannels) refuse(`the bias must hold ${outChannels} elements: ${bias.size}`);
  if (channelBias) {
    const { tensor, first = 0 } = channelBias, [rows, columns] = tensor.dims(2), needed = first + outChannels;
    if (!Number.isInteger(first) || first < 0) {
      refuse(`the channelBias must begin at a whole number of at least 0: ${first}`);
    }
    if (rows !== batch && rows !== 1 || needed > columns) {
      refuse(
        `the channelBias must have 1 or ${batch} rows and at least ${needed} columns: [${rows}, ${columns}]`,
      );
    }
  }
  if (residual && residual.shape.join() !== shape.join()) {
    refuse(`the residual must be [${shape.join(", ")}]: [${residual.shape.join(", ")}]`);
  }
}
