/** Pictures as bytes in memory. */
import { ImageError } from "./errors.ts";

/** An RGB picture, 8 bits a channel, rows from the top. */
export interface Picture {
  /** height × width × 3 bytes. */
  readonly data: Uint8Array;
  /** Width in pixels. */
  readonly width: number;
  /** Height in pixels. */
  readonly height: number;
}

/**
 * The picture itself.
 *
 * @throws {ImageError} if the number of bytes does not fit the size
 */
export function checkPixels(picture: Picture): Picture {
  const { data, width, height } = picture;
  if (data.length !== height * width * 3) {
    throw new ImageError(
      `Cannot convert a ${width} × ${height} picture of ${data.length} bytes: the size requires height × width × 3 = ${
        height * width * 3
      }`,
      { expected: height * width * 3, actual: data.length },
    );
  }
  return picture;
}
