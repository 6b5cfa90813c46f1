import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { deflateSync } from "node:zlib";
import { ImageError } from "../../../pipeline/image/errors.ts";
import { toJimp } from "../../../pipeline/image/jimp_image.ts";
import {
  decodePicture,
  encodePicture,
  formatOfPath,
  fromJimp,
  type Picture,
  pictureFromFloats,
  picturesFromFloats,
} from "../../../pipeline/image/picture.ts";
import { crc32 } from "../../../pipeline/image/png_chunks.ts";
import { readPngText } from "../../../pipeline/image/png_text.ts";

/** A picture without equal neighboring values, so that swapped axes or channels are detected. */
function gradient(width: number, height: number): Picture {
  const data = new Uint8Array(height * width * 3);
  for (let i = 0; i < data.length; i++) data[i] = (i * 37 + (i >> 3)) % 256;
  return { data, width, height };
}

Deno.test("a header that claims more than 2^26 pixels is refused before anything is decoded", async () => {
  const png = (await encodePicture({ data: new Uint8Array(3), width: 1, height: 1 }, "png")).slice();
  const view = new DataView(png.buffer);
  view.setUint32(16, 30000);
  view.setUint32(20, 30000);
  await assertRejects(() => decodePicture(png), ImageError, "30000 × 30000 as it may have at most 67108864 pixels");
  const jpeg = (await encodePicture({ data: new Uint8Array(3), width: 1, height: 1 }, "jpeg")).slice();
  const frame = jpeg.findIndex((byte, i) => byte === 0xff && jpeg[i + 1] === 0xc0);
  jpeg.set([0xff, 0xff, 0xff, 0xff], frame + 5);
  await assertRejects(() => decodePicture(jpeg), ImageError, "65535 × 65535");
});

/** A PNG of 8-bit pixels, with the bytes of its scanlines as given. */
function pngOf(
  { width, height, colorType = 2, interlaced = false }: {
    width: number;
    height: number;
    colorType?: number;
    interlaced?: boolean;
  },
  scanlines: Uint8Array,
): Uint8Array {
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 8);
  header.setUint8(9, colorType);
  header.setUint8(12, Number(interlaced));
  const chunk = (type: string, data: Uint8Array) => {
    const typed = new Uint8Array([...new TextEncoder().encode(type), ...data]);
    const frame = new DataView(new ArrayBuffer(8));
    frame.setUint32(0, data.length);
    frame.setUint32(4, crc32(typed));
    const [length, crc] = [new Uint8Array(frame.buffer, 0, 4), new Uint8Array(frame.buffer, 4)];
    return [...length, ...typed, ...crc];
  };
  const pixels = chunk("IDAT", new Uint8Array(deflateSync(scanlines)));
  const signature = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
  return new Uint8Array([
    ...signature,
    ...chunk("IHDR", new Uint8Array(header.buffer)),
    ...pixels,
    ...chunk("IEND", new Uint8Array()),
  ]);
}

Deno.test("a PNG with too few or too many bytes of pixels is refused, whatever its layout", async () => {
  // width, height, color type, interlaced, bytes of all scanlines by hand
  const layouts = [
    [4, 3, 2, false, 3 * (1 + 12)],
    [4, 3, 6, false, 3 * (1 + 16)],
    [4, 3, 0, false, 3 * (1 + 4)],
    // 5 × 3 in Adam7: passes of 1×1, 1×1, none, 1×1, 3×1, 2×2 and 5×1 pixels
    [5, 3, 2, true, 4 + 4 + 0 + 4 + (1 + 9) + 2 * (1 + 6) + (1 + 15)],
  ] as const;
  for (const [width, height, colorType, interlaced, bytes] of layouts) {
    const png = (length: number) => pngOf({ width, height, colorType, interlaced }, new Uint8Array(length));
    assertEquals(await decodePicture(png(bytes)), { width, height, data: new Uint8Array(width * height * 3) });
    await assertRejects(() => decodePicture(png(bytes - 1)), ImageError, `only ${bytes - 1} bytes of pixels`);
    await assertRejects(() => decodePicture(png(bytes + 1)), ImageError, `more than ${bytes} bytes of pixels`);
  }
  await assertRejects(() => decodePicture(pngOf({ width: 4, height: 3 }, new Uint8Array(2 ** 24))), ImageError, "more");
});

Deno.test("frames of a GIF count as its canvas does; formats that are not decoded are named", async () => {
  const gif = [..."GIF89a"].map((letter) => letter.charCodeAt(0));
  const frame = [0x2c, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 2, 1, 0, 0];
  const extension = [0x21, 0xf9, 4, 0, 0, 0, 0, 0];
  const table = [1, 2, 3, 4, 5, 6];
  const bytes = new Uint8Array([...gif, 1, 0, 1, 0, 0x80, 0, 0, ...table, ...extension, ...frame, 0x3b]);
  await assertRejects(() => decodePicture(bytes), ImageError, "65535 × 65535");
  const named = { "II*\0": "TIFF", "MM\0*": "TIFF", "RIFF\0\0\0\0WEBPVP8 ": "WebP", "\0\0\0 ftypavif": "AVIF" };
  for (const [start, name] of Object.entries(named)) {
    const bytes = new Uint8Array(64);
    bytes.set(new TextEncoder().encode(start));
    await assertRejects(() => decodePicture(bytes), ImageError, `${name} is not supported: convert it to PNG`);
  }
});

