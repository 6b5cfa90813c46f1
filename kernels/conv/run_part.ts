import type { Gpu } from "../../engine/gpu.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { tileConstants, type TileShape, usesWorkgroupMemory } from "../gemm/tile.ts";
import { tileSize } from "../gemm/tile_shape.ts";
import { canHoldSums } from "../gemm/tile_stationary.ts";
import type { ConvPath } from "../policy/convolutions.ts";
import { policyOf } from "../policy.ts";
import type { Activation } from "../wgsl/activation.ts";
import { bindRange } from "../wgsl/launch.ts";
import { conv3x3Kernel, conv3x3Tile } from "./conv3x3.ts";
import { fewInputsKernel, fewInputsTile } from "./conv3x3_few_inputs.ts";
import { fewOutputsKernel, fewOutputsTile } from "./conv3x3_few_outputs.ts";
import { conv3x3StationaryKernel } from "./conv3x3_stationary.ts";
import { conv2dKernel } from "./general.ts";
import type { ConvPart, Geometry } from "./bindable_parts.ts";

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

/** The tensors of a convolution. */
export interface ConvTensors {
  readonly x: Tensor;
  /** The packed weight. */
  readonly weight: Tensor;
  readonly bias?: Tensor;
  readonly channelBias?: ChannelBias;
  readonly residual?: Tensor;
  readonly y: Tensor;
}

/** What decides by which kernel a part is computed, and what follows the sums. */
export interface PartOptions {
  readonly activation?: Activation;
  readonly allowF16Operands?: boolean;
  readonly tile?: TileShape;
  readonly path?: ConvPath;
}

/** Dispatches the kernel that suits a part. */
export function runPart(gpu: Gpu, tensors: ConvTensors, g: Geometry, part: ConvPart, options: PartOptions): void {
  const { allowF16Operands } = options, policy = policyOf(gpu);
  const bound = bind(tensors, g, part, options.activation);
  const { m, n, k } = bound.params;
  // A tile that was asked for or tuned is one of the general kernel.
  const variant = { kernel: [g.kernelHeight, g.kernelWidth], stride: g.stride } as const;
  const tile = options.tile ?? policy.products.tunedProduct(m, n, k, { allowF16Operands, variant })?.tile;
  const path = options.path ?? (tile ? "general" : policy.convolutions.path(g, { allowF16Operands }));
  if (path === "general") runGeneral(gpu, bound, { tile, allowF16Operands });
  else run3x3[path](gpu, bound);
}

/** A part whose operands are bound. */
type BoundPart = ReturnType<typeof bind>;

/** Binds the operands of a part, and computes the params that all kernels take. */
function bind(t: ConvTensors, g: Geometry, part: ConvPart, activation?: Activation) {
  const { images, image, outChannel, outChannels, inChannel, inChannels } = part;
  const n = g.outHeight * g.outWidth, plane = g.height * g.width;
  const kernelRow = Math.ceil(g.inChannels / 4) * g.kernelWidth, weightRow = g.kernelHeight * kernelRow; // vec4
  const xCount = images > 1 ? images * g.inChannels * plane : inChannels * plane;
  const x = bindRange(t.x, (image * g.inChannels + inChannel) * plane, xCount);
  const weight = bindRange(t.weight, outChannel * weightRow * 4, outChannels * weightRow * 4);
  const yFirst = (image * g.outChannels + outChannel) * n, yCount = images * outChannels * n;
  const y = bindRange(t.y, yFirst, yCount);
  const isLast = inChannel + inChannels === g.inChannels;
  const bias = isLast ? t.bias : undefined, channelBias = isLast ? t.channelBias : undefined;
  const biasStride = channelBias && channelBias.tensor.shape[0] > 1 ? channelBias.tensor.shape[1] : 0;
  const residual = isLast && t.residual ? bindRange(t.residual, yFirst, yCount) : undefined;
  return {
    g,
    tensors: {
      weight: weight.window,
      x: x.window,
      // Unused bindings get a tensor of the usual dtype, which makes no further kernel variant.
      bias: bias ?? weight.window,
      channel_bias: channelBias?.tensor ?? x.window,
      residual: residual?.window ?? x.window,
      y: y.window,
    },
    params: {
      m: outChannels,
      n,
      k: g.kernelHeight * g.kernelWidth * 4 * Math.ceil(inChannels / 4),
      batch: images,
      in_channels: inChannels,
      x_start: x.start,
      x_batch: g.inChannels * plane,
      // Counts vec4: the lead-in of the window, then the part's first input channel.
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
    },
    /** Further params of the kernels for 3×3. */
    sizes: { height: g.upHeight, width: g.outWidth, weight_kernel_row: kernelRow },
    dtype: t.y.dtype,
    /** Whether accesses of eight weights start at multiples of eight. */
    hasWideWeights: weightRow % 2 === 0 && inChannel % 8 === 0,
    ACTIVATION: isLast && activation || "none",
  } as const;
}

