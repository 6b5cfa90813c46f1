import { ImageError } from "./errors.ts";
import type { Picture } from "./picture.ts";

/**
 * Arranges pictures of equal size edge to edge, row by row, as diffusers' `make_image_grid`.
 *
 * @param options.columns Default: the square root of the number of pictures, rounded up.
 * @throws {ImageError} if there is no picture, a picture's size differs from the first, or the
 *   number of columns is not a positive integer
 */
export function pictureGrid(pictures: readonly Picture[], options: { columns?: number } = {}): Picture {
  if (pictures.length === 0) throw new ImageError("Cannot arrange a grid of no pictures: give at least one");
  const columns = options.columns ?? Math.ceil(Math.sqrt(pictures.length));
  if (!Number.isInteger(columns) || columns < 1) {
    throw new ImageError(`Cannot arrange a grid of ${columns} columns: the number must be a whole number from 1 on`, {
      actual: columns,
    });
  }
  const { width, height } = pictures[0];
  const gridWidth = width * columns;
  const gridHeight = height * Math.ceil(pictures.length / columns);
  const data = new Uint8Array(gridWidth * gridHeight * 3).fill(255);
  pictures.forEach((picture, i) => {
    if (picture.width !== width || picture.height !== height) {
      throw new ImageError(
        `Cannot arrange picture ${i} of ${picture.width} × ${picture.height} in a grid: all must be ${width} × ${height}, as the first`,
        { expected: width, actual: picture.width },
      );
    }
    const left = (i % columns) * width;
    const top = Math.floor(i / columns) * height;
    for (let row = 0; row < height; row++) {
      const pixels = picture.data.subarray(row * width * 3, (row + 1) * width * 3);
      data.set(pixels, ((top + row) * gridWidth + left) * 3);
    }
  });
  return { data, width: gridWidth, height: gridHeight };
}
