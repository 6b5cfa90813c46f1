import { assertEquals, assertRejects } from "@std/assert";
import { deflateSync } from "node:zlib";
import { ImageError } from "../../../pipeline/image/errors.ts";
import { decodePicture, encodePicture } from "../../../pipeline/image/picture.ts";
import { inflated } from "../../../pipeline/image/inflate.ts";
import { crc32 } from "../../../pipeline/image/png_chunks.ts";
import { readPictureText } from "../../../pipeline/image/picture_text.ts";
import { readPngText } from "../../../pipeline/image/png_text.ts";

const ascii = (text: string) => new TextEncoder().encode(text);
const joined = (...parts: readonly Uint8Array[]) => new Uint8Array(parts.flatMap((part) => [...part]));

function chunk(type: string, data: Uint8Array = new Uint8Array()): Uint8Array {
  const body = joined(ascii(type), data);
  const ends = new DataView(new ArrayBuffer(8));
  ends.setUint32(0, data.length);
  ends.setUint32(4, crc32(body));
  return joined(new Uint8Array(ends.buffer, 0, 4), body, new Uint8Array(ends.buffer, 4));
}

function header(width: number, height: number, { depth = 8, color = 2, interlaced = 0 } = {}): Uint8Array {
  const data = new DataView(new ArrayBuffer(13));
  data.setUint32(0, width);
  data.setUint32(4, height);
  for (const [at, value] of [[8, depth], [9, color], [12, interlaced]]) data.setUint8(at, value);
  return chunk("IHDR", new Uint8Array(data.buffer));
}

const png = (...chunks: readonly Uint8Array[]) =>
  joined(Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a), ...chunks, chunk("IEND"));
const packed = (bytes: number) => new Uint8Array(deflateSync(new Uint8Array(bytes)));
const pixels = (bytes: number) => chunk("IDAT", packed(bytes));

Deno.test("a PNG of another size than its pixels is refused before its picture is allocated", async () => {
  const cases: readonly [reason: string, file: Uint8Array][] = [
    ["at most 67108864 pixels", png(header(30_000, 30_000), pixels(10))],
    ["a side may have at most 65536", png(header(1, 67_108_864), pixels(10))],
    ["a side may have at most 65536", png(header(67_108_864, 1), pixels(10))],
    ["holds only 10 bytes of pixels where its header claims 201334784", png(header(8192, 8192), pixels(10))],
    ["holds only 0 bytes", png(header(8192, 8192))],
    ["holds only 30099 bytes", png(header(100, 100), pixels(30_099))],
    ["header claims 536879104", png(header(8192, 8192, { depth: 16, color: 6 }), pixels(10))],
    ["holds more than 15 bytes", png(header(2, 2, { interlaced: 1 }), pixels(10_000_000))],
    ["holds more than 14 bytes", png(header(2, 2), pixels(10_000_000))],
    ["bytes cannot hold it", png(header(0, 2), pixels(14))],
    ["header is damaged", png(header(2, 2, { color: 5 }), pixels(14))],
    ["more than one chunk IHDR", png(header(2, 2), header(60_000, 60_000), pixels(14))],
    ["more than one chunk PLTE", png(header(2, 2, { color: 3 }), chunk("PLTE"), chunk("PLTE"), pixels(6))],
  ];
  for (const [reason, file] of cases) await assertRejects(() => decodePicture(file), ImageError, reason);
});

Deno.test("PNGs of all depths, colors and interlacing whose pixels fill their size are decoded", async () => {
  // Adam7 of 5 × 3 gray pixels: passes of 1×1, 1×1, none, 1×1, 3×1, 2×2 and 5×1.
  const interlacedBytes = 2 + 2 + 0 + 2 + (1 + 3) + 2 * (1 + 2) + (1 + 5);
  const cases: readonly [options: Parameters<typeof header>[2], bytes: number][] = [
    [{ depth: 8, color: 2 }, 3 * (1 + 15)],
    [{ depth: 16, color: 6 }, 3 * (1 + 40)],
    [{ depth: 1, color: 0 }, 3 * (1 + 1)],
    [{ depth: 8, color: 0, interlaced: 1 }, interlacedBytes],
  ];
  for (const [options, bytes] of cases) {
    const { width, height } = await decodePicture(png(header(5, 3, options), pixels(bytes)));
    assertEquals([width, height], [5, 3]);
    await assertRejects(() => decodePicture(png(header(5, 3, options), pixels(bytes - 1))), ImageError, "holds only");
  }
});

