import type { DType } from "../../engine/dtype.ts";
import type { Gpu } from "../../engine/gpu.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { alignmentBytes, unitsPerRange } from "../wgsl/launch.ts";
import type { Upsampling } from "./block_operands.ts";

/** Sizes of a convolution. */
export interface Geometry {
  /** Number of images. */
  readonly batch: number;
  readonly inChannels: number;
  readonly outChannels: number;
  /** Height of the input. */
  readonly height: number;
  /** Width of the input. */
  readonly width: number;
  /** Height of the upsampled input; the input's where it is not upsampled. */
  readonly upHeight: number;
  /** Width of the upsampled input. */
  readonly upWidth: number;
  readonly outHeight: number;
  readonly outWidth: number;
  readonly kernelHeight: number;
  readonly kernelWidth: number;
  readonly stride: number;
  /** Top, left, bottom, right. */
  readonly padding: readonly [number, number, number, number];
  readonly upsample: Upsampling;
  /** Whether nothing but a bias is added to the products, and no activation follows. */
  readonly isPlain: boolean;
  /** Pixels of all results. */
  readonly pixels: number;
  /** Dtype of the result. */
  readonly dtype: DType;
}

/** A part of a convolution whose operands the device can bind; see {@linkcode convParts}. */
export interface ConvPart {
  /** First image. */
  readonly image: number;
  readonly images: number;
  /** First output channel. */
  readonly outChannel: number;
  readonly outChannels: number;
  /** First input channel. */
  readonly inChannel: number;
  readonly inChannels: number;
}

/**
 * Splits a convolution into parts whose operands the device can bind. Parts of the same outputs
 * follow each other in the order of input channels, so that partial sums are accumulated in order.
 */
export function* convParts(gpu: Gpu, g: Geometry, weight: Tensor): Generator<ConvPart> {
  const share = (total: number, ...unitBytes: number[]) =>
    Math.min(...unitBytes.map((bytes) => {
      // Units that are multiples of the alignment need no lead-in.
      const leadIn = bytes % alignmentBytes === 0 ? 0 : alignmentBytes;
      return unitsPerRange(gpu, total, bytes, leadIn);
    }));
  const inPlane = 4 * g.height * g.width, outPlane = 4 * g.outHeight * g.outWidth; // bytes
  const outShare = share(g.outChannels, outPlane, weight.bytes / g.outChannels);
  const inShare = Math.min(g.inChannels, 4 * share(Math.ceil(g.inChannels / 4), 4 * inPlane));
  const isWhole = outShare === g.outChannels && inShare === g.inChannels;
  const batchShare = isWhole ? share(g.batch, g.inChannels * inPlane, g.outChannels * outPlane) : 1;
  for (let image = 0; image < g.batch; image += batchShare) {
    for (let outChannel = 0; outChannel < g.outChannels; outChannel += outShare) {
      for (let inChannel = 0; inChannel < g.inChannels; inChannel += inShare) {
        yield {
          image,
          images: Math.min(batchShare, g.batch - image),
          outChannel,
          outChannels: Math.min(outShare, g.outChannels - outChannel),
          inChannel,
          inChannels: Math.min(inShare, g.inChannels - inChannel),
        };
      }
    }
  }
}
