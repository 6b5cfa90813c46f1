/**
 * Models on the Hugging Face hub, as file trees. A file is downloaded when it is first opened.
 * Pickles are never downloaded.
 *
 * `@huggingface/hub` lists a model's files. They are downloaded over HTTP into the cache that
 * Python's `huggingface_hub` uses, and verified by size and hash.
 */

import { CheckpointError, HubError } from "../../errors.ts";
import { checkPath, childrenOf, type FileTree, fileTree } from "../source/file_tree.ts";
import { isMissingFolder } from "../source/disk.ts";
import { isPickle, pickleMessage } from "../source/pickle.ts";
import { HubCache, hubEnvironment, type HubFile, isCommit } from "./cache.ts";
import { HubClient, readMetadata } from "./client.ts";

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
  /** Maximum number of consecutive attempts that receive less than 1 KiB. Default 5. */
  retries?: number;
  /** Delay in milliseconds after the first failed attempt; it doubles each time. Default 1000. */
  retryDelayMs?: number;
  /** An attempt fails when it receives less than 1 KiB within this time. Default 30000. */
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
  const environment = await hubEnvironment(options.cacheDir);
  const cache = new HubCache(environment.cacheDir, id);
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
      return await cache.open(commit, path);
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
  const tree = await cache.snapshot(commit).catch((error) => {
    throw isMissingFolder(error) ? missing("its files are") : error;
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
