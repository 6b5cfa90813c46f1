/** The size of a picture by its file's header, before anything is decoded. */

import { jpegSegments } from "./jpeg_text.ts";

/** Format and size of a picture. */
export interface PictureSize {
  readonly format: "png" | "jpeg" | "gif" | "bmp";
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
}

/**
 * Width and height in pixels as the header of a PNG, JPEG, GIF or BMP file says; undefined for
 * other files and broken headers. A GIF is as large as its canvas and its largest frame.
 *
 * Sources: PNG, 11.2.2 (IHDR); ITU-T T.81, B.2.2 (frame header); GIF89a, 18 and 20;
 * BITMAPINFOHEADER.
 */
export function pictureSize(bytes: Uint8Array): PictureSize | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (begins(bytes, 0x89, 0x50, 0x4e, 0x47) && bytes.length >= 24) {
    return { format: "png", width: view.getUint32(16), height: view.getUint32(20) };
  }
  if (begins(bytes, 0x47, 0x49, 0x46, 0x38) && bytes.length >= 13) return { format: "gif", ...gifSize(view) };
  if (begins(bytes, 0x42, 0x4d) && bytes.length >= 26) {
    const [width, height] = [18, 22].map((at) => Math.abs(view.getInt32(at, true)));
    return { format: "bmp", width, height };
  }
  const size = begins(bytes, 0xff, 0xd8) ? jpegSize(bytes) : undefined;
  return size && { format: "jpeg", ...size };
}

/** The name of a picture format that is recognized and not decoded. */
export function foreignPicture(bytes: Uint8Array): string | undefined {
  if (begins(bytes, 0x49, 0x49, 0x2a, 0) || begins(bytes, 0x4d, 0x4d, 0, 0x2a)) return "TIFF";
  const word = (at: number) => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (word(0) === "RIFF" && word(8) === "WEBP") return "WebP";
  if (word(4) !== "ftyp") return undefined;
  return /^avi[fs]$/.test(word(8)) ? "AVIF" : /^(hei[cx]|mif1)$/.test(word(8)) ? "HEIF" : undefined;
}

function begins(bytes: Uint8Array, ...start: number[]): boolean {
  return start.every((byte, i) => bytes[i] === byte);
}

function gifSize(view: DataView): { width: number; height: number } {
  let width = view.getUint16(6, true), height = view.getUint16(8, true);
  const tableBytes = (flags: number) => flags & 0x80 ? 3 * 2 ** ((flags & 7) + 1) : 0;
  let at = 13 + tableBytes(view.getUint8(10));
  const skipBlocks = () => {
    while (at < view.byteLength && view.getUint8(at) !== 0) at += 1 + view.getUint8(at);
    at++;
  };
  while (at + 10 <= view.byteLength) {
    const kind = view.getUint8(at);
    if (kind === 0x21) at += 2; // an extension and its label
    else if (kind === 0x2c) {
      width = Math.max(width, view.getUint16(at + 5, true));
      height = Math.max(height, view.getUint16(at + 7, true));
      at += 11 + tableBytes(view.getUint8(at + 9)); // with the code size
    } else break;
    skipBlocks();
  }
  return { width, height };
}

function jpegSize(bytes: Uint8Array): { width: number; height: number } | undefined {
  try {
    for (const { marker, data } of jpegSegments(bytes)) {
      // SOF0 … SOF15, without the markers of tables and extensions among them
      const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
      if (isFrame && data.length >= 5) return { height: data[1] * 256 + data[2], width: data[3] * 256 + data[4] };
    }
  } catch {
    // the decoder says what is wrong
  }
  return undefined;
}
