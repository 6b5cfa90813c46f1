/**
 * Pictures as bytes: conversion from the VAE's output, and image file encoding and decoding.
 *
 * @module
 */
import { encode as encodePng } from "fast-png";
import { checkBmpPixels } from "./bmp_pixels.ts";
import { checkBytes, ImageError } from "./errors.ts";
import type { JimpImage } from "./jimp_image.ts";
import { withJpegText } from "./jpeg_text.ts";
import { foreignPicture, pictureSize } from "./picture_size.ts";
import { checkPngPixels } from "./png_pixels.ts";
import { withPngText } from "./png_text.ts";
import { checkPixels, type Picture } from "./rgb_pixels.ts";

export type { JimpImage, Picture };

/** The supported output formats. */
export type PictureFormat = "png" | "jpeg";

/**
 * Converts values [H, W, 3] in 0…1 to a picture: round(255 x), halves to even, as diffusers'
 * `numpy_to_pil`. Values outside 0…1 are clamped.
 *
 * @throws {ImageError} if the number of values is not height × width × 3, or a value is NaN
 */
export function pictureFromFloats(values: Float32Array, size: { width: number; height: number }): Picture {
  const { width, height } = size;
  const expected = height * width * 3;
  if (values.length !== expected) {
    throw new ImageError(
      `Cannot make a ${width} × ${height} picture from ${values.length} values: height × width × 3 = ${expected} are required`,
      { expected, actual: values.length },
    );
  }
  // Uint8ClampedArray clamps, and rounds halves to even, by specification. `fround` rounds the
  // product to f32 as numpy does.
  const data = new Uint8ClampedArray(expected);
  for (let i = 0; i < expected; i++) {
    if (Number.isNaN(values[i])) {
      throw new ImageError(
        `Cannot make a picture from values that are not numbers: NaN at row ${Math.floor(i / (3 * width))}, ` +
          `column ${Math.floor(i / 3) % width}`,
        { actual: NaN },
      );
    }
    data[i] = Math.fround(values[i] * 255);
  }
  return { data: new Uint8Array(data.buffer), width, height };
}

/** Converts values [B, H, W, 3] in 0…1 to B pictures. See {@linkcode pictureFromFloats}. */
export function picturesFromFloats(values: Float32Array, size: { width: number; height: number }): Picture[] {
  const perPicture = size.height * size.width * 3;
  if (!(perPicture > 0) || values.length % perPicture !== 0) {
    throw new ImageError(
      `Cannot split ${values.length} values into pictures of ${size.width} × ${size.height}, which take ${perPicture} each`,
      { expected: perPicture, actual: values.length },
    );
  }
  return Array.from(
    { length: values.length / perPicture },
    (_, i) => pictureFromFloats(values.subarray(i * perPicture, (i + 1) * perPicture), size),
  );
}

/** Converts a jimp image to a picture. Alpha is dropped, as by PIL's `convert("RGB")`. */
export function fromJimp(image: Pick<JimpImage, "bitmap">): Picture {
  return fromRgba(image.bitmap);
}

/** Drops alpha. */
function fromRgba({ data: rgba, width, height }: Pick<Picture, "width" | "height"> & { data: ArrayLike<number> }) {
  const data = new Uint8Array(height * width * 3);
  for (let pixel = 0; pixel < height * width; pixel++) {
    data[3 * pixel] = rgba[4 * pixel];
    data[3 * pixel + 1] = rgba[4 * pixel + 1];
    data[3 * pixel + 2] = rgba[4 * pixel + 2];
  }
  return { data, width, height };
}

/**
 * The format of a file name's extension: .png, .jpg or .jpeg.
 *
 * @throws {ImageError} for any other extension, or none
 */
export function formatOfPath(path: string): PictureFormat {
  const extension = /\.([^./\\]*)$/.exec(path)?.[1].toLowerCase();
  if (extension === "png") return "png";
  if (extension === "jpg" || extension === "jpeg") return "jpeg";
  if (extension === "webp") {
    throw new ImageError(`Cannot write a picture to ${path} as WebP is not supported: name it .png, .jpg or .jpeg`);
  }
  throw new ImageError(`Cannot write a picture to ${path} as its name must end in .png, .jpg or .jpeg`);
}

