import { bytesPerElement, type DType } from "../../engine/dtype.ts";
import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { declareKernel, input, output, spread } from "../../engine/kernel/kernel.ts";
import { Tensor, type TensorWindow } from "../../engine/tensor.ts";
import type { Activation } from "../wgsl/activation.ts";
import { policyOf } from "../policy.ts";
import { conv3x3Kernel, conv3x3Tile } from "./conv3x3.ts";
import { convBindings, convConstantTypes, convCost, convEpilogueWgsl, convParams } from "./epilogue.ts";
import { tileConstants, tileConstantTypes, tileExtensions, tileGrid, type TileShape, tileWgsl } from "../gemm/tile.ts";

/** Nearest-neighbor upsampling of the input: none, to twice its size, or to any size. */
const upsamplings = ["none", "double", "any"] as const;
type Upsampling = typeof upsamplings[number];

/**
 * Convolution as an implicit matrix product (implicit GEMM) on the tiles of tile.ts. A is the
 * weight [OC, K]. B is the patch matrix [K, OH·OW] of one image, which is never stored. Four
 * consecutive k are four input channels at one tap, so a block of B is a gather of four channels ×
 * four pixels that share one address and padding computation.
 *
 * A 1×1 kernel with stride 1 and without padding or upsampling is a plain product and reads x as
 * vec4.
 */
const conv2dKernel = declareKernel({
  name: "conv2d",
  bindings: convBindings,
  params: {
    ...convParams,
    height: "u32",
    width: "u32",
    up_height: "u32",
    up_width: "u32",
    out_width: "u32",
    kernel_width: "u32",
    per_kernel_width: "f32",
    per_kernel_row: "f32",
    weight_skip: "u32",
    stride: "u32",
    top: "u32",
    left: "u32",
  },
  constants: { ...convConstantTypes, UPSAMPLE: upsamplings, ...tileConstantTypes },
  extensions: tileExtensions,
  wgsl: (constants) =>
    convEpilogueWgsl(constants) +
    (constants.WIDE
      ? wideWgsl
      : weightWgsl + (constants.X_WIDTH === 4 ? pixelsWgsl : patchesWgsl(constants.UPSAMPLE))) +
    tileWgsl(constants),
  grid: ({ m, n, batch }, constants) => tileGrid(constants, m, n, batch),
  cost: (params) => convCost(params),
});

/** Operand loads of 8 elements, for a convolution that is a plain product. */
const wideWgsl = /* wgsl */ `
struct Row { start: u32 }
fn tile_row(batch: u32, row: u32) -> Row { return Row((params.weight_start + row * params.weight_row) / 2u); }
fn tile_a8(r: Row, k: u32) -> mat2x4f { return weight_at(r.start + k / 8u); }
struct Column { start: u32 }
struct Block { upper_left: mat4x4f, upper_right: mat4x4f, lower_left: mat4x4f, lower_right: mat4x4f }
fn tile_column(batch: u32, column: u32) -> Column {
  return Column((params.x_start + batch * params.x_batch + min(column, params.n - 8u)) / 8u);
}
fn tile_b8(c: Column, k: u32) -> Block {
  let plane = params.n / 8u;
  let at = c.start + k * plane;
  ${Array.from({ length: 8 }, (_, i) => `let v${i} = x_at(at + ${i}u * plane);`).join(" ")}
  return Block(mat4x4f(v0[0], v1[0], v2[0], v3[0]), mat4x4f(v0[1], v1[1], v2[1], v3[1]),
    mat4x4f(v4[0], v5[0], v6[0], v7[0]), mat4x4f(v4[1], v5[1], v6[1], v7[1]));
}
`;

