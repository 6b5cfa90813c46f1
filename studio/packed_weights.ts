/**
 * A packed copy of a model's weights, for transport to a browser. `pack_weights.ts` writes it when
 * the studio is built; the page's worker unpacks it and gives the loaders an ordinary safetensors
 * file in f16.
 *
 * A packed file is, compressed by gzip, a safetensors file of 16-bit elements whose data area is
 * split into bytes: first the low bytes of all elements, then all high bytes. Tensors of dtype F16
 * are as they were. Tensors of dtype U16 stand for values q · 2^e: the integers q = 0, −1, 1, −2, …
 * are stored as 0, 1, 2, 3, …, and the metadata "exponents" maps names of tensors to e, as JSON.
 * All of these values are exact in f16.
 *
 * @module
 */

import { type ByteSource, bytesSource } from "../pipeline/checkpoint/source/byte_source.ts";
import { type FileTree, fileTree } from "../pipeline/checkpoint/source/file_tree.ts";
import { isSafetensors, type TensorInfo } from "../pipeline/checkpoint/safetensors/format.ts";
import { SafetensorsFile } from "../pipeline/checkpoint/safetensors/safetensors_file.ts";
import { type TensorEntry, writeSafetensors } from "../pipeline/checkpoint/safetensors/writer.ts";
import { SafetensorsError } from "../pipeline/errors.ts";
import { collected } from "./saved_file.ts";

/** What a packed file's name has beyond the name of the file that it stands for. */
export const packedSuffix = ".packed";

type Bytes = Uint8Array<ArrayBuffer>;

/**
 * The safetensors file of a packed file, all in f16.
 *
 * @throws {SafetensorsError} if it is incomplete, or no packed file
 */
export async function unpackWeights(packed: Bytes, name: string): Promise<Bytes> {
  const split = await inflated(packed).catch((cause) => {
    throw new SafetensorsError(`Cannot unpack ${name} as it is incomplete or changed: load the page again`, {
      source: name,
      cause,
    });
  });
  const start = dataStart(split);
  const plain = split.slice();
  const count = Math.floor((split.length - start) / 2);
  for (let i = 0; i < count; i++) {
    plain[start + 2 * i] = split[start + i];
    plain[start + 2 * i + 1] = split[start + count + i];
  }
  using weights = await SafetensorsFile.open(bytesSource(plain, name));
  const { exponents: text = "{}", ...metadata } = weights.metadata;
  const exponents: Record<string, number> = JSON.parse(text);
  const entries = await Promise.all([...weights.tensors].map(async ([key, info]) => {
    const bytes = await weights.readRange(key, 0, info.bytes);
    if (info.dtype === "F16") return entryOf(key, info, bytes);
    const exponent = exponents[key];
    if (info.dtype !== "U16" || !Number.isInteger(exponent)) {
      throw refusal(name, key, `packed weights must be F16, or U16 with an exponent, and it is ${info.dtype}`);
    }
    const step = 2 ** exponent;
    const values = Float16Array.from(new Uint16Array(bytes.buffer), (code) => step * (code >> 1 ^ -(code & 1)));
    return entryOf(key, info, new Uint8Array(values.buffer));
  }));
  return await collected((sink) => writeSafetensors(entries, sink, { metadata }));
}

/**
 * A model folder whose safetensors files are packed, as the folder that it was packed from.
 *
 * @param onRead Told, file by file, how much of a packed file has been read.
 */
export function unpackedTree(
  packed: FileTree,
  onRead: (doneBytes: number, totalBytes: number) => void = () => {},
): FileTree {
  return fileTree({
    name: packed.name,
    has: (path) => packed.has(isSafetensors(path) ? path + packedSuffix : path),
    async open(path) {
      if (!isSafetensors(path)) return await packed.open(path);
      const source = await packed.open(path + packedSuffix);
      try {
        return bytesSource(await unpackWeights(await readInParts(source, onRead), source.name), source.name);
      } finally {
        source.close?.();
      }
    },
    list: async (path) =>
      (await packed.list(path === "" ? undefined : path)).map((name) =>
        name.endsWith(packedSuffix) ? name.slice(0, -packedSuffix.length) : name
      ),
  });
}

function entryOf(name: string, { shape }: TensorInfo, bytes: Bytes): TensorEntry {
  return { name, dtype: "F16", shape, chunks: () => [bytes] };
}

/** Where the tensors of a safetensors file begin; its end for a header that claims to be longer. */
export function dataStart(file: Bytes): number {
  if (file.length < 8) return file.length;
  const header = new DataView(file.buffer, file.byteOffset).getBigUint64(0, true);
  return Math.min(file.length, 8 + Number(header));
}

/** Parts are large, as each is a request. */
const partBytes = 1 << 20;

async function readInParts(
  source: ByteSource,
  onRead: (doneBytes: number, totalBytes: number) => void,
): Promise<Bytes> {
  const bytes = new Uint8Array(source.size);
  for (let offset = 0; offset < source.size; offset += partBytes) {
    const length = Math.min(partBytes, source.size - offset);
    bytes.set(await source.read(offset, length), offset);
    onRead(offset + length, source.size);
  }
  return bytes;
}

async function inflated(bytes: Bytes): Promise<Bytes> {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function refusal(source: string, tensor: string, reason: string): SafetensorsError {
  return new SafetensorsError(`Cannot read the tensor ${tensor} of ${source}: ${reason}`, { source, tensor });
}
