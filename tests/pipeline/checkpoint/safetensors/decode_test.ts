import { assertEquals, assertRejects } from "@std/assert";
import {
  elementsOf,
  largestBfloat16,
  roundBfloat16,
  toFloat32,
} from "../../../../pipeline/checkpoint/safetensors/decode.ts";
import { computedEntry } from "../../../../pipeline/checkpoint/safetensors/tensor_stream.ts";
import { SafetensorsError } from "../../../../pipeline/errors.ts";

Deno.test("bfloat16 is the upper half of a float32", () => {
  const stored = Uint16Array.of(0x3f80, 0xc000, 0x7f80, 0x0001);
  assertEquals(elementsOf(stored.buffer, "BF16"), Float32Array.of(1, -2, Infinity, 2 ** -133));
});

Deno.test("float32 rounds to the nearest bfloat16, ties to even, with signs, carries and NaN", () => {
  const step = 2 ** -7; // of bfloat16 at 1
  const cases: [value: number, rounded: number][] = [
    [1, 1],
    [1 + step / 2, 1],
    [1 + 3 * step / 2, 1 + 2 * step],
    [1 + step * 0.51, 1 + step],
    [-(1 + step * 0.51), -(1 + step)],
    [2 - step / 4, 2],
    [2 ** -133, 2 ** -133],
    [-0, -0],
    [largestBfloat16, largestBfloat16],
    [(2 - 2 ** -23) * 2 ** 127, Infinity],
    [-Infinity, -Infinity],
    [NaN, NaN],
  ];
  const bits = roundBfloat16(Float32Array.from(cases, ([value]) => value));
  assertEquals(elementsOf(bits.buffer, "BF16"), Float32Array.from(cases, ([, rounded]) => rounded));
  const payload = new Float32Array(Uint32Array.of(0x7f800001).buffer);
  assertEquals(elementsOf(roundBfloat16(payload).buffer, "BF16"), Float32Array.of(NaN));
});

Deno.test("a computed tensor beyond the largest bfloat16 or f16 is refused", async () => {
  for (const [dtype, value, largest] of [["bf16", 3.4e38, largestBfloat16], ["f16", 7e4, 65504]] as const) {
    const entry = computedEntry("w", [1], dtype, () => Promise.resolve(Float32Array.of(value)));
    await assertRejects(() => Array.fromAsync(entry.chunks()), SafetensorsError, `the largest ${dtype} is ${largest}`);
  }
});

Deno.test("float64 rounds to the nearest float32, ties to even", () => {
  const stored = Float64Array.of(1 + 2 ** -24, 1 + 3 * 2 ** -24, 0.1);
  assertEquals(toFloat32(elementsOf(stored.buffer, "F64")!), Float32Array.of(1, 1 + 2 ** -22, Math.fround(0.1)));
});

Deno.test("complex types and block scales cannot be read as real numbers", () => {
  assertEquals(elementsOf(new ArrayBuffer(8), "C64"), null);
  assertEquals(elementsOf(new ArrayBuffer(8), "F8_E8M0"), null);
});
