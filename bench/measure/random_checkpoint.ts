/**
 * Writes a checkpoint with the shapes of Stable Diffusion 1.4 or SDXL and random weights, 2.1 or
 * 6.9 GB in f16, to test loading and to time drawing without real weights.
 *
 *     deno run -P=bench bench/measure/random_checkpoint.ts DIRECTORY|FILE.safetensors \
 *       [--model sd14|sdxl] [--dtype f16|f32] [--max-shard-bytes N]
 *
 * A path that ends in .safetensors writes a single file in the LDM layout. Any other path writes a
 * folder in diffusers' layout. Both dtypes hold the same values, which f16 represents exactly. The
 * tokenizer is the pocket model's; its ids are valid ids of CLIP.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { elements } from "../../engine/tensor.ts";
import { singleFileEntries } from "../../pipeline/checkpoint/ldm/single_file_entries.ts";
import type { TensorEntry } from "../../pipeline/checkpoint/safetensors/writer.ts";
import { saveSafetensors } from "../../pipeline/checkpoint/save.ts";
import { writeFolderAtomically } from "../../pipeline/output/folder.ts";
import { writeModelWeights } from "../../pipeline/checkpoint/safetensors/sharding.ts";
import type { Shapes } from "../cases/model_shapes.ts";
import * as sd14 from "../cases/sd14.ts";
import * as sdxl from "../cases/sdxl.ts";
import { xorshift32 } from "../oracles/numbers.ts";

const chunkElements = 1 << 22;
/** Default of the largest file: diffusers 0.23 reads no shards of a UNet. */
const unsharded = 1e11;
const pocketTokenizer = new URL("../../models/pocket/tokenizer/", import.meta.url);

/** The full-size models that there are shapes of. */
export type FullSizeModel = "sd14" | "sdxl";

/** The name of a component with weights. */
export type ModelPart = "text_encoder" | "text_encoder_2" | "vae" | "unet";

/** The components of Stable Diffusion 1.4 with weights, in the order of writing. */
const modelParts = ["text_encoder", "vae", "unet"] as const;

/** The components of a model with weights, in the order of writing. */
export function partsOf(model: FullSizeModel): readonly ModelPart[] {
  return model === "sd14" ? modelParts : ["text_encoder", "text_encoder_2", "vae", "unet"];
}

function shapesIn(model: FullSizeModel, part: ModelPart): Shapes {
  return model === "sdxl" ? sdxl.shapesOf(part) : sd14.shapesOf(part as typeof modelParts[number]);
}

/** The name of a component's weight file, without extension. */
export function weightsName(part: ModelPart): "model" | "diffusion_pytorch_model" {
  return part.startsWith("text_encoder") ? "model" : "diffusion_pytorch_model";
}

