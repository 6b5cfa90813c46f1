import { assert, assertEquals, assertThrows } from "@std/assert";
import { ImageError } from "../../../pipeline/image/errors.ts";
import { readJpegText, withJpegText } from "../../../pipeline/image/jpeg_text.ts";
import { decodePicture, encodePicture } from "../../../pipeline/image/picture.ts";
import { readPictureText } from "../../../pipeline/image/picture_text.ts";

const picture = { data: Uint8Array.from({ length: 8 * 8 * 3 }, (_, i) => i), width: 8, height: 8 };
const jpeg = await encodePicture(picture, "jpeg");

Deno.test("JPEG text is read back whole, in any language and of any length, and pixels stay", async () => {
  const texts = { parameters: "eine Rose, バラ 🌹\nSteps: 2", bluerose: JSON.stringify({ long: "é".repeat(2 ** 24) }) };
  const signed = await encodePicture(picture, "jpeg", { text: texts });
  assertEquals(readJpegText(signed), texts);
  assertEquals(await readPictureText(signed), texts);
  assertEquals((await decodePicture(signed)).data, (await decodePicture(jpeg)).data);
  assertEquals(readJpegText(jpeg), {});
});

Deno.test("EXIF's UserComment is read in both byte orders, as piexif writes it", () => {
  const block = (little: boolean) => {
    const text = "a rose\nSteps: 20", view = new DataView(new ArrayBuffer(44 + 8 + 2 * text.length));
    const u16 = (at: number, value: number) => view.setUint16(at, value, little);
    const u32 = (at: number, value: number) => view.setUint32(at, value, little);
    u16(0, little ? 0x4949 : 0x4d4d);
    u16(2, 42);
    u32(4, 8);
    for (const [at, tag, type, count, value] of [[8, 0x8769, 4, 1, 26], [26, 0x9286, 7, 8 + 2 * text.length, 44]]) {
      u16(at, 1);
      u16(at + 2, tag);
      u16(at + 4, type);
      u32(at + 6, count);
      u32(at + 10, value);
    }
    new Uint8Array(view.buffer).set(new TextEncoder().encode("UNICODE\0"), 44);
    for (let i = 0; i < text.length; i++) u16(52 + 2 * i, text.charCodeAt(i));
    const data = [...new TextEncoder().encode("Exif\0\0"), ...new Uint8Array(view.buffer)];
    const length = data.length + 2;
    return Uint8Array.from([0xff, 0xd8, 0xff, 0xe1, length >> 8, length & 255, ...data, ...jpeg.subarray(2)]);
  };
  for (const little of [true, false]) assertEquals(readJpegText(block(little)), { parameters: "a rose\nSteps: 20" });
});

Deno.test("broken JPEG text is refused by a typed error, and foreign comments are skipped", () => {
  const signed = withJpegText(jpeg, { parameters: "a rose" });
  for (let length = 0; length < signed.length; length += 7) {
    try {
      readJpegText(signed.subarray(0, length));
    } catch (error) {
      assert(error instanceof ImageError, String(error));
    }
  }
  assertThrows(() => readJpegText(new Uint8Array(10)), ImageError, "SOI");
  assertThrows(() => withJpegText(jpeg, { "": "x" }), ImageError, "keyword");
  const foreign = Uint8Array.from([0xff, 0xd8, 0xff, 0xfe, 0, 5, 97, 98, 99, ...jpeg.subarray(2)]);
  assertEquals(readJpegText(foreign), {});
});
