/** Conversions between the page's pixels and the library's pictures. @module */

import type { Picture } from "../pipeline/image/picture.ts";
import type { Pixels } from "./painter.ts";

/** A picture with an opaque fourth channel. */
export function withAlpha({ data, width, height }: Picture): Pixels {
  const pixels = new Uint8ClampedArray(width * height * 4).fill(255);
  for (let i = 0; i < width * height; i++) {
    for (let channel = 0; channel < 3; channel++) pixels[4 * i + channel] = data[3 * i + channel];
  }
  return { width, height, data: pixels };
}

/** Pixels without their fourth channel. */
export function withoutAlpha({ data, width, height }: Pixels): Picture {
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    for (let channel = 0; channel < 3; channel++) rgb[3 * i + channel] = data[4 * i + channel];
  }
  return { data: rgb, width, height };
}