/** The kernels for 3×3 on software devices, whose accesses are of eight elements at most. */
const run3x3: Readonly<Record<Exclude<ConvPath, "general">, (gpu: Gpu, part: BoundPart) => void>> = {
  "3x3 few outputs"(gpu, { g, tensors, params, sizes, ACTIVATION }) {
    const LANES = gpu.info.subgroupSize, tile = fewOutputsTile(params.m, g.height, LANES);
    const widths = { X_WIDTH: 8, Y_WIDTH: 8, W_WIDTH: 4 };
    fewOutputsKernel.run(gpu, tensors, { ...params, ...sizes }, { ...widths, LANES, ACTIVATION, ...tile });
  },
  "3x3 few inputs"(gpu, { tensors, params, sizes, ACTIVATION }) {
    const LANES = gpu.info.subgroupSize, tile = fewInputsTile(LANES);
    const widths = { X_WIDTH: 8, Y_WIDTH: 8, W_WIDTH: 4 };
    fewInputsKernel.run(gpu, tensors, { ...params, ...sizes }, { ...widths, LANES, ACTIVATION, ...tile });
  },
  "3x3 stationary"(gpu, { g, tensors, params, sizes, hasWideWeights, ACTIVATION }) {
    const LANES = gpu.info.subgroupSize, { products } = policyOf(gpu);
    const widths = { X_WIDTH: 8, Y_WIDTH: 8, W_WIDTH: hasWideWeights ? 8 : 4 };
    const pixels = params.batch * params.n;
    const tile_rows = products.stationaryRows(params.m, Math.ceil(pixels / 8 / LANES));
    conv3x3StationaryKernel.run(
      gpu,
      tensors,
      { ...params, ...sizes, upsample_shift: upsampleShift(g), tile_rows },
      { ...widths, LANES, STRIDE: g.stride, PAD: g.padding[0], ACTIVATION },
    );
  },
  "3x3"(gpu, { g, tensors, params, sizes, ACTIVATION }) {
    const LANES = gpu.info.subgroupSize, outputs = g.stride === 1 && g.width % 8 === 0 ? 8 : 4;
    const tile = conv3x3Tile(params.m, params.batch * params.n, { k: params.k, outputs });
    const widths = { X_WIDTH: outputs * g.stride, Y_WIDTH: outputs, W_WIDTH: 4 };
    conv3x3Kernel.run(
      gpu,
      tensors,
      { ...params, ...sizes, upsample_shift: upsampleShift(g) },
      { ...widths, LANES, STRIDE: g.stride, PAD: g.padding[0], ACTIVATION, ...tile },
    );
  },
};

/** By how many bits a coordinate of the upsampled image is shifted for the image's own. */
const upsampleShift = ({ upsample }: Geometry): number => upsample === "double" ? 1 : 0;

/** Runs the general kernel, on `tile` or the policy's. */
function runGeneral(
  gpu: Gpu,
  { g, tensors, params, dtype, hasWideWeights, ACTIVATION }: BoundPart,
  { tile, allowF16Operands }: Pick<PartOptions, "tile" | "allowF16Operands">,
): void {
  const { m, n, k, batch, in_channels: inChannels } = params, { products } = policyOf(gpu);
  const isPlainProduct = g.kernelHeight * g.kernelWidth === 1 && g.stride === 1 && g.upsample === "none" &&
    g.padding.every((side) => side === 0);
  const isVec4 = n % 4 === 0;
  const isVec8 = isPlainProduct && n % 8 === 0 && inChannels % 8 === 0 && hasWideWeights;
  const fits = { isVec8, canHoldSums: canHoldSums(dtype, { k, lanes: gpu.info.subgroupSize }) };
  const shape = tile ??
    products.tileFor(m, n, { k, vec4: isVec4, ...fits, isGathered: !isPlainProduct, allowF16Operands });
  const constants = tileConstants(gpu, shape, { k: inChannels % 4 === 0 ? k : 1, ...fits });
  const isStationary = constants.STRATEGY === "stationary", isWide = isStationary || constants.WIDE;
  const width = isVec4 ? (isWide ? 8 : 4) : 1;
  const vec4s = Math.ceil(g.inChannels / 4), ownVec4s = Math.ceil(inChannels / 4); // of a tap, and of the part's
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
      per_kernel_row: 1 / (ownVec4s * g.kernelWidth),
      weight_skip: (vec4s - ownVec4s) * g.kernelWidth,
      stride: g.stride,
      top: g.padding[0],
      left: g.padding[1],
      tile_rows: isStationary
        ? products.stationaryRows(m, batch * Math.ceil(n / tileSize(constants).columns), shape.rows)
        : 1,
    },
    {
      X_WIDTH: isPlainProduct ? width : 1,
      Y_WIDTH: width,
      W_WIDTH: isWide ? 8 : 4,
      ACTIVATION,
      UPSAMPLE: g.upsample,
      SKIPS: usesWorkgroupMemory(constants.STRATEGY) && vec4s !== ownVec4s,
      ...constants,
    },
  );
}
