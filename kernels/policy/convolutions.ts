import type { DType } from "../../engine/dtype.ts";
import { isLarge, type PolicyDevice, usesSubgroupTiles } from "./device.ts";

/** Sizes on which {@linkcode ConvolutionPolicy.path} depends. */
export interface ConvSizes {
  readonly kernelHeight: number;
  readonly kernelWidth: number;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly stride: number;
  readonly upsample: "none" | "double" | "any";
  /** Top, left, bottom, right. */
  readonly padding: readonly number[];
  /** Whether nothing but a bias is added to the products, and no activation follows. */
  readonly isPlain: boolean;
  /** Width of the input. */
  readonly width: number;
  readonly outWidth: number;
  /** Pixels of all results. */
  readonly pixels: number;
  /** Dtype of the result. */
  readonly dtype: DType;
}

/**
 * The kernel of a convolution: the general one, or one of those for 3×3 on software devices, of
 * which one is for large convolutions, and two are for few channels.
 */
export type ConvPath = "general" | "3x3" | "3x3 stationary" | "3x3 few outputs" | "3x3 few inputs";

const convPaths: readonly ConvPath[] = ["general", "3x3", "3x3 stationary", "3x3 few outputs", "3x3 few inputs"];

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
   * Whether the device can run a convolution on the 3×3 kernel for large ones. The result holds
   * sums meanwhile, and must not round them.
   */
  supportsStationary(sizes: ConvSizes): boolean {
    const { stride, width, outWidth, dtype } = sizes;
    return this.supportsConv3x3(sizes) && dtype === "f32" && (stride === 1 ? width : outWidth) % 8 === 0;
  }

  /** Whether the device can run a convolution on the 3×3 kernel for few output channels. */
  supportsFewOutputs(sizes: ConvSizes): boolean {
    return this.supportsConv3x3(sizes) && sizes.stride === 1 && sizes.upsample === "none" && sizes.width % 8 === 0;
  }

  /** Whether the device can run a convolution on the 3×3 kernel for few input channels. */
  supportsFewInputs(sizes: ConvSizes): boolean {
    return this.supportsFewOutputs(sizes) && sizes.isPlain && sizes.inChannels <= 4;
  }

  /** Why a path cannot run a convolution on the device; undefined if it can. */
  unsupportedReason(path: ConvPath, sizes: ConvSizes): string | undefined {
    if (!convPaths.includes(path)) return `the path must be ${convPaths.join(", ")}: ${JSON.stringify(path)}`;
    if (path === "3x3" && !this.supportsConv3x3(sizes)) {
      return "the 3x3 path requires a software device with subgroups, a 3 × 3 kernel, and a suitable width and padding";
    }
    if (path === "3x3 stationary" && !this.supportsStationary(sizes)) {
      return "the 3x3 stationary path requires what the 3x3 path does, a width that is a multiple of 8, and a result in f32";
    }
    if (path === "3x3 few inputs" && !this.supportsFewInputs(sizes)) {
      return "the 3x3 few inputs path requires what the 3x3 few outputs path does, at most 4 input channels, and nothing to add but a bias";
    }
    return path === "3x3 few outputs" && !this.supportsFewOutputs(sizes)
      ? "the 3x3 few outputs path requires a software device with subgroups, a 3 × 3 kernel, stride 1, padding 1, no upsampling, and a width that is a multiple of 8"
      : undefined;
  }

  /** The kernel of a convolution. The arithmetic of those for 3×3 is f32. */
  path(
    sizes: ConvSizes,
    { allowF16Operands = false }: { readonly allowF16Operands?: boolean } = {},
  ): ConvPath {
    if (allowF16Operands && this.#device.info.arithmetic === "f16" || !this.supportsConv3x3(sizes)) return "general";
    if (this.supportsFewInputs(sizes)) return "3x3 few inputs";
    const { inChannels, outChannels, pixels } = sizes;
    if (outChannels <= 4 && this.supportsFewOutputs(sizes)) return "3x3 few outputs";
    // Inputs are loaded for few products where outputs are few, and weights where pixels are few.
    const suits = outChannels >= 128 && pixels >= 4096 && isLarge(outChannels, pixels, 9 * inChannels);
    return suits && this.supportsStationary(sizes) ? "3x3 stationary" : "3x3";
  }
}
