/**
 * The safetensors format, read and written to its full rules
 * (https://github.com/huggingface/safetensors#format): 8 bytes of header length, a JSON header, and
 * the tensors' bytes without a hole between them. A file is never in memory as a whole.
 */

import { SafetensorsError } from "../../errors.ts";
import type { ByteSource } from "../source/byte_source.ts";
import { bf16ToF32, f16ToF32 } from "./half.ts";

/** The name of an element type, as it stands in a header. */
export type SafetensorsDtype =
  | ("BOOL" | "F4" | "F6_E2M3" | "F6_E3M2" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0")
  | ("I16" | "U16" | "F16" | "BF16")
  | ("I32" | "U32" | "F32")
  | ("C64" | "F64" | "I64" | "U64");

/**
 * Element types with their sizes in bits, by rising alignment: files lay tensors out the other way,
 * the widest first.
 */
const bitsOf: Readonly<Record<SafetensorsDtype, number>> = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
};

const dtypesByAlignment = Object.keys(bitsOf) as SafetensorsDtype[];

/** The format's bound on the header's length, against files that ask for all memory. */
const maxHeaderBytes = 100_000_000;

/** What a header says of one tensor. */
export interface TensorInfo {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  /** Where the tensor's bytes begin in its file. */
  readonly offset: number;
  /** How many there are. */
  readonly bytes: number;
}

/**
 * Named tensors that can be read one by one: a safetensors file, or several that make one
 * checkpoint. The conversions below are the same for all.
 */
export abstract class Weights {
  /** What to call the weights in messages. */
  abstract readonly name: string;
  /** The tensors by name. */
  abstract readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Free text by key (`__metadata__`). */
  abstract readonly metadata: Readonly<Record<string, string>>;

