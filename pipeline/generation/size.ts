/** The parts of a pipeline that determine the size of its pictures. */
export interface SizedModels {
  readonly unet: { readonly config: { readonly sampleSize: number | null } };
  readonly vae: { readonly spatialScale: number };
}

/**
 * Side in pixels of the square pictures that a model was trained on: `sample_size` × VAE scale
 * factor.
 */
export function naturalSize({ unet, vae }: SizedModels): number {
  return (unet.config.sampleSize ?? 64) * vae.spatialScale;
}
