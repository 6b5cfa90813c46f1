import { type AttentionForm, attentionFormOn, isLong } from "../attention/form.ts";
import type { AttentionSizes } from "../attention/sizes.ts";
import { isSoftware, type PolicyDevice } from "./device.ts";

/**
 * Largest head width of one-pass attention. An invocation holds the results of its queries in
 * registers, and wider heads would spill. On software devices the code of heads wider than 96 pays
 * only where it runs long.
 */
export const widestOnePass = 160;

/** The form of attention. */
export class AttentionPolicy {
  readonly #device: PolicyDevice;

  /** @param device whose choices these are */
  constructor(device: PolicyDevice) {
    this.#device = device;
  }

  /** The form of an attention: the tuned one for its head width, else the device's default. */
  formFor(sizes: AttentionSizes): AttentionForm {
    const { attention = {} } = this.#device.tuned, width = `${sizes.dim}`;
    if (Object.hasOwn(attention, width)) return attention[width];
    if (sizes.dim > widestOnePass || isSoftware(this.#device) && sizes.dim > 96 && !isLong(sizes)) {
      return { path: "staged" };
    }
    return (isSoftware(this.#device) ? attentionFormOn(this.#device.info, "subgroup", sizes) : undefined) ??
      attentionFormOn(this.#device.info, "workgroup", sizes) ?? { path: "staged" };
  }
}
