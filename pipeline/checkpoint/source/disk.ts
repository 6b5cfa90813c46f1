/**
 * Files and folders on disk (Deno and Node).
 *
 * @module
 */

import { advise } from "../../advice.ts";
import { CheckpointError, OptionError } from "../../errors.ts";
import { nearest } from "../../nearest.ts";
import { repairFolder } from "../../output/folder.ts";
import { ignoreAbsent } from "../../output/paths.ts";
import { shown } from "../../shown.ts";
import { type ByteSource, cannotOpen, deniedReason, isByteSource, rangeError } from "./byte_source.ts";
import { isSafetensors } from "../safetensors/format.ts";
import { foreignReason } from "./foreign_file.ts";
import { isWeightsFile } from "./weights_file.ts";
import { type OpenFile, type PathInfo, type ReadableDisk, readableDisk } from "./readable_disk.ts";
import { checkPath, type FileTree, fileTree, isFileTree } from "./file_tree.ts";
import { urlSource, urlTree } from "./url.ts";

/**
 * A source over a file on disk (Deno and Node). The file stays open until `close()`.
 *
 * @throws {CheckpointError} if the file does not exist or is not a file.
 */
export async function fileSource(path: string): Promise<ByteSource> {
  const disk = requireDisk(path);
  let file: OpenFile;
  try {
    // Before it is opened: opening a pipe would wait until somebody writes into it.
    if (!(await disk.stat(path)).isFile) {
      throw new CheckpointError(`Cannot read ${path} as it is not a file`, { source: path });
    }
    file = await disk.open(path);
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    throw withHint(cannotOpen(path, cause), await missingHint(path, cause));
  }
  const { size } = file;
  // A file of Deno's has one position, so reads are serialized.
  let turn: Promise<unknown> = Promise.resolve();
  const readNow = async (
    offset: number,
    length: number,
    into: Uint8Array<ArrayBuffer> = new Uint8Array(length),
  ): Promise<Uint8Array<ArrayBuffer>> => {
    const bytes = into.subarray(0, length);
    for (let done = 0; done < length;) {
      const count = await file.read(bytes.subarray(done), offset + done);
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

/**
 * A folder on disk (Deno and Node). Symbolic links are followed, since hub snapshots consist of
 * them.
 *
 * @throws {CheckpointError} if the folder does not exist.
 */
export async function directoryTree(directory: string): Promise<FileTree> {
  requireDisk(directory);
  const root = directory.replace(/(?<=[^/])\/+$/, "");
  try {
    if (!(await statRepaired(root)).isDirectory) {
      const advice = isSafetensors(root) ? advise("loadSingleFile") : await foreignOf(root);
      throw new CheckpointError(
        `Cannot load ${root} as it is a file and a folder is wanted${advice && `: ${advice}`}`,
        {
          source: root,
        },
      );
    }
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    const denied = deniedReason(cause);
    if (denied !== undefined) throw new CheckpointError(`Cannot load ${root} as ${denied}`, { source: root, cause });
    const error = new MissingFolderError(`Cannot load ${root} as there is no such folder`, { source: root, cause });
    throw withHint(error, await missingHint(root, cause));
  }
  return diskTree(root);
}

/**
 * What is at a path. A folder that is being replaced is missing for a moment, or until it is
 * repaired.
 */
async function statRepaired(root: string): Promise<PathInfo> {
  const disk = requireDisk(root);
  for (let attempt = 1; attempt < 4; attempt++) {
    const info = await disk.stat(root).catch(ignoreNotFound);
    if (info !== undefined) return info;
    if (typeof Deno === "undefined") break; // only Deno replaces folders
    await repairFolder(root);
  }
  return await disk.stat(root);
}

/** For `catch`: `undefined` where there is nothing of the name. */
function ignoreNotFound(error: Error): undefined {
  if (error.name !== "NotFound") throw error;
}

/**
 * What is at a path; `undefined` if there is nothing.
 *
 * @throws {CheckpointError} where looking is not permitted, since there may be something
 */
async function statOf(path: string): Promise<PathInfo | undefined> {
  try {
    return await requireDisk(path).stat(path).catch(ignoreAbsent);
  } catch (cause) {
    throw cannotOpen(path, cause);
  }
}

function diskTree(root: string): FileTree {
  const at = (path: string): string => `${root}/${checkPath(path, root)}`;
  return fileTree({
    name: root,
    has: async (path) => (await statOf(at(path)))?.isFile ?? false,
    open: async (path) => await fileSource(at(path)),
    async list(path) {
      const names: string[] = [];
      const folder = path === "" ? root : at(path);
      await directoryTree(folder); // says what is missing
      for (const entry of await requireDisk(folder).list(folder)) {
        const isDirectory = entry.isSymlink
          ? (await statOf(`${folder}/${entry.name}`))?.isDirectory ?? false
          : entry.isDirectory;
        names.push(isDirectory ? `${entry.name}/` : entry.name);
      }
      return names.sort();
    },
  });
}

/**
 * Opens a folder: a path on disk, a `file:` URL (both in Deno and Node), an `http:` or `https:`
 * URL, or a tree, which is returned as it is.
 *
 * @throws {CheckpointError} if there is no such folder on disk, or for a URL of another kind
 */
export async function openTree(folder: string | URL | FileTree): Promise<FileTree> {
  if (typeof folder === "string") return await directoryTree(folder);
  if (!(folder instanceof URL)) {
    if (isFileTree(folder)) return folder;
    throw noSource(folder, "a path, a URL or a file tree");
  }
  if (folder.protocol === "file:") return await directoryTree(pathOf(folder));
  return urlTree(webUrl(folder));
}

/** Opens a file as {@linkcode openTree} opens folders. A source is returned as it is. */
export async function openSource(file: string | URL | ByteSource): Promise<ByteSource> {
  if (typeof file === "string") return await fileSource(file);
  if (!(file instanceof URL)) {
    if (isByteSource(file)) return file;
    throw noSource(file, "a path, a URL or a byte source");
  }
  return file.protocol === "file:" ? await fileSource(pathOf(file)) : await urlSource(webUrl(file));
}

function noSource(value: unknown, kinds: string): OptionError {
  return new OptionError(`Cannot load ${shown(value)} as a source must be ${kinds}`, { option: "source", value });
}

function webUrl(url: URL): URL {
  if (url.protocol === "http:" || url.protocol === "https:") return url;
  throw new CheckpointError(`Cannot load ${url.href.slice(0, 100)} as its protocol must be http, https or file`, {
    source: url.href.slice(0, 100),
  });
}

/** The path of a `file:` URL. @throws {CheckpointError} where its escapes are not UTF-8 */
export function pathOf(url: URL): string {
  let path: string;
  try {
    path = decodeURIComponent(url.pathname);
  } catch (cause) {
    throw new CheckpointError(`Cannot load ${url.href} as its escapes are not UTF-8`, { source: url.href, cause });
  }
  return path.replace(/^\/(?=[A-Za-z]:)/, ""); // Windows: /C:/models
}

/** What a file is that stands where a folder is wanted; "" if it is not recognized. */
async function foreignOf(path: string): Promise<string> {
  const source = await fileSource(path);
  try {
    return await foreignReason(source) ?? "";
  } finally {
    source.close?.();
  }
}

/** There is no folder of a name. */
class MissingFolderError extends CheckpointError {}

/** Whether an error says that a folder does not exist, rather than that it cannot be read. */
export function isMissingFolder(error: unknown): boolean {
  return error instanceof MissingFolderError;
}

/**
 * Whether a path can be nothing but a local one: it begins or ends as paths do, has more parts than
 * a hub's id, or a backslash; it names a file of weights; or its first part is a folder here.
 */
export async function isPlainlyLocal(path: string): Promise<boolean> {
  if (/^(\.{0,2}\/|~|[A-Za-z]:)|\\|\/.*\/|\/$/.test(path) || isWeightsFile(path)) return true;
  const [first, ...rest] = path.split("/");
  return rest.length > 0 && ((await statOf(first))?.isDirectory ?? false);
}

/**
 * What helps with a missing file or folder: the nearest name beside it, or that it is a link to
 * something that is missing.
 */
async function missingHint(path: string, cause: unknown): Promise<string | undefined> {
  if ((cause as Error).name !== "NotFound") return undefined;
  const [, folder, name] = /^(.*[\\/])?([^\\/]+)$/.exec(path) ?? [];
  if (name === undefined) return undefined;
  let names: string[];
  try {
    names = (await requireDisk(path).list(folder ?? ".")).map(({ name }) => name);
  } catch {
    return undefined; // the folder is missing, too
  }
  if (names.includes(name)) return "a link of this name leads to nothing";
  const found = nearest(name, names);
  return found && `did you mean ${folder ?? ""}${found}?`;
}

function withHint<E extends CheckpointError>(error: E, hint: string | undefined): E {
  if (hint !== undefined) error.message += `: ${hint}`;
  return error;
}

/** @throws {CheckpointError} where the runtime has no file system that this library knows */
function requireDisk(path: string): ReadableDisk {
  const disk = readableDisk();
  if (disk !== undefined) return disk;
  throw new CheckpointError(
    `Cannot read ${path} as only Deno and Node give this library a file system: pass what you have read yourself, ` +
      "as memoryTree(files, name), blobSource(blob) or bytesSource(bytes, name), or the URL of a server",
    { source: path },
  );
}
