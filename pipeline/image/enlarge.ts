import type { Picture } from "./picture.ts";

/**
 * Enlarges a picture by a whole factor; each pixel becomes a square of `factor` × `factor` pixels.
 */
export function enlargePicture({ data, width, height }: Picture, factor: number): Picture {
  const large = { data: new Uint8Array(data.length * factor ** 2), width: width * factor, height: height * factor };
  for (let y = 0; y < large.height; y++) {
    for (let x = 0; x < large.width; x++) {
      const from = 3 * (Math.floor(y / factor) * width + Math.floor(x / factor));
      large.data.set(data.subarray(from, from + 3), 3 * (y * large.width + x));
    }
  }
  return large;
}
