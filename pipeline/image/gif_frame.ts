/**
 * Decodes the first frame of GIF files. The decoder is loaded when it is needed.
 *
 * @module
 */
import { GifReader } from "omggif";
import { ImageError } from "./errors.ts";

/**
 * The RGBA bytes of a GIF's first frame. The decoder prints warnings to the console about codes
 * that do not fit the frame's size, and leaves the rest of the frame blank: they are errors here.
 *
 * @throws {ImageError} if the codes make more or fewer pixels than the frame has
 */
export function readGif(bytes: Uint8Array): { data: Uint8Array; width: number; height: number } {
  let warnings = 0;
  const { log } = console;
  console.log = () => void warnings++; // nothing else runs meanwhile
  try {
    const reader = new GifReader(bytes);
    const { width, height } = reader;
    const data = new Uint8Array(height * width * 4);
    reader.decodeAndBlitFrameRGBA(0, data);
    if (warnings === 0) return { data, width, height };
  } finally {
    console.log = log;
  }
  throw new ImageError(
    "Cannot decode the GIF file as its data make another number of pixels than its first frame has: " +
      "it is damaged or cut",
  );
}
