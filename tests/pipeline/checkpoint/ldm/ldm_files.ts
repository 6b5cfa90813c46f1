/**
 * Writes the mini models as single files, by the places that the real diffusers' conversion found
 * each tensor in (tests/reference/single_file.json): independent of the tables that are tested.
 */

import { type ByteSource, bytesSource } from "../../../../pipeline/checkpoint/source/byte_source.ts";
import { directoryTree } from "../../../../pipeline/checkpoint/source/disk.ts";
import { bitsOf, type SafetensorsDtype } from "../../../../pipeline/checkpoint/safetensors/format.ts";
import { type TensorEntry, writeSafetensors } from "../../../../pipeline/checkpoint/safetensors/writer.ts";
import type { Weights } from "../../../../pipeline/checkpoint/safetensors/weights.ts";
import { openWeights } from "../../../../pipeline/checkpoint/safetensors/weight_files.ts";
import { goldens, referenceFolder } from "../../../paths.ts";

/** The place of each diffusers key: "LDM key", or "LDM key from row N". */
export type Places = Record<string, string>;

const recorded: Record<string, Places> = JSON.parse(
  await Deno.readTextFile(`${referenceFolder}/single_file.json`),
);

/** Where diffusers' conversion finds each tensor of a part of a mini model. */
export function placesOf(model: string, part: "unet" | "vae" | "text_encoder"): Places {
  return recorded[part === "text_encoder" ? `${part} of ${model}` : part];
}

/** What a mini model's shapes cannot tell, as they are not those of the published models. */
export const miniConfig = {
  "sd1-mini": {
    unet: { attention_head_dim: 4, norm_num_groups: 8, sample_size: 16 },
    vae: { norm_num_groups: 8, sample_size: 32 },
    text_encoder: { num_attention_heads: 4, eos_token_id: 652 },
  },
  "sd2-mini": {
    unet: { attention_head_dim: [2, 4, 6], norm_num_groups: 8, sample_size: 16 },
    vae: { norm_num_groups: 8, sample_size: 32 },
    text_encoder: { num_attention_heads: 4, num_hidden_layers: 4, eos_token_id: 652 },
  },
};

/** A tensor of a test file. Its values do not matter. */
export function zeros(name: string, shape: readonly number[], dtype: SafetensorsDtype = "F16"): TensorEntry {
  const bytes = shape.reduce((product, length) => product * length, bitsOf[dtype] / 8);
  return { name, shape, dtype, chunks: () => [new Uint8Array(bytes)] };
}

/** The tensors of a mini model in the LDM layout. */
export async function ldmEntries(model: "sd1-mini" | "sd2-mini"): Promise<TensorEntry[]> {
  const entries: TensorEntry[] = [];
  for (const part of ["unet", "vae", "text_encoder"] as const) {
    const tree = await directoryTree(`${goldens}/${model}/${part}`);
    const weights = await openWeights(tree, part === "text_encoder" ? "model" : "diffusion_pytorch_model");
    entries.push(...await partEntries(weights, placesOf(model, part)));
    weights.close();
  }
  return entries;
}

async function partEntries(weights: Weights, places: Places): Promise<TensorEntry[]> {
  const rowsOf = new Map<string, { row: number; key: string }[]>();
  for (const [key, place] of Object.entries(places)) {
    const [ldm, row = "0"] = place.split(" from row ");
    rowsOf.set(ldm, [...rowsOf.get(ldm) ?? [], { row: Number(row), key }]);
  }
  const entries: TensorEntry[] = [];
  for (const [name, parts] of rowsOf) {
    parts.sort((a, b) => a.row - b.row);
    const { dtype, shape: [, ...inner] } = weights.info(parts[0].key);
    const rows = parts.reduce((sum, { key }) => sum + weights.info(key).shape[0], 0);
    const isVaeProjection = /first_stage_model\..*\.attn_1\.\w+\.weight/.test(name) && inner.length === 1;
    const chunks = await Promise.all(parts.map(({ key }) => weights.read(key)));
    entries.push({ name, dtype, shape: [rows, ...inner, ...(isVaeProjection ? [1, 1] : [])], chunks: () => chunks });
  }
  return entries;
}

/** A safetensors file in memory. */
export async function fileOf(
  entries: readonly TensorEntry[],
  name = "model.safetensors",
  metadata?: Record<string, string>,
): Promise<ByteSource> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  await writeSafetensors(entries, (chunk) => void chunks.push(chunk.slice()), { metadata });
  return bytesSource(new Uint8Array(await new Blob(chunks).arrayBuffer()), name);
}
