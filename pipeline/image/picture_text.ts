/** Text in pictures of either format. */

import { checkBytes, ImageError } from "./errors.ts";
import { readJpegText } from "./jpeg_text.ts";
import { readPngText } from "./png_text.ts";

/**
 * The format of a picture that can hold text, by its first four bytes. No safetensors file begins
 * so: its header would be too long.
 */
export function formatOfStart(bytes: Uint8Array): "png" | "jpeg" | undefined {
  const [first, second, third, fourth] = bytes;
  if (first === 0x89 && second === 0x50 && third === 0x4e && fourth === 0x47) return "png";
  return first === 0xff && second === 0xd8 && third === 0xff ? "jpeg" : undefined;
}

/**
 * Reads all text of a PNG or JPEG file, by keyword: see {@linkcode readPngText} and {@linkcode
 * readJpegText}.
 *
 * @throws {ImageError} for another kind of file, or a broken one
 */
export async function readPictureText(bytes: Uint8Array): Promise<Record<string, string>> {
  checkBytes(bytes);
  const format = formatOfStart(bytes);
  if (format === "png") return await readPngText(bytes);
  if (format === "jpeg") return readJpegText(bytes);
  throw new ImageError("Cannot read the text of a picture as the file is neither PNG nor JPEG");
}
