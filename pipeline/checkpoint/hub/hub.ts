/**
 * Models on the Hugging Face hub, as file trees. A file is downloaded when it is first opened.
 * Pickles are never downloaded.
 *
 * `@huggingface/hub` lists a model's files. They are downloaded over HTTP into the cache that
 * Python's `huggingface_hub` uses, and verified by size and hash.
 */

import { HubApiError, listFiles, modelInfo } from "@huggingface/hub";
import { CheckpointError, HubError } from "../../errors.ts";
import { checkPath, childrenOf, type FileTree, fileTree } from "../source/file_tree.ts";
import { fileSource } from "../source/disk.ts";
import { isPickle, pickleMessage } from "../source/pickle.ts";
import { HubCache, hubEnvironment, type HubFile, isCommit, type RangeReader, TransferError } from "./cache.ts";

/** Progress of a download. */
export interface HubProgress {
  /** The file that is being downloaded. */
  readonly path: string;
  /** Bytes of the file so far. */
  readonly fileBytes: number;
  /** Size of the file in bytes. */
  readonly fileSize: number;
  /** Bytes so far of all files of one `prefetch()`, or of the file if it is opened alone. */
  readonly bytes: number;
  /** Size in bytes of all files of one `prefetch()`, or of the file if it is opened alone. */
  readonly size: number;
}

/**
 * How a model is downloaded and cached. Defaults come from the environment variables of Python's
 * `huggingface_hub`.
 */
export interface HubOptions {
  /** A branch, a tag or a commit. Default "main". */
  revision?: string;
  /** The cache's folder. Default `HF_HUB_CACHE`, `HF_HOME/hub` or `~/.cache/huggingface/hub`. */
  cacheDir?: string;
  /** The hub's URL. Default `HF_ENDPOINT` or `https://huggingface.co`. */
  endpoint?: string;
  /**
   * Access token, for gated and private models. Default `HF_TOKEN` or the token saved by Python's
   * client. It is sent only to the endpoint, never to a redirect's host.
   */
  token?: string;
  /** Uses only cached files and makes no network requests. Default `HF_HUB_OFFLINE`. */
  localFilesOnly?: boolean;
  /** Called as bytes arrive. */
  onProgress?: (progress: HubProgress) => void;
  /** Aborts the download. The partial file is kept, so that the next call resumes it. */
  signal?: AbortSignal;
  /** Maximum number of consecutive attempts that receive no bytes. Default 5. */
  retries?: number;
  /** Delay in milliseconds after the first failed attempt; it doubles each time. Default 1000. */
  retryDelayMs?: number;
  /** An attempt fails after this many milliseconds without data. Default 30000. */
  stallTimeoutMs?: number;
}

/** A model on the hub as a file tree. `open()` downloads a file that is not cached yet. */
export interface HubTree extends FileTree {
  /** The commit that the files belong to. */
  readonly commit: string;
  /**
   * Downloads the given files. Progress is reported over all of them.
   *
   * @throws {HubError} if the model has no such file, or a download fails
   */
  prefetch(paths: readonly string[]): Promise<void>;
}

/** Whether a text is a valid model id: `name` or `owner/name`. */
export function isHubId(text: string): boolean {
  return /^(\w[\w.-]*\/)?\w[\w.-]{0,95}$/.test(text) && /\w$/.test(text) && !/--|\.\.|\.git$/.test(text);
}

/**
 * Opens a model on the hub.
 *
 * @throws {HubError} if the id or revision does not exist, the model requires a token, or the hub
 *   cannot be reached; with `localFilesOnly`, if the revision is not cached
 *
 * @example
 * ```ts
 * const tree = await openHub("CompVis/stable-diffusion-v1-4", {
 *   onProgress: ({ bytes, size }) => console.log(bytes / size),
 * });
 * await tree.prefetch(await pipelineFiles(tree, { variant: "fp16" }));
 * ```
 */
export async function openHub(id: string, options: HubOptions = {}): Promise<HubTree> {
  if (!isHubId(id)) {
    throw new HubError(`Cannot open ${JSON.stringify(id)} as a model's id on the hub is OWNER/NAME`, { source: id });
  }
  const revision = options.revision ?? "main";
  checkPath(revision, id);
  const environment = await hubEnvironment();
  const cache = new HubCache(options.cacheDir ?? environment.cacheDir, id);
  if (options.localFilesOnly ?? environment.offline) return await openCached(cache, revision);

  const endpoint = (options.endpoint ?? environment.endpoint).replace(/\/+$/, "");
  const client = new HubClient(endpoint, options.token ?? environment.token, options.stallTimeoutMs ?? 30_000);
  const { commit, files } = await readMetadata(client, id, revision, options.signal);
  if (commit !== revision) await cache.writeRef(revision, commit);
  const snapshot = new Snapshot(cache, commit, files, client, options);

  const name = `${id}@${revision}`;
  const tree = fileTree({
    name,
    has: (path) => Promise.resolve(files.has(path)),
    open: async (path) => {
      await snapshot.fetch([path], name);
      return await fileSource(`${cache.snapshotPath(commit)}/${path}`);
    },
    list: (path) => Promise.resolve(childrenOf(path, files.keys())),
  });
  return Object.assign(tree, { commit, prefetch: (paths: readonly string[]) => snapshot.fetch(paths, name) });
}

