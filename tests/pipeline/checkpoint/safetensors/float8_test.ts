import { assertEquals } from "@std/assert";
import { elementsOf, toFloat32 } from "../../../../pipeline/checkpoint/safetensors/decode.ts";
import { SafetensorsFile } from "../../../../pipeline/checkpoint/safetensors/safetensors_file.ts";
import { fileSource } from "../../../../pipeline/checkpoint/source/disk.ts";
import { memoryTree } from "../../../../pipeline/checkpoint/source/file_tree.ts";
import { UNet2DConditionModel } from "../../../../pipeline/models/unet.ts";
import { type TensorEntry, writeSafetensors } from "../../../../pipeline/checkpoint/safetensors/writer.ts";
import { Tensor } from "../../../../engine/tensor.ts";
import { loadGoldens } from "../../../goldens.ts";
import { gpuTest } from "../../../gpu.ts";
import { goldens } from "../../../paths.ts";

const every = Uint8Array.from({ length: 256 }, (_, byte) => byte);

for (const [dtype, name] of [["F8_E4M3", "e4m3"], ["F8_E5M2", "e5m2"]] as const) {
  Deno.test(`all 256 values of ${dtype} widen to f16 as torch reads them`, async () => {
    const golden = (await loadGoldens("small_models")).tensors.get(`float8.${name}`)!;
    const widened = elementsOf(every.slice().buffer, dtype)!;
    assertEquals(widened instanceof Float16Array, true);
    assertEquals([...toFloat32(widened)], [...golden.data]); // equal by Object.is: signed zeros and NaN count
  });
}

gpuTest("a model of float8 weights is the model of the same weights in f16", async (gpu) => {
  using source = await SafetensorsFile.open(
    await fileSource(`${goldens}/tiny-sd/unet/diffusion_pytorch_model.safetensors`),
  );
  const config = await Deno.readFile(`${goldens}/tiny-sd/unet/config.json`);
  // The upper bytes of f16 numbers are E5M2 numbers.
  const upper = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const name of source.tensors.keys()) {
    const bytes = await source.read(name);
    upper.set(name, Uint8Array.from({ length: bytes.length / 2 }, (_, i) => bytes[2 * i + 1]));
  }
  const treeOf = async (dtype: "F8_E5M2" | "F16") => {
    const entries: TensorEntry[] = [...upper].map(([name, bytes]) => ({
      name,
      dtype,
      shape: source.info(name).shape,
      chunks: () => [dtype === "F16" ? Uint8Array.from([...bytes].flatMap((byte) => [0, byte])) : bytes],
    }));
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    await writeSafetensors(entries, (chunk) => void chunks.push(chunk.slice()));
    const weights = new Uint8Array(await new Blob(chunks).arrayBuffer());
    return memoryTree({ "config.json": config, "diffusion_pytorch_model.safetensors": weights }, dtype);
  };
  const outputs: Float32Array[] = [];
  const memory: number[] = [];
  for (const dtype of ["F8_E5M2", "F16"] as const) {
    const before = gpu.memory.live;
    using unet = await UNet2DConditionModel.fromPretrained(await treeOf(dtype), { gpu });
    memory.push(gpu.memory.live - before);
    using sample = Tensor.from(gpu, Float32Array.from({ length: 4 * 64 }, (_, i) => Math.sin(i)), [1, 4, 8, 8]);
    using context = Tensor.from(gpu, Float32Array.from({ length: 4 * 48 }, (_, i) => Math.cos(i)), [1, 4, 48]);
    using noise = unet.forward(sample, 300, context);
    outputs.push(await noise.data());
  }
  assertEquals(outputs[0], outputs[1]);
  assertEquals(memory[0], memory[1]);
});
