import type { DType } from "../../engine/dtype.ts";
import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { tileConstants, type TileShape, usesBlocks } from "../gemm/tile.ts";
import { stationaryDepth } from "../gemm/tile_stationary.ts";
import type { ConvPath } from "../policy/convolutions.ts";
import { policyOf } from "../policy.ts";
import type { Activation } from "../wgsl/activation.ts";
import { bindRange } from "../wgsl/launch.ts";
import { conv3x3Kernel, conv3x3Tile } from "./conv3x3.ts";
import { conv3x3StationaryKernel } from "./conv3x3_stationary.ts";
import { fewInputsKernel, fewInputsTile } from "./conv3x3_few_inputs.ts";
import { fewOutputsKernel, fewOutputsTile } from "./conv3x3_few_outputs.ts";
import { conv2dKernel } from "./general.ts";
import type { PackedConvWeight } from "./pack_weight.ts";
import { type Geometry, type Piece, pieces } from "./pieces.ts";

export type { ConvPath } from "../policy/convolutions.ts";
export { packConvWeight, type PackedConvWeight, unpackConvWeight } from "./pack_weight.ts";

/**
 * A bias per image and output channel: OC columns of a matrix with one row per image, or one row
 * for all images.
 */
export interface ChannelBias {
  /** [B, F] or [1, F], f32. */
  readonly tensor: Tensor;
  /** The first column. Default: 0. */
  readonly first?: number;
}

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
  /**
   * The kernel, for tests. Default: the policy's choice.
   */
  readonly path?: ConvPath;
}

