/**
 * The hub cache on disk, in the layout of Python's `huggingface_hub`. Both programs can share one
 * cache:
 *
 *     models--OWNER--NAME/blobs/HASH               file contents, named by SHA-256 or git SHA-1
 *     models--OWNER--NAME/blobs/HASH.incomplete    a partial download
 *     models--OWNER--NAME/snapshots/COMMIT/PATH    links to blobs
 *     models--OWNER--NAME/refs/BRANCH              the commit that the branch last pointed to
 *     .locks/models--OWNER--NAME/HASH.lock         held while a blob is written
 */

import { CheckpointError, HubError } from "../../errors.ts";
import { type ByteSource, cannotOpen } from "../source/byte_source.ts";
import { directoryTree, fileSource } from "../source/disk.ts";
import { type FileTree, fileTree } from "../source/file_tree.ts";
import { disk } from "../../output/disk.ts";
import { writeText } from "../../output/file.ts";
import { naming } from "../../output/output_error.ts";
import { infoAt, liesIn, nameOf, parentOf, textAt } from "../../output/paths.ts";
import { removeStrays, temporaryName } from "../../output/temporary.ts";
import { environmentVariable as variable, userCacheFolder } from "../../environment.ts";
import { BlobHash } from "./blob_hash.ts";

/** Hub settings from the environment variables that Python's `huggingface_hub` reads. */
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

/**
 * Reads the environment. A variable without read permission counts as not set, and a saved token
 * that may not be read as none.
 *
 * @param cacheDir the cache's folder, in place of that of the environment
 * @throws {CheckpointError} outside Deno, and where the folder of the cache follows from variables
 *   that may not be read
 */
export async function hubEnvironment(cacheDir?: string): Promise<HubEnvironment> {
  if (typeof Deno === "undefined") {
    throw new CheckpointError(
      "Cannot load from the hub as its cache works in Deno only: download the model, and load its folder or its URL",
      { source: "the hub's cache" },
    );
  }
  const hubHome = () => variable("HF_HOME") ?? `${userCacheFolder()}/huggingface`;
  const savedToken = async (): Promise<string | undefined> => {
    try {
      return (await textOf(variable("HF_TOKEN_PATH") ?? `${hubHome()}/token`)).trim() || undefined;
    } catch {
      return undefined; // most models need none
    }
  };
  return {
    endpoint: (variable("HF_ENDPOINT") ?? "https://huggingface.co").replace(/\/+$/, ""),
    cacheDir: cacheDir ?? variable("HF_HUB_CACHE") ?? variable("HUGGINGFACE_HUB_CACHE") ??
      await reading("the hub's cache", () => Promise.resolve(`${hubHome()}/hub`)),
    token: variable("HF_TOKEN") ?? variable("HUGGING_FACE_HUB_TOKEN") ?? await savedToken(),
    offline: /^(1|on|yes|true)$/i.test(variable("HF_HUB_OFFLINE") ?? ""),
  };
}

/** A file on the hub, with the size and hash that its download must match. */
export interface HubFile {
  readonly path: string;
  /** Size in bytes. */
  readonly size: number;
  /** The hash that names its blob: SHA-256 for files in LFS, git's SHA-1 for the others. */
  readonly hash: string;
}

/**
 * Requests a file's bytes from `offset`. `start` is the offset of the first byte received: either
 * `offset`, or 0 if the server does not support ranges.
 */
export type RangeReader = (offset: number) => Promise<{ start: number; chunks: AsyncIterable<Uint8Array> }>;

/** One download attempt failed; a retry may succeed. */
export class TransferError extends Error {
  override name = "TransferError";
  /** Whether the received bytes are wrong. The next attempt then starts from the beginning. */
  readonly isCorrupt: boolean;
  /** The delay that the server asked for (`Retry-After`), in milliseconds. */
  readonly retryAfterMs: number;

  constructor(message: string, options: { isCorrupt?: boolean; retryAfterMs?: number } = {}) {
    super(message);
    this.isCorrupt = options.isCorrupt ?? false;
    this.retryAfterMs = options.retryAfterMs ?? 0;
  }
}

/**
 * An attempt that receives fewer bytes than these makes no progress, nor does a connection that
 * sends fewer within the timeout.
 */
export const leastProgressBytes = 1024;

/** Whether a text is a git commit: 40 hexadecimal digits. */
export function isCommit(text: string): boolean {
  return /^[0-9a-f]{40}$/.test(text);
}

