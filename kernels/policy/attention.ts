import { type AttentionForm, attentionFormOn, isLong, unsupportedAttentionReason } from "../attention/form.ts";
import { type AttentionSizes, widestOnePass } from "../attention/sizes.ts";
import { isSoftware, type PolicyDevice } from "./device.ts";

/** The form of attention. */
export class AttentionPolicy {
  readonly #device: PolicyDevice;

  /** @param device whose choices these are */
  constructor(device: PolicyDevice) {
    this.#device = device;
  }

  /**
   * Whether the workgroup path multiplies in f16: where the caller allows its operands to be
   * rounded, and the device was opened with f16 arithmetic.
   */
  usesF16({ allowF16Operands = false }: { readonly allowF16Operands?: boolean }): boolean {
    return allowF16Operands && this.#device.info.arithmetic === "f16";
  }

  /**
   * The form of an attention: the tuned one for its head width, else the device's default. The
   * tuned one is left out where it needs operands in f16 that are not allowed, or, tuned in f16
   * arithmetic, too much workgroup memory in f32.
   *
   * @param options.allowF16Operands whether q, k and v may be rounded to f16, which f16 arithmetic
   *   and subgroup matrices require. Default: false
   */
  formFor(sizes: AttentionSizes, options: { readonly allowF16Operands?: boolean } = {}): AttentionForm {
    const { info, tuned } = this.#device, { attention = {} } = tuned, width = `${sizes.dim}`;
    const { allowF16Operands = false } = options, half = this.usesF16(options);
    if (Object.hasOwn(attention, width)) {
      const form = attention[width], isAllowed = allowF16Operands || form.path !== "matrix";
      if (isAllowed && unsupportedAttentionReason(info, sizes.dim, form, { half }) === undefined) return form;
    }
    // Software devices emulate matrices slowly.
    const usesMatrices = allowF16Operands && !isSoftware(this.#device);
    const onMatrices = usesMatrices ? attentionFormOn(info, "matrix", sizes) : undefined;
    if (onMatrices) return onMatrices;
    // Software devices take long to compile one-pass code for heads wider than 96.
    if (sizes.dim > widestOnePass || isSoftware(this.#device) && sizes.dim > 96 && !isLong(sizes)) {
      return { path: "staged" };
    }
    return (isSoftware(this.#device) ? attentionFormOn(info, "subgroup", sizes) : undefined) ??
      attentionFormOn(info, "workgroup", sizes, { half }) ?? { path: "staged" };
  }
}
