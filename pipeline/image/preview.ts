/**
 * Previews of latents without the autoencoder: a linear map from latents to small, approximate
 * pictures.
 *
 * @module
 */

import { ShapeError } from "../../engine/errors.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { linearCombination } from "../../kernels/shape/linear_combination.ts";
import { type Picture, pictureFromFloats } from "./picture.ts";

/** The RGB contribution of each latent channel, per unit, for colors in −1…1. */
export type LatentFactors = readonly (readonly [red: number, green: number, blue: number])[];

/**
 * Fitted to Stable Diffusion 1.4's autoencoder by Kevin Turner, "Decoding latents to RGB without
 * upscaling" (discuss.huggingface.co/t/23204). Valid for 1.x and 2.x, which share one latent space.
 * Other autoencoders need their own factors.
 */
export const stableDiffusionLatentFactors: LatentFactors = [
  [0.298, 0.207, 0.208],
  [0.187, 0.286, 0.173],
  [-0.158, 0.189, 0.264],
  [-0.184, -0.271, -0.473],
];

/**
 * Maps latents to pictures linearly: rgb = (1 + scale · Σ_c latent_c · factor_c) / 2. Each latent
 * position gives one pixel, so a preview has an eighth of the final size. During denoising,
 * previews show the noise that the latents still contain.
 *
 * ```ts
 * await pipe.generate("a rose", {
 *   callbackSteps: 5,
 *   callback: async (step, _timestep, latents) => {
 *     const [picture] = await previewFromLatents(latents);
 *     await Deno.writeFile(`step_${step}.png`, await encodePicture(picture, "png"));
 *   },
 * });
 * ```
 *
 * @param latents [B, C, h, w]
 * @param options.factors one row for each of the C channels. Default: those of Stable Diffusion 1.x
 *   and 2.x
 * @param options.scale factor of the latents. Sigma-based samplers (Euler, Heun, LMS) need their
 *   current `inputScale`, because their latents are larger by 1/`inputScale`. Default: 1
 * @param options.vae decodes the latents instead, at full size; an `AutoencoderTiny` (TAESD) is
 *   made for it. It stays the caller's
 * @throws {ShapeError} if the number of latent channels differs from the number of factors
 */
export async function previewFromLatents(
  latents: Tensor,
  options: { factors?: LatentFactors; scale?: number; vae?: PreviewDecoder } = {},
): Promise<Picture[]> {
  const { factors = stableDiffusionLatentFactors, scale = 1, vae } = options;
  if (vae) return await decodedPreview(latents, scale, vae);
  const [batch, channels, height, width] = latents.dims(4);
  if (channels !== factors.length) {
    throw new ShapeError(
      `Cannot preview latents [${
        latents.shape.join(", ")
      }] as there are factors for ${factors.length} channels, not ${channels}`,
      [latents.shape],
    );
  }
  const values = await latents.data(); // [B, C, h, w]
  const pixels = height * width;
  return Array.from({ length: batch }, (_, b) => {
    const rgb = new Float32Array(3 * pixels); // [h, w, 3]
    for (let pixel = 0; pixel < pixels; pixel++) {
      for (let color = 0; color < 3; color++) {
        let sum = 0;
        factors.forEach((factor, c) => sum += values[(b * channels + c) * pixels + pixel] * factor[color]);
        rgb[3 * pixel + color] = (1 + scale * sum) / 2;
      }
    }
    return pictureFromFloats(rgb, { width, height });
  });
}

/** An autoencoder, as far as previews need it. */
export interface PreviewDecoder {
  /** Its configuration. */
  readonly config: { readonly scalingFactor: number };
  /** Latents [B, C, h, w], divided by the scaling factor, to pictures [B, 3, H, W] in −1…1. */
  decode(latents: Tensor): Tensor;
}

/** Decodes latents to pictures by an autoencoder. */
async function decodedPreview(latents: Tensor, scale: number, vae: PreviewDecoder): Promise<Picture[]> {
  const coefficient = scale / vae.config.scalingFactor;
  using decoded = latents.gpu.scope(() => vae.decode(linearCombination([{ tensor: latents, coefficient }])));
  const [batch, , height, width] = decoded.dims(4);
  const planes = await decoded.data(); // [B, 3, H, W]
  const pixels = height * width;
  return Array.from({ length: batch }, (_, b) => {
    const rgb = Float32Array.from(
      { length: 3 * pixels },
      (_, i) => planes[(3 * b + i % 3) * pixels + Math.floor(i / 3)] / 2 + 0.5,
    );
    return pictureFromFloats(rgb, { width, height });
  });
}