const weightWgsl = /* wgsl */ `
// floor(dividend / divisor) by a float factor 1 / divisor, since integer division of vectors is
// slow on software devices. The 0.5 makes it exact for dividends below 2^22, far above any k.
fn quotient(dividend: u32, per_divisor: f32) -> u32 { return u32((f32(dividend) + 0.5) * per_divisor); }

struct Row { start: u32 }
fn tile_row(batch: u32, row: u32) -> Row { return Row(params.weight_start + row * params.weight_row); }
fn tile_a(r: Row, k: u32) -> vec4f {
  let tap = k / 4u; // (ky · channel vec4s + c) · KW + kx
  return weight_at(r.start + tap + quotient(tap, params.per_kernel_row) * params.weight_skip);
}
`;

const pixelsWgsl = /* wgsl */ `
struct Column { start: u32 }
fn tile_column(batch: u32, column: u32) -> Column {
  return Column((params.x_start + batch * params.x_batch + min(column, params.n - 4u)) / 4u);
}
fn channel(c: Column, k: u32) -> vec4f { return x_at(c.start + min(k, params.in_channels - 1u) * (params.n / 4u)); }
fn tile_b(c: Column, k: u32) -> mat4x4f {
  return mat4x4f(channel(c, k), channel(c, k + 1u), channel(c, k + 2u), channel(c, k + 3u));
}
`;

/**
 * The source row or column of a row or column of the upsampled image.
 */
const source = (upsample: Upsampling, at: string, from: string, to: string) =>
  upsample === "any" ? `${at} * params.${from} / params.${to}` : upsample === "double" ? `${at} / 2u` : at;

const patchesWgsl = (upsample: Upsampling) => /* wgsl */ `
struct Column { start: u32, y: vec4u, x: vec4u }
fn tile_column(batch: u32, column: u32) -> Column {
  let pixel = min(vec4u(column) + vec4u(0u, 1u, 2u, 3u), vec4u(params.n - 1u));
  // Negative coordinates wrap around to values above any height or width.
  let y = pixel / params.out_width * params.stride - params.top;
  let x = pixel % params.out_width * params.stride - params.left;
  return Column(params.x_start + batch * params.x_batch, y, x);
}
fn channel(at: vec4u, inside: vec4<bool>, index: u32) -> vec4f {
  let p = at + min(index, params.in_channels - 1u) * (params.height * params.width);
  return select(vec4f(), vec4f(x_at(p.x), x_at(p.y), x_at(p.z), x_at(p.w)), inside);
}
fn tile_b(c: Column, k: u32) -> mat4x4f {
  let tap = k / 4u;
  let q = quotient(tap, params.per_kernel_width);
  let ky = quotient(tap, params.per_kernel_row);
  let x = c.x + (tap - q * params.kernel_width);
  let y = c.y + ky;
  let index = (q - ky * ((params.in_channels + 3u) / 4u)) * 4u;
  let inside = (y < vec4u(params.up_height)) & (x < vec4u(params.up_width));
  let at = select(vec4u(), ${source(upsample, "y", "height", "up_height")} * params.width + ${
  source(upsample, "x", "width", "up_width")
}, inside) + c.start;
  return mat4x4f(channel(at, inside, index), channel(at, inside, index + 1u), channel(at, inside, index + 2u), channel(at, inside, index + 3u));
}
`;

const packKernel = declareKernel({
  name: "pack_conv_weight",
  bindings: { weight: input(1), packed: output(4) },
  params: { vec4s: "u32", in_channels: "u32", kernel_height: "u32", kernel_width: "u32" },
  wgsl: /* wgsl */ `
fn one(filter_start: u32, channel: u32, tap: u32) -> f32 {
  let value = weight_at(filter_start + min(channel, params.in_channels - 1u) * (params.kernel_height * params.kernel_width) + tap);
  return select(0.0, value, channel < params.in_channels);
}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 64u + lane; // [OC][KY][IC / 4][KX]
  if (i >= params.vec4s) { return; }
  let channel_vec4s = (params.in_channels + 3u) / 4u;
  let kx = i % params.kernel_width;
  let channel = i / params.kernel_width % channel_vec4s * 4u;
  let row = i / params.kernel_width / channel_vec4s; // oc · KH + ky
  let tap = row % params.kernel_height * params.kernel_width + kx;
  let start = row / params.kernel_height * params.in_channels * params.kernel_height * params.kernel_width;
  packed_put(i, vec4f(one(start, channel, tap), one(start, channel + 1u, tap), one(start, channel + 2u, tap), one(start, channel + 3u, tap)));
}`,
  grid: ({ vec4s }) => spread(Math.ceil(vec4s / 64)),
  cost: ({ vec4s }) => ({ flops: 0, bytes: 32 * vec4s }),
});

