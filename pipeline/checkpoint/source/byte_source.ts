/**
 * Where bytes come from: a file on disk, a Blob in a browser, an array in memory; and folders of
 * them. Everything that loads reads through these two interfaces, so that it works the same from a
 * disk, a hub snapshot and a web page.
 */

import { CheckpointError, PathError } from "../../errors.ts";
import { parsePythonJson } from "./json.ts";

/** Bytes that can be read in ranges, without ever being in memory as a whole. */
export interface ByteSource {
  /** What to call the source in messages: a path or a file name. */
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /**
   * The bytes `[offset, offset + length)`, in an array of their own. Reads may overlap in time.
   *
   * @param into Room for the bytes, which sources that can will use, so that reading much leaves no
   *   garbage. What is returned counts.
   */
  read(offset: number, length: number, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
  /** Gives the file back to the system, where there is one. */
  close?(): void;
}

/** A read-only folder of files, addressed by relative paths with `/` between their parts. */
export interface FileTree {
  /** What to call the folder in messages. */
  readonly name: string;
  /** Whether a file lies at the path. @throws {PathError} if the path leaves the folder. */
  has(path: string): Promise<boolean>;
  /** Opens a file for reading in ranges. @throws {CheckpointError} if there is none. */
  open(path: string): Promise<ByteSource>;
  /** The file as UTF-8 text. @throws {CheckpointError} if there is none. */
  readText(path: string): Promise<string>;
  /**
   * The file as JSON, as Python writes it. @throws {CheckpointError} if there is none, or it is not
   * JSON.
   */
  readJson(path: string): Promise<unknown>;
  /**
   * The names of the files and folders directly inside `path` (default: the root), sorted; folders
   * end with `/`.
   */
  list(path?: string): Promise<string[]>;
  /** The folder `path` as a tree of its own. */
  subtree(path: string): FileTree;
}

/** A source over bytes that are already in memory. They are copied when read. */
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

/** A source over a Blob or File, as browsers hand out for chosen and dropped files. */
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

/**
 * A source over a file on disk (Deno only). The file stays open until `close()`.
 *
 * @throws {CheckpointError} if the file does not exist or is not a file.
 */
export async function fileSource(path: string): Promise<ByteSource> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path, { read: true });
  } catch (cause) {
    throw missing(path, cause);
  }
  const { size, isFile } = await file.stat();
  if (!isFile) {
    file.close();
    throw new CheckpointError(`Cannot read ${path} as it is not a file`, { source: path });
  }
  // A Deno file has one position, which seek and read share: reads wait for each other here.
  let turn: Promise<unknown> = Promise.resolve();
  const readNow = async (
    offset: number,
    length: number,
    into: Uint8Array<ArrayBuffer> = new Uint8Array(length),
  ): Promise<Uint8Array<ArrayBuffer>> => {
    const bytes = into.subarray(0, length);
    await file.seek(offset, Deno.SeekMode.Start);
    for (let done = 0; done < length;) {
      const count = await file.read(bytes.subarray(done));
      if (count === null) {
        throw new CheckpointError(
          `Cannot read ${length} bytes at ${offset} of ${path} as the file ended after ${done}: was it cut since it was opened?`,
          { source: path },
        );
      }
      done += count;
    }
    return bytes;
  };
  return {
    name: path,
    size,
    read(offset: number, length: number, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
      const error = rangeError(path, size, offset, length);
      if (error !== null) return Promise.reject(error);
      const result = turn.then(() => readNow(offset, length, into));
      turn = result.catch(() => {});
      return result;
    },
    close: () => file.close(),
  };
}

/** Whole contents of a source, for the small ones. */
export async function readAll(source: ByteSource): Promise<Uint8Array<ArrayBuffer>> {
  return await source.read(0, source.size);
}

/**
 * A folder on disk (Deno only). Symbolic links are followed, since hub snapshots consist of them.
 *
 * @throws {CheckpointError} if the folder does not exist.
 */
export async function directoryTree(directory: string): Promise<FileTree> {
  const root = directory.replace(/(?<=[^/])\/+$/, "");
  try {
    if (!(await Deno.stat(root)).isDirectory) {
      throw new CheckpointError(`Cannot load ${root} as it is a file and a folder is wanted`, { source: root });
    }
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    throw new CheckpointError(`Cannot load ${root} as there is no such folder`, { source: root, cause });
  }
  return diskTree(root);
}

function diskTree(root: string): FileTree {
  const at = (path: string): string => `${root}/${checkPath(path, root)}`;
  return fileTree({
    name: root,
    has: (path) => Deno.stat(at(path)).then((info) => info.isFile, () => false),
    open: async (path) => await fileSource(at(path)),
    async list(path) {
      const names: string[] = [];
      const folder = path === "" ? root : at(path);
      await directoryTree(folder); // says what is missing
      for await (const entry of Deno.readDir(folder)) {
        const isDirectory = entry.isSymlink
          ? await Deno.stat(`${folder}/${entry.name}`).then((info) => info.isDirectory, () => false)
          : entry.isDirectory;
        names.push(isDirectory ? `${entry.name}/` : entry.name);
      }
      return names.sort();
    },
  });
}

