import { type PolicyDevice, usesSubgroupTiles } from "./device.ts";

/** Sizes on which {@linkcode ConvolutionPolicy.path} depends. */
export interface ConvSizes {
  readonly batch: number;
  readonly kernelHeight: number;
  readonly kernelWidth: number;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly stride: number;
  readonly upsample: "none" | "double" | "any";
  /** Top, left, bottom, right. */
  readonly padding: readonly number[];
  /** Width of the input. */
  readonly width: number;
  readonly outHeight: number;
  readonly outWidth: number;
}

/** The kernel of a convolution. Tiles of the general one: ProductPolicy. */
export class ConvolutionPolicy {
  readonly #device: PolicyDevice;

  /** @param device whose choices these are */
  constructor(device: PolicyDevice) {
    this.#device = device;
  }

  /** Whether the device can run a convolution on the 3×3 kernel for software devices. */
  supportsConv3x3({ kernelHeight, kernelWidth, stride, padding, upsample, width, outWidth }: ConvSizes): boolean {
    if (!usesSubgroupTiles(this.#device) || kernelHeight !== 3 || kernelWidth !== 3 || upsample === "any") return false;
    if (stride === 1) return padding.every((side) => side === 1) && width % 4 === 0;
    const [top, left] = padding;
    return stride === 2 && top === left && top <= 1 && width % 8 === 0 && 2 * outWidth === width;
  }

  /**
   * The kernel of a convolution. Small ones with few channels or with stride 2 take the general
   * one, because the 3×3 kernel would take longer to compile than it saves. Its arithmetic is f32.
   */
  path(
    sizes: ConvSizes,
    { allowF16Operands = false }: { readonly allowF16Operands?: boolean } = {},
  ): "general" | "3x3" {
    const { batch, inChannels, outChannels, stride, outHeight, outWidth } = sizes;
    if (allowF16Operands && this.#device.info.arithmetic === "f16" || !this.supportsConv3x3(sizes)) return "general";
    const products = 9 * batch * inChannels * outChannels * outHeight * outWidth;
    const least = stride === 2 ? 2 ** 29 : inChannels < 8 ? 2 ** 26 : 0;
    return products >= least ? "3x3" : "general";
  }
}
