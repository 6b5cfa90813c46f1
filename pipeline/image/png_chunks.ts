/**
 * The chunks that a PNG file consists of.
 *
 * Source: Portable Network Graphics, section 5 (chunks) and annex D (CRC).
 *
 * @module
 */
import { ImageError } from "./errors.ts";

/** The bytes that every PNG file begins with. */
export const signature: readonly number[] = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** Length, type and CRC of a chunk. */
export const chunkOverheadBytes = 12;

/** A chunk of a PNG file. */
export interface Chunk {
  readonly type: string;
  readonly data: Uint8Array;
  /** The whole chunk with length, type and CRC. */
  readonly bytes: Uint8Array;
}

/**
 * Splits a PNG into chunks, from IHDR to IEND.
 *
 * @throws {ImageError} if a chunk is cut, a checksum is wrong, the first chunk is no IHDR, or a
 *   chunk stands twice that stands once by the format
 */
export function chunksOf(png: Uint8Array): Chunk[] {
  if (signature.some((byte, i) => png[i] !== byte)) {
    throw new ImageError("Cannot read the PNG file as the file does not begin with the PNG signature");
  }
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  const chunks: Chunk[] = [];
  let offset = signature.length;
  while (chunks.at(-1)?.type !== "IEND") {
    const length = offset + chunkOverheadBytes <= png.length ? view.getUint32(offset) : 0;
    const end = offset + chunkOverheadBytes + length;
    if (end > png.length) {
      throw new ImageError(
        `Cannot read the PNG file as the file ends inside a chunk: byte ${end} is needed, the file has ${png.length}`,
        { expected: end, actual: png.length },
      );
    }
    const type = latin1(png.subarray(offset + 4, offset + 8));
    const sum = crc32(png.subarray(offset + 4, end - 4));
    if (sum !== view.getUint32(end - 4)) {
      throw new ImageError(`Cannot read the PNG file as the checksum of chunk ${type} at byte ${offset} is wrong`, {
        expected: sum,
        actual: view.getUint32(end - 4),
      });
    }
    chunks.push({ type, data: png.subarray(offset + 8, end - 4), bytes: png.subarray(offset, end) });
    offset = end;
  }
  if (chunks[0].type !== "IHDR") {
    throw new ImageError(`Cannot read the PNG file as the first chunk is ${chunks[0].type}, not IHDR`);
  }
  // Decoders take the last of several, whose size nobody has checked.
  const once = ["IHDR", "PLTE"].find((type) => chunks.filter((chunk) => chunk.type === type).length > 1);
  if (once !== undefined) throw new ImageError(`Cannot read the PNG file as it holds more than one chunk ${once}`);
  return chunks;
}

/** A chunk with its length and CRC. */
export function makeChunk(type: string, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(chunkOverheadBytes + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(fromLatin1(type), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

/** Arrays of bytes, one after the other. */
export function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((bytes, part) => bytes + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

/** The bytes of a text, of which each character has one. */
export function fromLatin1(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** CRC-32 with the polynomial of PNG, reflected. */
export function crc32(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = crcTable[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

/** TextDecoder("latin1") means windows-1252, which maps the bytes 0x80 to 0x9f differently. */
export function latin1(data: Uint8Array): string {
  let text = "";
  for (let start = 0; start < data.length; start += 4096) {
    text += String.fromCharCode(...data.subarray(start, start + 4096));
  }
  return text;
}
