/**
 * Pictures in between, without decoding latents: each latent pixel becomes one pixel by an affine
 * map, which is fitted to the model's own autoencoder.
 *
 * @module
 */

import { Tensor } from "../engine/tensor.ts";
import { type Picture, pictureFromFloats } from "../pipeline/image/picture.ts";
import type { PreviewDecoder } from "../pipeline/image/preview.ts";
import { TorchGenerator } from "../schedulers/mod.ts";

/** The latents that the map is fitted to: B pictures of side · side, equal in patches. */
const sample = { batch: 2, side: 16, patch: 4 };

/** The parts of a pipeline that a preview needs. */
export interface PreviewModel {
  readonly vae: PreviewDecoder & { readonly spatialScale: number };
}

/** Red, green and blue of a latent pixel z: M z + m, as rows of [M | m]ᵀ, channels first. */
type ColorMap = readonly (readonly [number, number, number])[];

/** Draws previews of one model. The map is fitted at the first one. */
export class LatentPreview {
  readonly #model: PreviewModel;
  #map: Promise<ColorMap> | undefined;

  constructor(model: PreviewModel) {
    this.#model = model;
  }

  /**
   * The preview of latents [1, C, h, w], as a picture of w × h.
   *
   * @param scale factor of the latents: the `inputScale` of sigma-based samplers
   */
  async draw(latents: Tensor, scale: number): Promise<Picture> {
    const [, channels, height, width] = latents.dims(4);
    this.#map ??= fitColors(latents, this.#model.vae);
    const [map, values] = await Promise.all([this.#map, latents.data()]);
    const pixels = height * width;
    const rgb = new Float32Array(3 * pixels); // [h, w, 3]
    for (let pixel = 0; pixel < pixels; pixel++) {
      for (let color = 0; color < 3; color++) {
        let sum = map[channels][color];
        for (let c = 0; c < channels; c++) sum += scale * values[c * pixels + pixel] * map[c][color];
        rgb[3 * pixel + color] = (1 + sum) / 2;
      }
    }
    return pictureFromFloats(rgb, { width, height });
  }
}

/**
 * Fits the map by least squares: normal noise that is constant in patches, and the mean colors in
 * −1…1 of what the autoencoder makes of each latent pixel.
 */
async function fitColors(like: Tensor, vae: PreviewModel["vae"]): Promise<ColorMap> {
  const { gpu } = like;
  const [, channels] = like.dims(4);
  const { batch, side, patch } = sample;
  const patches = side / patch, pixels = side * side;
  const noise = new TorchGenerator(0).randn([batch * channels * patches * patches]);
  const latents = Float32Array.from({ length: batch * channels * pixels }, (_, i) => {
    const [plane, y, x] = [Math.floor(i / pixels), Math.floor(i % pixels / side), i % side];
    return noise[(plane * patches + Math.floor(y / patch)) * patches + Math.floor(x / patch)];
  });
  const scaled = latents.map((value) => value / vae.config.scalingFactor);
  using decoded = gpu.scope(() => vae.decode(Tensor.from(gpu, scaled, [batch, channels, side, side])));
  const colors = await decoded.data(); // [B, 3, side · scale, side · scale]
  const unknowns = channels + 1;
  // The normal equations [ZᵀZ | ZᵀY] of rows z = (latents, 1).
  const system = Array.from({ length: unknowns }, () => new Float64Array(unknowns + 3));
  for (let b = 0; b < batch; b++) {
    for (let pixel = 0; pixel < pixels; pixel++) {
      const z = Array.from({ length: channels }, (_, c) => latents[(b * channels + c) * pixels + pixel]);
      const row = [...z, 1, ...[0, 1, 2].map((color) => meanColor(colors, { plane: 3 * b + color, pixel }, vae))];
      for (let i = 0; i < unknowns; i++) {
        for (let j = 0; j < row.length; j++) system[i][j] += row[i] * row[j];
      }
    }
  }
  return solved(system).map((row) => [row[0], row[1], row[2]]);
}

/** The mean over the block of pixels that a latent pixel stands for. */
function meanColor(
  colors: Float32Array,
  { plane, pixel }: { plane: number; pixel: number },
  { spatialScale: scale }: PreviewModel["vae"],
): number {
  const width = sample.side * scale;
  const [y, x] = [Math.floor(pixel / sample.side) * scale, pixel % sample.side * scale];
  let sum = 0;
  for (let dy = 0; dy < scale; dy++) {
    for (let dx = 0; dx < scale; dx++) sum += colors[(plane * width + y + dy) * width + x + dx];
  }
  return sum / scale ** 2;
}

/** The right sides of a positive definite system, solved by elimination in place. */
function solved(system: Float64Array[]): Float64Array[] {
  const n = system.length;
  for (let i = 0; i < n; i++) {
    const pivot = system[i][i];
    for (let j = i; j < system[i].length; j++) system[i][j] /= pivot;
    for (let k = 0; k < n; k++) {
      const factor = k === i ? 0 : system[k][i];
      for (let j = i; factor !== 0 && j < system[k].length; j++) system[k][j] -= factor * system[i][j];
    }
  }
  return system.map((row) => row.slice(n));
}
