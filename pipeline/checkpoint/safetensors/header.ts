/**
 * Reads and validates the header of a safetensors file
 * (https://github.com/huggingface/safetensors#format): 8 bytes of header length, a JSON header,
 * then the tensors' bytes without gaps.
 *
 * @module
 */

import { SafetensorsError } from "../../errors.ts";
import type { ByteSource } from "../source/byte_source.ts";
import { foreignReason } from "../source/foreign_file.ts";
import { bitsIn, bitsOf, dtypesByAlignment, maxHeaderBytes, type SafetensorsDtype, type TensorInfo } from "./format.ts";
import { HeaderFault, HeaderNumber, type HeaderObject, type HeaderValue, parseHeaderJson } from "./header_json.ts";

/** What helps against a truncated file. */
const again = "Download it again";

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

  const foreign = await foreignReason(source);
  if (foreign !== undefined) throw new SafetensorsError(`Cannot load ${file}: ${foreign}`, { source: file });
  if (source.size < 8) {
    refuse(`it has ${source.size} bytes and needs 8 for the header's length`, { expected: 8, actual: source.size });
  }
  const head = await source.read(0, 8);
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
    refuse(
      `its header claims ${headerBytes} bytes and only ${source.size - 8} follow: the file is truncated. ${again}`,
      {
        expected: dataStart,
        actual: source.size,
      },
    );
  }

  let text = "";
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await source.read(8, headerBytes));
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    refuse("its header is not UTF-8");
  }
  if (!text.startsWith("{")) refuse("its header must begin with '{'");
  let json: HeaderObject = new Map();
  try {
    json = parseHeaderJson(text) as HeaderObject;
  } catch (cause) {
    if (!(cause instanceof HeaderFault)) throw cause;
    refuse(`its header ${cause.message}`);
  }

  let metadata: Record<string, string> = {};
  const tensors = new Map<string, TensorInfo>();
  for (const [name, entry] of json) {
    if (name === "__metadata__") metadata = readMetadata(entry);
    else tensors.set(name, readEntry(name, entry));
  }
  checkLayout();
  return { tensors, metadata };

  /** `null` is the same as none: some writers put it where they have no metadata. */
  function readMetadata(value: HeaderValue): Record<string, string> {
    if (value === null) return {};
    if (!(value instanceof Map)) return refuse("its __metadata__ must be an object");
    for (const [key, text] of value) {
      if (typeof text !== "string") refuse(`its __metadata__ maps ${JSON.stringify(key)} to something but a string`);
    }
    return Object.fromEntries(value) as Record<string, string>;
  }

  function readEntry(name: string, entry: HeaderValue): TensorInfo {
    const tensor = JSON.stringify(name);
    const no = (reason: string, numbers: { expected?: number; actual?: number } = {}): never =>
      refuse(`tensor ${tensor} ${reason}`, { tensor: name, ...numbers });
    if (!(entry instanceof Map)) return no("must be described by an object");
    const dtype = entry.get("dtype");
    if (typeof dtype !== "string" || !Object.hasOwn(bitsOf, dtype)) {
      return no(`has the dtype ${shown(dtype)}, which is none of ${dtypesByAlignment.join(", ")}`);
    }
    const shape = sizesIn(entry.get("shape"));
    if (shape === null) return no(`has the shape ${shown(entry.get("shape"))}, which is no list of sizes`);
    const offsets = sizesIn(entry.get("data_offsets"));
    if (offsets === null || offsets.length !== 2) {
      return no(`has the data_offsets ${shown(entry.get("data_offsets"))}, which must be a begin and an end`);
    }
    const [begin, end] = offsets;
    if (begin > end) no(`begins at ${begin} and ends at ${end}, before that`, { expected: begin, actual: end });

    const known = dtype as SafetensorsDtype;
    const bits = bitsIn(shape, known);
    if (bits === null) return no(`has the shape [${shape.join(", ")}], which is too large to count`);
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
      ? `${covered - source.size} bytes are missing at its end: the file is truncated. ${again}`
      : `${source.size - covered} bytes follow its last tensor`;
    refuse(`its header describes ${covered} bytes and it has ${source.size}: ${problem}`, {
      expected: covered,
      actual: source.size,
    });
  }
}

/**
 * A list of sizes: whole numbers that a double holds exactly. Null if the value is anything else.
 */
function sizesIn(value: HeaderValue | undefined): number[] | null {
  if (!Array.isArray(value)) return null;
  const sizes: number[] = [];
  for (const item of value) {
    const size = item instanceof HeaderNumber ? item.whole : null;
    if (size === null || size > Number.MAX_SAFE_INTEGER) return null;
    sizes.push(Number(size));
  }
  return sizes;
}

/** A value as it stands in the header, shortened for a message. */
function shown(value: HeaderValue | undefined): string {
  const text = spelled(value);
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

function spelled(value: HeaderValue | undefined): string {
  if (value instanceof HeaderNumber) return value.text;
  if (Array.isArray(value)) return `[${value.slice(0, 100).map(spelled).join(", ")}]`;
  if (value instanceof Map) return "{…}";
  return String(JSON.stringify(value));
}
