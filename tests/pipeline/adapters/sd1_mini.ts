/** sd1-mini for tests of adapters: safetensors in memory, and copies of it with changed weights. */

import type { Gpu } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { SafetensorsFile } from "../../../pipeline/checkpoint/safetensors/safetensors_file.ts";
import type { SafetensorsDtype } from "../../../pipeline/checkpoint/safetensors/format.ts";
import { writeSafetensors } from "../../../pipeline/checkpoint/safetensors/writer.ts";
import { type ByteSource, bytesSource } from "../../../pipeline/checkpoint/source/byte_source.ts";
import { memoryTree } from "../../../pipeline/checkpoint/source/file_tree.ts";
import { StableDiffusionPipeline } from "../../../pipeline/stable_diffusion.ts";
import { loadGoldens } from "../../goldens.ts";
import { randomArray } from "../../gpu.ts";
import { goldens } from "../../paths.ts";

/** A file of the goldens. */
export const golden = (path: string): string => `${goldens}/${path}`;

/** A tensor to write: the array's type is that of the file. */
export interface FileTensor {
  readonly shape: number[];
  readonly data: ArrayBufferView<ArrayBuffer>;
  readonly dtype?: SafetensorsDtype;
}

/** A safetensors file in memory. Tensors are F32, unless they say otherwise. */
export async function memoryFile(
  name: string,
  tensors: Readonly<Record<string, FileTensor>>,
  metadata?: Record<string, string>,
): Promise<ByteSource> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  const entries = Object.entries(tensors).map(([name, { shape, data, dtype = "F32" }]) => ({
    name,
    shape,
    dtype,
    chunks: () => [new Uint8Array(data.buffer, data.byteOffset, data.byteLength)],
  }));
  await writeSafetensors(entries, (chunk) => {
    parts.push(chunk.slice());
  }, { metadata });
  return bytesSource(new Uint8Array(await new Blob(parts).arrayBuffer()), name);
}

/** Reproducible values. */
export function random(shape: number[], seed: number): FileTensor {
  const count = shape.reduce((product, length) => product * length, 1);
  return { shape, data: randomArray(count, seed).map((value) => value / 4) };
}

const parts = [
  { folder: "unet", file: "diffusion_pytorch_model.safetensors", prefix: "unet." },
  { folder: "text_encoder", file: "model.safetensors", prefix: "text_encoder." },
];

/**
 * A copy of sd1-mini with changes added to its weights.
 *
 * @param changes by `unet.PATH` or `text_encoder.PATH`
 */
export async function changedMini(
  gpu: Gpu,
  changes: ReadonlyMap<string, { readonly data: ArrayLike<number> }>,
  strength = 1,
): Promise<StableDiffusionPipeline> {
  const files: Record<string, Uint8Array<ArrayBuffer>> = {};
  const copied = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    ...["vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"].map((f) => `tokenizer/${f}`),
  ];
  const left = new Set(changes.keys());
  for (const { folder, file, prefix } of parts) {
    const path = `${folder}/${file}`;
    using weights = await SafetensorsFile.open(bytesSource(await Deno.readFile(golden(`sd1-mini/${path}`)), file));
    const tensors: Record<string, FileTensor> = {};
    for (const [key, { shape }] of weights.tensors) {
      const data = await weights.float32(key), change = changes.get(prefix + key);
      if (change) { for (let i = 0; i < data.length; i++) data[i] += strength * change.data[i]; }
      left.delete(prefix + key);
      tensors[key] = { shape: [...shape], data };
    }
    const source = await memoryFile(file, tensors);
    files[path] = await source.read(0, source.size);
    copied.push(`${folder}/config.json`);
  }
  if (left.size > 0) throw new RangeError(`Cannot change sd1-mini as it has no ${[...left].join(", ")}`);
  for (const path of copied) files[path] = await Deno.readFile(golden(`sd1-mini/${path}`));
  return await StableDiffusionPipeline.fromPretrained(memoryTree(files, "changed"), { gpu });
}

/** Latents after two steps. */
export async function drawMini(pipe: StableDiffusionPipeline, scale?: number): Promise<Float32Array> {
  const { tensors } = await loadGoldens("sd1-mini");
  const { data, shape } = tensors.get("pipe.latents")!;
  using latents = Tensor.from(pipe.gpu, Float32Array.from(data), shape);
  const prompts = Array.from({ length: shape[0] }, (_, i) => ["a rose", "a cat in the snow"][i % 2]);
  const { images } = await pipe.generate(prompts, {
    latents,
    numInferenceSteps: 2,
    guidanceScale: 5,
    outputType: "latent",
    crossAttentionKwargs: scale === undefined ? undefined : { scale },
  });
  using result = images;
  return await result.data();
}