Deno.test("JPEG, GIF and BMP files too short for their size are refused before they are decoded", async () => {
  const jpeg = await encodePicture({ data: new Uint8Array(192), width: 8, height: 8 }, "jpeg");
  const frame = jpeg.findIndex((byte, i) => byte === 0xff && jpeg[i + 1] === 0xc0);
  jpeg.set([0x1f, 0x40, 0x1f, 0x40], frame + 5); // 8000 × 8000
  const gif = (screen: number, image: number) =>
    joined(
      ascii("GIF89a"),
      Uint8Array.of(screen & 255, screen >> 8, screen & 255, screen >> 8, 0x80, 0, 0, 0, 0, 0, 255, 255, 255),
      Uint8Array.of(0x21, 0xf9, 4, 0, 0, 0, 0, 0), // an extension in front of the frame
      Uint8Array.of(0x2c, 0, 0, 0, 0, image & 255, image >> 8, image & 255, image >> 8, 0, 2, 2, 0x4c, 1, 0, 0x3b),
    );
  const incomplete = "bytes cannot hold it";
  await assertRejects(() => decodePicture(jpeg), ImageError, incomplete);
  await assertRejects(() => decodePicture(gif(8000, 8000)), ImageError, incomplete);
  await assertRejects(() => decodePicture(gif(1, 65_535)), ImageError, "65535 × 65535");
  assertEquals((await decodePicture(gif(1, 1))).width, 1);
  const bmp = new Uint8Array(60);
  bmp.set(ascii("BM")); // 0 × 0
  await assertRejects(() => decodePicture(bmp), ImageError, incomplete);
  const size = new DataView(bmp.buffer);
  for (const at of [18, 22]) size.setInt32(at, 1000, true); // two bytes of a BMP hold 255 pixels at most
  await assertRejects(() => decodePicture(bmp), ImageError, incomplete);
});

/** A BMP of two rows with BITMAPINFOHEADER; its palette counts up by tens. */
function bmp(bits: number, width: number, data: Uint8Array, { compression = 0, gap = 0 } = {}): Uint8Array {
  const colors = bits <= 8 ? 2 ** bits : 0;
  const palette = Uint8Array.from({ length: 4 * colors }, (_, i) => i % 4 === 3 ? 0 : 10 * (i >> 2) + i % 4);
  const head = new DataView(new ArrayBuffer(54));
  new Uint8Array(head.buffer).set(ascii("BM"));
  for (const [at, value] of [[10, 54 + 4 * colors + gap], [14, 40], [18, width], [22, 2], [30, compression]]) {
    head.setUint32(at, value, true);
  }
  head.setUint16(28, bits, true);
  return joined(new Uint8Array(head.buffer), palette, new Uint8Array(Math.max(gap, 0)).fill(0x55), data);
}

Deno.test("the pixels of a BMP are those that its header points to, and a BMP with fewer is refused", async () => {
  // 2 × 2 pixels, the lower row first, each row filled up to 4 bytes.
  const rows = { 8: [0, 1, 0, 0, 2, 3, 0, 0], 24: [1, 2, 3, 4, 5, 6, 0, 0, 7, 8, 9, 10, 11, 12, 0, 0] } as const;
  const gray = (...indices: number[]) => indices.flatMap((i) => [10 * i + 2, 10 * i + 1, 10 * i]);
  const expected = { 8: gray(2, 3, 0, 1), 24: [9, 8, 7, 12, 11, 10, 3, 2, 1, 6, 5, 4] } as const;
  for (const bits of [8, 24] as const) {
    const data = Uint8Array.from(rows[bits]);
    for (const gap of [0, 6]) {
      assertEquals([...(await decodePicture(bmp(bits, 2, data, { gap }))).data], expected[bits], `${bits} ${gap}`);
      const unfilled = bmp(bits, 2, data.subarray(0, -2), { gap });
      assertEquals([...(await decodePicture(unfilled)).data], expected[bits], "the last row may end with its pixels");
      const cut = bmp(bits, 2, data.subarray(0, -3), { gap });
      await assertRejects(() => decodePicture(cut), ImageError, `ends at byte ${cut.length} and its pixels at byte`);
    }
  }
  const refused: readonly [reason: string, file: Uint8Array][] = [
    ["ends at byte", bmp(4, 4, new Uint8Array(5))],
    ["ends at byte", bmp(32, 2, new Uint8Array(15))],
    ["4 bits a pixel and an odd width", bmp(4, 3, new Uint8Array(8))],
    ["compressed (1)", bmp(8, 2, new Uint8Array(8), { compression: 1 })],
    ["compressed (2)", bmp(4, 2, new Uint8Array(8), { compression: 2 })],
    ["bits for each", bmp(2, 2, new Uint8Array(8))],
    ["before its palette ends", bmp(24, 2, new Uint8Array(16), { gap: -1 })],
  ];
  for (const [reason, file] of refused) await assertRejects(() => decodePicture(file), ImageError, reason);
});

