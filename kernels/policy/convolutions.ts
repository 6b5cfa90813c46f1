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

/** What one kernel for 3×3 alone requires and a convolution does not fulfill. */
const unmet: Readonly<Record<Exclude<ConvPath, "general">, (sizes: ConvSizes) => string | undefined>> = {
  "3x3": () => undefined,
  "3x3 stationary"({ stride, width, outWidth, dtype }) {
    // The result holds sums meanwhile, and must not round them.
    if (dtype !== "f32") return `the result must be f32: ${dtype}`;
    return stride === 1 ? multipleOf(8, { width }) : multipleOf(8, { "result's width": outWidth });
  },
  "3x3 few outputs"({ stride, upsample, width }) {
    if (stride !== 1) return `the stride must be 1: ${stride}`;
    if (upsample !== "none") return "the input must not be upsampled: to twice its size";
    return multipleOf(8, { width });
  },
  "3x3 few inputs"(sizes) {
    const { isPlain, inChannels } = sizes;
    if (inChannels > 4) return `the input must have at most 4 channels: ${inChannels}`;
    if (!isPlain) return "nothing but a bias may be added: a channelBias, residual or activation";
    return unmet["3x3 few outputs"](sizes);
  },
};

/** Why one size, by its name, is no multiple of `factor`; undefined if it is. */
function multipleOf(factor: number, size: Readonly<Record<string, number>>): string | undefined {
  const [[name, value]] = Object.entries(size);
  return value % factor === 0 ? undefined : `the ${name} must be a multiple of ${factor}: ${value}`;
}

/** The kernel of a convolution. Tiles of the general one: ProductPolicy. */
export class ConvolutionPolicy {
  readonly #device: PolicyDevice;

  /** @param device whose choices these are */
  constructor(device: PolicyDevice) {
    this.#device = device;
  }

  /** Why a path cannot run a convolution on the device; undefined if it can. */
  unsupportedReason(path: ConvPath, sizes: ConvSizes): string | undefined {
    if (!convPaths.includes(path)) return `the path must be ${convPaths.join(", ")}: ${JSON.stringify(path)}`;
    if (path === "general") return undefined;
    const why = this.#unmet3x3(sizes) ?? unmet[path](sizes);
    return why && `with the path ${JSON.stringify(path)}, ${why}`;
  }

  #supports(path: ConvPath, sizes: ConvSizes): boolean {
    return this.unsupportedReason(path, sizes) === undefined;
  }

  /** What all kernels for 3×3 require and a convolution does not fulfill. */
  #unmet3x3({ kernelHeight, kernelWidth, stride, padding, upsample, width, outWidth }: ConvSizes): string | undefined {
    const { info } = this.#device, [top, left] = padding;
    if (!usesSubgroupTiles(this.#device)) {
      return `the device must be a software device with subgroups: ${info.name}, of class ${info.deviceClass}, ` +
        `with subgroups of ${info.subgroupSize}`;
    }
    if (kernelHeight !== 3 || kernelWidth !== 3) return `the kernel must be 3 × 3: ${kernelHeight} × ${kernelWidth}`;
    if (upsample === "any") return "the input must be upsampled to twice its size, or not at all: to another size";
    if (stride !== 1 && stride !== 2) return `the stride must be 1 or 2: ${stride}`;
    if (stride === 1) {
      return padding.some((side) => side !== 1)
        ? `the padding must be 1 on all sides where the stride is 1: ${padding.join(", ")}`
        : multipleOf(4, { width });
    }
    if (top !== left || top > 1) {
      return `the padding at the top and left must be both 0 or both 1 where the stride is 2: ${padding.join(", ")}`;
    }
    return multipleOf(8, { width }) ??
      (2 * outWidth === width ? undefined : `the result must be half as wide as the input: ${outWidth}, ${width}`);
  }

  /** The kernel of a convolution. The arithmetic of those for 3×3 is f32. */
  path(
    sizes: ConvSizes,
    { allowF16Operands = false }: { readonly allowF16Operands?: boolean } = {},
  ): ConvPath {
    if (allowF16Operands && this.#device.info.arithmetic === "f16" || !this.#supports("3x3", sizes)) return "general";
    if (this.#supports("3x3 few inputs", sizes)) return "3x3 few inputs";
    const { inChannels, outChannels, pixels } = sizes;
    if (outChannels <= 4 && this.#supports("3x3 few outputs", sizes)) return "3x3 few outputs";
    // Inputs are loaded for few products where outputs are few, and weights where pixels are few.
    const suits = outChannels >= 128 && pixels >= 4096 && isLarge(outChannels, pixels, 9 * inChannels);
    return suits && this.#supports("3x3 stationary", sizes) ? "3x3 stationary" : "3x3";
  }
}
