/** Checks that a BMP file holds the pixels that its header claims. */

import { ImageError } from "./errors.ts";

/** Bytes of the file's header, before that of the picture. */
const fileHeaderBytes = 14;

/** Bits of a pixel. */
const depths: readonly number[] = [1, 4, 8, 16, 24, 32];

/** Compressions without compression: plain pixels, and those of given masks. */
const plain = 0, masked = 3;

/**
 * Checks the length and the form of a BMP's pixels. The decoder fills up what is missing, reads
 * from the end of the palette whatever the header says, and fails at two forms without a word.
 *
 * @returns the file with its pixels right behind its palette
 *
 * Source: BITMAPFILEHEADER and BITMAPINFOHEADER; rows end at multiples of 4 bytes.
 *
 * @throws {ImageError} if the file is damaged, has too few bytes, or is run-length encoded or of 4
 *   bits and odd width
 */
export function checkBmpPixels(bmp: Uint8Array): Uint8Array<ArrayBuffer> {
  const view = new DataView(bmp.buffer, bmp.byteOffset, bmp.byteLength);
  const headerBytes = view.getUint32(14, true);
  if (headerBytes < 40 || bmp.length < fileHeaderBytes + 40) throw damaged("its header is cut or of an old form");
  const width = view.getInt32(18, true), height = Math.abs(view.getInt32(22, true));
  const bits = view.getUint16(28, true), compression = view.getUint32(30, true);
  if (width < 0 || !depths.includes(bits)) throw damaged(`its header claims ${bits} bits for each of ${width} columns`);
  if (compression !== plain && compression !== masked) {
    throw unsupported(`its pixels are compressed (${compression})`);
  }
  if (bits === 4 && width % 2 === 1) throw unsupported("it has 4 bits a pixel and an odd width");

  const colors = view.getUint32(46, true) || (bits <= 8 ? 2 ** bits : 0);
  const maskBytes = headerBytes === 40 && compression === masked ? 12 : 0;
  const palettesEnd = fileHeaderBytes + headerBytes + maskBytes + 4 * colors;
  const start = view.getUint32(10, true) || palettesEnd;
  if (start < palettesEnd) throw damaged(`its pixels begin at byte ${start}, before its palette ends`);
  // The last row may go without the bytes that fill it up.
  const rowBytes = Math.ceil(width * bits / 8);
  const end = start + 4 * Math.ceil(rowBytes / 4) * (height - 1) + rowBytes;
  if (end > bmp.length) {
    throw new ImageError(
      `Cannot decode the BMP file as it ends at byte ${bmp.length} and its pixels at byte ${end}: it is cut`,
      { expected: end, actual: bmp.length },
    );
  }
  const file = new Uint8Array(palettesEnd + bmp.length - start);
  file.set(bmp.subarray(0, palettesEnd));
  file.set(bmp.subarray(start), palettesEnd);
  return file;
}

function damaged(reason: string): ImageError {
  return new ImageError(`Cannot decode the BMP file as ${reason}: it is damaged`);
}

function unsupported(reason: string): ImageError {
  return new ImageError(`Cannot decode the BMP file as ${reason}, which is not supported: convert it to PNG`);
}