/**
 * Encodes a picture or a jimp image as the bytes of an image file.
 *
 * @param options.text text entries: see {@linkcode withPngText} and {@linkcode withJpegText}
 * @param options.quality quality of JPEG files, from 0 to 100. Default: 95.
 *
 * @example
 * ```ts
 * const bytes = await encodePicture(picture, formatOfPath(path), { text: { parameters } });
 * ```
 */
export async function encodePicture(
  picture: Picture | JimpImage,
  format: PictureFormat,
  options: { text?: Record<string, string>; quality?: number } = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const { text = {}, quality = 95 } = options;
  if (format === "jpeg") {
    const image = "bitmap" in picture ? picture : (await import("./jimp_image.ts")).toJimp(picture);
    return withJpegText(new Uint8Array(await image.getBuffer("image/jpeg", { quality })), text);
  }
  const { data, width, height } = "bitmap" in picture ? fromJimp(picture) : checkPixels(picture);
  return withPngText(encodePng({ data, width, height, channels: 3, depth: 8 }), text);
}

/** Pixels of a picture that is decoded, at most: its RGBA bytes take 256 MiB. */
const mostPixels = 2 ** 26;

/** The longest side of a picture that is decoded: decoders keep an entry for each row. */
const longestSide = 2 ** 16;

/**
 * No format packs more pixels into a byte: a code of GIF has 12 bits for 4095 pixels. The pixels of
 * PNG and BMP files are counted.
 */
const mostPixelsPerByte = { png: Infinity, jpeg: 4096, gif: 4096, bmp: 8 } as const;

/**
 * Decodes the bytes of a PNG, JPEG, BMP or GIF file (its first frame).
 *
 * @throws {ImageError} if the format is another one, the file is damaged, its pixels are too few or
 *   too many, a BMP is run-length encoded or of 4 bits and odd width, or the header claims more
 *   than 2²⁶ pixels, a side above 2¹⁶, or more than so many bytes can hold
 */
export async function decodePicture(bytes: Uint8Array): Promise<Picture> {
  checkBytes(bytes);
  const size = pictureSize(bytes);
  if (!size) {
    const what = foreignPicture(bytes);
    throw new ImageError(
      `Cannot decode the picture as ${
        what === undefined ? "it is damaged or no picture" : `${what} is not supported: convert it to PNG`
      }; supported: PNG, JPEG, BMP and GIF`,
    );
  }
  if (size.width * size.height > mostPixels) {
    throw new ImageError(
      `Cannot decode a picture of ${size.width} × ${size.height} as it may have at most ${mostPixels} pixels`,
      { expected: mostPixels, actual: size.width * size.height },
    );
  }
  const longest = Math.max(size.width, size.height);
  if (longest > longestSide) {
    throw new ImageError(
      `Cannot decode a picture of ${size.width} × ${size.height} as a side may have at most ${longestSide} pixels`,
      { expected: longestSide, actual: longest },
    );
  }
  const fitting = mostPixelsPerByte[size.format] * bytes.length;
  if (size.width === 0 || size.height === 0 || size.width * size.height > fitting) {
    throw new ImageError(
      `Cannot decode a picture of ${size.width} × ${size.height} as its ${bytes.length} bytes cannot hold it: ` +
        "it is damaged or cut",
      { actual: bytes.length },
    );
  }
  // Copied, because jimp reads the whole ArrayBuffer and ignores the view's offset.
  const checked = size.format === "png"
    ? await checkPngPixels(bytes)
    : size.format === "bmp"
    ? checkBmpPixels(bytes)
    : bytes.slice();
  try {
    if (size.format === "gif") return fromRgba((await import("./gif_frame.ts")).readGif(checked));
    return fromJimp(await (await import("./jimp_image.ts")).readJimp(checked.buffer));
  } catch (cause) {
    if (cause instanceof ImageError) throw cause;
    throw new ImageError("Cannot decode the picture as its bytes are not a complete PNG, JPEG, BMP or GIF file", {
      cause,
    });
  }
}
