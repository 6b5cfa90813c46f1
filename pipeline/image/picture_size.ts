/** The size of a picture by its file's header, before anything is decoded. */

import { jpegSegments } from "./jpeg_text.ts";

/**
 * Width and height in pixels as the header of a PNG, JPEG, GIF or BMP file says; undefined for
 * other files and broken headers.
 *
 * Sources: PNG, 11.2.2 (IHDR); ITU-T T.81, B.2.2 (frame header); GIF89a, 18; BITMAPINFOHEADER.
 */
export function pictureSize(bytes: Uint8Array): { width: number; height: number } | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const begins = (...start: number[]) => start.every((byte, i) => bytes[i] === byte);
  if (begins(0x89, 0x50, 0x4e, 0x47) && bytes.length >= 24) {
    return { width: view.getUint32(16), height: view.getUint32(20) };
  }
  if (begins(0x47, 0x49, 0x46) && bytes.length >= 10) {
    return { width: view.getUint16(6, true), height: view.getUint16(8, true) };
  }
  if (begins(0x42, 0x4d) && bytes.length >= 26) {
    return { width: Math.abs(view.getInt32(18, true)), height: Math.abs(view.getInt32(22, true)) };
  }
  return begins(0xff, 0xd8) ? jpegSize(bytes) : undefined;
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
