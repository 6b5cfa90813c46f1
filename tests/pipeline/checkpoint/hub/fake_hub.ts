/** A local model hub for download tests, which can be made to misbehave. */

const encoder = new TextEncoder();

async function hex(algorithm: "SHA-1" | "SHA-256", bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest(algorithm, bytes)).toHex();
}

function concat(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** A request for a file, as the hub saw it. */
export interface FileRequest {
  path: string;
  /** The first byte requested. */
  offset: number;
  authorization: string | null;
  /** Number of requests for this file, including this one. */
  attempt: number;
}

/** Returns a response that replaces the correct one, or `undefined` for the correct response. */
export type Misbehavior = (request: FileRequest) => Response | Promise<Response> | undefined;

interface StoredFile {
  bytes: Uint8Array<ArrayBuffer>;
  hash: string;
  isLfs: boolean;
}

/** One model, `owner/model`, with a branch `main`. */
export class FakeHub {
  readonly id = "owner/model";
  readonly commit = "0123456789abcdef0123456789abcdef01234567";
  /** Requests for files, in order. */
  readonly requests: FileRequest[] = [];
  misbehave: Misbehavior = () => undefined;
  /** Changes the listing before it is sent. */
  alterListing: (entries: Record<string, unknown>[]) => unknown = (entries) => entries;
  /** Number of requests for the listing. */
  listings = 0;
  /** Whether the listing has endless pages. */
  endless = false;
  /** Replaces the answer to a revision lookup. */
  answerRevision: () => Response | undefined = () => undefined;

  readonly #files: Map<string, StoredFile>;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #stopped = Promise.withResolvers<void>();

  private constructor(files: Map<string, StoredFile>) {
    this.#files = files;
    this.#server = Deno.serve(
      { port: 0, hostname: "127.0.0.1", onListen: () => {} },
      (request) => this.#untilStopped(this.#answer(request)),
    );
  }

  /** Starts a hub with files by path; those that are safetensors are in LFS. */
  static async start(contents: Record<string, Uint8Array<ArrayBuffer> | string>): Promise<FakeHub> {
    const files = new Map<string, StoredFile>();
    for (const [path, content] of Object.entries(contents)) {
      const bytes = typeof content === "string" ? encoder.encode(content) : content;
      const isLfs = /\.(safetensors|bin)$/.test(path);
      const hash = isLfs
        ? await hex("SHA-256", bytes)
        : await hex("SHA-1", concat(encoder.encode(`blob ${bytes.length}\0`), bytes));
      files.set(path, { bytes, hash, isLfs });
    }
    return new FakeHub(files);
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.#server.addr.port}`;
  }

  /** The contents of a file. */
  bytes(path: string): Uint8Array<ArrayBuffer> {
    return this.#files.get(path)!.bytes;
  }

  /** The name of a file's blob. */
  hash(path: string): string {
    return this.#files.get(path)!.hash;
  }

  /** The distinct files requested. */
  get asked(): string[] {
    return [...new Set(this.requests.map(({ path }) => path))].sort();
  }

  /** Ends all answers, those that hang included, and the server. */
  async stop(): Promise<void> {
    this.#stopped.resolve();
    await this.#server.shutdown();
  }

  async #untilStopped(answer: Response | Promise<Response>): Promise<Response> {
    const stopped = this.#stopped.promise;
    const response = await Promise.race([answer, stopped.then(() => new Response(null, { status: 503 }))]);
    if (response.body === null) return response;
    const reader = response.body.getReader();
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        const chunk = await Promise.race([reader.read(), stopped]);
        if (chunk?.value) controller.enqueue(chunk.value);
        else controller.close();
      },
      cancel: (reason) => reader.cancel(reason),
    });
    return new Response(body, response);
  }

  #answer(request: Request): Response | Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname.startsWith(`/api/models/${this.id}/revision/`)) {
      const answer = this.answerRevision();
      if (answer !== undefined) return answer;
      const revision = decodeURIComponent(pathname.split("/").at(-1)!);
      if (!["main", this.commit].includes(revision)) return new Response("no such revision", { status: 404 });
      const siblings = [...this.#files.keys()].map((rfilename) => ({ rfilename }));
      return Response.json({ _id: "x", id: this.id, sha: this.commit, lastModified: "2024-01-01T00:00:00Z", siblings });
    }
    if (pathname === `/api/models/${this.id}/tree/${this.commit}`) {
      this.listings++;
      const headers: Record<string, string> = this.endless ? { Link: `<${request.url}>; rel="next"` } : {};
      return Response.json(this.endless ? [] : this.alterListing(this.#listing()), { headers });
    }
    const resolve = new RegExp(`^/${this.id}/resolve/(?:${this.commit}|main)/(.+)$`).exec(pathname);
    return resolve === null ? new Response("no such page", { status: 404 }) : this.#answerFile(request, resolve[1]);
  }

  #listing(): Record<string, unknown>[] {
    return [...this.#files].map(([path, { bytes, hash, isLfs }]) => ({
      type: "file",
      path,
      size: bytes.length,
      oid: isLfs ? "f".repeat(40) : hash,
      ...(isLfs ? { lfs: { oid: hash, size: bytes.length, pointerSize: 130 } } : {}),
    }));
  }

  #answerFile(request: Request, path: string): Response | Promise<Response> {
    const file = this.#files.get(path);
    if (file === undefined) return new Response("no such file", { status: 404 });
    const offset = Number(/^bytes=(\d+)-$/.exec(request.headers.get("Range") ?? "")?.[1] ?? 0);
    const { bytes, hash } = file;
    const headers = { ETag: `"${hash}"`, "X-Repo-Commit": this.commit, "Content-Length": `${bytes.length}` };
    if (request.method === "HEAD") return new Response(null, { headers });
    const attempt = this.requests.filter((earlier) => earlier.path === path).length + 1;
    const seen = { path, offset, authorization: request.headers.get("Authorization"), attempt };
    this.requests.push(seen);
    return this.misbehave(seen) ?? rangeOf(bytes, offset);
  }
}

/** The correct response to a request for a file's bytes from an offset on. */
export function rangeOf(bytes: Uint8Array<ArrayBuffer>, offset: number): Response {
  if (offset === 0) return new Response(bytes);
  const headers = { "Content-Range": `bytes ${offset}-${bytes.length - 1}/${bytes.length}` };
  return new Response(bytes.slice(offset), { status: 206, headers });
}

/**
 * A response that announces all of `bytes` from an offset on, but sends only those before `end`.
 * The connection then closes or, with `hangs`, stays open without data.
 */
export function brokenOff(
  bytes: Uint8Array<ArrayBuffer>,
  options: { offset?: number; end: number; hangs?: boolean },
): Response {
  const { offset = 0, end, hangs = false } = options;
  const body = new ReadableStream({
    async start(controller) {
      controller.enqueue(bytes.slice(offset, end));
      if (hangs) return;
      // Gives the client time to receive what was sent.
      await new Promise((resolve) => setTimeout(resolve, 20));
      controller.close();
    },
  });
  const { status, headers } = rangeOf(bytes, offset);
  headers.set("Content-Length", `${bytes.length - offset}`);
  return new Response(body, { status, headers });
}