/**
 * A convolution's weight in the layout that the kernels read: [OC][KH][⌈IC / 4⌉][KW] of vec4 over
 * input channels, padded with zeros.
 */
export interface PackedConvWeight extends Disposable {
  /** [OC, KH, ⌈IC / 4⌉, KW, 4], of the weight's dtype. */
  readonly tensor: Tensor;
  /** OC, the number of output channels. */
  readonly outChannels: number;
  /** IC, the number of input channels. */
  readonly inChannels: number;
  /** KH, the height of the filter. */
  readonly kernelHeight: number;
  /** KW, the width of the filter. */
  readonly kernelWidth: number;
}

/**
 * Packs a convolution's weight for {@linkcode conv2d}. The result keeps the dtype. The weight may
 * be disposed afterwards. A 1×1 weight with a multiple of 4 input channels is packed already; the
 * result then shares its memory.
 *
 * @param weight [OC, IC, KH, KW], f32 or f16
 * @throws {ShapeError} when the weight does not have four axes
 */
export function packConvWeight(weight: Tensor): PackedConvWeight {
  const { gpu, dtype } = weight;
  const [outChannels, inChannels, kernelHeight, kernelWidth] = weight.dims(4);
  const channelVec4 = Math.ceil(inChannels / 4);
  const shape = [outChannels, kernelHeight, channelVec4, kernelWidth, 4];
  let tensor: Tensor;
  if (kernelHeight * kernelWidth === 1 && inChannels % 4 === 0) tensor = weight.reshape(shape);
  else {
    tensor = Tensor.empty(gpu, shape, dtype, { exact: true });
    packKernel.run(gpu, { weight, packed: tensor }, {
      vec4s: tensor.size / 4,
      in_channels: inChannels,
      kernel_height: kernelHeight,
      kernel_width: kernelWidth,
    });
  }
  return {
    tensor,
    outChannels,
    inChannels,
    kernelHeight,
    kernelWidth,
    [Symbol.dispose]: () => tensor[Symbol.dispose](),
  };
}

/**
 * Undoes {@linkcode packConvWeight} on the host.
 *
 * @param elements the packed tensor's elements
 * @returns [OC, IC, KH, KW]
 */
export function unpackConvWeight(
  { outChannels, inChannels, kernelHeight, kernelWidth }: PackedConvWeight,
  elements: Float32Array,
): Float32Array<ArrayBuffer> {
  const weight = new Float32Array(outChannels * inChannels * kernelHeight * kernelWidth);
  const quads = Math.ceil(inChannels / 4);
  let at = 0;
  for (let out = 0; out < outChannels; out++) {
    for (let channel = 0; channel < inChannels; channel++) {
      for (let y = 0; y < kernelHeight; y++) {
        const row = ((out * kernelHeight + y) * quads + (channel >> 2)) * kernelWidth;
        for (let x = 0; x < kernelWidth; x++) weight[at++] = elements[4 * (row + x) + (channel & 3)];
      }
    }
  }
  return weight;
}

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
   * are rounded only where subgroup matrices are in use; sums stay f32. See {@linkcode TileShape}
   * for the error bound. Default: false.
   */
  readonly allowF16Operands?: boolean;
  /**
   * Runs the general kernel on this tile, for the tuner and the tests. Default: kernel and tile by
   * device and size.
   */
  readonly tile?: TileShape;
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
  const y = Tensor.empty(gpu, shape, options.dtype ?? x.dtype);
  const resized = upHeight !== height || upWidth !== width;
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
    upsample: !resized ? "none" : upHeight === 2 * height && upWidth === 2 * width ? "double" : "any",
  };
  for (const piece of pieces(gpu, geometry, weight.tensor)) {
    runPiece(gpu, { x, weight: weight.tensor, bias, channelBias, residual, y }, geometry, piece, options);
  }
  return y;
}