/**
 * y = activation(weight ∗ x + bias + channelBias) + residual, where ∗ is cross-correlation over
 * images, as in torch's conv2d.
 *
 * Tensors larger than the device's largest binding are processed in pieces: images, then output
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
  const { outChannels, inChannels, kernelHeight, kernelWidth } = weight;
  const { stride = 1, padding = 0, upsample = false, bias, channelBias, residual } = options;
  const [top, left, bottom, right] = typeof padding === "number" ? [padding, padding, padding, padding] : padding;
  const weightShape = [outChannels, inChannels, kernelHeight, kernelWidth];
  const refuse = (why: string) => {
    throw new ShapeError(
      `Cannot convolve x [${x.shape.join(", ")}] with a weight [${weightShape.join(", ")}] as ${why}`,
      [
        x.shape,
        weightShape,
      ],
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
  const outHeight = Math.floor((upHeight + top + bottom - kernelHeight) / stride) + 1;
  const outWidth = Math.floor((upWidth + left + right - kernelWidth) / stride) + 1;
  if (!(outHeight > 0 && outWidth > 0)) {
    refuse(
      `the padded image must be at least as large as the kernel: ${upHeight + top + bottom} × ${
        upWidth + left + right
      }`,
    );
  }
  if (bias && bias.size !== outChannels) refuse(`the bias must hold ${outChannels} elements: ${bias.size}`);
  const mustHave = (tensor: Tensor | undefined, shape: readonly number[], what: string) => {
    if (tensor && tensor.shape.join() !== shape.join()) {
      refuse(`the ${what} must be [${shape.join(", ")}]: [${tensor.shape.join(", ")}]`);
    }
  };
  const shape = [batch, outChannels, outHeight, outWidth];
  if (channelBias) {
    const { tensor, first = 0 } = channelBias, [rows, columns] = tensor.dims(2);
    if (rows !== batch && rows !== 1 || first + outChannels > columns) {
      refuse(
        `the channelBias must have 1 or ${batch} rows and at least ${
          first + outChannels
        } columns: [${rows}, ${columns}]`,
      );
    }
  }
  mustHave(residual, shape, "residual");

  const { gpu } = x;
  const resized = upHeight !== height || upWidth !== width;
  const dtype = options.dtype ?? x.dtype;
  const geometry: Geometry = {
    batch,
    inChannels,
    outChannels,
    height,
    width,
    upHeight,
    upWidth,
    outHeight,
    outWidth,
    kernelHeight,
    kernelWidth,
    stride,
    padding: [top, left, bottom, right],
    isPlain: !residual && !channelBias && !options.activation,
    pixels: batch * outHeight * outWidth,
    dtype,
    upsample: !resized ? "none" : upHeight === 2 * height && upWidth === 2 * width ? "double" : "any",
  };
  const why = options.path && policyOf(gpu).convolutions.unsupportedReason(options.path, geometry);
  if (why) refuse(why);
  return Tensor.filled(gpu, shape, dtype, (y) => {
    for (const piece of pieces(gpu, geometry, weight.tensor)) {
      runPiece(gpu, { x, weight: weight.tensor, bias, channelBias, residual, y }, geometry, piece, options);
    }
  });
}

/** Dispatches the kernel that suits a piece: the 3×3 kernel or the general one. */
function runPiece(
  gpu: Gpu,
  t: { x: Tensor; weight: Tensor; bias?: Tensor; channelBias?: ChannelBias; residual?: Tensor; y: Tensor },
  g: Geometry,
  piece: Piece,
  options: Conv2dOptions,
): void {
  const { images, image, outChannel, outChannels, inChannel, inChannels } = piece;
  const n = g.outHeight * g.outWidth, plane = g.height * g.width;
  const allChannelVec4 = Math.ceil(g.inChannels / 4), channelVec4 = Math.ceil(inChannels / 4);
  const k = g.kernelHeight * g.kernelWidth * 4 * channelVec4;
  const weightRow = g.kernelHeight * allChannelVec4 * g.kernelWidth; // vec4
  const xCount = images > 1 ? images * g.inChannels * plane : inChannels * plane;
  const x = bindRange(t.x, (image * g.inChannels + inChannel) * plane, xCount);
  const weight = bindRange(t.weight, outChannel * weightRow * 4, outChannels * weightRow * 4);
  const yFirst = (image * g.outChannels + outChannel) * n, yCount = images * outChannels * n;
  const y = bindRange(t.y, yFirst, yCount);
  const isLast = inChannel + inChannels === g.inChannels;
  const bias = isLast ? t.bias : undefined, channelBias = isLast ? t.channelBias : undefined;
  const biasStride = channelBias && channelBias.tensor.shape[0] > 1 ? channelBias.tensor.shape[1] : 0;
  const residual = isLast && t.residual ? bindRange(t.residual, yFirst, yCount) : undefined;
  const isVec4 = n % 4 === 0;
  const isPlainProduct = g.kernelHeight * g.kernelWidth === 1 && g.stride === 1 && g.upsample === "none" &&
    g.padding.every((p) => p === 0);
  const tensors = {
    weight: weight.window,
    x: x.window,
    // Unused bindings get a tensor of the usual dtype, so that no extra kernel variant is compiled.
    bias: bias ?? weight.window,
    channel_bias: channelBias?.tensor ?? x.window,
    residual: residual?.window ?? x.window,
    y: y.window,
  };
  const params = {
    m: outChannels,
    n,
    k,
    batch: images,
    in_channels: inChannels,
    x_start: x.start,
    x_batch: g.inChannels * plane,
    // Counts vec4: the lead-in of the window, then the piece's first input channel.
    weight_start: weight.start / 4 + inChannel / 4 * g.kernelWidth,
    weight_row: weightRow,
    y_start: y.start,
    residual_start: residual?.start ?? 0,
    bias_start: outChannel,
    channel_bias_start: (channelBias?.first ?? 0) + image * biasStride + outChannel,
    channel_bias_stride: biasStride,
    has_bias: bias ? 1 : 0,
    has_residual: residual ? 1 : 0,
    has_channel_bias: channelBias ? 1 : 0,
    accumulate: inChannel > 0 ? 1 : 0,
  };
  const { allowF16Operands } = options, policy = policyOf(gpu), lanes = gpu.info.subgroupSize;
  const variant = { kernel: [g.kernelHeight, g.kernelWidth], stride: g.stride } as const;
  // A tile that was asked for or tuned is one of the general kernel.
  const chosen = options.tile ?? policy.products.tunedProduct(outChannels, n, k, { allowF16Operands, variant })?.tile;
  const isVec8 = isPlainProduct && n % 8 === 0 && inChannels % 8 === 0 && weightRow % 2 === 0 && inChannel % 8 === 0;
  // A stationary tile keeps the sums over a block of k in the result, which must not round them.
  const canHoldSums = t.y.dtype === "f32" || k <= stationaryDepth(lanes);
  const shape = chosen ??
    policy.products.tileFor(outChannels, n, {
      vec4: isVec4,
      isVec8,
      canHoldSums,
      isGathered: !isPlainProduct,
      allowF16Operands,
    });
  const tile = tileConstants(gpu, shape, { k: inChannels % 4 === 0 ? k : 1, isVec8, canHoldSums });
  const isStationary = tile.STRATEGY === "stationary", isWide = isStationary || tile.WIDE;
  const vectorWidth = isVec4 ? (isWide ? 8 : 4) : 1;
  const activation: "none" | Activation = isLast && options.activation || "none";
  const constants = {
    X_WIDTH: isPlainProduct ? vectorWidth : 1,
    Y_WIDTH: vectorWidth,
    W_WIDTH: isWide ? 8 : 4,
    ACTIVATION: activation,
  };
  const path = options.path ?? (chosen ? "general" : policy.convolutions.path(g, { allowF16Operands }));
  const subgroupParams = {
    ...params,
    height: g.upHeight,
    width: g.outWidth,
    weight_kernel_row: allChannelVec4 * g.kernelWidth,
  };
  const subgroupConstants = { ...constants, X_WIDTH: 8, Y_WIDTH: 8, W_WIDTH: 4, LANES: lanes };
  if (path === "3x3 few outputs") {
    const tile = fewOutputsTile(outChannels, g.height, lanes);
    fewOutputsKernel.run(gpu, tensors, subgroupParams, { ...subgroupConstants, ...tile });
    return;
  }
  if (path === "3x3 few inputs") {
    fewInputsKernel.run(gpu, tensors, subgroupParams, { ...subgroupConstants, ...fewInputsTile(lanes) });
    return;
  }
  const sizes = { ...subgroupParams, upsample_shift: g.upsample === "double" ? 1 : 0 };
  const ofKernel = { STRIDE: g.stride, PAD: g.padding[0], LANES: lanes };
  if (path === "3x3 stationary") {
    const isVec8 = allChannelVec4 % 2 === 0 && inChannel % 8 === 0 && weight.start % 8 === 0;
    conv3x3StationaryKernel.run(
      gpu,
      tensors,
      { ...sizes, tile_rows: policy.products.stationaryRows(256, outChannels, Math.ceil(images * n / 8 / lanes)) },
      { ...subgroupConstants, W_WIDTH: isVec8 ? 8 : 4, ...ofKernel },
    );
    return;
  }
  if (path === "3x3") {
    const outputs = g.stride === 1 && g.width % 8 === 0 ? 8 : 4;
    const tile = conv3x3Tile(outChannels, images * n, { k, outputs });
    conv3x3Kernel.run(
      gpu,
      tensors,
      sizes,
      { ...constants, X_WIDTH: outputs * g.stride, Y_WIDTH: outputs, W_WIDTH: 4, ...ofKernel, ...tile },
    );
    return;
  }
  conv2dKernel.run(
    gpu,
    tensors,
    {
      ...params,
      height: g.height,
      width: g.width,
      up_height: g.upHeight,
      up_width: g.upWidth,
      out_width: g.outWidth,
      kernel_width: g.kernelWidth,
      per_kernel_width: 1 / g.kernelWidth,
      per_kernel_row: 1 / (channelVec4 * g.kernelWidth),
      weight_skip: (allChannelVec4 - channelVec4) * g.kernelWidth,
      stride: g.stride,
      top: g.padding[0],
      left: g.padding[1],
      tile_rows: isStationary
        ? policy.products.stationaryRows(shape.rows, outChannels, images * Math.ceil(n / (8 * lanes)))
        : 1,
    },
    {
      ...constants,
      UPSAMPLE: g.upsample,
      SKIPS: usesBlocks(tile.STRATEGY) && channelVec4 !== allChannelVec4,
      ...tile,
    },
  );
}
