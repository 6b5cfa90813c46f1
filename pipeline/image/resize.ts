/**
 * Resizing that is bit-exact with PIL: an antialiased bicubic filter in 8-bit fixed-point
 * arithmetic. Models whose training images were resized by PIL need the same filter.
 */

import { ImageError } from "./errors.ts";
import type { Picture } from "./picture.ts";

/** Fraction bits of PIL's fixed-point weights: 32, minus 8 for pixels and 2 for overshoot. */
const precisionBits = 32 - 8 - 2;
const one = 2 ** precisionBits;

/** Radius of the filter in pixels; multiplied by the scale when downsampling. */
const support = 2;

/** The cubic convolution kernel with a = −1/2 (Keys 1981), in PIL's order of operations. */
function bicubic(x: number): number {
  const a = -0.5;
  const distance = Math.abs(x);
  if (distance < 1) return ((a + 2) * distance - (a + 3)) * distance * distance + 1;
  if (distance < 2) return (((distance - 5) * distance + 8) * distance - 4) * a;
  return 0;
}

/** The filter of one output pixel along one axis: Σ `weights[i]` · pixel `first + i`. */
interface Taps {
  readonly first: number;
  readonly weights: Int32Array;
}

function tapsOf(length: number, target: number): Taps[] {
  const scale = length / target;
  const stretch = Math.max(scale, 1);
  const reach = support * stretch;
  return Array.from({ length: target }, (_, index) => {
    const center = (index + 0.5) * scale;
    const first = Math.max(Math.trunc(center - reach + 0.5), 0);
    const end = Math.min(Math.trunc(center + reach + 0.5), length);
    const weights = Float64Array.from(
      { length: end - first },
      (_, i) => bicubic((i + first - center + 0.5) * (1 / stretch)),
    );
    const sum = weights.reduce((sum, weight) => sum + weight, 0);
    return {
      first,
      weights: Int32Array.from(weights, (weight) => {
        const fixed = weight / sum * one;
        return Math.trunc(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
      }),
    };
  });
}

/** Resizes along one axis. */
function resizeAxis(picture: Picture, axis: "width" | "height", length: number): Picture {
  if (picture[axis] === length) return picture;
  const size = { width: picture.width, height: picture.height, [axis]: length };
  const data = new Uint8ClampedArray(size.height * size.width * 3);
  const taps = tapsOf(picture[axis], length);
  // Lines run along the axis. `line` (source) and `targetLine` (result) are the bytes from one line
  // to the next, `step` the bytes from one pixel to the next within a line.
  const { lines, line, targetLine, step } = axis === "width"
    ? { lines: size.height, line: picture.width * 3, targetLine: length * 3, step: 3 }
    : { lines: size.width, line: 3, targetLine: 3, step: size.width * 3 };
  for (let l = 0; l < lines; l++) {
    taps.forEach(({ first, weights }, index) => {
      for (let channel = 0; channel < 3; channel++) {
        let sum = one / 2; // rounds to nearest
        let at = l * line + first * step + channel;
        for (const weight of weights) {
          sum += picture.data[at] * weight;
          at += step;
        }
        data[l * targetLine + index * step + channel] = sum >> precisionBits; // clamps to 0…255
      }
    });
  }
  return { ...size, data: new Uint8Array(data.buffer) };
}

/**
 * Resizes a picture as Pillow 13's `Image.resize(…, Resampling.BICUBIC)`: first along the rows,
 * then along the columns, with rounding to bytes in between. Columns come first if the height
 * shrinks by more than twice as many pixels as the width. (Older versions always resize rows first;
 * some bytes of such pictures then differ by one.) An axis of unchanged length is not filtered.
 *
 * @throws {ImageError} if a side is not a positive integer, or the number of bytes does not match
 *   the picture's size
 *
 * @example
 * ```ts
 * const thumbnail = resizeBicubic(picture, { width: 64, height: 64 });
 * ```
 */
export function resizeBicubic(picture: Picture, size: { width: number; height: number }): Picture {
  checkPicture(picture, "resize");
  const { width, height } = size;
  if (![width, height].every((side) => Number.isSafeInteger(side) && side >= 1)) {
    throw new ImageError(`Cannot resize a picture to ${width} × ${height} as sides must be whole numbers from 1 on`);
  }
  const isColumnsFirst = height < picture.height && picture.height - height > 2 * (picture.width - width);
  return isColumnsFirst
    ? resizeAxis(resizeAxis(picture, "height", height), "width", width)
    : resizeAxis(resizeAxis(picture, "width", width), "height", height);
}

/**
 * Checks that a picture has at least one pixel and height × width × 3 bytes.
 *
 * @param action The verb of the error message: "Cannot `action` a picture …".
 * @throws {ImageError}
 */
export function checkPicture({ data, width, height }: Picture, action: string): void {
  const isSized = [width, height].every((side) => Number.isSafeInteger(side) && side >= 1);
  if (isSized && data.length === height * width * 3) return;
  throw new ImageError(
    isSized
      ? `Cannot ${action} a picture of ${width} × ${height} as it must have height × width × 3 = ${
        height * width * 3
      } bytes: ${data.length} were given`
      : `Cannot ${action} a picture of ${width} × ${height} as its sides must be whole numbers from 1 on`,
    { expected: height * width * 3, actual: data.length },
  );
}
