/**
 * Reads and validates the header of a safetensors file
 * (https://github.com/huggingface/safetensors#format): 8 bytes of header length, a JSON header,
 * then the tensors' bytes without gaps.
 *
 * @module
 */

import { SafetensorsError } from "../../errors.ts";
import type { ByteSource } from "../source/byte_source.ts";
import { isPickle, pickleMessage } from "../source/pickle.ts";
import {
  bitsOf,
  dtypesByAlignment,
  isSizes,
  maxHeaderBytes,
  type SafetensorsDtype,
  type TensorInfo,
} from "./format.ts";

/** A validated header. */
export interface Header {
  tensors: Map<string, TensorInfo>;
  metadata: Record<string, string>;
}

/**
 * Reads and validates the header of a file.
 *
 * @throws {SafetensorsError} if the file breaks a rule of the format
 */
export async function readHeader(source: ByteSource): Promise<Header> {
  const file = source.name;
  const refuse = (reason: string, details: { tensor?: string; expected?: number; actual?: number } = {}): never => {
    throw new SafetensorsError(`Cannot read ${file} as safetensors as ${reason}`, { source: file, ...details });
  };

  if (source.size < 8) {
    refuse(`it has ${source.size} bytes and needs 8 for the header's length`, { expected: 8, actual: source.size });
  }
  const head = await source.read(0, Math.min(9, source.size));
  if (isPickle(file, head)) throw new SafetensorsError(pickleMessage(file), { source: file });
  const length = new DataView(head.buffer).getBigUint64(0, true);
  if (length > maxHeaderBytes) {
    refuse(`its header claims ${length} bytes and ${maxHeaderBytes} are allowed`, {
      expected: maxHeaderBytes,
      actual: Number(length),
    });
  }
  const headerBytes = Number(length);
  const dataStart = 8 + headerBytes;
  if (dataStart > source.size) {
    refuse(`its header claims ${headerBytes} bytes and only ${source.size - 8} follow: the file is truncated`, {
      expected: dataStart,
      actual: source.size,
    });
  }

  let text = "";
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await source.read(8, headerBytes));
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    refuse("its header is not UTF-8");
  }
  if (!text.startsWith("{")) refuse("its header must begin with '{'");
  const fault = faultInHeaderText(text);
  if (fault !== null) refuse(fault);
  let json: Record<string, unknown> = {};
  try {
    json = JSON.parse(text);
  } catch (cause) {
    refuse(`its header is not JSON: ${(cause as Error).message}`);
  }

  let metadata: Record<string, string> = {};
  const tensors = new Map<string, TensorInfo>();
  for (const [name, entry] of Object.entries(json)) {
    if (!name.isWellFormed()) refuse("a name in its header is not valid Unicode");
    if (name === "__metadata__") {
      if (!isObject(entry)) refuse("its __metadata__ must be an object");
      for (const [key, value] of Object.entries(entry as Record<string, unknown>)) {
        if (typeof value !== "string") refuse(`its __metadata__ maps ${JSON.stringify(key)} to something but a string`);
      }
      metadata = entry as Record<string, string>;
    } else {
      tensors.set(name, readEntry(name, entry));
    }
  }
  checkLayout();
  return { tensors, metadata };

  function readEntry(name: string, entry: unknown): TensorInfo {
    const tensor = JSON.stringify(name);
    const no = (reason: string, numbers: { expected?: number; actual?: number } = {}): never =>
      refuse(`tensor ${tensor} ${reason}`, { tensor: name, ...numbers });
    if (!isObject(entry)) return no("must be described by an object");
    const { dtype, shape, data_offsets: offsets } = entry;
    if (typeof dtype !== "string" || !Object.hasOwn(bitsOf, dtype)) {
      return no(`has the dtype ${JSON.stringify(dtype)}, which is none of ${dtypesByAlignment.join(", ")}`);
    }
    if (!isSizes(shape)) return no(`has the shape ${JSON.stringify(shape)}, which is no list of sizes`);
    if (!isSizes(offsets) || offsets.length !== 2) {
      return no(`has the data_offsets ${JSON.stringify(offsets)}, which must be a begin and an end`);
    }
    const [begin, end] = offsets;
    if (begin > end) no(`begins at ${begin} and ends at ${end}, before that`, { expected: begin, actual: end });

    const known = dtype as SafetensorsDtype;
    const bits = shape.reduce((product, size) => product * size, bitsOf[known]);
    if (!Number.isSafeInteger(bits)) no(`has the shape [${shape.join(", ")}], which is too large to count`);
    if (bits % 8 !== 0) no(`of ${dtype} and shape [${shape.join(", ")}] does not fill its last byte`);
    if (bits / 8 !== end - begin) {
      no(`of ${dtype} and shape [${shape.join(", ")}] needs ${bits / 8} bytes and has ${end - begin}`, {
        expected: bits / 8,
        actual: end - begin,
      });
    }
    return { dtype: known, shape, offset: dataStart + begin, bytes: end - begin };
  }

  function checkLayout(): void {
    let covered = dataStart;
    let before = "the header";
    const inOrder = [...tensors].sort(([, a], [, b]) => a.offset - b.offset || a.bytes - b.bytes);
    for (const [name, { offset, bytes }] of inOrder) {
      if (offset !== covered) {
        const gap = offset > covered
          ? `leaves ${offset - covered} bytes after`
          : `overlaps by ${covered - offset} bytes`;
        refuse(`tensor ${JSON.stringify(name)} ${gap} ${before}`, {
          tensor: name,
          expected: covered - dataStart,
          actual: offset - dataStart,
        });
      }
      covered += bytes;
      before = `tensor ${JSON.stringify(name)}`;
    }
    if (covered === source.size) return;
    const problem = covered > source.size
      ? `${covered - source.size} bytes are missing at its end: the file is truncated`
      : `${source.size - covered} bytes follow its last tensor`;
    refuse(`its header describes ${covered} bytes and it has ${source.size}: ${problem}`, {
      expected: covered,
      actual: source.size,
    });
  }
}