  /**
   * The bytes `[from, to)` of a tensor, little-endian and in row-major order.
   *
   * @param into Room for the bytes, as in {@linkcode ByteSource.read}.
   * @throws {SafetensorsError} if there is no such tensor, or the range leaves it.
   */
  abstract readRange(
    name: string,
    from: number,
    to: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>>;

  /** Gives the files back to the system. */
  abstract close(): void;

  [Symbol.dispose](): void {
    this.close();
  }

  /** What the header says of a tensor. @throws {SafetensorsError} if there is no such tensor. */
  info(name: string): TensorInfo {
    const info = this.tensors.get(name);
    if (info !== undefined) return info;
    throw new SafetensorsError(
      `Cannot read tensor ${JSON.stringify(name)} as ${this.name} holds no such tensor among its ${this.tensors.size}`,
      { source: this.name, tensor: name },
    );
  }

  /** All bytes of a tensor. @throws {SafetensorsError} if there is no such tensor. */
  async read(name: string): Promise<Uint8Array<ArrayBuffer>> {
    return await this.readRange(name, 0, this.info(name).bytes);
  }

  /**
   * A tensor's numbers as float32, whatever real type they are stored in.
   *
   * @throws {SafetensorsError} if there is no such tensor, or its type has no such reading
   *   (complex, float8 and below).
   */
  async float32(name: string): Promise<Float32Array<ArrayBuffer>> {
    const { dtype } = this.info(name);
    const { buffer } = await this.read(name);
    if (dtype === "F32") return new Float32Array(buffer);
    if (dtype === "F16") return f16ToF32(new Uint16Array(buffer));
    if (dtype === "BF16") return bf16ToF32(new Uint16Array(buffer));
    return Float32Array.from(this.#numbers(name, dtype, buffer));
  }

  /** A tensor's numbers as float64. @throws {SafetensorsError} as `float32()` does. */
  async float64(name: string): Promise<Float64Array<ArrayBuffer>> {
    const { dtype } = this.info(name);
    if (dtype === "F16" || dtype === "BF16") return Float64Array.from(await this.float32(name));
    const { buffer } = await this.read(name);
    if (dtype === "F64") return new Float64Array(buffer);
    return Float64Array.from(this.#numbers(name, dtype, buffer));
  }

  /**
   * A tensor of whole numbers (or booleans) as int32: token ids, indices.
   *
   * @throws {SafetensorsError} if there is no such tensor, its type is no integer, or a value is
   *   out of range.
   */
  async int32(name: string): Promise<Int32Array<ArrayBuffer>> {
    const { dtype } = this.info(name);
    const { buffer } = await this.read(name);
    if (dtype === "I32") return new Int32Array(buffer);
    if (!/^([IU]\d+|BOOL)$/.test(dtype)) {
      throw new SafetensorsError(`Cannot read ${name} of ${this.name} as integers as its type is ${dtype}`, {
        source: this.name,
        tensor: name,
      });
    }
    const numbers = this.#numbers(name, dtype, buffer);
    const stranger = numbers.find((value) => value !== (value | 0));
    if (stranger !== undefined) {
      throw new SafetensorsError(`Cannot read ${name} of ${this.name} as int32 as it holds ${stranger}`, {
        source: this.name,
        tensor: name,
        actual: stranger,
      });
    }
    return Int32Array.from(numbers);
  }

  #numbers(name: string, dtype: SafetensorsDtype, buffer: ArrayBuffer): Numbers {
    switch (dtype) {
      case "BOOL":
      case "U8":
        return new Uint8Array(buffer);
      case "I8":
        return new Int8Array(buffer);
      case "U16":
        return new Uint16Array(buffer);
      case "I16":
        return new Int16Array(buffer);
      case "U32":
        return new Uint32Array(buffer);
      case "I32":
        return new Int32Array(buffer);
      case "F32":
        return new Float32Array(buffer);
      case "F64":
        return new Float64Array(buffer);
      case "I64":
        return Float64Array.from(new BigInt64Array(buffer), Number);
      case "U64":
        return Float64Array.from(new BigUint64Array(buffer), Number);
    }
    throw new SafetensorsError(
      `Cannot convert ${name} of ${this.name} as numbers of type ${dtype} are not supported: save it as F32, F16 or BF16`,
      { source: this.name, tensor: name },
    );
  }
}

type Numbers =
  | Uint8Array<ArrayBuffer>
  | Int8Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Float32Array<ArrayBuffer>
  | Float64Array<ArrayBuffer>;

/**
 * One safetensors file.
 *
 * @example
 * ```ts
 * using file = await SafetensorsFile.open(await fileSource("model.safetensors"));
 * const weight = await file.float32("conv_in.weight"); // in the order of file.tensors.get("conv_in.weight")!.shape
 * ```
 */
export class SafetensorsFile extends Weights {
  readonly name: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly #source: ByteSource;

  private constructor(source: ByteSource, header: Header) {
    super();
    this.name = source.name;
    this.tensors = header.tensors;
    this.metadata = header.metadata;
    this.#source = source;
  }

  /**
   * Reads and checks the header; the tensors stay where they are. The source is closed if it is
   * refused.
   *
   * @throws {SafetensorsError} if the file breaks a rule of the format, naming the file, the tensor
   *   and the numbers.
   */
  static async open(source: ByteSource): Promise<SafetensorsFile> {
    try {
      return new SafetensorsFile(source, await readHeader(source));
    } catch (error) {
      source.close?.();
      throw error;
    }
  }

  async readRange(
    name: string,
    from: number,
    to: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const { offset, bytes } = this.info(name);
    if (!(Number.isSafeInteger(from) && Number.isSafeInteger(to) && 0 <= from && from <= to && to <= bytes)) {
      throw new SafetensorsError(
        `Cannot read bytes ${from} to ${to} of tensor ${name} in ${this.name} as it has ${bytes} bytes`,
        { source: this.name, tensor: name, expected: bytes, actual: to },
      );
    }
    return await this.#source.read(offset + from, to - from, into);
  }

  close(): void {
    this.#source.close?.();
  }
}

interface Header {
  tensors: Map<string, TensorInfo>;
  metadata: Record<string, string>;
}

async function readHeader(source: ByteSource): Promise<Header> {
  const file = source.name;
  const refuse = (reason: string, details: { tensor?: string; expected?: number; actual?: number } = {}): never => {
    throw new SafetensorsError(`Cannot read ${file} as safetensors as ${reason}`, { source: file, ...details });
  };

  if (source.size < 8) {
    refuse(`it has ${source.size} bytes and needs 8 for the header's length`, { expected: 8, actual: source.size });
  }
  const length = new DataView((await source.read(0, 8)).buffer).getBigUint64(0, true);
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

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

/** A tensor to be written. Its bytes are asked for once, when their turn comes. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  /** The bytes, little-endian and row-major, in pieces of any size. */
  chunks(): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** Where written bytes go, in order. */
export type ByteSink = (chunk: Uint8Array) => Promise<void> | void;

/**
 * How a file will be laid out: its first bytes, the tensors in the order of their bytes, and its
 * length.
 */
export interface SafetensorsLayout {
  readonly header: Uint8Array<ArrayBuffer>;
  readonly entries: readonly TensorEntry[];
  /** Length of the whole file in bytes. */
  readonly size: number;
}

/**
 * Bytes of a tensor's data. @throws {SafetensorsError} if its shape and dtype do not come to whole
 * bytes.
 */
export function tensorBytes(entry: { name: string; dtype: SafetensorsDtype; shape: readonly number[] }): number {
  const bits = entry.shape.reduce((product, size) => product * size, bitsOf[entry.dtype]);
  if (isSizes(entry.shape) && Number.isSafeInteger(bits) && bits % 8 === 0) return bits / 8;
  throw new SafetensorsError(
    `Cannot write tensor ${entry.name} as ${entry.dtype} of shape [${
      entry.shape.join(", ")
    }] has no whole number of bytes`,
    { source: "safetensors", tensor: entry.name },
  );
}

/**
 * Plans a file as the reference implementation does: `__metadata__` first, then tensors by falling
 * alignment and rising name; spaces pad the header to 8 bytes.
 *
 * @throws {SafetensorsError} for two tensors of one name, the reserved name `__metadata__`, or a
 *   shape without a size.
 */
export function layoutSafetensors(
  entries: readonly TensorEntry[],
  options: { metadata?: Readonly<Record<string, string>> } = {},
): SafetensorsLayout {
  const ordered = [...entries].sort((a, b) =>
    dtypesByAlignment.indexOf(b.dtype) - dtypesByAlignment.indexOf(a.dtype) || (a.name < b.name ? -1 : 1)
  );
  const header = new Map<string, unknown>();
  if (options.metadata !== undefined) header.set("__metadata__", options.metadata);
  let end = 0;
  for (const entry of ordered) {
    if (entry.name === "__metadata__" || header.has(entry.name)) {
      const reason = entry.name === "__metadata__" ? "that name is the format's own" : "there are two of that name";
      throw new SafetensorsError(`Cannot write tensor ${entry.name} as ${reason}`, {
        source: "safetensors",
        tensor: entry.name,
      });
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
 * Writes a safetensors file, one chunk at a time: no more of the model is in memory than a tensor's
 * producer holds.
 *
 * @returns The length of the file in bytes.
 * @throws {SafetensorsError} as `layoutSafetensors()` does, or if a tensor's chunks do not add up
 *   to its size.
 *
 * @example
 * ```ts
 * const parts: Uint8Array[] = [];
 * await writeSafetensors([{ name: "a", dtype: "F32", shape: [2], chunks: () => [new Uint8Array(8)] }], (chunk) => {
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
      actual += chunk.byteLength;
      if (actual > expected) break;
      await sink(chunk);
    }
    if (actual !== expected) {
      throw new SafetensorsError(
        `Cannot write tensor ${entry.name} as ${entry.dtype} of shape [${
          entry.shape.join(", ")
        }] needs ${expected} bytes ` +
          `and its chunks came to ${actual > expected ? "more" : actual}`,
        { source: "safetensors", tensor: entry.name, expected, actual },
      );
    }
  }
  return layout.size;
}
