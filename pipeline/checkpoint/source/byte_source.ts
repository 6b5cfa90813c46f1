/**
 * Byte sources: a file on disk, a Blob in a browser or an array in memory, read in ranges.
 *
 * @module
 */

import { CheckpointError } from "../../errors.ts";

/** Bytes that are read in ranges, without holding the whole in memory. */
export interface ByteSource {
  /** Path or file name, for messages. */
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /**
   * Reads the bytes `[offset, offset + length)` into a new array. Reads may run concurrently.
   *
   * @param into A buffer that the source may reuse for the result, to save allocations. Use the
   *   returned array.
   */
  read(offset: number, length: number, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
  /** Closes the file, if there is one. */
  close?(): void;
}

/** Whether a value is a byte source, as far as its members tell. */
export function isByteSource(value: unknown): value is ByteSource {
  return hasMembers(value, "read") && Number.isSafeInteger((value as ByteSource).size);
}

/** Whether a value is an object with a name and some methods. */
export function hasMembers(value: unknown, ...methods: readonly string[]): boolean {
  const members = value as Record<string, unknown>;
  return typeof value === "object" && value !== null && typeof members.name === "string" &&
    methods.every((method) => typeof members[method] === "function");
}

/** A source over bytes in memory. Reads copy them. */
export function bytesSource(bytes: Uint8Array, name: string): ByteSource {
  return {
    name,
    size: bytes.byteLength,
    read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
      const error = rangeError(name, bytes.byteLength, offset, length);
      return error === null ? Promise.resolve(bytes.slice(offset, offset + length)) : Promise.reject(error);
    },
  };
}

/** A source over a Blob or a File, such as a file chosen or dropped in a browser. */
export function blobSource(blob: Blob, name: string = (blob as File).name ?? "blob"): ByteSource {
  return {
    name,
    size: blob.size,
    async read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
      const error = rangeError(name, blob.size, offset, length);
      if (error !== null) throw error;
      return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
    },
  };
}

/** Reads a whole source. For small files. */
export async function readAll(source: ByteSource): Promise<Uint8Array<ArrayBuffer>> {
  return await source.read(0, source.size);
}

/** The error for a file that cannot be opened. */
export function cannotOpen(path: string, cause?: unknown): CheckpointError {
  const reason = cause === undefined || (cause as Error).name === "NotFound"
    ? "there is no such file"
    : deniedReason(cause) ?? (cause as Error).message;
  return new CheckpointError(`Cannot read ${path} as ${reason}`, { source: path, cause });
}

/** What to say where Deno's permissions, or the system's, forbid reading; otherwise `undefined`. */
export function deniedReason(cause: unknown): string | undefined {
  const { name, message } = cause as Error;
  if (name === "NotCapable") {
    const [, access = "read"] = /^Requires (\w+) access/.exec(message) ?? [];
    return `Deno was not permitted to read it (${message.replace(/,.*$/s, "")}): run with --allow-${access}`;
  }
  if (name === "PermissionDenied") return `the system does not permit reading it (${message})`;
  return undefined;
}

/** Whether an error, or one that caused it, says that reading is not permitted. */
export function isDenied(error: unknown): boolean {
  return error instanceof Error && (deniedReason(error) !== undefined || isDenied(error.cause));
}

/** The error for a range outside a source of `size` bytes; `null` for a range inside it. */
export function rangeError(name: string, size: number, offset: number, length: number): CheckpointError | null {
  if (Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0) {
    if (offset + length <= size) return null;
  }
  return new CheckpointError(
    `Cannot read ${length} bytes at ${offset} of ${name} as it has ${size} bytes`,
    { source: name },
  );
}
