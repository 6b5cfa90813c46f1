import { assertEquals, assertThrows } from "@std/assert";
import { bytesPerElement, decodeFloat32, type DType, dtypeOf, encode, type HostArray } from "../../engine/dtype.ts";
import { DTypeError } from "../../engine/errors.ts";

const numbers = [0, 1, -2, 3.5, 1024, -0.25]; // exact in f16

const arrays: [DType, HostArray][] = [
  ["f32", Float32Array.from(numbers)],
  ["f64", Float64Array.from(numbers)],
  ["f16", new Uint16Array(Float16Array.from(numbers).buffer)],
  ["f16", Float16Array.from(numbers)],
  ["i32", Int32Array.from(numbers)],
  ["u32", Uint32Array.from(numbers, Math.abs)],
];

Deno.test("encode() and decodeFloat32() preserve values that both dtypes can represent", () => {
  for (const [own, array] of arrays) {
    assertEquals(dtypeOf(array), own);
    for (const [dtype] of arrays) {
      const bytes = encode(array, dtype);
      assertEquals(bytes.byteLength, array.length * bytesPerElement[dtype]);
      const whole = [own, dtype].some((type) => type === "i32" || type === "u32");
      const positive = own === "u32" ? Math.abs : (value: number) => value;
      if (dtype === "u32" && own !== "u32") continue; // negative numbers wrap
      assertEquals(
        [...decodeFloat32(bytes.slice().buffer, dtype, array.length)],
        numbers.map((value) => positive(whole ? Math.trunc(value) + 0 : value) + 0),
        `${own} to ${dtype}`,
      );
    }
  }
});

Deno.test("dtypeOf() refuses what are no elements, and says what they must be in", () => {
  for (const data of [[1, 2], new Uint8Array(8), new BigInt64Array(1), new ArrayBuffer(8), undefined]) {
    assertThrows(() => dtypeOf(data as never), DTypeError, "must be in a Float32Array");
  }
});

Deno.test("encode() rounds to the nearest f16, ties to even, and overflows to infinity", () => {
  const bytes = encode(Float32Array.of(1 + 2 ** -11, 1 + 3 * 2 ** -11, 65519, 65520, 2 ** -25, NaN), "f16");
  assertEquals([...decodeFloat32(bytes.slice().buffer, "f16", 6)], [1, 1 + 2 ** -9, 65504, Infinity, 0, NaN]);
});

Deno.test("encode() accepts a view of a larger buffer", () => {
  const halves = new Uint16Array(Float16Array.of(9, 1, 2, 9).buffer).subarray(1, 3);
  assertEquals([...decodeFloat32(encode(halves, "f32").slice().buffer, "f32", 2)], [1, 2]);
  const floats = Float32Array.of(9, 1, 2, 9).subarray(1, 3);
  assertEquals([...decodeFloat32(encode(floats, "f32").slice().buffer, "f32", 2)], [1, 2]);
});
