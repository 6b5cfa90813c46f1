/**
 * Text inside JPEG files. `parameters` is the EXIF tag UserComment, which AUTOMATIC1111 and Civitai
 * read; every text is a comment segment (COM) `keyword NUL text` in UTF-8. Longer texts continue in
 * further segments of the same keyword.
 *
 * Sources: ITU-T T.81, annex B (segments); EXIF 2.32, sections 4.6.2 and 4.6.5 (UserComment).
 *
 * @module
 */
import { ImageError } from "./errors.ts";

const [SOI, APP0, APP1, COM, SOS, EOI] = [0xd8, 0xe0, 0xe1, 0xfe, 0xda, 0xd9];
/** The most bytes of a segment's payload: its 16-bit length counts itself. */
const mostBytes = 65533;

/**
 * Returns `jpeg` with `entries` as text, in front of its tables and pixels.
 *
 * @throws {ImageError} when `jpeg` is not a JPEG file, or a keyword is not 1 to 79 printable ASCII
 *   characters
 */
export function withJpegText(jpeg: Uint8Array, entries: Record<string, string>): Uint8Array<ArrayBuffer> {
  checkSignature(jpeg);
  const segments: Uint8Array[] = [];
  const { parameters } = entries;
  const exif = parameters === undefined ? undefined : exifComment(parameters);
  if (exif && exif.length <= mostBytes) segments.push(segment(APP1, exif));
  for (const [keyword, text] of Object.entries(entries)) {
    if (!/^[!-~]{1,79}$/.test(keyword)) {
      throw new ImageError(
        `Cannot write JPEG text under the keyword ${JSON.stringify(keyword)}: it must be 1 to 79 printable characters`,
      );
    }
    const head = new TextEncoder().encode(`${keyword}\0`), bytes = new TextEncoder().encode(text);
    const room = mostBytes - head.length;
    for (let start = 0; start === 0 || start < bytes.length; start += room) {
      segments.push(segment(COM, joined([head, bytes.subarray(start, start + room)])));
    }
  }
  // JFIF's APP0 must stay the first segment.
  const at = jpeg[2] === 0xff && jpeg[3] === APP0 ? 4 + jpeg[4] * 256 + jpeg[5] : 2;
  return joined([jpeg.subarray(0, at), ...segments, jpeg.subarray(at)]);
}

/**
 * Reads the comment segments of `jpeg` that {@linkcode withJpegText} wrote, by keyword, and
 * `parameters` from EXIF where there is no such comment.
 *
 * @throws {ImageError} when `jpeg` is not a JPEG file, or ends inside a segment
 */
export function readJpegText(jpeg: Uint8Array): Record<string, string> {
  checkSignature(jpeg);
  const texts = new Map<string, Uint8Array[]>();
  let userComment: string | undefined;
  for (const { marker, data } of jpegSegments(jpeg)) {
    if (marker === APP1) userComment ??= readExifComment(data);
    if (marker !== COM) continue;
    const end = data.subarray(0, 80).indexOf(0);
    if (end < 1) continue; // a comment of another program
    const keyword = ascii(data.subarray(0, end));
    const parts = texts.get(keyword) ?? [];
    texts.set(keyword, parts);
    parts.push(data.subarray(end + 1));
  }
  const decoded = [...texts].map(([keyword, parts]) => [keyword, new TextDecoder().decode(joined(parts))] as const);
  return { ...(userComment === undefined ? {} : { parameters: userComment }), ...Object.fromEntries(decoded) };
}

/** The segments in front of the pixels. @throws {ImageError} when the file ends inside one */
export function* jpegSegments(jpeg: Uint8Array): Iterable<{ marker: number; data: Uint8Array }> {
  for (let offset = 2; offset + 4 <= jpeg.length;) {
    if (jpeg[offset] !== 0xff) {
      throw new ImageError(`Cannot read JPEG text as there is no segment at byte ${offset}`);
    }
    const marker = jpeg[offset + 1];
    if (marker === 0xff) {
      offset++; // fill bytes
      continue;
    }
    if (marker === SOS || marker === EOI) return;
    const length = jpeg[offset + 2] * 256 + jpeg[offset + 3];
    const end = offset + 2 + length;
    if (length < 2 || end > jpeg.length) {
      throw new ImageError(
        `Cannot read JPEG text as the file ends inside a segment: byte ${end} is needed, the file has ${jpeg.length}`,
        { expected: end, actual: jpeg.length },
      );
    }
    yield { marker, data: jpeg.subarray(offset + 4, end) };
    offset = end;
  }
}

