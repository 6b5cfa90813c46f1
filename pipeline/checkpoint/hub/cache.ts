/**
 * The cache on disk that Python's `huggingface_hub` keeps, shared with it file for file:
 *
 *     models--OWNER--NAME/blobs/HASH               contents, named by SHA-256 or git's hash
 *     models--OWNER--NAME/blobs/HASH.incomplete    what has arrived of them
 *     models--OWNER--NAME/snapshots/COMMIT/PATH    links to blobs
 *     models--OWNER--NAME/refs/BRANCH              the commit that a branch was at
 *     .locks/models--OWNER--NAME/HASH.lock         held while a blob is written
 */

import { HubError } from "../../errors.ts";
import { directoryTree } from "../source/disk.ts";
import type { FileTree } from "../source/file_tree.ts";
import { saveText } from "../save.ts";
import { Sha256 } from "./sha256.ts";

/** What the environment says of the hub: the variables of Python's `huggingface_hub`. */
export interface HubEnvironment {
  /** `HF_ENDPOINT`. */
  readonly endpoint: string;
  /** `HF_HUB_CACHE`, or `hub` in `HF_HOME`, or `~/.cache/huggingface/hub`. */
  readonly cacheDir: string;
  /** `HF_TOKEN`, or the contents of the file `token` in `HF_HOME`. */
  readonly token: string | undefined;
  /** `HF_HUB_OFFLINE`. */
  readonly offline: boolean;
}

/** Reads the environment. Variables that may not be read (no permission) count as not set. */
export async function hubEnvironment(): Promise<HubEnvironment> {
  const home = variable("HOME") ?? variable("USERPROFILE") ?? ".";
  const cacheHome = variable("XDG_CACHE_HOME") ?? `${home}/.cache`;
  const hubHome = variable("HF_HOME") ?? `${cacheHome}/huggingface`;
  const tokenPath = variable("HF_TOKEN_PATH") ?? `${hubHome}/token`;
  const savedToken = async (): Promise<string | undefined> =>
    (await Deno.readTextFile(tokenPath).catch(() => "")).trim() || undefined;
  return {
    endpoint: (variable("HF_ENDPOINT") ?? "https://huggingface.co").replace(/\/+$/, ""),
    cacheDir: variable("HF_HUB_CACHE") ?? variable("HUGGINGFACE_HUB_CACHE") ?? `${hubHome}/hub`,
    token: variable("HF_TOKEN") ?? variable("HUGGING_FACE_HUB_TOKEN") ?? await savedToken(),
    offline: /^(1|on|yes|true)$/i.test(variable("HF_HUB_OFFLINE") ?? ""),
  };
}

function variable(name: string): string | undefined {
  try {
    return Deno.env.get(name) || undefined;
  } catch {
    return undefined;
  }
}

/** What a file on the hub must turn out to be. */
export interface HubFile {
  readonly path: string;
  /** Length in bytes. */
  readonly size: number;
  /** The hash that names its blob: SHA-256 for files in LFS, git's SHA-1 for the others. */
  readonly hash: string;
}

/**
 * Gives the bytes of a file from an offset on; `start` is where they begin, 0 if the server cannot
 * skip.
 */
export type RangeReader = (offset: number) => Promise<{ start: number; chunks: AsyncIterable<Uint8Array> }>;

/** A fault of one attempt at a download, after which the next may succeed. */
export class TransferError extends Error {
  override name = "TransferError";
  /** Whether what has arrived cannot be trusted, and the next attempt must begin anew. */
  readonly isCorrupt: boolean;
  /** How long the server asks to wait. */
  readonly retryAfterMs: number;

  constructor(message: string, options: { isCorrupt?: boolean; retryAfterMs?: number } = {}) {
    super(message);
    this.isCorrupt = options.isCorrupt ?? false;
    this.retryAfterMs = options.retryAfterMs ?? 0;
  }
}

/** One model's part of the cache. */
export class HubCache {
  readonly #folder: string;
  readonly #locks: string;