/** Headers nest three deep: the header, a tensor's entry, its shape. */
const maxHeaderDepth = 3;

/**
 * What `JSON.parse` lets pass and the format does not: two equal keys in one object, and numbers
 * that are not written as whole ones. It runs before the parser, which would spend memory without
 * bound on deep nesting; what is no JSON at all is left for the parser to say.
 */
function faultInHeaderText(text: string): string | null {
  const keysOfOpen: Set<string>[] = [];
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === "{" || char === "[") {
      if (keysOfOpen.push(new Set()) > maxHeaderDepth) return `its header nests deeper than ${maxHeaderDepth} levels`;
    } else if (char === "}" || char === "]") {
      keysOfOpen.pop();
    } else if (char === '"') {
      const start = at;
      at = endOfString(text, at);
      if (!/^\s*:/.test(text.slice(at + 1, at + 16))) continue;
      const key = text.slice(start, at + 1).includes("\\")
        ? unescaped(text.slice(start, at + 1))
        : text.slice(start + 1, at);
      const keys = keysOfOpen.at(-1);
      if (keys?.has(key)) return `its header holds the key ${JSON.stringify(key)} twice`;
      keys?.add(key);
    } else if ((char >= "0" && char <= "9") || char === "-") {
      const start = at;
      while (/[-+.0-9a-zA-Z]/.test(text[at + 1] ?? "")) at++;
      const number = text.slice(start, at + 1);
      if (!/^[0-9]+$/.test(number)) return `its header holds ${number}, where only whole numbers can stand`;
    }
  }
  return null;
}

/** Where the string that opens at `start` has its closing quote, or the end of the text. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
  return at;
}

function unescaped(literal: string): string {
  try {
    return JSON.parse(literal);
  } catch {
    return literal; // not JSON: the parser will say so
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