/**
 * A folder in memory, or of Blobs as a browser hands them out: `{ "unet/config.json": bytes, … }`.
 *
 * @throws {PathError} if a key is not a relative path inside the folder.
 */
export function memoryTree(files: Readonly<Record<string, Uint8Array | Blob>>, name: string): FileTree {
  const byPath = new Map(Object.entries(files).map(([path, file]) => [checkPath(path, name), file]));
  return fileTree({
    name,
    has: (path) => Promise.resolve(byPath.has(path)),
    open(path) {
      const file = byPath.get(path);
      const fullName = `${name}/${path}`;
      if (file === undefined) return Promise.reject(missing(fullName));
      return Promise.resolve(file instanceof Blob ? blobSource(file, fullName) : bytesSource(file, fullName));
    },
    list: (path) => Promise.resolve(childrenOf(path, byPath.keys())),
  });
}

/**
 * What lies directly inside a folder ("" for the root), given the paths of all files: sorted,
 * folders with `/`.
 */
export function childrenOf(folder: string, paths: Iterable<string>): string[] {
  const prefix = folder === "" ? "" : `${folder}/`;
  const names = new Set<string>();
  for (const path of paths) {
    if (!path.startsWith(prefix)) continue;
    const [first, ...rest] = path.slice(prefix.length).split("/");
    names.add(rest.length > 0 ? `${first}/` : first);
  }
  return [...names].sort();
}

/**
 * Checks that a path stays inside its folder, and returns it without `.` parts.
 *
 * @param owner The folder, or the file that named the path, for the message.
 * @throws {PathError} for absolute paths, drive letters, backslashes, `..`, control characters and
 *   empty paths.
 */
export function checkPath(path: string, owner: string): string {
  const parts = path.split("/").filter((part) => part !== ".");
  // deno-lint-ignore no-control-regex
  const hasStrangers = /[\\\u0000-\u001f]|^[A-Za-z]:/.test(path);
  if (hasStrangers || parts.length === 0 || parts.some((part) => part === "" || part === "..")) {
    throw new PathError(
      `Cannot follow the path ${
        JSON.stringify(path)
      } in ${owner} as paths must be relative and stay inside their folder`,
      { source: owner, path },
    );
  }
  return parts.join("/");
}

/**
 * Derives a whole tree from the three operations in which trees differ; each path it hands on has
 * been checked.
 */
export function fileTree(base: {
  name: string;
  has(path: string): Promise<boolean>;
  open(path: string): Promise<ByteSource>;
  list(path: string): Promise<string[]>;
}): FileTree {
  const check = (path: string): string => checkPath(path, base.name);
  const tree: FileTree = {
    name: base.name,
    has: async (path) => await base.has(check(path)),
    open: async (path) => await base.open(check(path)),
    list: async (path) => await base.list(path === undefined ? "" : check(path)),
    async readText(path) {
      const source = await tree.open(path);
      try {
        return new TextDecoder("utf-8", { fatal: true }).decode(await readAll(source));
      } catch (cause) {
        if (cause instanceof CheckpointError) throw cause;
        throw new CheckpointError(`Cannot read ${source.name} as it must be UTF-8 text`, {
          source: source.name,
          cause,
        });
      } finally {
        source.close?.();
      }
    },
    async readJson(path) {
      const text = await tree.readText(path);
      try {
        return parsePythonJson(text);
      } catch (cause) {
        const source = `${base.name}/${path}`;
        throw new CheckpointError(`Cannot read ${source} as it must be JSON: ${(cause as Error).message}`, {
          source,
          cause,
        });
      }
    },
    subtree(path) {
      const folder = check(path);
      return fileTree({
        name: `${base.name}/${folder}`,
        has: (inner) => base.has(`${folder}/${inner}`),
        open: (inner) => base.open(`${folder}/${inner}`),
        list: (inner) => base.list(inner === "" ? folder : `${folder}/${inner}`),
      });
    },
  };
  return tree;
}

/** Opens what a user named: a tree as it is, a string as a folder on disk. */
export async function openTree(folder: string | FileTree): Promise<FileTree> {
  return typeof folder === "string" ? await directoryTree(folder) : folder;
}

function missing(path: string, cause?: unknown): CheckpointError {
  const reason = cause === undefined || (cause as Error).name === "NotFound"
    ? "there is no such file"
    : (cause as Error).message;
  return new CheckpointError(`Cannot read ${path} as ${reason}`, { source: path, cause });
}

function rangeError(name: string, size: number, offset: number, length: number): CheckpointError | null {
  if (Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0) {
    if (offset + length <= size) return null;
  }
  return new CheckpointError(
    `Cannot read ${length} bytes at ${offset} of ${name} as it has ${size} bytes`,
    { source: name },
  );
}