/** Sizes of a convolution. */
interface Geometry {
  readonly batch: number;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly height: number;
  readonly width: number;
  readonly upHeight: number;
  readonly upWidth: number;
  readonly outHeight: number;
  readonly outWidth: number;
  readonly kernelHeight: number;
  readonly kernelWidth: number;
  readonly stride: number;
  readonly padding: readonly [number, number, number, number];
  readonly upsample: Upsampling;
}

/**
 * A part of a convolution whose operands can be bound: first image and channels, and their counts.
 */
interface Piece {
  readonly picture: number;
  readonly pictures: number;
  readonly outChannel: number;
  readonly outChannels: number;
  readonly inChannel: number;
  readonly inChannels: number;
}

/** Offsets of bindings are multiples of this. */
const alignmentBytes = 256;

/**
 * The parts of a convolution that fit into the device's bindings, partial sums over input channels
 * in order.
 */
function* pieces(gpu: Gpu, g: Geometry, weight: Tensor): Generator<Piece> {
  const limit = gpu.info.limits.maxStorageBufferBindingSize;
  /**
   * How many of `total` units a piece takes, so that pieces are about equal and each fits, lead-in
   * to the alignment included.
   */
  const share = (total: number, unitBytes: number) => {
    if (total * unitBytes <= limit) return total;
    const slack = unitBytes % alignmentBytes === 0 ? 0 : alignmentBytes;
    const most = Math.max(1, Math.floor((limit - slack) / unitBytes));
    return Math.ceil(total / Math.ceil(total / most));
  };
  const inPlane = 4 * g.height * g.width, outPlane = 4 * g.outHeight * g.outWidth; // bytes
  const outShare = share(g.outChannels, Math.max(outPlane, weight.bytes / g.outChannels));
  const inShare = Math.min(g.inChannels, 4 * share(Math.ceil(g.inChannels / 4), 4 * inPlane));
  const whole = outShare === g.outChannels && inShare === g.inChannels;
  const batchShare = whole ? share(g.batch, Math.max(g.inChannels * inPlane, g.outChannels * outPlane)) : 1;
  for (let picture = 0; picture < g.batch; picture += batchShare) {
    for (let outChannel = 0; outChannel < g.outChannels; outChannel += outShare) {
      for (let inChannel = 0; inChannel < g.inChannels; inChannel += inShare) {
        yield {
          picture,
          pictures: Math.min(batchShare, g.batch - picture),
          outChannel,
          outChannels: Math.min(outShare, g.outChannels - outChannel),
          inChannel,
          inChannels: Math.min(inShare, g.inChannels - inChannel),
        };
      }
    }
  }
}

/**
 * `count` elements from `first` on, bound from the aligned place before them: `start` elements of
 * lead-in.
 */
function bind(tensor: Tensor, first: number, count: number): { window: TensorWindow; start: number } {
  const start = first % (alignmentBytes / bytesPerElement[tensor.dtype]);
  return { window: tensor.window(first - start, start + count), start };
}

