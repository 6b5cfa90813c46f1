/**
 * Preprocessing of pictures for CLIP's vision models: resized, cropped and normalized, as
 * transformers' `CLIPImageProcessor` does.
 */

import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { openTree } from "../checkpoint/source/disk.ts";
import {
  type CLIPImageProcessorConfig,
  parseCLIPImageProcessorConfig,
} from "../checkpoint/diffusers/config/clip_image_processor.ts";
import { readConfig } from "../checkpoint/diffusers/config/fields.ts";
import type { Picture } from "./picture.ts";
import { checkPicture, resizeBicubic } from "./resize.ts";

/**
 * CLIP's image processor, bit-exact with `CLIPImageProcessor` of transformers 4.35: PIL's bicubic
 * resize, a center crop, then (factor · byte − mean) / std in f32.
 *
 * @example
 * ```ts
 * const folder = "stable-diffusion-v1-4/feature_extractor";
 * const extractor = await CLIPImageProcessor.fromPretrained(folder);
 * const pixelValues = extractor.preprocess(picture); // [1, 3, 224, 224]
 * ```
 */
export class CLIPImageProcessor {
  /** The configuration, as parsed. */
  readonly config: CLIPImageProcessorConfig;

  /** Creates a processor from a configuration. */
  constructor(config: CLIPImageProcessorConfig) {
    this.config = config;
  }

  /**
   * Reads a folder's `preprocessor_config.json`.
   *
   * @throws {CheckpointError} if the file is missing
   * @throws {ConfigError} if it configures another processor, or something that is not supported
   */
  static async fromPretrained(directory: string | URL | FileTree): Promise<CLIPImageProcessor> {
    const tree = await openTree(directory);
    return new CLIPImageProcessor(await readConfig(tree, "preprocessor_config.json", parseCLIPImageProcessorConfig));
  }

  /**
   * Converts a picture to pixel values.
   *
   * @returns [1, 3, H, W], with H and W as {@linkcode outputSize} returns them
   * @throws {ImageError} if the number of bytes does not match the picture's size
   */
  preprocess(picture: Picture): Float32Array<ArrayBuffer> {
    checkPicture(picture, "preprocess");
    const resized = this.config.resize === null ? picture : resizeBicubic(picture, this.#resizedSize(picture));
    return this.#normalized(centerCrop(resized, this.outputSize(picture)));
  }

  /**
   * The size of a picture's pixel values: that of the crop, or of the resized picture without one.
   */
  outputSize(picture: { width: number; height: number }): { width: number; height: number } {
    const { width, height } = this.config.crop ?? this.#resizedSize(picture);
    return { width, height };
  }

  /** The contents of `preprocessor_config.json`. */
  toJSON(): Record<string, unknown> {
    const { resize, crop, rescaleFactor, normalize } = this.config;
    return {
      crop_size: crop ?? undefined,
      do_center_crop: crop !== null,
      do_convert_rgb: true,
      do_normalize: normalize !== null,
      do_rescale: rescaleFactor !== null,
      do_resize: resize !== null,
      image_mean: normalize?.mean,
      image_processor_type: "CLIPImageProcessor",
      image_std: normalize?.std,
      resample: 3,
      rescale_factor: rescaleFactor ?? undefined,
      size: resize === null ? undefined : "shortestEdge" in resize ? { shortest_edge: resize.shortestEdge } : resize,
    };
  }

  #resizedSize({ width, height }: { width: number; height: number }): { width: number; height: number } {
    const { resize } = this.config;
    if (resize === null) return { width, height };
    if (!("shortestEdge" in resize)) return resize;
    const short = resize.shortestEdge;
    const long = Math.trunc(short * Math.max(width, height) / Math.min(width, height));
    return width <= height ? { width: short, height: long } : { width: long, height: short };
  }

  #normalized({ data, width, height }: Picture): Float32Array<ArrayBuffer> {
    const { rescaleFactor, normalize } = this.config;
    const values = new Float32Array(3 * height * width);
    for (let channel = 0; channel < 3; channel++) {
      // A table of the 256 byte values, rounded to f32 after each operation as in numpy.
      const table = Float32Array.from({ length: 256 }, (_, byte) => {
        const scaled = Math.fround(byte * (rescaleFactor ?? 1));
        if (normalize === null) return scaled;
        return Math.fround(scaled - Math.fround(normalize.mean[channel])) / Math.fround(normalize.std[channel]);
      });
      for (let pixel = 0; pixel < height * width; pixel++) {
        values[channel * height * width + pixel] = table[data[3 * pixel + channel]];
      }
    }
    return values; // [3, H, W]
  }
}

/**
 * The center of a picture, padded with black where the picture is smaller. If the difference is
 * odd, one more row (column) is cropped at the bottom (right), or padded at the top (left).
 */
function centerCrop(picture: Picture, { width, height }: { width: number; height: number }): Picture {
  if (width === picture.width && height === picture.height) return picture;
  const top = Math.floor((picture.height - height) / 2);
  const left = Math.floor((picture.width - width) / 2);
  const data = new Uint8Array(height * width * 3);
  const from = Math.max(left, 0);
  const end = Math.min(left + width, picture.width);
  for (let y = Math.max(-top, 0); y < Math.min(height, picture.height - top); y++) {
    const row = (y + top) * picture.width;
    data.set(picture.data.subarray((row + from) * 3, (row + end) * 3), (y * width + from - left) * 3);
  }
  return { data, width, height };
}