/** Opens a cached revision without network access. */
async function openCached(cache: HubCache, revision: string): Promise<HubTree> {
  const commit = isCommit(revision) ? revision : await cache.readRef(revision);
  const missing = (what: string): HubError =>
    new HubError(`Cannot open ${cache.id}@${revision} from the cache as ${what} not cached: download the model first`, {
      source: cache.id,
    });
  if (commit === undefined) throw missing("this revision is");
  const tree = await cache.snapshot(commit).catch(() => {
    throw missing("its files are");
  });
  const prefetch = async (paths: readonly string[]): Promise<void> => {
    for (const path of paths) if (!await tree.has(path)) throw missing(`${path} is`);
  };
  return Object.assign(tree, { commit, prefetch });
}

/** The files of one commit, downloaded into the cache on demand. */
class Snapshot {
  constructor(
    readonly cache: HubCache,
    readonly commit: string,
    readonly files: ReadonlyMap<string, HubFile>,
    readonly client: HubClient,
    readonly options: HubOptions,
  ) {}

  async fetch(paths: readonly string[], name: string): Promise<void> {
    const wanted = [...new Set(paths)].map((path) => this.#file(path, name));
    const size = wanted.reduce((sum, file) => sum + file.size, 0);
    let before = 0;
    for (const file of wanted) {
      const report = (fileBytes: number): void => {
        this.options.onProgress?.({ path: file.path, fileBytes, fileSize: file.size, bytes: before + fileBytes, size });
      };
      await this.#ensure(file, report);
      before += file.size;
    }
  }

  #file(path: string, name: string): HubFile {
    if (isPickle(path)) throw new CheckpointError(pickleMessage(`${name}/${path}`, "download"), { source: name });
    const file = this.files.get(path);
    if (file !== undefined) return file;
    throw new HubError(`Cannot download ${path} of ${name} as there is no such file`, { source: name });
  }

  async #ensure(file: HubFile, onBytes: (bytes: number) => void): Promise<void> {
    if (await this.cache.has(this.commit, file)) return onBytes(file.size);
    const { signal, retries = 5, retryDelayMs = 1000 } = this.options;
    const path = file.path.split("/").map(encodeURIComponent).join("/");
    const read = this.client.reader(`/${this.cache.id}/resolve/${this.commit}/${path}`, file, signal);
    await this.cache.ensure(this.commit, file, { read, retries, retryDelayMs, onBytes, signal });
  }
}

/**
 * HTTP requests to one hub. The token is sent only to the hub's own origin; `fetch` would also send
 * it to redirect targets, so redirects are followed here. Every request has a timeout.
 */
class HubClient {
  constructor(readonly endpoint: string, readonly token: string | undefined, readonly stallTimeoutMs: number) {}

  /** `fetch` that sends the token only to the hub's origin. Also passed to `@huggingface/hub`. */
  readonly fetch = async (input: string | URL | Request, init: RequestInit = {}): Promise<Response> => {
    let url = new URL(input instanceof Request ? input.url : input);
    for (let redirects = 0; redirects <= 5; redirects++) {
      const headers = new Headers(init.headers);
      if (this.token !== undefined && url.origin === new URL(this.endpoint).origin) {
        headers.set("Authorization", `Bearer ${this.token}`);
      }
      const response = await fetch(url, { ...init, headers, redirect: "manual" });
      const location = [301, 302, 303, 307, 308].includes(response.status) ? response.headers.get("Location") : null;
      if (location === null) return response;
      await response.body?.cancel();
      const next = new URL(location, url);
      if (!["https:", url.protocol].includes(next.protocol)) {
        throw new HubError(`Cannot follow the redirect from ${url.origin} to ${next.origin} as it leaves https`, {
          source: this.endpoint,
        });
      }
      url = next;
    }
    throw new HubError(`Cannot reach ${url.origin} as it redirects more than 5 times`, { source: this.endpoint });
  };

  /** A reader of one file that sends one range request per call. */
  reader(path: string, file: HubFile, signal?: AbortSignal): RangeReader {
    return async (offset) => {
      const stall = new AbortController();
      const reason = new TransferError(`the hub sent nothing for ${this.stallTimeoutMs / 1000} seconds`);
      let stopWatching = (): void => {};
      const isAlive = (): void => {
        stopWatching();
        const timer = setTimeout(() => stall.abort(reason), this.stallTimeoutMs);
        stopWatching = () => clearTimeout(timer);
      };
      isAlive();
      try {
        // Sizes and offsets refer to uncompressed bytes.
        const headers: Record<string, string> = { "Accept-Encoding": "identity" };
        if (offset > 0) headers.Range = `bytes=${offset}-`;
        const signals = signal === undefined ? stall.signal : AbortSignal.any([stall.signal, signal]);
        const response = await this.fetch(this.endpoint + path, { headers, signal: signals });
        const start = await checkResponse(response, offset, file);
        return { start, chunks: watched(response.body, isAlive, () => stopWatching()) };
      } catch (error) {
        stopWatching();
        throw error;
      }
    };
  }
}

