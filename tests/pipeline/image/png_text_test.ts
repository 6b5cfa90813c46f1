import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { ImageError } from "../../../pipeline/image/errors.ts";
import { decodePicture, encodePicture } from "../../../pipeline/image/picture.ts";
import { readPngText, withPngText } from "../../../pipeline/image/png_text.ts";

/** 2 × 1 pixels, written by Pillow with tEXt, zTXt, compressed iTXt and iTXt with a language. */
const byPillow = Uint8Array.from(
  atob(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAAG3RFWHRwYXJhbWV0ZXJzAGEgY2Fm6QpTdGVwczogMjBYZJKAAAAAGXpUWHRwYWNr" +
      "ZWQAAHicK8ovTi1WKCKLBADE8hb5ny9PLQAAABxpVFh0Z3JlZWsAAQAAAHicO7db4VHbJAUDPUMAHXIEU453UxYAAAAiaVRYdHBsYWluAAAAcnUA" +
      "0LrQu9GO0YcA0YDQvtC80LDRiNC60LAp0mT2AAAAD0lEQVR4nGP4z8DA0PAfAAgAAn+cRUBOAAAAAElFTkSuQmCC",
  ),
  (character) => character.charCodeAt(0),
);
const pillowTexts = {
  parameters: "a café\nSteps: 20",
  packed: "roses ".repeat(10),
  greek: "λ → 0.1",
  plain: "ромашка",
};

Deno.test("readPngText() reads all four forms of text that Pillow writes", async () => {
  assertEquals(await readPngText(byPillow), pillowTexts);
});

Deno.test("readPngText() returns any text that withPngText() wrote, and the pixels are unchanged", async () => {
  const text = fc.string({ unit: "binary" }).map((value) => value.replaceAll("\0", ""));
  await fc.assert(
    fc.asyncProperty(text, text, async (first, second) => {
      const png = withPngText(byPillow, { parameters: first, bluerose: second });
      assertEquals(await readPngText(png), { ...pillowTexts, parameters: first, bluerose: second });
    }),
    { numRuns: 200 },
  );
  const pixels = await decodePicture(withPngText(byPillow, { parameters: "any" }));
  assertEquals(pixels, { data: new Uint8Array([255, 0, 0, 0, 128, 255]), width: 2, height: 1 });
});

Deno.test("withPngText() writes Latin-1 as tEXt and the rest as iTXt, before the pixels", () => {
  const latin1 = (bytes: Uint8Array): string => Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  const plain = latin1(withPngText(byPillow, { prompt: "a café" }));
  assert(plain.includes("tEXtprompt\0a café"));
  assert(plain.indexOf("tEXtprompt") < plain.indexOf("IDAT"));
  assert(latin1(withPngText(byPillow, { prompt: "λ" })).includes("iTXtprompt\0\0\0\0\0\xce\xbb"));
});

Deno.test("withPngText() rejects keywords and texts that the format cannot represent", () => {
  for (const keyword of ["", " prompt", "two  spaces", "line\nbreak", "λ", "x".repeat(80)]) {
    assertThrows(() => withPngText(byPillow, { [keyword]: "text" }), ImageError, "keyword");
  }
  assertThrows(() => withPngText(byPillow, { prompt: "a\0b" }), ImageError, "NUL");
});

Deno.test("readPngText() rejects every truncated file and every damaged byte", async () => {
  for (let length = 0; length < byPillow.length; length++) {
    await assertRejects(() => readPngText(byPillow.subarray(0, length)), ImageError);
  }
  for (let i = 0; i < byPillow.length; i++) {
    const damaged = byPillow.slice();
    damaged[i] ^= 0x10;
    await assertRejects(() => readPngText(damaged), ImageError);
  }
});

Deno.test("a compressed text that unpacks to more than 16 MiB is refused, and costs no more", async () => {
  const png = await encodePicture({ data: new Uint8Array(3), width: 1, height: 1 }, "png");
  const zeros = new Blob([new Uint8Array(64 * 2 ** 20)]).stream().pipeThrough(new CompressionStream("deflate"));
  const packed = new Uint8Array(await new Response(zeros).arrayBuffer());
  const data = Uint8Array.from([...new TextEncoder().encode("parameters\0\0"), ...packed]);
  const chunk = new Uint8Array(12 + data.length), view = new DataView(chunk.buffer);
  view.setUint32(0, data.length);
  chunk.set(new TextEncoder().encode("zTXt"), 4);
  chunk.set(data, 8);
  view.setUint32(8 + data.length, crcOf(chunk.subarray(4, 8 + data.length)));
  const bomb = new Uint8Array(png.length + chunk.length);
  bomb.set(png.subarray(0, 33));
  bomb.set(chunk, 33);
  bomb.set(png.subarray(33), 33 + chunk.length);
  await assertRejects(() => readPngText(bomb), ImageError, "more than 16777216 bytes");
});

/** CRC-32 bit by bit. */
function crcOf(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}
