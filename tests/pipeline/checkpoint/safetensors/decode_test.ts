import { assertEquals } from "@std/assert";
import { elementsOf, toFloat32 } from "../../../../pipeline/checkpoint/safetensors/decode.ts";

Deno.test("bfloat16 is the upper half of a float32", () => {
  const stored = Uint16Array.of(0x3f80, 0xc000, 0x7f80, 0x0001);
  assertEquals(elementsOf(stored.buffer, "BF16"), Float32Array.of(1, -2, Infinity, 2 ** -133));
});

Deno.test("float64 rounds to the nearest float32, ties to even", () => {
  const stored = Float64Array.of(1 + 2 ** -24, 1 + 3 * 2 ** -24, 0.1);
  assertEquals(toFloat32(elementsOf(stored.buffer, "F64")!), Float32Array.of(1, 1 + 2 ** -22, Math.fround(0.1)));
});

Deno.test("complex types and block scales cannot be read as real numbers", () => {
  assertEquals(elementsOf(new ArrayBuffer(8), "C64"), null);
  assertEquals(elementsOf(new ArrayBuffer(8), "F8_E8M0"), null);
});
