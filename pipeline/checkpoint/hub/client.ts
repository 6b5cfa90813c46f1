/** Requests to a hub: a model's metadata, and ranges of its files. */

import { advise } from "../../advice.ts";
import { CheckpointError, HubError } from "../../errors.ts";
import { chunksOf, untilAborted } from "../source/abortable.ts";
import { checkPath } from "../source/file_tree.ts";
import { type HubFile, isCommit, leastProgressBytes, type RangeReader, TransferError } from "./cache.ts";

/**
 * HTTP requests to one hub. The token is sent only to the hub's own origin; `fetch` would also send
 * it to redirect targets, so redirects are followed here. Every request has a timeout.
 */
export class HubClient {
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
      const seconds = this.stallTimeoutMs / 1000;
      let stopWatching = (): void => {}, received = 0;
      const watch = (): void => {
        received = 0;
        const timer = setTimeout(() => {
          const what = received === 0 ? "nothing" : `${received} bytes only`;
          stall.abort(new TransferError(`the hub sent ${what} for ${seconds} seconds`));
        }, this.stallTimeoutMs);
        stopWatching = () => clearTimeout(timer);
      };
      // A trickle is as good as nothing: it would go on for days.
      const onBytes = (bytes: number): void => {
        received += bytes;
        if (received < leastProgressBytes) return;
        stopWatching();
        watch();
      };
      watch();
      try {
        // Sizes and offsets refer to uncompressed bytes.
        const headers: Record<string, string> = { "Accept-Encoding": "identity" };
        if (offset > 0) headers.Range = `bytes=${offset}-`;
        const signals = signal === undefined ? stall.signal : AbortSignal.any([stall.signal, signal]);
        const response = await untilAborted(this.fetch(this.endpoint + path, { headers, signal: signals }), signals);
        const start = await checkResponse(response, offset, file);
        return { start, chunks: watched(chunksOf(response.body, signals), onBytes, () => stopWatching()) };
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
  chunks: AsyncIterable<Uint8Array>,
  onBytes: (bytes: number) => void,
  end: () => void,
): AsyncIterable<Uint8Array> {
  try {
    for await (const chunk of chunks) {
      onBytes(chunk.length);
      yield chunk;
    }
  } finally {
    end();
  }
}

/** Limits of a list of files, which a hub sends in pages that name the next one. */
const maxListingRequests = 1000, maxListedFiles = 100_000;

/** All requests for a model's metadata together may take so many times the timeout of one. */
const metadataTimeouts = 10;

/** Looks up the commit of a revision and lists its files. */
export async function readMetadata(
  client: HubClient,
  id: string,
  revision: string,
  signal?: AbortSignal,
): Promise<{ commit: string; files: Map<string, HubFile> }> {
  const malformed = (what: string): HubError =>
    new HubError(`Cannot open ${id}@${revision} as the hub answered with ${what}`, { source: id });
  let requests = 0;
  const end = performance.now() + metadataTimeouts * client.stallTimeoutMs;
  const timed = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    if (++requests > maxListingRequests || performance.now() > end) {
      throw malformed(`a list of files that does not end`);
    }
    const timeout = AbortSignal.timeout(client.stallTimeoutMs);
    const signals = signal === undefined ? timeout : AbortSignal.any([timeout, signal]);
    const response = await untilAborted(client.fetch(input, { ...init, signal: signals }), signals);
    if (response.body === null) return response;
    return new Response(ReadableStream.from(chunksOf(response.body, signals)), response);
  };
  const hub = { hubUrl: client.endpoint, fetch: timed as typeof fetch };
  // Large, and not needed for folders.
  const { HubApiError, listFiles, modelInfo } = await import("@huggingface/hub");
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
    throw hubError(error, id, revision, {
      client,
      status: error instanceof HubApiError ? error.statusCode : undefined,
    });
  }
}

function hubError(
  error: unknown,
  id: string,
  revision: string,
  { client, status }: { client: HubClient; status: number | undefined },
): HubError {
  const reasons: Record<number, string> = {
    401: client.token === undefined
      ? "there is no such model, or it requires a token: set HF_TOKEN"
      : "the hub rejected the token",
    403: "access is restricted: accept the terms on the model's page, and set HF_TOKEN",
    404: "there is no such model or revision",
  };
  const message = error instanceof Error ? error.message : String(error);
  const reason = status === undefined
    ? `the hub at ${client.endpoint} cannot be reached (${message}); ${advise("useCache")}`
    : reasons[status] ?? `the hub answered with status ${status}: ${message}`;
  return new HubError(`Cannot open ${id}@${revision} as ${reason}`, { source: id, status, cause: error });
}
