/**
 * Writes safetensors files, laid out as the reference implementation does.
 *
 * @module
 */

import { SafetensorsError } from "../../errors.ts";
import type { ByteSink } from "../../output/byte_sink.ts";
import { shown } from "../../shown.ts";
import { bitsIn, dtypesByAlignment, isSizes, maxHeaderBytes, type SafetensorsDtype } from "./format.ts";

/** A tensor to be written. Its bytes are requested once, when they are written. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  /** The bytes, little-endian and row-major, in pieces of any size. */
  chunks(): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/**
 * The layout of a file: its header, the tensors in file order, and its length.
 */
export interface SafetensorsLayout {
  readonly header: Uint8Array<ArrayBuffer>;
  readonly entries: readonly TensorEntry[];
  /** Length of the whole file in bytes. */
  readonly size: number;
}

/**
 * Bytes of a tensor's data.
 *
 * @throws {SafetensorsError} for an unknown dtype, for a shape that is no list of whole numbers
 *   from 0, and if both do not come to whole bytes
 */
export function tensorBytes(entry: Pick<TensorEntry, "name" | "dtype" | "shape">): number {
  const { name, dtype, shape } = entry;
  if (!dtypesByAlignment.includes(dtype)) {
    throw refused(name, `its dtype must be one of ${dtypesByAlignment.join(", ")}: ${shown(dtype)}`);
  }
  if (!isSizes(shape)) throw refused(name, `its shape must be a list of whole numbers from 0: ${shown(shape)}`);
  const bits = bitsIn(shape, dtype);
  if (bits === null) throw refused(name, `its shape ${shown(shape)} is too large to count`);
  if (bits % 8 !== 0) throw refused(name, `${dtype} of shape ${shown(shape)} does not fill its last byte`);
  return bits / 8;
}

function refused(name: string, reason: string): SafetensorsError {
  return new SafetensorsError(`Cannot write tensor ${name} as ${reason}`, { source: "safetensors", tensor: name });
}

/** A text that JSON in UTF-8 can hold: one without half of a surrogate pair. */
const isText = (value: unknown): value is string => typeof value === "string" && value.isWellFormed();

/**
 * Refuses what a header cannot hold, before anything is written.
 *
 * @throws {SafetensorsError} for a name or metadata that are no text, and entries without chunks
 */
function checkContent(entries: readonly TensorEntry[], metadata: unknown): void {
  const fail = (message: string) => new SafetensorsError(`Cannot write ${message}`, { source: "safetensors" });
  for (const { name, chunks } of entries) {
    if (!isText(name)) throw fail(`a tensor as its name must be a text of whole characters: ${shown(name)}`);
    if (typeof chunks !== "function") {
      throw refused(name, `chunks must be a function that returns its bytes: ${shown(chunks)}`);
    }
  }
  if (metadata === undefined) return;
  if (typeof metadata !== "object" || metadata === null || Array.isArray(metadata)) {
    throw fail(`metadata as they must be an object of texts: ${shown(metadata)}`);
  }
  for (const [key, value] of Object.entries(metadata)) {
    if (!isText(key) || !isText(value)) {
      throw fail(`metadata ${shown(key)} as keys and values must be texts of whole characters: ${shown(value)}`);
    }
  }
}

/**
 * Plans a file as the reference implementation does: `__metadata__` first, then the tensors by
 * descending alignment and ascending name. Spaces pad the header to a multiple of 8 bytes.
 *
 * @throws {SafetensorsError} for two tensors of one name, the reserved name `__metadata__`, a dtype
 *   or shape that the format does not have, and names or metadata that are no text
 */
export function layoutSafetensors(
  entries: readonly TensorEntry[],
  options: { metadata?: Readonly<Record<string, string>> } = {},
): SafetensorsLayout {
  checkContent(entries, options.metadata);
  const ordered = [...entries].sort((a, b) =>
    dtypesByAlignment.indexOf(b.dtype) - dtypesByAlignment.indexOf(a.dtype) || (a.name < b.name ? -1 : 1)
  );
  const header = new Map<string, unknown>();
  if (options.metadata !== undefined) header.set("__metadata__", options.metadata);
  let end = 0;
  for (const entry of ordered) {
    if (entry.name === "__metadata__" || header.has(entry.name)) {
      const reason = entry.name === "__metadata__" ? "that name is the format's own" : "there are two of that name";
      throw refused(entry.name, reason);
    }
    const begin = end;
    end += tensorBytes(entry);
    header.set(entry.name, { dtype: entry.dtype, shape: entry.shape, data_offsets: [begin, end] });
  }
  // Written key by key, as an object would sort names that look like numbers to its front.
  const json = `{${[...header].map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(",")}}`;
  const unpadded = new TextEncoder().encode(json).length;
  const padded = json + " ".repeat(-unpadded & 7);
  const body = new TextEncoder().encode(padded);
  if (body.length > maxHeaderBytes) {
    throw new SafetensorsError(
      `Cannot write a header of ${body.length} bytes as ${maxHeaderBytes} are allowed`,
      { source: "safetensors", expected: maxHeaderBytes, actual: body.length },
    );
  }
  const bytes = new Uint8Array(8 + body.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(body.length), true);
  bytes.set(body, 8);
  return { header: bytes, entries: ordered, size: bytes.length + end };
}

/**
 * Writes a safetensors file chunk by chunk. Only what a tensor's producer holds is in memory.
 *
 * @returns The length of the file in bytes.
 * @throws {SafetensorsError} as `layoutSafetensors()` does, or if a tensor's chunks do not add up
 *   to its size.
 *
 * @example
 * ```ts
 * const parts: Uint8Array[] = [];
 * const chunks = () => [new Uint8Array(8)];
 * const entry = { name: "a", dtype: "F32", shape: [2], chunks } as const;
 * await writeSafetensors([entry], (chunk) => {
 *   parts.push(chunk.slice());
 * });
 * ```
 */
export async function writeSafetensors(
  entries: readonly TensorEntry[],
  sink: ByteSink,
  options: { metadata?: Readonly<Record<string, string>> } = {},
): Promise<number> {
  const layout = layoutSafetensors(entries, options);
  await sink(layout.header);
  for (const entry of layout.entries) {
    const expected = tensorBytes(entry);
    let actual = 0;
    for await (const chunk of entry.chunks()) {
      if (!(chunk instanceof Uint8Array)) {
        throw refused(entry.name, `its chunks must be of Uint8Array: ${shown(chunk)}`);
      }
      actual += chunk.byteLength;
      if (actual > expected) break;
      await sink(chunk);
    }
    if (actual !== expected) {
      throw new SafetensorsError(
        `Cannot write tensor ${entry.name} as ${entry.dtype} of shape ${shown(entry.shape)} needs ${expected} bytes ` +
          `and its chunks came to ${actual > expected ? "more" : actual}`,
        { source: "safetensors", tensor: entry.name, expected, actual },
      );
    }
  }
  return layout.size;
}
