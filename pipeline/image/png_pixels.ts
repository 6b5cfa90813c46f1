/** Checks that a PNG file holds exactly the pixels that its header claims. */

import { ImageError } from "./errors.ts";
import { inflated } from "./inflate.ts";
import { type Chunk, chunksOf, joined, makeChunk, signature } from "./png_chunks.ts";

/** Samples of a pixel by color type (section 11.2.2). */
const samplesOf: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };

/** The passes of interlaced pictures: first column and row, and the steps (section 8.2). */
const adam7 = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const;

/**
 * Checks the length of a PNG's pixel data, which decoders cut or fill up without a word. Nothing
 * beyond the length that the header claims is unpacked.
 *
 * @returns the file without chunks that the picture does not need
 *
 * Source: Portable Network Graphics, sections 7.2 (scanlines), 8.2 (Adam7) and 10 (compression).
 *
 * @throws {ImageError} if the file is damaged, or has too few or too many bytes of pixels
 */
export async function checkPngPixels(png: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  const chunks = chunksOf(png);
  const expected = filteredBytes(chunks[0].data);
  const data = chunks.filter(({ type }) => type === "IDAT").map(({ data }) => data);
  let actual = 0;
  try {
    for await (const part of inflated(data)) {
      actual += part.length;
      if (actual > expected) break;
    }
  } catch (cause) {
    throw new ImageError(
      "Cannot decode the PNG file as its pixels cannot be decompressed: they may be cut or damaged",
      {
        expected,
        actual,
        cause,
      },
    );
  }
  if (actual === expected) return withoutExtras(chunks, data);
  throw new ImageError(
    `Cannot decode the PNG file as it holds ${actual > expected ? "more than" : "only"} ${
      Math.min(actual, expected)
    } bytes of pixels where its header claims ${expected}`,
    { expected, actual },
  );
}

/** The chunks that make up the picture: decoders unpack profiles and texts too, of any size. */
const pictureChunks: readonly string[] = ["IHDR", "PLTE", "tRNS", "IDAT", "IEND"];

/** The pixels are joined into one chunk, as decoders take time for each. */
function withoutExtras(chunks: readonly Chunk[], pixels: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const first = chunks.findIndex(({ type }) => type === "IDAT");
  const kept = chunks.flatMap(({ type, bytes }, i) =>
    i === first ? [makeChunk("IDAT", joined(pixels))] : pictureChunks.includes(type) && type !== "IDAT" ? [bytes] : []
  );
  return joined([Uint8Array.from(signature), ...kept]);
}

/** Bytes of all scanlines, each with its filter's byte. */
function filteredBytes(header: Uint8Array): number {
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  const samples = header.length === 13 ? samplesOf[view.getUint8(9)] : undefined;
  if (samples === undefined) throw new ImageError("Cannot decode the PNG file as its header is damaged");
  const width = view.getUint32(0), height = view.getUint32(4), bits = samples * view.getUint8(8);
  const bytes = (width: number, height: number) => width === 0 ? 0 : height * (1 + Math.ceil(width * bits / 8));
  if (view.getUint8(12) === 0) return bytes(width, height);
  return adam7.reduce(
    (sum, [x, y, dx, dy]) =>
      sum + bytes(Math.ceil(Math.max(0, width - x) / dx), Math.ceil(Math.max(0, height - y) / dy)),
    0,
  );
}