/**
 * The file offset at which a response's body starts.
 *
 * @throws {HubError} for a permanent failure
 * @throws {TransferError} for a failure that a retry may fix
 */
async function checkResponse(response: Response, offset: number, file: HubFile): Promise<number> {
  const { status } = response;
  const range = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get("Content-Range") ?? "");
  const isRange = status === 206 && range !== null && Number(range[1]) === offset &&
    [String(file.size), "*"].includes(range[3]);
  if (isRange) return offset;
  // The whole file: no range was requested, or the server does not support ranges.
  if (status === 200) return 0;
  await response.body?.cancel();
  if (status === 206 || status === 416) {
    throw new TransferError(`the hub answered with another range than bytes ${offset} to ${file.size}`, {
      isCorrupt: true,
    });
  }
  if (status === 408 || status === 429 || status >= 500) {
    const seconds = Number(response.headers.get("Retry-After") ?? 0);
    throw new TransferError(`the hub answered with status ${status}`, {
      retryAfterMs: Number.isFinite(seconds) ? Math.min(seconds, 300) * 1000 : 0,
    });
  }
  throw new HubError(`Cannot download ${file.path} as the hub answered with status ${status}`, {
    source: file.path,
    status,
  });
}

async function* watched(
  body: ReadableStream<Uint8Array> | null,
  isAlive: () => void,
  end: () => void,
): AsyncIterable<Uint8Array> {
  try {
    for await (const chunk of body ?? []) {
      isAlive();
      yield chunk;
    }
  } finally {
    end();
  }
}

/** Limits of a list of files, which a hub sends in pages that name the next one. */
const maxListingRequests = 1000, maxListedFiles = 100_000;

/** Looks up the commit of a revision and lists its files. */
async function readMetadata(
  client: HubClient,
  id: string,
  revision: string,
  signal?: AbortSignal,
): Promise<{ commit: string; files: Map<string, HubFile> }> {
  const malformed = (what: string): HubError =>
    new HubError(`Cannot open ${id}@${revision} as the hub answered with ${what}`, { source: id });
  let requests = 0;
  const timed = (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    if (++requests > maxListingRequests) throw malformed(`a list of files that does not end`);
    const timeout = AbortSignal.timeout(client.stallTimeoutMs);
    return client.fetch(input, {
      ...init,
      signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
    });
  };
  const hub = { hubUrl: client.endpoint, fetch: timed as typeof fetch };
  try {
    const { sha: commit } = await modelInfo({ name: id, revision, additionalFields: ["sha"], ...hub });
    if (typeof commit !== "string" || !isCommit(commit)) throw malformed("no commit");
    const files = new Map<string, HubFile>();
    for await (
      const entry of listFiles({ repo: { type: "model", name: id }, revision: commit, recursive: true, ...hub })
    ) {
      if (entry.type !== "file") continue;
      const path = checkPath(entry.path, id);
      const [size, hash] = entry.lfs === undefined ? [entry.size, entry.oid] : [entry.lfs.size, entry.lfs.oid];
      const isHash = typeof hash === "string" &&
        (entry.lfs === undefined ? /^[0-9a-f]{40}$/ : /^[0-9a-f]{64}$/).test(hash);
      if (!isHash || !Number.isSafeInteger(size) || size < 0) throw malformed(`no size and hash for ${path}`);
      files.set(path, { path, size, hash });
      if (files.size > maxListedFiles) throw malformed(`more than ${maxListedFiles} files`);
    }
    return { commit, files };
  } catch (error) {
    if (error instanceof CheckpointError || signal?.aborted) throw error;
    throw hubError(error, id, revision, client);
  }
}

function hubError(error: unknown, id: string, revision: string, client: HubClient): HubError {
  const status = error instanceof HubApiError ? error.statusCode : undefined;
  const reasons: Record<number, string> = {
    401: client.token === undefined
      ? "there is no such model, or it requires a token: set HF_TOKEN"
      : "the hub rejected the token",
    403: "access is restricted: accept the terms on the model's page, and set HF_TOKEN",
    404: "there is no such model or revision",
  };
  const message = error instanceof Error ? error.message : String(error);
  const reason = status === undefined
    ? `the hub at ${client.endpoint} cannot be reached (${message}); localFilesOnly loads a cached model without it`
    : reasons[status] ?? `the hub answered with status ${status}: ${message}`;
  return new HubError(`Cannot open ${id}@${revision} as ${reason}`, { source: id, status, cause: error });
}
