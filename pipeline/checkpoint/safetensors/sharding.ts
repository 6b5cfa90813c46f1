/** Weights cut into several files with an index, as transformers and diffusers name them. */

import type { FolderWriter } from "../../output/folder.ts";
import { tensorBytes, type TensorEntry, writeSafetensors } from "./writer.ts";
import type { WeightsBaseName } from "./weight_files.ts";

/** The note by which transformers and diffusers know whose layout the tensors have. */
const metadata = { format: "pt" };

/**
 * Writes the weights of one model into a folder: as one file, or, where they exceed
 * `maxShardBytes`, as several with an index.
 *
 * @param folder The path inside the writer's folder: "unet".
 */
export async function writeModelWeights(
  writer: FolderWriter,
  folder: string,
  baseName: WeightsBaseName,
  entries: readonly TensorEntry[],
  options: { maxShardBytes: number },
): Promise<void> {
  const shards = planShards(entries, options.maxShardBytes);
  const nameOf = (shard: number): string => {
    const number = (n: number) => `${n}`.padStart(5, "0");
    const suffix = shards.length === 1 ? "" : `-${number(shard + 1)}-of-${number(shards.length)}`;
    return `${baseName}${suffix}.safetensors`;
  };
  for (const [shard, part] of shards.entries()) {
    await writer.write(`${folder}/${nameOf(shard)}`, (sink) => writeSafetensors(part, sink, { metadata }));
  }
  if (shards.length === 1) return;
  const index = {
    metadata: { total_size: entries.reduce((sum, entry) => sum + tensorBytes(entry), 0) },
    weight_map: Object.fromEntries(
      shards.flatMap((part, shard) => part.map(({ name }) => [name, nameOf(shard)])).sort(([a], [b]) => a < b ? -1 : 1),
    ),
  };
  await writer.writeText(`${folder}/${baseName}.safetensors.index.json`, JSON.stringify(index, null, 2) + "\n");
}

/** Groups of tensors, in order, each of at most `maxBytes` unless it is a single tensor. */
export function planShards(entries: readonly TensorEntry[], maxBytes: number): TensorEntry[][] {
  const shards: TensorEntry[][] = [[]];
  let bytes = 0;
  for (const entry of entries) {
    const more = tensorBytes(entry);
    if (bytes + more > maxBytes && bytes > 0) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)!.push(entry);
    bytes += more;
  }
  return shards;
}