  constructor(cacheDir: string, readonly id: string) {
    const name = `models--${id.replaceAll("/", "--")}`;
    this.#folder = `${cacheDir}/${name}`;
    this.#locks = `${cacheDir}/.locks/${name}`;
  }

  /** The folder that holds a commit's files. */
  snapshotPath(commit: string): string {
    return `${this.#folder}/snapshots/${commit}`;
  }

  /** A commit's files, as far as they are here. @throws {CheckpointError} if none are. */
  async snapshot(commit: string): Promise<FileTree> {
    return await directoryTree(this.snapshotPath(commit));
  }

  /** The commit that a branch or tag was at when it was last looked up, or `undefined`. */
  async readRef(revision: string): Promise<string | undefined> {
    const text = await Deno.readTextFile(`${this.#folder}/refs/${revision}`).catch(() => "");
    return text.trim() || undefined;
  }

  /** Notes the commit that a branch or tag is at. */
  async writeRef(revision: string, commit: string): Promise<void> {
    if (await this.readRef(revision) === commit) return;
    const path = `${this.#folder}/refs/${revision}`;
    await Deno.mkdir(parentOf(path), { recursive: true });
    await saveText(path, commit);
  }

  /** Whether a commit's file is here, whole. */
  async has(commit: string, file: HubFile): Promise<boolean> {
    return await sizeOf(`${this.snapshotPath(commit)}/${file.path}`) === file.size;
  }

  /**
   * Makes sure that a commit's file is in the cache: links the blob if it is here, and else
   * downloads it, going on where an earlier attempt stopped. Size and hash are checked before the
   * file gets its name. Other processes wait meanwhile.
   *
   * @param options.onBytes Told how many bytes of the file are here, as they come.
   * @param options.retries How many attempts in a row may bring nothing before it is given up.
   * @throws {HubError} if the server keeps failing, or sends something else than was announced,
   *   twice.
   */
  async ensure(commit: string, file: HubFile, options: {
    read: RangeReader;
    retries: number;
    retryDelayMs: number;
    onBytes?: (bytes: number) => void;
    signal?: AbortSignal;
  }): Promise<void> {
    const blob = `${this.#folder}/blobs/${file.hash}`;
    await Deno.mkdir(parentOf(blob), { recursive: true });
    await Deno.mkdir(this.#locks, { recursive: true });
    await withLock(`${this.#locks}/${file.hash}.lock`, options.signal, async () => {
      if (await sizeOf(blob) !== file.size) await this.#download(file, blob, options);
    });
    options.onBytes?.(file.size);
    await link(blob, `${this.snapshotPath(commit)}/${file.path}`, file.path.split("/").length + 1);
  }

  async #download(file: HubFile, blob: string, options: Parameters<HubCache["ensure"]>[2]): Promise<void> {
    const { read, retries, retryDelayMs, onBytes, signal } = options;
    const partial = `${blob}.incomplete`;
    let fruitless = 0;
    let corrupt = 0;
    for (;;) {
      signal?.throwIfAborted();
      const before = await sizeOf(partial) ?? 0;
      try {
        await receive(file, partial, read, onBytes);
        await Deno.rename(partial, blob);
        return;
      } catch (error) {
        // what fetch and its streams throw when a connection fails
        const isNetwork = error instanceof TypeError;
        if (!(isNetwork || error instanceof TransferError) || signal?.aborted) throw signal?.reason ?? error;
        const transfer = error instanceof TransferError ? error : new TransferError(error.message);
        if (transfer.isCorrupt) {
          await Deno.remove(partial).catch(() => {});
          corrupt++;
        } else {
          fruitless = (await sizeOf(partial) ?? 0) > before ? 1 : fruitless + 1;
        }
        if (corrupt > 1 || fruitless > retries) {
          throw new HubError(`Cannot download ${file.path} of ${this.id} as ${transfer.message}`, {
            source: this.id,
            cause: error,
          });
        }
        await pause(Math.max(transfer.retryAfterMs, retryDelayMs * 2 ** Math.max(0, fruitless - 1)), signal);
      }
    }
  }
}