function runPiece(
  gpu: Gpu,
  t: { x: Tensor; weight: Tensor; bias?: Tensor; channelBias?: ChannelBias; residual?: Tensor; y: Tensor },
  g: Geometry,
  piece: Piece,
  options: Conv2dOptions,
): void {
  const { pictures, picture, outChannel, outChannels, inChannel, inChannels } = piece;
  const n = g.outHeight * g.outWidth, plane = g.height * g.width;
  const allChannelVec4 = Math.ceil(g.inChannels / 4), channelVec4 = Math.ceil(inChannels / 4);
  const k = g.kernelHeight * g.kernelWidth * 4 * channelVec4;
  const weightRow = g.kernelHeight * allChannelVec4 * g.kernelWidth; // vec4
  const xCount = pictures > 1 ? pictures * g.inChannels * plane : inChannels * plane;
  const x = bind(t.x, (picture * g.inChannels + inChannel) * plane, xCount);
  const weight = bind(t.weight, outChannel * weightRow * 4, outChannels * weightRow * 4);
  const yFirst = (picture * g.outChannels + outChannel) * n, yCount = pictures * outChannels * n;
  const y = bind(t.y, yFirst, yCount);
  const isLast = inChannel + inChannels === g.inChannels;
  const bias = isLast ? t.bias : undefined, channelBias = isLast ? t.channelBias : undefined;
  const biasStride = channelBias && channelBias.tensor.shape[0] > 1 ? channelBias.tensor.shape[1] : 0;
  const residual = isLast && t.residual ? bind(t.residual, yFirst, yCount) : undefined;
  const isVec4 = n % 4 === 0;
  const plain = g.kernelHeight * g.kernelWidth === 1 && g.stride === 1 && g.upsample === "none" &&
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
    batch: pictures,
    in_channels: inChannels,
    x_start: x.start,
    x_batch: g.inChannels * plane,
    // Counts vec4: the lead-in of the window, then the piece's first input channel.
    weight_start: weight.start / 4 + inChannel / 4 * g.kernelWidth,
    weight_row: weightRow,
    y_start: y.start,
    residual_start: residual?.start ?? 0,
    bias_start: outChannel,
    channel_bias_start: (channelBias?.first ?? 0) + picture * biasStride + outChannel,
    channel_bias_stride: biasStride,
    has_bias: bias ? 1 : 0,
    has_residual: residual ? 1 : 0,
    has_channel_bias: channelBias ? 1 : 0,
    accumulate: inChannel > 0 ? 1 : 0,
  };
  const { allowF16Operands } = options;
  const tile = tileConstants(
    gpu,
    options.tile ?? policyOf(gpu).tileFor(outChannels, n, { vec4: isVec4, isGathered: !plain, allowF16Operands }),
    {
      allowVec8: plain && n % 8 === 0 && inChannels % 8 === 0 && weightRow % 2 === 0 && inChannel % 8 === 0,
    },
  );
  const vectorWidth = isVec4 ? (tile.WIDE ? 8 : 4) : 1;
  const activation: "none" | Activation = isLast && options.activation || "none";
  const constants = {
    X_WIDTH: plain ? vectorWidth : 1,
    Y_WIDTH: vectorWidth,
    W_WIDTH: tile.WIDE ? 8 : 4,
    ACTIVATION: activation,
  };
  if (!options.tile && g.upsample !== "any" && policyOf(gpu).suitsConv3x3(g)) {
    const lanes = gpu.info.subgroupSize;
    const outputs = g.width % 8 === 0 ? 8 : 4;
    const tile = conv3x3Tile(outChannels, pictures * n, { k, outputs });
    conv3x3Kernel.run(
      gpu,
      tensors,
      {
        ...params,
        height: g.upHeight,
        width: g.upWidth,
        weight_kernel_row: allChannelVec4 * g.kernelWidth,
        upsample_shift: g.upsample === "double" ? 1 : 0,
      },
      {
        ...constants,
        X_WIDTH: outputs,
        Y_WIDTH: outputs,
        W_WIDTH: 4,
        LANES: lanes,
        ...tile,
      },
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
    },
    { ...constants, UPSAMPLE: g.upsample, ...tile },
  );
}
