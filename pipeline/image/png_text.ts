/**
 * Text chunks of PNG files, which store a picture's prompt, seed and edits. A1111 and ComfyUI read
 * the keyword `parameters`.
 *
 * Source: Portable Network Graphics, sections 5 (chunks), 11.3.3 (tEXt, zTXt, iTXt) and annex D
 * (CRC).
 *
 * @module
 */
import { ImageError } from "./errors.ts";
import { inflated } from "./inflate.ts";
import { type Chunk, chunksOf, fromLatin1, joined, latin1, makeChunk, signature } from "./png_chunks.ts";

const textTypes = ["tEXt", "zTXt", "iTXt"];

/**
 * Returns `png` with `entries` as text chunks, placed before the pixels so that readers find them
 * early. Existing entries with the same keywords are replaced; others stay. Latin-1 texts become
 * tEXt chunks, which every reader supports; others become iTXt chunks (UTF-8).
 *
 * @throws {ImageError} if `png` is not a complete PNG, or a keyword is not 1 to 79 printable
 *   Latin-1 characters
 *
 * @example
 * ```ts
 * const signed = withPngText(png, { parameters: "a pack of roses\nSteps: 20, Seed: 7" });
 * (await readPngText(signed)).parameters; // "a pack of roses\nSteps: 20, Seed: 7"
 * ```
 */
export function withPngText(png: Uint8Array, entries: Record<string, string>): Uint8Array<ArrayBuffer> {
  const kept = chunksOf(png).filter((chunk) =>
    !textTypes.includes(chunk.type) || !Object.hasOwn(entries, keywordOf(chunk))
  );
  const texts = Object.entries(entries).map(([keyword, text]) => textChunk(keyword, text));
  const [header, ...rest] = kept.map((chunk) => chunk.bytes);
  return joined([new Uint8Array(signature), header, ...texts, ...rest]);
}

/**
 * Reads all text chunks of `png`, including compressed ones, by keyword. The last chunk of a
 * keyword counts.
 *
 * @throws {ImageError} if `png` is not a complete PNG, a checksum is wrong, or a compressed text
 *   cannot be decompressed, or all of them hold more than 16 MiB
 */
export async function readPngText(png: Uint8Array): Promise<Record<string, string>> {
  const texts = chunksOf(png).filter((chunk) => textTypes.includes(chunk.type));
  const entries: [string, string][] = [];
  const budget = { bytes: mostTextBytes };
  const last = new Map(texts.map((chunk) => [keywordOf(chunk), chunk]));
  for (const [keyword, chunk] of last) entries.push([keyword, await textOf(chunk, budget)]);
  return Object.fromEntries(entries);
}

function textChunk(keyword: string, text: string): Uint8Array {
  if (!/^[!-~¡-ÿ]+( [!-~¡-ÿ]+)*$/.test(keyword) || keyword.length > 79) {
    throw new ImageError(
      `Cannot write PNG text under the keyword ${
        JSON.stringify(keyword)
      }: it must be 1 to 79 printable Latin-1 characters ` +
        "without outer or double spaces",
      { expected: 79, actual: keyword.length },
    );
  }
  if (text.includes("\0")) throw new ImageError(`Cannot write PNG text for ${keyword} as it holds a NUL character`);
  const isLatin1 = /^[\n -~\u00a0-ÿ]*$/.test(text);
  return isLatin1
    ? makeChunk("tEXt", joined([fromLatin1(`${keyword}\0`), fromLatin1(text)]))
    // Keyword, then: uncompressed, compression method 0, empty language tag and translated keyword.
    : makeChunk("iTXt", joined([fromLatin1(`${keyword}\0\0\0\0\0`), new TextEncoder().encode(text)]));
}

function keywordOf({ data }: Chunk): string {
  return latin1(data.subarray(0, endOfString(data, 0)));
}

/** @param budget how many bytes compressed texts may unpack to from now on */
function textOf({ type, data }: Chunk, budget: { bytes: number }): Promise<string> | string {
  let offset = endOfString(data, 0) + 1;
  if (type === "tEXt") return latin1(data.subarray(offset));
  if (type === "zTXt") return inflate(data.subarray(offset + 1), budget).then(latin1);
  const isCompressed = data[offset] === 1;
  offset = endOfString(data, offset + 2) + 1; // language tag
  offset = endOfString(data, offset) + 1; // translated keyword
  const text = data.subarray(offset);
  return isCompressed ? inflate(text, budget).then(utf8) : utf8(text);
}

/** The index of the NUL that ends the string at `start`. */
function endOfString(data: Uint8Array, start: number): number {
  const end = data.indexOf(0, start);
  if (end < 0) throw new ImageError("Cannot read PNG text as a text chunk lacks the NUL after its keyword or tags");
  return end;
}

/** All compressed texts may unpack to this many bytes: zlib reaches a thousandfold of its input. */
const mostTextBytes = 2 ** 24;

/** What a compressed text counts at least: unpacking one takes time, however short it is. */
const leastTextBytes = 2 ** 13;

async function inflate(data: Uint8Array, budget: { bytes: number }): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  const take = (bytes: number) => {
    budget.bytes -= bytes;
    if (budget.bytes >= 0) return;
    throw new ImageError(
      `Cannot read PNG text as compressed texts unpack to more than ${mostTextBytes} bytes, each counted as ` +
        `${leastTextBytes} or more`,
      { expected: mostTextBytes },
    );
  };
  try {
    take(leastTextBytes);
    let free = leastTextBytes;
    for await (const part of inflated([data])) {
      parts.push(part);
      take(Math.max(0, part.length - free));
      free = Math.max(0, free - part.length);
    }
    return joined(parts);
  } catch (cause) {
    if (cause instanceof ImageError) throw cause;
    throw new ImageError("Cannot read PNG text as a compressed text cannot be decompressed", { cause });
  }
}

function utf8(data: Uint8Array): string {
  return new TextDecoder().decode(data);
}
