import { assertEquals } from "@std/assert";
import { findNonFinite } from "../../../../pipeline/checkpoint/safetensors/finite.ts";

const bytesOf = (values: Float32Array<ArrayBuffer> | Float16Array<ArrayBuffer>) => new Uint8Array(values.buffer);

Deno.test("findNonFinite() finds what Number.isFinite() finds, at every place, for every f16", () => {
  for (let bits = 0; bits < 2 ** 16; bits++) {
    const f16 = new Float16Array(Uint16Array.of(0x7bff, 0xfbff, bits).buffer); // ±65504 before it
    assertEquals(findNonFinite(bytesOf(f16), "f16"), f16.findIndex((value) => !Number.isFinite(value)));
    const f32 = new Float32Array(Uint32Array.of(0x7f7fffff, 0xff7fffff, bits << 16).buffer);
    assertEquals(findNonFinite(bytesOf(f32), "f32"), f32.findIndex((value) => !Number.isFinite(value)));
  }
  for (const length of [0, 1, 2, 3, 8]) {
    for (let at = 0; at < length; at++) {
      const values = new Float16Array(length).fill(1);
      values[at] = NaN;
      assertEquals(findNonFinite(bytesOf(values), "f16"), at);
    }
    assertEquals(findNonFinite(bytesOf(new Float16Array(length)), "f16"), -1);
  }
});

Deno.test("findNonFinite() reads views that begin inside a word", () => {
  const values = Float16Array.of(1, 2, NaN, 4, 5);
  assertEquals(findNonFinite(new Uint8Array(values.buffer, 2), "f16"), 1);
  assertEquals(findNonFinite(new Uint8Array(values.buffer, 6), "f16"), -1);
});