Deno.test("pictureFromFloats() rounds 255 x to the nearest byte, halves to even, and clamps", () => {
  const halves = [0.5, 1.5, 2.5, 126.5, 127.5, 253.5].map((value) => value / 255);
  // Only those whose f32 product with 255 is exactly a half.
  const exact = halves.filter((x) => Math.fround(Math.fround(x) * 255) % 1 === 0.5);
  assert(exact.length >= 3, "the test needs exact halves");
  const expected = exact.map((x) => {
    const below = Math.floor(Math.fround(Math.fround(x) * 255));
    return below % 2 === 0 ? below : below + 1;
  });
  const pad = [-0.2, 1.3, 0, 1, 0.4999 / 255, 0.5001 / 255];
  const values = [...exact, ...pad];
  while (values.length % 3 !== 0) values.push(0);
  const picture = pictureFromFloats(new Float32Array(values), { width: values.length / 3, height: 1 });
  assertEquals([...picture.data.subarray(0, exact.length)], expected);
  assertEquals([...picture.data.subarray(exact.length, exact.length + pad.length)], [0, 255, 0, 255, 0, 1]);
});

Deno.test("pictureFromFloats() maps byte / 255 back to the byte", () => {
  const all = { data: new Uint8Array(768).map((_, i) => i % 256), width: 16, height: 16 };
  assertEquals(pictureFromFloats(Float32Array.from(all.data, (byte) => byte / 255), all), all);
});

Deno.test("pictureFromFloats() rejects a wrong length and NaN, and names the pixel", () => {
  const error = assertThrows(() => pictureFromFloats(new Float32Array(11), { width: 2, height: 2 }), ImageError);
  assertEquals([error.expected, error.actual], [12, 11]);
  const values = new Float32Array(12);
  values[10] = NaN;
  assertThrows(() => pictureFromFloats(values, { width: 2, height: 2 }), ImageError, "row 1, column 1");
});

Deno.test("picturesFromFloats() splits a batch in order", () => {
  const values = Float32Array.from({ length: 2 * 6 }, (_, i) => i / 255);
  const pictures = picturesFromFloats(values, { width: 2, height: 1 });
  assertEquals(pictures.map(({ data }) => [...data]), [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]);
  assertThrows(() => picturesFromFloats(values, { width: 5, height: 1 }), ImageError, "15 each");
});

Deno.test("fromJimp(toJimp(p)) is p, also for pictures that are not square", () => {
  for (const picture of [gradient(1, 1), gradient(5, 3), gradient(3, 7)]) {
    assertEquals(fromJimp(toJimp(picture)), picture);
  }
  assertThrows(() => toJimp({ data: new Uint8Array(4), width: 1, height: 1 }), ImageError, "3");
});

Deno.test("a picture and its text are unchanged by PNG; JPEG changes a picture only slightly", async () => {
  const picture = gradient(9, 5);
  const png = await encodePicture(picture, "png", { text: { parameters: "a rose" } });
  assertEquals(await decodePicture(png), picture);
  assertEquals(await readPngText(png), { parameters: "a rose" });

  const smooth = { data: new Uint8Array(16 * 8 * 3).fill(120), width: 16, height: 8 };
  const jpeg = await encodePicture(smooth, "jpeg");
  assertEquals([...jpeg.subarray(0, 2)], [0xff, 0xd8]);
  const decoded = await decodePicture(jpeg);
  assertEquals([decoded.width, decoded.height], [16, 8]);
  // JPEG's quantization does not change a uniform color; only the color transform rounds.
  assert(decoded.data.every((byte) => Math.abs(byte - 120) <= 2));
});

Deno.test("decodePicture() reads a view of a larger buffer, and rejects bytes that are not a picture", async () => {
  const png = await encodePicture(gradient(4, 4), "png");
  const padded = new Uint8Array(png.length + 20).fill(7);
  padded.set(png, 10);
  assertEquals(await decodePicture(padded.subarray(10, 10 + png.length)), gradient(4, 4));
  await assertRejects(() => decodePicture(new Uint8Array([1, 2, 3])), ImageError, "PNG, JPEG");
  await assertRejects(() => decodePicture(png.subarray(0, 40)), ImageError);
});

Deno.test("formatOfPath() decides by the extension in any letter case, and rejects unknown ones", () => {
  assertEquals(["a.png", "b/c.d.JPG", "e.jpeg"].map(formatOfPath), ["png", "jpeg", "jpeg"]);
  for (const path of ["a", "a.webp", "png", "a.png/b"]) assertThrows(() => formatOfPath(path), ImageError, path);
});
