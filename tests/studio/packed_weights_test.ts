/** Packed weights: what unpacking gives, and what it refuses. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { bytesSource } from "../../pipeline/checkpoint/source/byte_source.ts";
import { memoryTree } from "../../pipeline/checkpoint/source/file_tree.ts";
import { SafetensorsFile } from "../../pipeline/checkpoint/safetensors/safetensors_file.ts";
import { writeSafetensors } from "../../pipeline/checkpoint/safetensors/writer.ts";
import { SafetensorsError } from "../../pipeline/errors.ts";
import { packWeights } from "../../studio/pack_weights.ts";
import { packedSuffix, unpackedTree, unpackWeights } from "../../studio/packed_weights.ts";
import { collected } from "../../studio/saved_file.ts";
import { randomArray } from "../gpu.ts";

type Tensors = Record<string, { shape: number[]; values: Float16Array<ArrayBuffer> }>;

const random = (count: number, seed: number, scale: number) =>
  Float16Array.from(randomArray(count, seed), (value) => value * scale);

/** Magnitudes over many powers of two, an outlier, zeros, subnormal values, and an empty tensor. */
const tensors: Tensors = {
  "matrix": { shape: [24, 16], values: random(384, 1, 0.05) },
  "tiny": { shape: [8, 4], values: random(32, 2, 3e-6) },
  "outlier": { shape: [10, 10], values: Float16Array.from(random(100, 3, 1e-3), (v, i) => i === 50 ? 7.5 : v) },
  "zeros": { shape: [4, 4], values: new Float16Array(16) },
  "none": { shape: [0, 3], values: new Float16Array(0) },
  "norm": { shape: [33], values: Float16Array.from(random(33, 4, 0.3), (v) => 1 + v) },
  "attn2.to_k.weight": { shape: [6, 8], values: random(48, 5, 0.1) },
};

function file(tensors: Tensors): Promise<Uint8Array<ArrayBuffer>> {
  const entries = Object.entries(tensors).map(([name, { shape, values }]) => ({
    name,
    dtype: "F16" as const,
    shape,
    chunks: () => [new Uint8Array(values.buffer)],
  }));
  return collected((sink) => writeSafetensors(entries, sink, { metadata: { format: "pt" } }));
}

async function valuesOf(file: Uint8Array<ArrayBuffer>): Promise<Map<string, Float16Array>> {
  using weights = await SafetensorsFile.open(bytesSource(file, "file"));
  assertEquals(weights.metadata, { format: "pt" });
  const values = new Map<string, Float16Array>();
  for (const [name, { dtype, shape, bytes }] of weights.tensors) {
    assertEquals([dtype, shape], ["F16", tensors[name].shape]);
    values.set(name, new Float16Array((await weights.readRange(name, 0, bytes)).buffer));
  }
  return values;
}

const isExact = (name: string) => name.includes("attn2");

Deno.test("unpacked matrices are within half a step, vectors within 2^-16 of their largest, kept tensors equal", async () => {
  const steps = 32;
  const found = await valuesOf(
    await unpackWeights(await packWeights(await file(tensors), "a", { isExact, steps }), "a"),
  );
  assertEquals([...found.keys()].sort(), Object.keys(tensors).sort());
  for (const [name, { shape, values }] of Object.entries(tensors)) {
    const unpacked = found.get(name)!;
    if (isExact(name)) assertEquals(unpacked, values);
    const largest = Math.max(0, ...values.map(Math.abs));
    const rms = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
    // The nearest power of two is at most √2 times the wanted step; 16 bits hold ±32767 steps.
    const step = shape.length === 1
      ? largest / 32767 * 2
      : Math.max(Math.SQRT2 * rms / steps, 2 ** -24, largest / 16383);
    unpacked.forEach((value, i) => {
      assert(Math.abs(value - values[i]) <= step / 2, `${name}[${i}]: ${value} for ${values[i]}, step ${step}`);
    });
  }
});

Deno.test("values that were packed once are packed without loss", async () => {
  const once = await unpackWeights(await packWeights(await file(tensors), "a", { steps: 32 }), "a");
  assertEquals(await unpackWeights(await packWeights(once, "a", { steps: 64 }), "a"), once);
});

Deno.test("a packed file that is cut or changed is refused, as are weights of another dtype", async () => {
  const packed = await packWeights(await file(tensors), "a");
  for (
    const bytes of [
      packed.slice(0, -9),
      packed.slice(0, 40),
      packed.map((byte, i) => i === 900 ? byte ^ 1 : byte),
    ]
  ) {
    await assertRejects(() => unpackWeights(bytes, "the file"), SafetensorsError, "the file");
  }
  const entry = { name: "w", dtype: "F32", shape: [1], chunks: () => [new Uint8Array(4)] } as const;
  const single = await collected((sink) => writeSafetensors([entry], sink));
  await assertRejects(() => packWeights(single, "a"), SafetensorsError, "must be F16");
});

Deno.test("a folder of packed weights reads as the folder itself", async () => {
  const plain = await file(tensors);
  const packed = await packWeights(plain, "a", { isExact: () => true });
  const config = new TextEncoder().encode("{}");
  const read: number[][] = [];
  const tree = unpackedTree(
    memoryTree({ [`unet/a.safetensors${packedSuffix}`]: packed, "unet/config.json": config }, "model"),
    (done, total) => read.push([done, total]),
  );
  assertEquals(await tree.has("unet/a.safetensors"), true);
  assertEquals(await tree.has("unet/b.safetensors"), false);
  assertEquals(await tree.list("unet"), ["a.safetensors", "config.json"]);
  assertEquals(await tree.readJson("unet/config.json"), {});
  const source = await tree.open("unet/a.safetensors");
  assertEquals(await valuesOf(await source.read(0, source.size)), await valuesOf(plain));
  assertEquals(read, [[packed.length, packed.length]]);
});