/** The tensors of one component, generated while they are written. Equal in every run. */
export function randomEntries(
  part: ModelPart,
  dtype: "f16" | "f32",
  model: FullSizeModel = "sd14",
): TensorEntry[] {
  return [...shapesIn(model, part)].map(([name, shape]) => ({
    name,
    shape,
    dtype: dtype === "f16" ? "F16" : "F32",
    *chunks() {
      const { mean, deviation } = distribution(name, shape);
      const total = elements(shape);
      const random = uniform(hash(`${part}/${name}`));
      for (let done = 0; done < total; done += chunkElements) {
        const values = new Float32Array(Math.min(chunkElements, total - done));
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
  return { mean: 0, deviation: 1 / Math.sqrt(elements(shape.slice(1))) };
}

/** Uniformly distributed values of mean 0 and deviation 1. */
function uniform(seed: number): () => number {
  const next = xorshift32(seed), scale = Math.sqrt(3) / 2 ** 31;
  return () => next() * scale;
}

/** FNV-1a. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value;
}

const sd14Index = {
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
};

const sdxlIndex = {
  _class_name: "StableDiffusionXLPipeline",
  _diffusers_version: "0.23.1",
  force_zeros_for_empty_prompt: true,
  scheduler: ["diffusers", "EulerDiscreteScheduler"],
  text_encoder: ["transformers", "CLIPTextModel"],
  text_encoder_2: ["transformers", "CLIPTextModelWithProjection"],
  tokenizer: ["transformers", "CLIPTokenizer"],
  tokenizer_2: ["transformers", "CLIPTokenizer"],
  unet: ["diffusers", "UNet2DConditionModel"],
  vae: ["diffusers", "AutoencoderKL"],
};

/** The text files of a folder in diffusers' layout, by path. */
export async function folderTexts(model: FullSizeModel = "sd14"): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  const json = (path: string, value: unknown) => texts.set(path, JSON.stringify(value, null, 2) + "\n");
  const configs: Readonly<Record<string, unknown>> = model === "sdxl" ? sdxl.configs : sd14.configs;
  for (const part of partsOf(model)) json(`${part}/config.json`, configs[part]);
  json("scheduler/scheduler_config.json", configs.scheduler);
  for (const folder of model === "sdxl" ? ["tokenizer", "tokenizer_2"] : ["tokenizer"]) {
    for (const name of ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"]) {
      const text = await Deno.readTextFile(new URL(name, pocketTokenizer));
      // as SDXL pads for its second text encoder, which single files imply
      const pad = folder === "tokenizer_2" ? '"pad_token": "!"' : '"pad_token": "<|endoftext|>"';
      texts.set(`${folder}/${name}`, name.endsWith(".txt") ? text : text.replace(/"pad_token": ".*?"/, pad));
    }
  }
  json("model_index.json", model === "sdxl" ? sdxlIndex : sd14Index);
  return texts;
}

/** Writes a folder in diffusers' layout. */
export async function writeFolder(
  directory: string,
  options: { model?: FullSizeModel; dtype?: "f16" | "f32"; maxShardBytes?: number } = {},
): Promise<void> {
  const { model = "sd14", dtype = "f16", maxShardBytes = unsharded } = options;
  const texts = await folderTexts(model);
  await writeFolderAtomically(directory, {}, async (folder) => {
    for (const part of partsOf(model)) {
      await writeModelWeights(folder, part, weightsName(part), randomEntries(part, dtype, model), { maxShardBytes });
    }
    for (const [path, text] of texts) await folder.writeText(path, text);
  });
}

/** Writes a single file in the LDM layout. */
export async function writeSingleFile(
  path: string,
  options: { model?: FullSizeModel; dtype?: "f16" | "f32" } = {},
): Promise<void> {
  const { model = "sd14", dtype = "f16" } = options;
  const configs = model === "sdxl" ? sdxl.configs : sd14.configs;
  const part = (name: "unet" | "vae" | "text_encoder") => ({
    config: configs[name],
    entries: randomEntries(name, dtype, model),
  });
  const entries = singleFileEntries({
    unet: part("unet"),
    vae: part("vae"),
    textEncoder: part("text_encoder"),
    ...(model === "sdxl"
      ? {
        textEncoder2: {
          config: sdxl.configs.text_encoder_2,
          entries: randomEntries("text_encoder_2", dtype, model),
        },
      }
      : {}),
    predictionType: "epsilon",
  });
  await saveSafetensors(path, entries, { metadata: { format: "pt" } });
}

if (import.meta.main) {
  const args = parseArgs(Deno.args, {
    string: ["dtype", "max-shard-bytes", "model"],
    default: { dtype: "f16", model: "sd14" },
  });
  const [target] = args._.map(String);
  const { dtype, model } = args;
  if (target === undefined || (dtype !== "f16" && dtype !== "f32") || (model !== "sd14" && model !== "sdxl")) {
    console.error(
      "Usage: random_checkpoint.ts DIRECTORY|FILE.safetensors [--model sd14|sdxl] [--dtype f16|f32] " +
        "[--max-shard-bytes N]",
    );
    Deno.exit(1);
  }
  const started = performance.now();
  const before = Deno.memoryUsage().rss;
  let peak = before;
  const watch = setInterval(() => peak = Math.max(peak, Deno.memoryUsage().rss), 20);
  if (target.endsWith(".safetensors")) await writeSingleFile(target, { model, dtype });
  else await writeFolder(target, { model, dtype, maxShardBytes: Number(args["max-shard-bytes"] ?? unsharded) });
  clearInterval(watch);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`${target}: ${seconds} s, host memory grew by ${((peak - before) / 2 ** 20).toFixed(0)} MiB at most`);
}
