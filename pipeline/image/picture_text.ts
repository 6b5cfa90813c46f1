/** Text in pictures of either format. */

import { checkBytes, ImageError } from "./errors.ts";
import { readJpegText } from "./jpeg_text.ts";
import { readPngText } from "./png_text.ts";

/**
 * Reads all text of a PNG or JPEG file, by keyword: see {@linkcode readPngText} and {@linkcode
 * readJpegText}.
 *
 * @throws {ImageError} for another kind of file, or a broken one
 */
export async function readPictureText(bytes: Uint8Array): Promise<Record<string, string>> {
  checkBytes(bytes);
  if (bytes[0] === 0x89 && bytes[1] === 0x50) return await readPngText(bytes);
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return readJpegText(bytes);
  throw new ImageError("Cannot read the text of a picture as the file is neither PNG nor JPEG");
}
