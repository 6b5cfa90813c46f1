/**
 * Full-size models with all weights zero, generated while they are read. The compiled kernels and
 * the buffer sizes of a full-size model do not depend on the weights.
 *
 * @module
 */
import { type ByteSource, bytesSource } from "../../pipeline/checkpoint/source/byte_source.ts";
import { childrenOf, type FileTree, fileTree } from "../../pipeline/checkpoint/source/file_tree.ts";
import { layoutSafetensors } from "../../pipeline/checkpoint/safetensors/writer.ts";
import { folderTexts, type FullSizeModel, partsOf, randomEntries, weightsName } from "./random_checkpoint.ts";

/** The checkpoint as a folder in diffusers' layout, in f16. */
export async function hollowCheckpoint(model: FullSizeModel = "sd14"): Promise<FileTree> {
  const name = model === "sdxl" ? "hollow SDXL" : "hollow Stable Diffusion 1.4";
  const sources = new Map<string, ByteSource>();
  for (const [path, text] of await folderTexts(model)) {
    sources.set(path, bytesSource(new TextEncoder().encode(text), `${name}/${path}`));
  }
  for (const part of partsOf(model)) {
    const path = `${part}/${weightsName(part)}.safetensors`;
    // The entries' chunks are never read.
    const { header, size } = layoutSafetensors(randomEntries(part, "f16", model));
    sources.set(path, hollowSource(header, { size, name: `${name}/${path}` }));
  }
  return fileTree({
    name,
    has: (path) => Promise.resolve(sources.has(path)),
    open: (path) => Promise.resolve(sources.get(path)!),
    list: (path) => Promise.resolve(childrenOf(path, sources.keys())),
  });
}

/** A file that starts with a header; the rest is zeros. */
function hollowSource(header: Uint8Array<ArrayBuffer>, { size, name }: { size: number; name: string }): ByteSource {
  return {
    name,
    size,
    read(offset, length, into) {
      const bytes = (into ?? new Uint8Array(length)).subarray(0, length);
      bytes.fill(0);
      bytes.set(header.subarray(offset, offset + length));
      return Promise.resolve(bytes);
    },
  };
}
