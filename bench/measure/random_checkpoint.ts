/**
 * Writes a checkpoint with the shapes of Stable Diffusion 1.4 and random weights: 2.1 GB in f16, to
 * test loading and to time drawing without real weights.
 *
 *     deno run -P=bench bench/measure/random_checkpoint.ts DIRECTORY|FILE.safetensors \
 *       [--dtype f16|f32] [--max-shard-bytes N]
 *
 * A path that ends in .safetensors writes a single file in the LDM layout. Any other path writes a
 * folder in diffusers' layout. Both dtypes hold the same values, which f16 represents exactly. The
 * tokenizer is the pocket model's; its ids are valid ids of CLIP.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { singleFileEntries } from "../../pipeline/checkpoint/ldm/single_file_entries.ts";
import type { TensorEntry } from "../../pipeline/checkpoint/safetensors/writer.ts";
import { saveSafetensors } from "../../pipeline/checkpoint/save.ts";
import { writeFolderAtomically } from "../../pipeline/output/folder.ts";
import { writeModelWeights } from "../../pipeline/checkpoint/safetensors/sharding.ts";
import { configs, shapesOf } from "../cases/sd14.ts";

const chunkElements = 1 << 22;
const pocketTokenizer = new URL("../../models/pocket/tokenizer/", import.meta.url);

/** The components with weights, in the order of writing. */
export const modelParts = ["text_encoder", "vae", "unet"] as const;

/** The name of a component's weight file, without extension. */
export function weightsName(part: typeof modelParts[number]): "model" | "diffusion_pytorch_model" {
  return part === "text_encoder" ? "model" : "diffusion_pytorch_model";
}

/** The tensors of one component, generated while they are written. Equal in every run. */
export function randomEntries(part: typeof modelParts[number], dtype: "f16" | "f32"): TensorEntry[] {
  return [...shapesOf(part)].map(([name, shape]) => ({
    name,
    shape,
    dtype: dtype === "f16" ? "F16" : "F32",
    *chunks() {
      const { mean, deviation } = distribution(name, shape);
      const elements = shape.reduce((product, length) => product * length, 1);
      const random = uniform(hash(`${part}/${name}`));
      for (let done = 0; done < elements; done += chunkElements) {
        const values = new Float32Array(Math.min(chunkElements, elements - done));
        for (let i = 0; i < values.length; i++) values[i] = mean + deviation * random();
        const rounded = new Float16Array(values);
        yield new Uint8Array(dtype === "f16" ? rounded.buffer : new Float32Array(rounded).buffer);
      }
    },
  }));
}

/**
 * Mean and deviation of a tensor. Weights preserve the magnitude of activations, and every
 * parameter affects the result.
 */
function distribution(name: string, shape: readonly number[]): { mean: number; deviation: number } {
  if (name.includes("embedding.weight") && name.startsWith("text_model")) return { mean: 0, deviation: 0.3 };
  if (name.endsWith(".bias")) return { mean: 0, deviation: 0.02 };
  if (shape.length === 1) return { mean: 1, deviation: 0.05 };
  const inputs = shape.slice(1).reduce((product, length) => product * length, 1);
  return { mean: 0, deviation: 1 / Math.sqrt(inputs) };
}

/** Uniformly distributed values of mean 0 and deviation 1 (xorshift32). */
function uniform(seed: number): () => number {
  let state = seed || 1;
  const scale = Math.sqrt(3) / 2 ** 31;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state * scale;
  };
}

/** FNV-1a. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value;
}

/** The text files of a folder in diffusers' layout, by path. */
export async function folderTexts(): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  const json = (path: string, value: unknown) => texts.set(path, JSON.stringify(value, null, 2) + "\n");
  for (const part of modelParts) json(`${part}/config.json`, configs[part]);
  json("scheduler/scheduler_config.json", configs.scheduler);
  for (const name of ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"]) {
    texts.set(`tokenizer/${name}`, await Deno.readTextFile(new URL(name, pocketTokenizer)));
  }
  json("model_index.json", {
    _class_name: "StableDiffusionPipeline",
    _diffusers_version: "0.23.1",
    feature_extractor: [null, null],
    requires_safety_checker: false,
    safety_checker: [null, null],
    scheduler: ["diffusers", "PNDMScheduler"],
    text_encoder: ["transformers", "CLIPTextModel"],
    tokenizer: ["transformers", "CLIPTokenizer"],
    unet: ["diffusers", "UNet2DConditionModel"],
    vae: ["diffusers", "AutoencoderKL"],
  });
  return texts;
}

/** Writes a folder in diffusers' layout. */
export async function writeFolder(
  directory: string,
  options: { dtype?: "f16" | "f32"; maxShardBytes?: number } = {},
): Promise<void> {
  const { dtype = "f16", maxShardBytes = 5e9 } = options;
  const texts = await folderTexts();
  await writeFolderAtomically(directory, {}, async (folder) => {
    for (const part of modelParts) {
      await writeModelWeights(folder, part, weightsName(part), randomEntries(part, dtype), { maxShardBytes });
    }
    for (const [path, text] of texts) await folder.writeText(path, text);
  });
}

/** Writes a single file in the LDM layout. */
export async function writeSingleFile(path: string, dtype: "f16" | "f32" = "f16"): Promise<void> {
  const part = (name: "unet" | "vae" | "text_encoder") => ({
    config: configs[name],
    entries: randomEntries(name, dtype),
  });
  const entries = singleFileEntries({
    unet: part("unet"),
    vae: part("vae"),
    textEncoder: part("text_encoder"),
    predictionType: "epsilon",
  });
  await saveSafetensors(path, entries, { metadata: { format: "pt" } });
}

if (import.meta.main) {
  const args = parseArgs(Deno.args, { string: ["dtype", "max-shard-bytes"], default: { dtype: "f16" } });
  const [target] = args._.map(String);
  const { dtype } = args;
  if (target === undefined || (dtype !== "f16" && dtype !== "f32")) {
    console.error("Usage: random_checkpoint.ts DIRECTORY|FILE.safetensors [--dtype f16|f32] [--max-shard-bytes N]");
    Deno.exit(1);
  }
  const started = performance.now();
  const before = Deno.memoryUsage().rss;
  let peak = before;
  const watch = setInterval(() => peak = Math.max(peak, Deno.memoryUsage().rss), 20);
  if (target.endsWith(".safetensors")) await writeSingleFile(target, dtype);
  else await writeFolder(target, { dtype, maxShardBytes: Number(args["max-shard-bytes"] ?? 5e9) });
  clearInterval(watch);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`${target}: ${seconds} s, host memory grew by ${((peak - before) / 2 ** 20).toFixed(0)} MiB at most`);
}