/** One attempt: appends what is missing to the partial file, and checks the whole. */
async function receive(
  file: HubFile,
  partial: string,
  read: RangeReader,
  onBytes?: (bytes: number) => void,
): Promise<void> {
  if ((await sizeOf(partial) ?? 0) > file.size) await Deno.remove(partial);
  using disk = await Deno.open(partial, { read: true, write: true, create: true });
  let hash = new BlobHash(file);
  let received = 0;
  const buffer = new Uint8Array(1 << 20);
  for (let count; (count = await disk.read(buffer)) !== null; received += count) {
    await hash.update(buffer.subarray(0, count));
  }
  onBytes?.(received);
  if (received < file.size) {
    const { start, chunks } = await read(received);
    if (start !== received) {
      await disk.truncate(start);
      await disk.seek(start, Deno.SeekMode.Start);
      received = start;
      hash = new BlobHash(file);
    }
    for await (const chunk of chunks) {
      received += chunk.length;
      if (received > file.size) {
        throw new TransferError(`the hub sent more than the ${file.size} bytes that it announced`, { isCorrupt: true });
      }
      await hash.update(chunk);
      for (let done = 0; done < chunk.length;) done += await disk.write(chunk.subarray(done));
      onBytes?.(received);
    }
  }
  if (received < file.size) throw new TransferError(`the connection ended after ${received} of ${file.size} bytes`);
  const found = await hash.hex();
  if (found !== file.hash) {
    throw new TransferError(`its hash is ${found} and must be ${file.hash}: what came is not what the hub announced`, {
      isCorrupt: true,
    });
  }
  await disk.syncData();
}

/**
 * The hash that a file's name on the hub promises: SHA-256, or git's SHA-1 of "blob SIZE", a zero
 * and the bytes.
 */
class BlobHash {
  readonly #sha256: Sha256 | undefined;
  readonly #pieces: Uint8Array<ArrayBuffer>[] = [];

  constructor(file: HubFile) {
    if (file.hash.length === 64) this.#sha256 = new Sha256();
    else this.#pieces.push(new TextEncoder().encode(`blob ${file.size}\0`));
  }

  update(bytes: Uint8Array): void {
    if (this.#sha256 !== undefined) this.#sha256.update(bytes);
    // git's own files are small: the hub keeps no large one outside LFS
    else this.#pieces.push(bytes.slice());
  }

  async hex(): Promise<string> {
    if (this.#sha256 !== undefined) return this.#sha256.hex();
    const whole = await new Blob(this.#pieces).arrayBuffer();
    return new Uint8Array(await crypto.subtle.digest("SHA-1", whole)).toHex();
  }
}

/**
 * Runs `body` while holding a lock file, as Python's filelock holds it; waits for whoever has it.
 */
async function withLock(path: string, signal: AbortSignal | undefined, body: () => Promise<void>): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true });
  while (!await file.tryLock(true)) await pause(50, signal);
  try {
    await body();
  } finally {
    await file.unlock();
  }
}

/**
 * Puts a link to a blob at `path`, `depth` folders below the one that holds `blobs`; a copy where
 * links cannot be.
 */
async function link(blob: string, path: string, depth: number): Promise<void> {
  await Deno.mkdir(parentOf(path), { recursive: true });
  const temporary = `${path}.${crypto.randomUUID().slice(0, 8)}.tmp`;
  try {
    await Deno.symlink(`${"../".repeat(depth)}blobs/${blob.slice(blob.lastIndexOf("/") + 1)}`, temporary);
  } catch {
    await Deno.copyFile(blob, temporary);
  }
  await Deno.rename(temporary, path);
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}

/** A file's size, through links; `undefined` if there is none. */
async function sizeOf(path: string): Promise<number | undefined> {
  return await Deno.stat(path).then((info) => info.isFile ? info.size : undefined, () => undefined);
}

/** Waits, unless the signal cuts it short. */
function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
