/** The family of models that an adapter file is for, as far as its metadata states it. */

/** Stable Diffusion 1.x and 2.x, whose adapters differ in shapes. */
export const older = "Stable Diffusion 1.x or 2.x";

/** Stable Diffusion XL. */
export const xl = "Stable Diffusion XL";

/** A model's family in messages, by whether it has a second text encoder. */
export function familyOf(secondEncoder: unknown): typeof older | typeof xl {
  return secondEncoder === undefined ? older : xl;
}

/**
 * The family that an adapter's metadata states: `modelspec.architecture` of Stability's model
 * specification ("stable-diffusion-xl-v1-base/lora"), or kohya's `ss_base_model_version`
 * ("sdxl_base_v1-0", "sd_v1"). `undefined` if they state none that is known.
 */
export function statedFamily(metadata: Readonly<Record<string, string>>): typeof older | typeof xl | undefined {
  for (const key of ["modelspec.architecture", "ss_base_model_version"]) {
    const text = metadata[key] ?? "";
    if (/^(stable-diffusion-xl|sdxl)/.test(text)) return xl;
    if (/^(stable-diffusion-v|sd_v?)[12]/.test(text)) return older;
  }
  return undefined;
}
