/** Pictures of latents without the autoencoder: rough and small, and next to free. */

import { ShapeError } from "../../engine/errors.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { type Picture, pictureFromFloats } from "./picture.ts";

/** What one unit of each latent channel adds to red, green and blue, in −1…1. */
export type LatentFactors = readonly (readonly [red: number, green: number, blue: number])[];

/**
 * Fitted to Stable Diffusion 1.4's autoencoder by Kevin Turner, "Decoding latents to RGB without
 * upscaling" (discuss.huggingface.co/t/23204); good for 1.x and 2.x, whose latent spaces are one.
 * Other autoencoders need their own.
 */
export const stableDiffusionLatentFactors: LatentFactors = [
  [0.298, 0.207, 0.208],
  [0.187, 0.286, 0.173],
  [-0.158, 0.189, 0.264],
  [-0.184, -0.271, -0.473],
];

/**
 * Pictures of latents by a linear map: rgb = (1 + scale · Σ_c latent_c · factor_c) / 2, one pixel
 * for each place, an eighth of the final size. For callbacks: while denoising, latents still hold
 * noise, and so does the preview.
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
 * @param options.scale factor of the latents: samplers that count in sigmas (Euler, Heun, LMS) keep
 *   them 1/`inputScale` too large. Default: 1
 * @throws {ShapeError} when the latents have another number of channels than there are factors
 */
export async function previewFromLatents(
  latents: Tensor,
  options: { factors?: LatentFactors; scale?: number } = {},
): Promise<Picture[]> {
  const { factors = stableDiffusionLatentFactors, scale = 1 } = options;
  const [batch, channels, height, width] = latents.dims(4);
  if (channels !== factors.length) {
    throw new ShapeError(
      `Cannot preview latents [${
        latents.shape.join(", ")
      }] as there are factors for ${factors.length} channels: ${channels}`,
      [latents.shape],
    );
  }
  const values = await latents.data(); // [B, C, h, w]
  const pixels = height * width;
  return Array.from({ length: batch }, (_, b) => {
    const rgb = new Float32Array(3 * pixels); // [h, w, 3]
    for (let pixel = 0; pixel < pixels; pixel++) {
      for (let colour = 0; colour < 3; colour++) {
        let sum = 0;
        factors.forEach((factor, c) => sum += values[(b * channels + c) * pixels + pixel] * factor[colour]);
        rgb[3 * pixel + colour] = (1 + scale * sum) / 2;
      }
    }
    return pictureFromFloats(rgb, { width, height });
  });
}