/** The cache of one model. */
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

  /**
   * The cached files of a commit.
   *
   * @throws {CheckpointError} if none are cached
   */
  async snapshot(commit: string): Promise<FileTree> {
    const tree = await directoryTree(this.snapshotPath(commit));
    return fileTree({
      name: tree.name,
      has: (path) => tree.has(path),
      open: (path) => this.open(commit, path),
      list: (path) => tree.list(path === "" ? undefined : path),
    });
  }

  /**
   * Opens a cached file. Links of a snapshot lead to blobs of the model, or are not read.
   *
   * @throws {CheckpointError} if it is not cached, or a link that leads out of the model's folder
   */
  async open(commit: string, path: string): Promise<ByteSource> {
    const file = `${this.snapshotPath(commit)}/${path}`;
    // The owner of the cache may have linked the folder of blobs, or that of the snapshot.
    const folders = [this.#folder, `${this.#folder}/blobs`, this.snapshotPath(commit)];
    const isInside = async () => (await Promise.all(folders.map((folder) => liesIn(file, folder)))).includes(true);
    if (await reading(file, isInside)) return await fileSource(file);
    throw new CheckpointError(
      `Cannot open ${file} as it is a link that leads out of the cache of ${this.id}: delete it, and download it again`,
      { source: file },
    );
  }

  /**
   * The commit that a branch or tag pointed to at its last lookup, or `undefined`. A file that
   * holds no commit counts as missing: its text becomes part of a path.
   */
  async readRef(revision: string): Promise<string | undefined> {
    const text = await textOf(`${this.#folder}/refs/${revision}`);
    return isCommit(text.trim()) ? text.trim() : undefined;
  }

  /** Stores the commit that a branch or tag points to. */
  async writeRef(revision: string, commit: string): Promise<void> {
    if (await this.readRef(revision) === commit) return;
    const path = `${this.#folder}/refs/${revision}`;
    await writeText(path, commit);
  }

  /** Whether a commit's file is cached completely. */
  async has(commit: string, file: HubFile): Promise<boolean> {
    return await sizeOf(`${this.snapshotPath(commit)}/${file.path}`) === file.size;
  }

  /**
   * Makes sure that a commit's file is in the cache. A missing blob is downloaded; an interrupted
   * download resumes. Size and hash are verified before the blob gets its final name. A lock file
   * keeps other processes from downloading the same blob.
   *
   * @param options.onBytes Called with the number of bytes of the file that are cached so far.
   * @param options.retries Maximum number of consecutive attempts that make no progress.
   * @throws {HubError} if the retries are used up, or the contents fail verification twice
   */
  async ensure(commit: string, file: HubFile, options: {
    read: RangeReader;
    retries: number;
    retryDelayMs: number;
    onBytes?: (bytes: number) => void;
    signal?: AbortSignal;
  }): Promise<void> {
    const blob = `${this.#folder}/blobs/${file.hash}`;
    await naming(blob, () => disk.mkdir(parentOf(blob)));
    await naming(this.#locks, () => disk.mkdir(this.#locks));
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
        await naming(blob, () => disk.rename(partial, blob));
        return;
      } catch (error) {
        // `fetch` and its streams throw a TypeError when a connection fails.
        const isNetwork = error instanceof TypeError;
        if (!(isNetwork || error instanceof TransferError) || signal?.aborted) throw signal?.reason ?? error;
        const transfer = error instanceof TransferError ? error : new TransferError(error.message);
        if (transfer.isCorrupt) {
          await disk.remove(partial).catch(() => {});
          corrupt++;
        } else {
          const received = (await sizeOf(partial) ?? 0) - before;
          fruitless = received >= leastProgressBytes ? 1 : fruitless + 1;
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

/** One download attempt: appends the missing bytes to the partial file and verifies all of it. */
async function receive(
  file: HubFile,
  partial: string,
  read: RangeReader,
  onBytes?: (bytes: number) => void,
): Promise<void> {
  if ((await sizeOf(partial) ?? 0) > file.size) await naming(partial, () => disk.remove(partial));
  using target = await naming(partial, () => disk.open(partial));
  let hash = new BlobHash(file);
  let received = 0;
  const buffer = new Uint8Array(1 << 20);
  for (let count; (count = await target.read(buffer)) !== null; received += count) {
    await hash.update(buffer.subarray(0, count));
  }
  onBytes?.(received);
  if (received < file.size) {
    const { start, chunks } = await read(received);
    if (start !== received) {
      await naming(partial, () => disk.truncate(target, partial, start));
      await target.seek(start, Deno.SeekMode.Start);
      received = start;
      hash = new BlobHash(file);
    }
    for await (const chunk of chunks) {
      received += chunk.length;
      if (received > file.size) {
        throw new TransferError(`the hub sent more than the ${file.size} bytes that it announced`, { isCorrupt: true });
      }
      await hash.update(chunk);
      await naming(partial, () => disk.write(target, partial, chunk));
      onBytes?.(received);
    }
  }
  if (received < file.size) throw new TransferError(`the connection ended after ${received} of ${file.size} bytes`);
  const found = await hash.hex();
  if (found !== file.hash) {
    throw new TransferError(`its hash is ${found}, but the hub announced ${file.hash}`, {
      isCorrupt: true,
    });
  }
  await naming(partial, () => disk.sync(target, partial));
}

/** Waits for a lock file (compatible with Python's filelock) and holds it while `body` runs. */
async function withLock(path: string, signal: AbortSignal | undefined, body: () => Promise<void>): Promise<void> {
  using file = await naming(path, () => disk.open(path));
  while (!await file.tryLock(true)) await pause(50, signal);
  try {
    await body();
  } finally {
    await file.unlock();
  }
}

/**
 * Links `path` to a blob. `path` lies `depth` folders below the one that holds `blobs`. Copies the
 * blob where symbolic links are not supported.
 */
async function link(blob: string, path: string, depth: number): Promise<void> {
  await naming(path, async () => {
    await disk.mkdir(parentOf(path));
    await removeStrays(parentOf(path));
    const temporary = temporaryName(path);
    try {
      await disk.symlink(`${"../".repeat(depth)}blobs/${nameOf(blob)}`, temporary);
    } catch {
      await disk.linkOrCopy(blob, temporary);
    }
    await disk.rename(temporary, path);
  });
}

/** A file's size in bytes, following links; `undefined` if there is no such file. */
async function sizeOf(path: string): Promise<number | undefined> {
  const info = await reading(path, () => infoAt(path));
  return info?.isFile ? info.size : undefined;
}

/** The text of a small file; "" if there is no such file. */
async function textOf(path: string): Promise<string> {
  return await reading(path, () => textAt(path)) ?? "";
}

/** Runs an operation that reads. @throws {CheckpointError} where reading is not permitted */
async function reading<T>(path: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await operation();
  } catch (cause) {
    throw cannotOpen(path, cause);
  }
}

/** Waits for `ms` milliseconds; rejects when the signal aborts. */
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