const exifHead = [0x45, 0x78, 0x69, 0x66, 0, 0]; // "Exif"
const unicodeHead = [0x55, 0x4e, 0x49, 0x43, 0x4f, 0x44, 0x45, 0]; // "UNICODE"
const exifPointer = 0x8769, userCommentTag = 0x9286;

/** An EXIF block, big-endian, that holds a UserComment in UTF-16 and nothing else. */
function exifComment(text: string): Uint8Array {
  const comment = new Uint8Array(unicodeHead.length + 2 * text.length);
  comment.set(unicodeHead);
  const units = new DataView(comment.buffer, unicodeHead.length);
  for (let i = 0; i < text.length; i++) units.setUint16(2 * i, text.charCodeAt(i));
  const tiff = new DataView(new ArrayBuffer(44));
  tiff.setUint32(0, 0x4d4d002a); // "MM", 42
  tiff.setUint32(4, 8); // IFD0
  entry(tiff, 8, { tag: exifPointer, type: 4, count: 1, value: 26 });
  entry(tiff, 26, { tag: userCommentTag, type: 7, count: comment.length, value: 44 });
  return joined([Uint8Array.from(exifHead), new Uint8Array(tiff.buffer), comment]);
}

/** An IFD with one entry, and no next IFD. */
function entry(
  tiff: DataView,
  offset: number,
  { tag, type, count, value }: { tag: number; type: number; count: number; value: number },
): void {
  tiff.setUint16(offset, 1);
  tiff.setUint16(offset + 2, tag);
  tiff.setUint16(offset + 4, type);
  tiff.setUint32(offset + 6, count);
  tiff.setUint32(offset + 10, value);
}

/** The UserComment of an EXIF block, as A1111 (piexif) writes it; undefined where there is none. */
function readExifComment(data: Uint8Array): string | undefined {
  if (exifHead.some((byte, i) => data[i] !== byte)) return undefined;
  const tiff = data.subarray(exifHead.length);
  const view = new DataView(tiff.buffer, tiff.byteOffset, tiff.byteLength);
  const little = tiff[0] === 0x49;
  const find = (ifd: number, tag: number): { count: number; value: number } | undefined => {
    if (ifd + 2 > tiff.length) return undefined;
    const entries = view.getUint16(ifd, little);
    for (let at = ifd + 2; at < ifd + 2 + 12 * entries && at + 12 <= tiff.length; at += 12) {
      if (view.getUint16(at, little) !== tag) continue;
      return { count: view.getUint32(at + 4, little), value: view.getUint32(at + 8, little) };
    }
  };
  if (tiff.length < 8) return undefined;
  const pointer = find(view.getUint32(4, little), exifPointer);
  const comment = pointer && find(pointer.value, userCommentTag);
  if (!comment || comment.value + comment.count > tiff.length) return undefined;
  const bytes = tiff.subarray(comment.value, comment.value + comment.count);
  if (unicodeHead.some((byte, i) => bytes[i] !== byte)) return undefined;
  return new TextDecoder(little ? "utf-16le" : "utf-16be").decode(bytes.subarray(unicodeHead.length));
}

function checkSignature(jpeg: Uint8Array): void {
  if (jpeg[0] === 0xff && jpeg[1] === SOI) return;
  throw new ImageError("Cannot read or write JPEG text as the file does not begin with a JPEG's SOI marker");
}

function segment(marker: number, data: Uint8Array): Uint8Array {
  const length = data.length + 2;
  return joined([Uint8Array.of(0xff, marker, length >> 8, length & 0xff), data]);
}

function ascii(data: Uint8Array): string {
  return String.fromCharCode(...data);
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((bytes, part) => bytes + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}
