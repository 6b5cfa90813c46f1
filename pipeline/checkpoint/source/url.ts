/**
 * Files behind an HTTP address, read by ranges: the same code loads a model in a browser and in
 * Deno.
 *
 * @module
 */

import { CheckpointError } from "../../errors.ts";
import { chunksOf, untilAborted } from "./abortable.ts";
import { type ByteSource, bytesSource, cannotOpen, rangeError } from "./byte_source.ts";
import { type FileTree, fileTree } from "./file_tree.ts";

/** The first request asks for so many bytes, which is all of most configuration files. */
const firstBytes = 1 << 16;

/** A request fails after so many milliseconds without data. */
const stallMs = 30_000;

/** The most bytes of a file that is sent whole, where the server does not support ranges. */
const mostWholeBytes = 2 ** 32;

/** What the first request for a file gave. */
interface Beginning {
  /** Size of the file in bytes. */
  readonly size: number;
  /** Its first bytes; all of them where the server does not support ranges. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/**
 * A file at an HTTP address. A server that does not support range requests sends the whole file,
 * which is then kept in memory.
 *
 * @throws {CheckpointError} if there is no such file, or the server cannot be reached
 */
export async function urlSource(url: URL): Promise<ByteSource> {
  const beginning = await readBeginning(url);
  if (beginning === null) throw cannotOpen(url.href);
  return sourceFrom(url, beginning);
}

/**
 * A folder at an HTTP address. HTTP has no listing of folders: `list()` gives no names, and files
 * are found by asking for them.
 */
export function urlTree(folder: URL): FileTree {
  const root = folder.href.replace(/[?#].*$/, "").replace(/\/*$/, "/");
  const beginnings = new Map<string, Promise<Beginning | null>>();
  const beginningOf = (path: string): Promise<Beginning | null> => {
    const known = beginnings.get(path) ?? readBeginning(urlOf(path));
    beginnings.set(path, known);
    known.catch(() => beginnings.delete(path)); // the next attempt may succeed
    return known;
  };
  const urlOf = (path: string): URL => new URL(path.split("/").map(encodeURIComponent).join("/"), root);
  return fileTree({
    name: root.slice(0, -1),
    has: async (path) => await beginningOf(path) !== null,
    async open(path) {
      const beginning = await beginningOf(path);
      if (beginning === null) throw cannotOpen(urlOf(path).href);
      return sourceFrom(urlOf(path), beginning);
    },
    list: () => Promise.resolve([]),
  });
}

function sourceFrom(url: URL, { size, bytes: first }: Beginning): ByteSource {
  if (first.length === size) return bytesSource(first, url.href);
  return {
    name: url.href,
    size,
    async read(offset, length, into = new Uint8Array(length)) {
      const error = rangeError(url.href, size, offset, length);
      if (error !== null) throw error;
      const room = into.subarray(0, length);
      if (offset + length <= first.length) room.set(first.subarray(offset, offset + length));
      else if (length > 0) await readRange(url, { offset, size }, room);
      return room;
    },
  };
}

/** The beginning of a file; `null` if there is no such file. */
async function readBeginning(url: URL): Promise<Beginning | null> {
  using answer = await request(url, { first: 0, last: firstBytes - 1 });
  const { response } = answer;
  if (response.status === 404 || response.status === 410) {
    await response.body?.cancel();
    return null;
  }
  // An empty file has no satisfiable range.
  const total = sizeOf(response);
  if (response.status === 416 && total === 0) return { size: 0, bytes: new Uint8Array(0) };
  if (!response.ok) throw await refusal(url, response);
  const bytes = await bytesOf(url, answer, response.status === 206 ? firstBytes : mostWholeBytes);
  if (response.status !== 206) return { size: bytes.length, bytes };
  if (total === null || bytes.length !== Math.min(total, firstBytes)) {
    throw new CheckpointError(`Cannot read ${url.href} as the server does not say how large it is`, {
      source: url.href,
    });
  }
  return { size: total, bytes };
}

async function readRange(
  url: URL,
  { offset, size }: { offset: number; size: number },
  room: Uint8Array<ArrayBuffer>,
): Promise<void> {
  using answer = await request(url, { first: offset, last: offset + room.length - 1 });
  const { response } = answer;
  if (response.status !== 206) throw await refusal(url, response);
  const bytes = await bytesOf(url, answer, room.length);
  if (bytes.length !== room.length || ![null, size].includes(sizeOf(response))) {
    throw new CheckpointError(
      `Cannot read ${room.length} bytes at ${offset} of ${url.href} as the server sent ${bytes.length}: has the file changed?`,
      { source: url.href },
    );
  }
  room.set(bytes);
}

/** The size of the whole file, by the header Content-Range. */
function sizeOf(response: Response): number | null {
  const total = /\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "")?.[1];
  return total === undefined ? null : Number(total);
}

/** A response that is aborted unless `isAlive()` is called every 30 seconds. */
interface Answer extends Disposable {
  readonly response: Response;
  readonly signal: AbortSignal;
  isAlive(): void;
}

async function request(url: URL, { first, last }: { first: number; last: number }): Promise<Answer> {
  const controller = new AbortController();
  const stalled = new Error(`no data came for ${stallMs / 1000} seconds`);
  const start = () => setTimeout(() => controller.abort(stalled), stallMs);
  let timer = start();
  const isAlive = () => {
    clearTimeout(timer);
    timer = start();
  };
  try {
    const { signal } = controller;
    const response = await untilAborted(fetch(url, { headers: { Range: `bytes=${first}-${last}` }, signal }), signal);
    return { response, signal, isAlive, [Symbol.dispose]: () => clearTimeout(timer) };
  } catch (cause) {
    clearTimeout(timer);
    throw unreachable(url, cause);
  }
}

/** The body, of which one byte more than `most` is enough to tell that there are too many. */
async function bytesOf(
  url: URL,
  { response, signal, isAlive }: Answer,
  most: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let total = 0;
  try {
    for await (const part of chunksOf(response.body, signal)) {
      isAlive();
      parts.push(part);
      total += part.length;
      if (total > most) break;
    }
  } catch (cause) {
    throw unreachable(url, cause);
  }
  if (total <= most) return new Uint8Array(await new Blob(parts).arrayBuffer());
  throw new CheckpointError(`Cannot read ${url.href} as the server sent more than the ${most} bytes that were due`, {
    source: url.href,
  });
}

function unreachable(url: URL, cause: unknown): CheckpointError {
  return new CheckpointError(
    `Cannot read ${url.href} as the server cannot be reached, or does not permit it: ${(cause as Error).message}`,
    { source: url.href, cause },
  );
}

async function refusal(url: URL, response: Response): Promise<CheckpointError> {
  await response.body?.cancel();
  return new CheckpointError(`Cannot read ${url.href} as the server answered with status ${response.status}`, {
    source: url.href,
  });
}
