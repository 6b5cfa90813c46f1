import { assertEquals, assertRejects } from "@std/assert";
import { directoryTree } from "../../../../pipeline/checkpoint/source/disk.ts";
import { memoryTree } from "../../../../pipeline/checkpoint/source/file_tree.ts";
import { type TensorEntry, writeSafetensors } from "../../../../pipeline/checkpoint/safetensors/writer.ts";
import { findWeights, listVariants, openWeights } from "../../../../pipeline/checkpoint/safetensors/weight_files.ts";
import { CheckpointError, PathError, SafetensorsError } from "../../../../pipeline/errors.ts";
import { goldens } from "../../../paths.ts";

/** A safetensors file whose tensors each hold their one number. */
async function fileOf(numbers: Record<string, number>): Promise<Blob> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  const entries = Object.entries(numbers).map(([name, number]): TensorEntry => ({
    name,
    dtype: "F32",
    shape: [1],
    chunks: () => [new Uint8Array(Float32Array.of(number).buffer)],
  }));
  await writeSafetensors(entries, (chunk) => void chunks.push(chunk.slice()));
  return new Blob(chunks);
}

const json = (value: unknown): Blob => new Blob([JSON.stringify(value)]);

Deno.test("openWeights() finds the one file of a folder, of either base name and of a variant", async () => {
  const tree = memoryTree({
    "diffusion_pytorch_model.safetensors": await fileOf({ a: 1 }),
    "model.safetensors": await fileOf({ a: 2 }),
    "model.fp16.safetensors": await fileOf({ a: 3 }),
  }, "m");
  assertEquals(await (await openWeights(tree, "diffusion_pytorch_model")).float32("a"), Float32Array.of(1));
  assertEquals(await (await openWeights(tree, "model")).float32("a"), Float32Array.of(2));
  assertEquals(await (await openWeights(tree, "model", { variant: "fp16" })).float32("a"), Float32Array.of(3));
  assertEquals(await listVariants(tree, "model"), [undefined, "fp16"]);
  assertEquals(await listVariants(tree, "diffusion_pytorch_model"), [undefined]);
});

for (const indexPath of ["model.safetensors.index.fp16.json", "model.fp16.safetensors.index.json"]) {
  Deno.test(`openWeights() reads the shards of ${indexPath} as one checkpoint`, async () => {
    const tree = memoryTree({
      "model.fp16-00001-of-00002.safetensors": await fileOf({ a: 1, b: 2 }),
      "model.fp16-00002-of-00002.safetensors": await fileOf({ c: 3 }),
      [indexPath]: json({
        metadata: { total_size: 12 },
        weight_map: {
          a: "model.fp16-00001-of-00002.safetensors",
          b: "model.fp16-00001-of-00002.safetensors",
          c: "model.fp16-00002-of-00002.safetensors",
        },
      }),
    }, "m");
    assertEquals(await findWeights(tree, "model", { variant: "fp16" }), { path: indexPath, isIndex: true });
    assertEquals(await listVariants(tree, "model"), ["fp16"]);
    using weights = await openWeights(tree, "model", { variant: "fp16" });
    assertEquals([...weights.tensors.keys()].sort(), ["a", "b", "c"]);
    assertEquals(await weights.float32("b"), Float32Array.of(2));
    assertEquals(await weights.float32("c"), Float32Array.of(3));
    await assertRejects(() => weights.read("d"), SafetensorsError, `m/${indexPath} has 3 tensors`);
  });
}

Deno.test("openWeights() rejects an index that contradicts its shards, and names the contradiction", async () => {
  const shards = { "1.safetensors": await fileOf({ a: 1 }), "2.safetensors": await fileOf({ b: 2 }) };
  const open = (weight_map: unknown, files: Record<string, Blob> = shards) =>
    openWeights(memoryTree({ ...files, "model.safetensors.index.json": json({ weight_map }) }, "m"), "model");
  const whole = { a: "1.safetensors", b: "2.safetensors" };
  await assertRejects(
    () => open(whole, { "1.safetensors": shards["1.safetensors"] }),
    CheckpointError,
    "2.safetensors is",
  );
  await assertRejects(
    () => open({ ...whole, c: "2.safetensors" }),
    SafetensorsError,
    "2.safetensors lacks the tensor c",
  );
  await assertRejects(() => open({ ...whole, b: "1.safetensors" }), SafetensorsError, "lacks the tensor b");
  await assertRejects(() => open({ a: "2.safetensors", b: "1.safetensors" }), SafetensorsError, "assigns it to 2");
  const extra = { "1.safetensors": await fileOf({ a: 1, z: 1 }), "2.safetensors": shards["2.safetensors"] };
  await assertRejects(() => open(whole, extra), SafetensorsError, "holds the tensor z, but the index does not list it");
  await assertRejects(() => open({ a: "../1.safetensors" }), PathError, '"../1.safetensors"');
  await assertRejects(() => open({ a: "/1.safetensors" }), PathError);
  await assertRejects(() => open({ a: "1.bin" }), CheckpointError, "not a safetensors file");
  for (const senseless of [undefined, null, [], {}, { a: 1 }]) {
    await assertRejects(() => open(senseless), CheckpointError, "weight_map");
  }
});

Deno.test("openWeights() names what a folder contains instead: other variants, pickles or nothing", async () => {
  const open = (files: Record<string, Blob>, variant?: string) =>
    openWeights(memoryTree(files, "m"), "model", { variant });
  const fp16 = { "model.fp16.safetensors": await fileOf({ a: 1 }) };
  await assertRejects(() => open(fp16), CheckpointError, "available: fp16");
  await assertRejects(() => open(fp16, "bf16"), CheckpointError, 'variant "bf16"');
  const pickle = { "pytorch_model.bin": new Blob([]), "config.json": json({}) };
  await assertRejects(() => open(pickle), CheckpointError, "safe_serialization=True");
  await assertRejects(() => open({ "config.json": json({}) }), CheckpointError, "the folder contains: config.json");
});

Deno.test("openWeights() opens a folder of the goldens on disk in both precisions, with the same tensors", async () => {
  const tree = await directoryTree(`${goldens}/sd1-mini/unet`);
  using full = await openWeights(tree, "diffusion_pytorch_model");
  using half = await openWeights(tree, "diffusion_pytorch_model", { variant: "fp16" });
  assertEquals([...half.tensors.keys()].sort(), [...full.tensors.keys()].sort());
  assertEquals(full.info("conv_in.weight").dtype, "F32");
  assertEquals(half.info("conv_in.weight").dtype, "F16");
  const [wide, narrow] = [await full.float32("conv_in.weight"), await half.float32("conv_in.weight")];
  wide.forEach((value, i) => assertEquals(Math.f16round(value), narrow[i]));
});