Deno.test("a GIF whose codes make more or fewer pixels than its frame has is refused, and prints nothing", async () => {
  /** A GIF of one row and two colors, whose LZW codes draw so many pixels of the second. */
  const gif = (width: number, pixels: number) => {
    const [clear, end] = [4, 5];
    // Of 3 bits each, the first in the lowest bits.
    const codes = [clear, ...Array(pixels).fill(1), end];
    const word = codes.reduce((sum, code, i) => sum + code * 8 ** i, 0);
    return joined(
      ascii("GIF89a"),
      Uint8Array.of(width, 0, 1, 0, 0x80, 0, 0, 0, 0, 0, 255, 255, 255),
      Uint8Array.of(0x2c, 0, 0, 0, 0, width, 0, 1, 0, 0, 2, 2, word & 255, word >> 8, 0, 0x3b),
    );
  };
  const printed: unknown[] = [];
  const { log } = console;
  console.log = (...texts: unknown[]) => void printed.push(texts);
  try {
    assertEquals([...(await decodePicture(gif(2, 2))).data], Array(6).fill(255));
    await assertRejects(() => decodePicture(gif(3, 2)), ImageError, "number of pixels");
    await assertRejects(() => decodePicture(gif(1, 2)), ImageError, "number of pixels");
    await Promise.allSettled([1, 2, 3].map((width) => decodePicture(gif(width, 2))));
  } finally {
    console.log = log;
  }
  assertEquals(printed, []);
  assertEquals(console.log, log);
});

Deno.test("all compressed texts of a PNG together unpack to 16 MiB at most, each counted as 8 KiB or more", async () => {
  const text = (keyword: string, bytes: number) => chunk("zTXt", joined(ascii(`${keyword}\0\0`), packed(bytes)));
  const file = (count: number, bytes: number, keyword = (i: number) => `k${i}`) =>
    png(header(2, 2), ...Array.from({ length: count }, (_, i) => text(keyword(i), bytes)));
  const too = "unpack to more than 16777216 bytes";
  assertEquals((await readPngText(file(2, 6_000_000))).k1.length, 6_000_000);
  await assertRejects(() => readPngText(file(3, 6_000_000)), ImageError, too);
  assertEquals(Object.keys(await readPngText(file(2048, 1))).length, 2048);
  await assertRejects(() => readPngText(file(2049, 1)), ImageError, too);
  assertEquals(Object.keys(await readPngText(file(4000, 9000, () => "k"))).length, 1, "only the last is unpacked");
});

Deno.test("pixels in any number of chunks are those of one chunk, for one piece of the decompressor", async () => {
  const data = packed(20 * (1 + 60));
  const parts = Array.from(data, (_, i) => [chunk("IDAT", data.subarray(i, i + 1)), chunk("IDAT")]).flat();
  const split = png(header(20, 20), ...parts);
  assertEquals(await decodePicture(split), await decodePicture(png(header(20, 20), chunk("IDAT", data))));
  const pieces: Uint8Array[] = [];
  for await (const piece of inflated(Array.from(data, (byte) => Uint8Array.of(byte)))) pieces.push(piece);
  assertEquals(pieces.map(({ length }) => length), [20 * 61]);
});

Deno.test("chunks that a picture does not need are not unpacked", async () => {
  const profile = chunk("iCCP", joined(ascii("x\0\0"), packed(30_000_000)));
  const broken = chunk("iCCP", ascii("x\0\0 no zlib"));
  for (const extra of [profile, broken, chunk("acTL", new Uint8Array(8))]) {
    assertEquals((await decodePicture(png(header(2, 2), extra, pixels(14)))).width, 2);
  }
});

Deno.test("a zlib stream comes in parts of a few MiB, and who stops reading stops the work", async () => {
  const data = packed(100_000_000);
  let most = 0, total = 0;
  for await (const part of inflated([data.subarray(0, 10), data.subarray(10)])) {
    most = Math.max(most, part.length);
    total += part.length;
  }
  assertEquals([total, most < 5_000_000], [100_000_000, true]);
  for await (const part of inflated([data])) {
    assertEquals(part.length < 5_000_000, true);
    break;
  }
});

Deno.test("what is no array of bytes is no picture, and an ImageError", async () => {
  for (const value of [null, undefined, 5, "x", [1, 2], { length: 1e9 }, new ArrayBuffer(8)]) {
    await assertRejects(() => decodePicture(value as never), ImageError, "must be a Uint8Array");
    await assertRejects(() => readPictureText(value as never), ImageError, "must be a Uint8Array");
  }
});
