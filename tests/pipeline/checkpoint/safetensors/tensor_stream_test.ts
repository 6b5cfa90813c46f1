import { assertEquals } from "@std/assert";
import { elementsOf, toFloat32 } from "../../../../pipeline/checkpoint/safetensors/decode.ts";
import type { SafetensorsDtype } from "../../../../pipeline/checkpoint/safetensors/format.ts";
import { computedEntry, stackedEntry } from "../../../../pipeline/checkpoint/safetensors/tensor_stream.ts";
import { type TensorEntry, writeSafetensors } from "../../../../pipeline/checkpoint/safetensors/writer.ts";

const computed = (dtype: "f16" | "bf16" | "f32" | "f64", ...values: number[]) =>
  computedEntry("part", [values.length, 1], dtype, () => Promise.resolve(Float32Array.from(values)));

/** 1 and 2 in float8. */
const float8: TensorEntry = {
  name: "part",
  dtype: "F8_E4M3",
  shape: [2, 1],
  chunks: () => [Uint8Array.of(0x38), Uint8Array.of(0x40)],
};

Deno.test("stacked tensors of several dtypes get one that holds them all; those of one keep it", async () => {
  const cases: [entries: TensorEntry[], dtype: SafetensorsDtype, values: number[]][] = [
    [[computed("f16", 3), float8], "F16", [3, 1, 2]],
    [[float8, computed("f16", 3)], "F16", [1, 2, 3]],
    [[computed("bf16", 3), computed("f16", 4, 5)], "F32", [3, 4, 5]],
    [[computed("f16", 3), computed("f32", 1e6)], "F32", [3, 1e6]],
    [[float8, float8], "F8_E4M3", [1, 2, 1, 2]],
    [[computed("f64", 3), computed("f64", 4)], "F64", [3, 4]],
  ];
  for (const [entries, dtype, values] of cases) {
    const stacked = stackedEntry(entries, "whole");
    assertEquals([stacked.name, stacked.dtype, stacked.shape], ["whole", dtype, [values.length, 1]]);
    const bytes = new Uint8Array(await new Blob(await Array.fromAsync(chunksOf(stacked))).arrayBuffer());
    assertEquals(toFloat32(elementsOf(bytes.buffer, dtype)!), Float32Array.from(values));
    await writeSafetensors([stacked], () => {}); // refuses bytes that are not the shape's
  }
});

async function* chunksOf(entry: TensorEntry): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  for await (const chunk of entry.chunks()) yield chunk.slice();
}
