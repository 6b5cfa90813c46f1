/** Files of a server: the page from memory, a model's folder by ranges. @module */

import { fileSource } from "../../pipeline/checkpoint/source/disk.ts";
import type { ByteSource } from "../../pipeline/checkpoint/source/byte_source.ts";

/** Files by path: relative, with "/". */
export type PageFiles = ReadonlyMap<string, Uint8Array<ArrayBuffer>>;

const types: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  json: "application/json",
  svg: "image/svg+xml",
  png: "image/png",
  woff2: "font/woff2",
  txt: "text/plain; charset=utf-8",
};

/** The media type of a file. */
export function typeOf(path: string): string {
  return types[/\.(\w+)$/.exec(path)?.[1].toLowerCase() ?? ""] ?? "application/octet-stream";
}

/**
 * The path that a request names, decoded once.
 *
 * @returns undefined for one that is malformed, leaves its folder or names hidden files
 */
export function requestedPath(pathname: string): string | undefined {
  let path: string;
  try {
    path = decodeURIComponent(pathname);
  } catch {
    return undefined;
  }
  const parts = path.replace(/^\//, "").split("/");
  // deno-lint-ignore no-control-regex
  const isUnsafe = /[\\\u0000-\u001f%:]/.test(path) || parts.some((part) => part === "" || part.startsWith("."));
  return isUnsafe ? undefined : parts.join("/");
}

/** Whether a path inside the embedded model's folder is one that pages read. */
export function isModelFile(path: string): boolean {
  return /^(model_index\.json|(scheduler|text_encoder|tokenizer|unet|vae)\/[^/]+)$/.test(path);
}

/** The answer with a file from memory. */
export function pageResponse(files: PageFiles, path: string): Response | undefined {
  const content = files.get(path);
  if (content === undefined) return undefined;
  return new Response(content, { headers: { "content-type": typeOf(path), "cache-control": "no-cache" } });
}

/**
 * Opens a file inside a folder. Symbolic links may point inside it alone.
 *
 * @returns undefined where there is no such file
 */
export async function openInside(root: string, path: string): Promise<ByteSource | undefined> {
  try {
    const [folder, file] = await Promise.all([Deno.realPath(root), Deno.realPath(`${root}/${path}`)]);
    if (!file.startsWith(`${folder}/`) && !file.startsWith(`${folder}\\`)) return undefined;
    if (!(await Deno.stat(file)).isFile) return undefined;
    return await fileSource(file);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return undefined;
    throw error;
  }
}

/** A range of bytes, the last included. */
interface Range {
  readonly first: number;
  readonly last: number;
}

/**
 * The range that a header asks for.
 *
 * @returns undefined for the whole file, "unsatisfiable" for a range outside it
 */
export function parseRange(header: string | undefined, size: number): Range | "unsatisfiable" | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header?.trim() ?? "");
  if (match === null || match[1] === "" && match[2] === "") return undefined; // as RFC 9110 allows
  const [, from, to] = match;
  const first = from === "" ? Math.max(0, size - Number(to)) : Number(from);
  const last = from === "" || to === "" ? size - 1 : Math.min(Number(to), size - 1);
  return first > last || first >= size ? "unsatisfiable" : { first, last };
}

/** The answer with a file, or the range of it that the request asks for. Closes the file. */
export function rangeResponse(source: ByteSource, path: string, request: Request): Response {
  const { size } = source;
  const range = parseRange(request.headers.get("range") ?? undefined, size);
  const headers = new Headers({ "content-type": typeOf(path), "accept-ranges": "bytes", "cache-control": "no-cache" });
  if (range === "unsatisfiable") {
    source.close?.();
    headers.set("content-range", `bytes */${size}`);
    return new Response(null, { status: 416, headers });
  }
  const { first, last } = range ?? { first: 0, last: size - 1 };
  headers.set("content-length", String(last - first + 1));
  if (range) headers.set("content-range", `bytes ${first}-${last}/${size}`);
  const status = range ? 206 : 200;
  if (request.method === "HEAD") {
    source.close?.();
    return new Response(null, { status, headers });
  }
  return new Response(streamOf(source, first, last), { status, headers });
}

const chunkBytes = 1 << 18;

/** The bytes of a range as a stream, which closes the file. */
function streamOf(source: ByteSource, first: number, last: number): ReadableStream<Uint8Array<ArrayBuffer>> {
  let offset = first;
  return new ReadableStream({
    async pull(controller) {
      const length = Math.min(chunkBytes, last + 1 - offset);
      if (length > 0) controller.enqueue(await source.read(offset, length));
      offset += length;
      if (offset <= last) return;
      controller.close();
      source.close?.();
    },
    cancel: () => source.close?.(),
  });
}
