/**
 * Pictures as images of the jimp library. It is large, so that modules load this file when they
 * need it.
 *
 * @module
 */
import { Jimp } from "jimp";
import { inspectAs } from "../../engine/inspect.ts";
import { checkPixels, type Picture } from "./rgb_pixels.ts";

/**
 * An image of the jimp library: `image.bitmap` holds its RGBA bytes, `await image.write("a.png")`
 * saves it.
 */
export type JimpImage = InstanceType<typeof import("jimp")["Jimp"]> & {
  /** Writes the picture in the format that the path's ending names. */
  write(path: string): Promise<void>;
};

/** Converts a picture to an opaque jimp image. */
export function toJimp(picture: Picture): JimpImage {
  const { data, width, height } = checkPixels(picture);
  const rgba = new Uint8Array(height * width * 4).fill(255);
  for (let pixel = 0; pixel < height * width; pixel++) {
    rgba[4 * pixel] = data[3 * pixel];
    rgba[4 * pixel + 1] = data[3 * pixel + 1];
    rgba[4 * pixel + 2] = data[3 * pixel + 2];
  }
  const image = Jimp.fromBitmap({ data: rgba, width, height }) as JimpImage;
  inspectAs(image, () => `JimpImage ${image.bitmap.width} × ${image.bitmap.height}`);
  return image;
}

/** Decodes an image file of a format that jimp knows. */
export async function readJimp(bytes: ArrayBuffer): Promise<JimpImage> {
  return await Jimp.fromBuffer(bytes) as JimpImage;
}
