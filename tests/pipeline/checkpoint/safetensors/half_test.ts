import { assert, assertEquals } from "@std/assert";
import { bf16ToF32, f16ToF32, f32ToF16 } from "../../../../pipeline/checkpoint/safetensors/half.ts";

const allHalves = Uint16Array.from({ length: 65536 }, (_, bits) => bits);

Deno.test("f16ToF32() widens each of the 65536 bit patterns to the number that Float16Array reads there", () => {
  const widened = f16ToF32(allHalves);
  const native = new Float16Array(allHalves.buffer);
  assert(widened.every((value, i) => Object.is(value, native[i])));
});

Deno.test("f32ToF16() undoes f16ToF32() for every pattern that is not NaN", () => {
  const back = f32ToF16(f16ToF32(allHalves));
  for (let bits = 0; bits < 65536; bits++) {
    const isNaN = (bits & 0x7fff) > 0x7c00;
    if (isNaN) assert((back[bits] & 0x7fff) > 0x7c00, `NaN ${bits} became ${back[bits]}`);
    else assertEquals(back[bits], bits);
  }
});

Deno.test("f32ToF16() rounds to nearest, ties to even: at, just under and just over each midpoint of two halves", () => {
  const widened = f16ToF32(allHalves.subarray(0, 0x7c00));
  const probes: number[] = [65504, 65519.996, 65520, 65535, 65536, 1e30, Infinity];
  for (let bits = 0; bits + 1 < widened.length; bits++) {
    const midpoint = Math.fround((widened[bits] + widened[bits + 1]) / 2); // exact in float32
    const [unit] = new Float32Array(Uint32Array.of(new Uint32Array(Float32Array.of(midpoint).buffer)[0] + 1).buffer);
    probes.push(midpoint, unit, 2 * midpoint - unit, -midpoint);
  }
  const values = Float32Array.from(probes);
  const expected = new Uint16Array(Float16Array.from(values).buffer);
  assertEquals(f32ToF16(values), expected);
});

Deno.test("f32ToF16() agrees with Float16Array on random float32 bit patterns", () => {
  const bits = new Uint32Array(16384);
  crypto.getRandomValues(bits);
  const values = new Float32Array(bits.buffer);
  const expected = Float16Array.from(values);
  const actual = new Float16Array(f32ToF16(values).buffer);
  actual.forEach((value, i) => assert(Object.is(value, expected[i]), `${values[i]}: ${value} ≠ ${expected[i]}`));
});

Deno.test("bf16ToF32() reads the upper half of a float32", () => {
  assertEquals(bf16ToF32(Uint16Array.of(0x3f80, 0xc000, 0x7f80, 0x0001)), Float32Array.of(1, -2, Infinity, 2 ** -133));
});
